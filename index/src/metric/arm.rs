//! The kernels for AArch64 machines that multiply bytes (SDOT). What else a machine of this kind does, the compiler makes of the portable kernels.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::codes::{CODE_GROUP, CODE_ZERO, CodeGroup, CodeKernel, CodedQuery, codes_abreast, group_of};
use super::kernels::ABREAST;
use super::woven::{WOVEN, groups, strands};

/// Registers that a group of codes fills.
const REGISTERS: usize = 4;

/// The kernel for rows of codes, where the machine has what it takes.
#[allow(unsafe_code)]
pub(super) fn available_for_codes() -> Vec<CodeKernel> {
    let mut kernels = Vec::new();
    if is_aarch64_feature_detected!("dotprod") {
        // SAFETY: the function needs NEON, which every AArch64 machine has, and the dot products that this one was just found to have.
        let many = |q: &CodedQuery, r: &[CodeGroup], o: &[u32], s: &mut [f32]| unsafe { many_codes(q, r, o, s) };
        // SAFETY: as above.
        let woven = |q: &CodedQuery, r: &[CodeGroup], s: &mut [f32]| unsafe { woven_codes(q, r, s) };
        kernels.push(CodeKernel { name: "NEON SDOT", many, woven });
    }
    kernels
}

#[target_feature(enable = "neon,dotprod")]
fn many_codes(query: &CodedQuery, rows: &[CodeGroup], ordinals: &[u32], similarities: &mut [f32]) {
    codes_abreast(ordinals, similarities, |ordinals| four_codes(query, rows, ordinals));
}

#[target_feature(enable = "neon,dotprod")]
#[inline]
fn four_codes(query: &CodedQuery, rows: &[CodeGroup], ordinals: [u32; ABREAST]) -> [f32; ABREAST] {
    let mut high = [vdupq_n_s32(0); ABREAST];
    let mut low = high;
    for (group, (query_high, query_low)) in query.high().iter().zip(query.low()).enumerate() {
        let (query_high, query_low) = (signed(query_high), signed(query_low));
        for (place, ordinal) in ordinals.into_iter().enumerate() {
            let row = less_zero(group_of(rows, query.width(), ordinal, group));
            for part in 0..REGISTERS {
                high[place] = add_products(high[place], row[part], query_high[part]);
                low[place] = add_products(low[place], row[part], query_low[part]);
            }
        }
    }
    let sum = |place: usize| both(high[place], low[place]);
    similarities_of(query, vpaddq_s32(vpaddq_s32(sum(0), sum(1)), vpaddq_s32(sum(2), sum(3))))
}

#[target_feature(enable = "neon,dotprod")]
fn woven_codes(query: &CodedQuery, rows: &[CodeGroup], similarities: &mut [f32]) {
    let (query_high, query_low) = (strands(query.high().as_flattened()), strands(query.low().as_flattened()));
    for (sixteen, found) in rows.chunks_exact(groups(query)).zip(similarities.as_chunks_mut::<WOVEN>().0) {
        // Four rows to a register.
        const { assert!(WOVEN == REGISTERS * ABREAST) };
        let mut high = [vdupq_n_s32(0); REGISTERS];
        let mut low = high;
        for ((group, query_high), query_low) in sixteen.iter().zip(query_high).zip(query_low) {
            let four_times = |strand: &[u8; 4]| vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(*strand)));
            let (query_high, query_low) = (four_times(query_high), four_times(query_low));
            for ((high, low), codes) in high.iter_mut().zip(&mut low).zip(less_zero(group)) {
                *high = add_products(*high, codes, query_high);
                *low = add_products(*low, codes, query_low);
            }
        }
        for ((found, high), low) in found.as_chunks_mut().0.iter_mut().zip(high).zip(low) {
            *found = similarities_of(query, both(high, low));
        }
    }
}

/// Sums by the two bytes of a query's values, put together.
#[target_feature(enable = "neon")]
#[inline]
fn both(high: int32x4_t, low: int32x4_t) -> int32x4_t {
    vaddq_s32(vshlq_n_s32::<7>(high), low)
}

/// Sums over codes from which their zero has been taken, as similarities: there is no offset left in them.
#[target_feature(enable = "neon")]
#[inline]
fn similarities_of(query: &CodedQuery, sums: int32x4_t) -> [f32; ABREAST] {
    let similarities = vmulq_n_f32(vcvtq_f32_s32(sums), query.scale);
    [
        vgetq_lane_f32::<0>(similarities),
        vgetq_lane_f32::<1>(similarities),
        vgetq_lane_f32::<2>(similarities),
        vgetq_lane_f32::<3>(similarities),
    ]
}

/// Codes as what they are more or less than the code of zero.
#[target_feature(enable = "neon")]
#[inline]
fn less_zero(codes: &CodeGroup) -> [int8x16_t; REGISTERS] {
    let zero = vreinterpretq_s8_u8(vdupq_n_u8(CODE_ZERO));
    let [a, b, c, d] = signed(codes);
    [veorq_s8(a, zero), veorq_s8(b, zero), veorq_s8(c, zero), veorq_s8(d, zero)]
}

#[allow(unsafe_code)]
#[target_feature(enable = "neon")]
#[inline]
fn signed(bytes: &CodeGroup) -> [int8x16_t; REGISTERS] {
    const { assert!(CODE_GROUP == size_of::<int8x16x4_t>()) };
    // SAFETY: a group is 64 bytes, which is what is read; the load needs no alignment.
    let int8x16x4_t(a, b, c, d) = unsafe { vld1q_s8_x4(bytes.as_ptr().cast()) };
    [a, b, c, d]
}

/// Adds to each of four sums the products of four pairs of bytes.
#[allow(unsafe_code)]
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn add_products(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: SDOT reads and writes the registers that it is given and nothing else, no flag either; the machine has it where this may be called.
    // It is written down because the intrinsic for it is not stable.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
