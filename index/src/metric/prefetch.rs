//! Asking the processor for memory before it is needed.

/// Asks for the cache lines of a slice; at most 8, since the processor notices a longer run by itself.
///
/// On machines other than x86-64 and AArch64 it does nothing.
#[inline(always)]
pub fn prefetch<T>(slice: &[T]) {
    prefetch_at(slice, 0, slice.len());
}

/// As [`prefetch`], of `count` elements from `from` on. Whether a slice has them is not asked: a hint may name any address.
#[inline(always)]
pub(crate) fn prefetch_at<T>(slice: &[T], from: usize, count: usize) {
    let bytes = size_of::<T>().saturating_mul(count).min(LINES_MAX * LINE);
    let address = slice.as_ptr().wrapping_add(from).cast::<u8>();
    line(address);
    for offset in (LINE..bytes).step_by(LINE) {
        line(address.wrapping_add(offset));
    }
}

/// Goes through items of which each is asked of the memory, by `fetch`, four items before it comes.
pub fn fetched_ahead<I: Iterator + Clone>(items: I, fetch: impl Fn(I::Item)) -> impl Iterator<Item = I::Item> {
    let mut coming = items.clone();
    let mut fetch_next = move || coming.next().into_iter().for_each(&fetch);
    (0..AHEAD).for_each(|_| fetch_next());
    items.inspect(move |_| fetch_next())
}

/// Items that are on their way from memory while one is worked on.
const AHEAD: usize = 4;
/// Bytes that come together.
const LINE: usize = 64;
/// Lines asked for by one call.
const LINES_MAX: usize = 8;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline(always)]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch is a hint. It reads nothing that the program can see and does not fault, whatever the address; SSE, which
    // it belongs to, is part of every x86-64 machine.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
#[inline(always)]
fn line(address: *const u8) {
    // SAFETY: a prefetch is a hint. It reads nothing that the program can see and does not fault, whatever the address; `prfm` is
    // part of every AArch64 machine, and it changes no register, no flag and no memory.
    unsafe { std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly)) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn line(_address: *const u8) {}

#[cfg(test)]
mod tests {
    #[test]
    fn all_are_fetched_once_and_before_they_come() {
        for n in [0, 1, super::AHEAD, 20] {
            let fetched = std::cell::Cell::new(0);
            let mut came = 0;
            for item in super::fetched_ahead(0..n, |item| assert_eq!(fetched.replace(item + 1), item)) {
                assert!(item == came && fetched.get() == n.min(came + super::AHEAD + 1));
                came += 1;
            }
            assert_eq!((came, fetched.get()), (n, n));
        }
    }

    #[test]
    fn any_slice_will_do() {
        super::prefetch::<f32>(&[]);
        super::prefetch(&[1_u8]);
        super::prefetch(&vec![0_u32; 100_000]);
        super::prefetch_at(&[1_u64], usize::MAX, usize::MAX);
    }
}
