//! The kernels for x86-64: AVX-512, and AVX2 with fused multiplication.
//!
//! Written with intrinsics because the compiler, given the portable kernel and the same features, made code that took twice as long.

use std::arch::x86_64::*;
use std::slice::Iter;

use super::bits::{BITS, BLOCK, Ordinals, Unpack};
use super::codes::{CODE_GROUP, CodeGroup, CodeKernel, CodedQuery, codes_abreast, group_of};
use super::kernels::{ABREAST, GROUP, Group, Kernel, fold, in_fours};
use super::sums::{AddScaled, add_scaled_portable};
use super::unfold::{FINE_ZERO, Unfold, product_portable, unfold_portable};
use super::woven::{self, groups, strands};

/// The kernels that this machine can run, fastest first.
#[allow(unsafe_code)]
pub(super) fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the functions need AVX-512F and what comes with it. They go into the list, and so can be called, only where the
        // machine was just found to have it.
        let many = |q: &[Group], r: &[Group], o: &[u32], s: &mut [f32]| unsafe { many_avx512(q, r, o, s) };
        // SAFETY: as above.
        let pair = |a: &[Group], b: &[Group]| unsafe { pair_avx512(a, b) };
        // SAFETY: as above.
        let fine = |q: &[Group], c: &[u8], f: &[u8]| unsafe { fine_avx512(q, c, f) };
        kernels.push(Kernel { name: "AVX-512", many, pair, fine });
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the functions need AVX2 and FMA, which the machine was just found to have.
        let many = |q: &[Group], r: &[Group], o: &[u32], s: &mut [f32]| unsafe { many_avx2(q, r, o, s) };
        // SAFETY: as above.
        let pair = |a: &[Group], b: &[Group]| unsafe { pair_avx2(a, b) };
        // SAFETY: as above.
        let fine = |q: &[Group], c: &[u8], f: &[u8]| unsafe { fine_avx2(q, c, f) };
        kernels.push(Kernel { name: "AVX2", many, pair, fine });
    }
    kernels
}

/// The unpacking of bits that this machine can do faster than the portable way.
#[allow(unsafe_code)]
pub(super) fn available_for_bits() -> Option<Unpack> {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("popcnt") {
        // SAFETY: the function needs AVX-512F and POPCNT, which the machine was just found to have.
        return Some(|words, first, block| unsafe { unpack_avx512(words, first, block) });
    }
    None
}

/// Sixteen ordinals at a time are written together, those of the bits that are set in front.
#[target_feature(enable = "avx512f,popcnt")]
fn unpack_avx512(words: &mut Iter<'_, u64>, first: &mut u32, block: &mut Ordinals) -> usize {
    let to_15 = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let mut count = 0;
    while count <= BLOCK - BITS
        && let Some(word) = words.next()
    {
        for part in (0..BITS as u32).step_by(16) {
            let Some(room) = block.get_mut(count..).and_then(<[u32]>::first_chunk_mut) else { return count };
            let bits = (word >> part) as u16;
            let ordinals = _mm512_add_epi32(_mm512_set1_epi32((*first + part) as i32), to_15);
            store_ordinals(room, _mm512_maskz_compress_epi32(bits, ordinals));
            count += bits.count_ones() as usize;
        }
        *first = first.wrapping_add(BITS as u32);
    }
    count
}

/// The sum of scaled rows, in the widest registers of this machine.
#[allow(unsafe_code)]
pub(super) fn available_for_sums() -> Option<AddScaled> {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the function needs AVX-512F, which the machine was just found to have.
        return Some(|sum, row, scale| unsafe { add_scaled_avx512(sum, row, scale) });
    }
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the function needs AVX2, which the machine was just found to have.
        return Some(|sum, row, scale| unsafe { add_scaled_avx2(sum, row, scale) });
    }
    None
}

#[target_feature(enable = "avx512f")]
fn add_scaled_avx512(sum: &mut [f64], row: &[f32], scale: f64) {
    add_scaled_portable(sum, row, scale);
}

#[target_feature(enable = "avx2")]
fn add_scaled_avx2(sum: &mut [f64], row: &[f32], scale: f64) {
    add_scaled_portable(sum, row, scale);
}

/// The unfolding of rows of two bytes a value, in the widest registers of this machine.
#[allow(unsafe_code)]
pub(super) fn available_for_unfolding() -> Option<Unfold> {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the function needs AVX-512F, which the machine was just found to have.
        return Some(|codes, fine, scales, values| unsafe { unfold_avx512(codes, fine, scales, values) });
    }
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the function needs AVX2, which the machine was just found to have.
        return Some(|codes, fine, scales, values| unsafe { unfold_avx2(codes, fine, scales, values) });
    }
    None
}

#[target_feature(enable = "avx512f")]
fn unfold_avx512(codes: &[u8], fine: &[u8], scales: &[f32], values: &mut [f32]) {
    unfold_portable(codes, fine, scales, values);
}

#[target_feature(enable = "avx2")]
fn unfold_avx2(codes: &[u8], fine: &[u8], scales: &[f32], values: &mut [f32]) {
    unfold_portable(codes, fine, scales, values);
}

/// The kernels for rows of codes that this machine can run, fastest first.
#[allow(unsafe_code)]
pub(super) fn available_for_codes() -> Vec<CodeKernel> {
    let mut kernels = Vec::new();
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the function needs AVX-512F and VNNI, which the machine was just found to have.
        let many = |q: &CodedQuery, r: &[CodeGroup], o: &[u32], s: &mut [f32]| unsafe { many_codes_vnni(q, r, o, s) };
        // SAFETY: as above.
        let woven = |q: &CodedQuery, r: &[CodeGroup], s: &mut [f32]| unsafe { woven_vnni(q, r, s) };
        kernels.push(CodeKernel { name: "AVX-512 VNNI", many, woven });
    }
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the function needs AVX2, which the machine was just found to have.
        let many = |q: &CodedQuery, r: &[CodeGroup], o: &[u32], s: &mut [f32]| unsafe { many_codes_avx2(q, r, o, s) };
        // SAFETY: as above.
        let woven = |q: &CodedQuery, r: &[CodeGroup], s: &mut [f32]| unsafe { woven_avx2(q, r, s) };
        kernels.push(CodeKernel { name: "AVX2", many, woven });
    }
    kernels
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn many_codes_vnni(query: &CodedQuery, rows: &[CodeGroup], ordinals: &[u32], similarities: &mut [f32]) {
    codes_abreast(ordinals, similarities, |ordinals| eight_codes_vnni(query, rows, ordinals));
}

#[target_feature(enable = "avx2")]
fn many_codes_avx2(query: &CodedQuery, rows: &[CodeGroup], ordinals: &[u32], similarities: &mut [f32]) {
    codes_abreast(ordinals, similarities, |ordinals| four_codes_avx2(query, rows, ordinals));
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn woven_vnni(query: &CodedQuery, rows: &[CodeGroup], similarities: &mut [f32]) {
    let (query_high, query_low) = (strands(query.high().as_flattened()), strands(query.low().as_flattened()));
    let (bias, scale) = (_mm512_set1_epi32(query.bias), _mm512_set1_ps(query.scale));
    for (sixteen, found) in rows.chunks_exact(groups(query)).zip(similarities.as_chunks_mut().0) {
        let (mut high, mut low) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for ((group, query_high), query_low) in sixteen.iter().zip(query_high).zip(query_low) {
            let codes = load_codes(group);
            high = _mm512_dpbusd_epi32(high, codes, _mm512_set1_epi32(i32::from_le_bytes(*query_high)));
            low = _mm512_dpbusd_epi32(low, codes, _mm512_set1_epi32(i32::from_le_bytes(*query_low)));
        }
        let sums = _mm512_sub_epi32(_mm512_add_epi32(_mm512_slli_epi32::<7>(high), low), bias);
        store_sixteen(found, _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale));
    }
}

#[target_feature(enable = "avx2")]
fn woven_avx2(query: &CodedQuery, rows: &[CodeGroup], similarities: &mut [f32]) {
    woven::portable(query, rows, similarities);
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn eight_codes_vnni(query: &CodedQuery, rows: &[CodeGroup], ordinals: [u32; 8]) -> [f32; 8] {
    let mut sums = [_mm512_setzero_si512(); 8];
    if let ([query_high], [query_low]) = (query.high(), query.low()) {
        // Up to 64 dimensions: no loop, and nothing to keep from one group to the next.
        let (query_high, query_low) = (load_codes(query_high), load_codes(query_low));
        for (sum, ordinal) in sums.iter_mut().zip(ordinals) {
            let row = load_codes(group_of(rows, 1, ordinal, 0));
            let high = _mm512_slli_epi32::<7>(_mm512_dpbusd_epi32(*sum, row, query_high));
            *sum = _mm512_dpbusd_epi32(high, row, query_low);
        }
    } else {
        let mut low = sums;
        for (group, (query_high, query_low)) in query.high().iter().zip(query.low()).enumerate() {
            let (query_high, query_low) = (load_codes(query_high), load_codes(query_low));
            for (place, ordinal) in ordinals.into_iter().enumerate() {
                let row = load_codes(group_of(rows, query.width(), ordinal, group));
                sums[place] = _mm512_dpbusd_epi32(sums[place], row, query_high);
                low[place] = _mm512_dpbusd_epi32(low[place], row, query_low);
            }
        }
        for (sum, low) in sums.iter_mut().zip(low) {
            *sum = _mm512_add_epi32(_mm512_slli_epi32::<7>(*sum), low);
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    // In each quarter of a register: sums of two rows in turns, then of four rows in a row.
    let two = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let four = |ab, cd| _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let (first, last) = (four(two(a, b), two(c, d)), four(two(e, f), two(g, h)));
    // Quarters onto quarters: 0 and 1 onto 2 and 3 of each, then the two that are left of each.
    let low = _mm512_shuffle_i32x4::<0b01_00_01_00>(first, last);
    let halves = _mm512_add_epi32(low, _mm512_shuffle_i32x4::<0b11_10_11_10>(first, last));
    let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(halves, halves);
    let sums = _mm512_add_epi32(even, _mm512_shuffle_i32x4::<0b11_01_11_01>(halves, halves));
    let sums = _mm256_sub_epi32(_mm512_castsi512_si256(sums), _mm256_set1_epi32(query.bias));
    let similarities = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(query.scale));
    let mut stored = [0.0; 8];
    store_eight(&mut stored, similarities);
    stored
}

#[target_feature(enable = "avx2")]
#[inline]
fn four_codes_avx2(query: &CodedQuery, rows: &[CodeGroup], ordinals: [u32; ABREAST]) -> [f32; ABREAST] {
    let mut sums = [_mm256_setzero_si256(); ABREAST];
    for (group, values) in query.whole().iter().enumerate() {
        let (quarters, _) = values.as_chunks::<16>();
        for (part, quarter) in quarters.iter().enumerate() {
            let quarter = load_words(quarter);
            for (place, ordinal) in ordinals.into_iter().enumerate() {
                let row = group_of(rows, query.width(), ordinal, group);
                let Some(codes) = row.as_chunks::<16>().0.get(part) else { continue };
                let wide = _mm256_cvtepu8_epi16(load_sixteen(codes));
                sums[place] = _mm256_add_epi32(sums[place], _mm256_madd_epi16(wide, quarter));
            }
        }
    }
    let sum =
        |place: usize| _mm_add_epi32(_mm256_castsi256_si128(sums[place]), _mm256_extracti128_si256::<1>(sums[place]));
    similarities_of(query, [sum(0), sum(1), sum(2), sum(3)])
}

/// 4 sums of each row to its similarity, for four rows at once.
#[target_feature(enable = "avx2")]
#[inline]
fn similarities_of(query: &CodedQuery, [a, b, c, d]: [__m128i; ABREAST]) -> [f32; ABREAST] {
    let sums = _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
    let sums = _mm_sub_epi32(sums, _mm_set1_epi32(query.bias));
    let mut similarities = [0.0; ABREAST];
    store(&mut similarities, _mm_mul_ps(_mm_cvtepi32_ps(sums), _mm_set1_ps(query.scale)));
    similarities
}

#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
#[inline]
fn load_codes(group: &CodeGroup) -> __m512i {
    const { assert!(CODE_GROUP == size_of::<__m512i>()) };
    // SAFETY: a group is 64 bytes, which is what is read; the load needs no alignment.
    unsafe { _mm512_loadu_si512(group.as_ptr().cast()) }
}

#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
#[inline]
fn load_words(words: &[i16; 16]) -> __m256i {
    // SAFETY: sixteen words are 32 bytes, which is what is read; the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
#[inline]
fn load_sixteen(codes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are there, which is what is read; the load needs no alignment.
    unsafe { _mm_loadu_si128(codes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn many_avx512(query: &[Group], rows: &[Group], ordinals: &[u32], similarities: &mut [f32]) {
    in_fours(query, rows, ordinals, similarities, |query, rows| four_avx512(query, rows), |a, b| pair_avx512(a, b));
}

#[target_feature(enable = "avx2,fma")]
fn many_avx2(query: &[Group], rows: &[Group], ordinals: &[u32], similarities: &mut [f32]) {
    in_fours(query, rows, ordinals, similarities, |query, rows| four_avx2(query, rows), |a, b| pair_avx2(a, b));
}

#[target_feature(enable = "avx512f")]
fn fine_avx512(query: &[Group], codes: &[u8], fine: &[u8]) -> f32 {
    let mut sum = _mm512_setzero_ps();
    for ((query, codes), fine) in query.iter().zip(codes.as_chunks().0).zip(fine.as_chunks().0) {
        let (codes, fine) = (_mm512_cvtepu8_epi32(load_sixteen(codes)), _mm512_cvtepu8_epi32(load_sixteen(fine)));
        let parts = _mm512_add_epi32(_mm512_slli_epi32::<8>(codes), fine);
        let parts = _mm512_cvtepi32_ps(_mm512_sub_epi32(parts, _mm512_set1_epi32(FINE_ZERO)));
        sum = _mm512_fmadd_ps(load_avx512(query), parts, sum);
    }
    let [product, ..] = fold_four([quarter(half(sum)); ABREAST]);
    product
}

#[target_feature(enable = "avx2,fma")]
fn fine_avx2(query: &[Group], codes: &[u8], fine: &[u8]) -> f32 {
    fold(product_portable(query, codes, fine))
}

/// The 16 sums of each of four rows of the query's length.
#[target_feature(enable = "avx512f")]
#[inline]
fn four_avx512(query: &[Group], [a, b, c, d]: [&[Group]; ABREAST]) -> [f32; ABREAST] {
    let mut sums = [_mm512_setzero_ps(); ABREAST];
    for ((((query, a), b), c), d) in query.iter().zip(a).zip(b).zip(c).zip(d) {
        let query = load_avx512(query);
        sums[0] = _mm512_fmadd_ps(query, load_avx512(a), sums[0]);
        sums[1] = _mm512_fmadd_ps(query, load_avx512(b), sums[1]);
        sums[2] = _mm512_fmadd_ps(query, load_avx512(c), sums[2]);
        sums[3] = _mm512_fmadd_ps(query, load_avx512(d), sums[3]);
    }
    let [a, b, c, d] = sums;
    fold_four([quarter(half(a)), quarter(half(b)), quarter(half(c)), quarter(half(d))])
}

/// The 16 sums of each of four rows of the query's length.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn four_avx2(query: &[Group], [a, b, c, d]: [&[Group]; ABREAST]) -> [f32; ABREAST] {
    let mut low = [_mm256_setzero_ps(); ABREAST];
    let mut high = [_mm256_setzero_ps(); ABREAST];
    for ((((query, a), b), c), d) in query.iter().zip(a).zip(b).zip(c).zip(d) {
        let query = load_avx2(query);
        for (place, row) in [a, b, c, d].into_iter().enumerate() {
            let row = load_avx2(row);
            low[place] = _mm256_fmadd_ps(query.0, row.0, low[place]);
            high[place] = _mm256_fmadd_ps(query.1, row.1, high[place]);
        }
    }
    let sum = |place: usize| quarter(_mm256_add_ps(low[place], high[place]));
    fold_four([sum(0), sum(1), sum(2), sum(3)])
}

#[target_feature(enable = "avx512f")]
fn pair_avx512(a: &[Group], b: &[Group]) -> f32 {
    let mut sum = _mm512_setzero_ps();
    for (a, b) in a.iter().zip(b) {
        sum = _mm512_fmadd_ps(load_avx512(a), load_avx512(b), sum);
    }
    let [product, ..] = fold_four([quarter(half(sum)); ABREAST]);
    product
}

#[target_feature(enable = "avx2,fma")]
fn pair_avx2(a: &[Group], b: &[Group]) -> f32 {
    let (mut low, mut high) = (_mm256_setzero_ps(), _mm256_setzero_ps());
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (load_avx2(a), load_avx2(b));
        low = _mm256_fmadd_ps(a.0, b.0, low);
        high = _mm256_fmadd_ps(a.1, b.1, high);
    }
    let [product, ..] = fold_four([quarter(_mm256_add_ps(low, high)); ABREAST]);
    product
}

#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
#[inline]
fn load_avx512(group: &Group) -> __m512 {
    // SAFETY: a group is 16 floats, which is what is read; the load needs no alignment.
    unsafe { _mm512_loadu_ps(group.as_ptr()) }
}

#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
#[inline]
fn load_avx2(group: &Group) -> (__m256, __m256) {
    let (halves, _) = group.as_chunks::<{ GROUP / 2 }>();
    let [low, high] = halves else { return (_mm256_setzero_ps(), _mm256_setzero_ps()) };
    // SAFETY: each half is 8 floats, which is what is read; the load needs no alignment.
    unsafe { (_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())) }
}

/// 16 sums to 8: halves onto halves.
#[target_feature(enable = "avx512f")]
#[inline]
fn half(sum: __m512) -> __m256 {
    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sum)));
    _mm256_add_ps(_mm512_castps512_ps256(sum), high)
}

/// 8 sums to 4.
#[target_feature(enable = "avx")]
#[inline]
fn quarter(sum: __m256) -> __m128 {
    _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum))
}

/// 4 sums of each row to one: (first + third) + (second + fourth), for four rows at once.
#[target_feature(enable = "sse")]
#[inline]
fn fold_four([a, b, c, d]: [__m128; ABREAST]) -> [f32; ABREAST] {
    let ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
    let cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
    let sums = _mm_add_ps(_mm_shuffle_ps::<0b10_00_10_00>(ab, cd), _mm_shuffle_ps::<0b11_01_11_01>(ab, cd));
    let mut products = [0.0; ABREAST];
    store(&mut products, sums);
    products
}

#[allow(unsafe_code)]
#[target_feature(enable = "sse")]
#[inline]
fn store(into: &mut [f32; 4], from: __m128) {
    // SAFETY: four floats are written, which is what there is room for; the store needs no alignment.
    unsafe { _mm_storeu_ps(into.as_mut_ptr(), from) };
}

#[allow(unsafe_code)]
#[target_feature(enable = "avx")]
#[inline]
fn store_eight(into: &mut [f32; 8], from: __m256) {
    // SAFETY: eight floats are written, which is what there is room for; the store needs no alignment.
    unsafe { _mm256_storeu_ps(into.as_mut_ptr(), from) };
}

#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
#[inline]
fn store_sixteen(into: &mut [f32; 16], from: __m512) {
    // SAFETY: sixteen floats are written, which is what there is room for; the store needs no alignment.
    unsafe { _mm512_storeu_ps(into.as_mut_ptr(), from) };
}

#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
#[inline]
fn store_ordinals(into: &mut [u32; 16], from: __m512i) {
    // SAFETY: sixteen whole numbers of 32 bits are written, which is what there is room for; the store needs no alignment.
    unsafe { _mm512_storeu_si512(into.as_mut_ptr().cast(), from) };
}
