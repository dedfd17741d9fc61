//! AVX2 and FMA: 8 lanes of four bytes, or of pairs of 16-bit integers.

use core::arch::x86_64::*;

use super::{
    finish::{Block, quick},
    lanes::{Halves, Lanes, Pass, Quick},
};

#[derive(Clone, Copy)]
pub(super) struct Words(__m256i);

/// # Safety
/// The CPU has AVX2 and FMA, and whatever the pass asks for holds.
#[target_feature(enable = "avx2,fma")]
unsafe fn enter<P: Pass<Words>>(pass: P) {
    // SAFETY: this function is only entered where the CPU has AVX2 and FMA; the rest is the caller's.
    unsafe { pass.run() }
}

impl Lanes for Words {
    const LANES: usize = 8;
    const PER_WORD: usize = 4;
    const PANEL: usize = 2;
    // 4 x 2 accumulators, 2 weights, 2 masks, 1 input and 1 product: 14 of 16 registers. Clean steps alone are no faster
    // with 6 x 2.
    const MAX_ROWS: [usize; 4] = [8, 4, 0, 0];
    const MASKED: bool = true;

    #[inline(always)]
    unsafe fn invoke<P: Pass<Self>>(pass: P) {
        // SAFETY: the CPU has AVX2, by the contract of the trait.
        unsafe { enter(pass) }
    }
    #[inline(always)]
    unsafe fn splat(v: i32) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_set1_epi32(v) })
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait, and the caller vouches for 8 readable i32 elements,
        // of any alignment.
        Words(unsafe { _mm256_loadu_si256(p.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32) {
        // SAFETY: the CPU has AVX2, by the contract of the trait, and the caller vouches for 8 writable i32 elements,
        // of any alignment.
        unsafe { _mm256_storeu_si256(p.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait, and the caller vouches for 8 readable bytes, of any
        // alignment.
        Words(unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())) })
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut i8) {
        // SAFETY: the CPU has AVX2, by the contract of the trait, and the caller vouches for 8 writable bytes, of any
        // alignment.
        unsafe {
            let halves = _mm_packs_epi32(_mm256_castsi256_si128(self.0), _mm256_extracti128_si256::<1>(self.0));
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(halves, halves));
        }
    }
    #[inline(always)]
    unsafe fn dot(self, x: Self, w: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only. Packing made sure that no pair of
        // products of this step leaves 16 bits.
        unsafe {
            let pairs = _mm256_maddubs_epi16(x.0, w.0);
            Words(_mm256_add_epi32(self.0, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))))
        }
    }
    #[inline(always)]
    fn prefetch(word: &i32) {
        // SAFETY: SSE is a part of x86-64, and a prefetch touches nothing a program sees.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(core::ptr::from_ref(word).cast()) }
    }
    #[inline(always)]
    unsafe fn parts(self) -> (Self, Self) {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        unsafe {
            let negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), self.0);
            (Words(_mm256_abs_epi8(self.0)), Words(_mm256_xor_si256(negative, _mm256_set1_epi8(-128))))
        }
    }
    #[inline(always)]
    unsafe fn finish_pairs(block: &Block<'_, Self>) -> usize {
        // SAFETY: the caller's promise.
        unsafe { quick::finish(block) }
    }
    #[inline(always)]
    unsafe fn dot_masked(self, x: Self, w: Self, mask: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only. Magnitudes are at most 128, and so are
        // those of signed bytes: a pair of products lies in -32768..=32512.
        unsafe {
            let pairs = _mm256_maddubs_epi16(w.0, _mm256_xor_si256(x.0, mask.0));
            Words(_mm256_add_epi32(self.0, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))))
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_add_epi32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_sub_epi32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_mullo_epi32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_max_epi32(low.0, _mm256_min_epi32(high.0, self.0)) })
    }
    #[inline(always)]
    unsafe fn shl(self, count: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_sllv_epi32(self.0, count.0) })
    }
    #[inline(always)]
    unsafe fn shr(self, count: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_srav_epi32(self.0, count.0) })
    }
    #[inline(always)]
    unsafe fn high(self, mult: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only. `round(v * mult / 2^31)` for even and
        // odd lanes in 64 bits.
        unsafe {
            let half = _mm256_set1_epi64x(1 << 30);
            let even = _mm256_srli_epi64::<31>(_mm256_add_epi64(_mm256_mul_epi32(self.0, mult.0), half));
            // The odd lanes by a shuffle: by a shift, the compiler multiplies unsigned and corrects.
            let (v, m) = (_mm256_shuffle_epi32::<0xF5>(self.0), _mm256_shuffle_epi32::<0xF5>(mult.0));
            let odd = _mm256_slli_epi64::<1>(_mm256_add_epi64(_mm256_mul_epi32(v, m), half));
            Words(_mm256_blend_epi32::<0b1010_1010>(even, odd))
        }
    }
    #[inline(always)]
    unsafe fn divide(self, right: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only. As `rounding_divide`.
        unsafe {
            let one = _mm256_set1_epi32(1);
            let mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, right.0), one);
            let threshold = _mm256_add_epi32(_mm256_srli_epi32::<1>(mask), _mm256_srli_epi32::<31>(self.0));
            let up = _mm256_cmpgt_epi32(_mm256_and_si256(self.0, mask), threshold);
            Words(_mm256_sub_epi32(_mm256_srav_epi32(self.0, right.0), up))
        }
    }
}

impl Halves for Words {
    // 6 x 2 accumulators, 2 weights, 1 input: 15 of 16 registers.
    const PAIR_ROWS: [usize; 2] = [12, 6];

    #[inline(always)]
    unsafe fn load_halves(p: *const i8) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait, and the caller vouches for 16 readable bytes, of any
        // alignment.
        Words(unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast())) })
    }
    #[inline(always)]
    unsafe fn splat_halves(v: i16) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_set1_epi16(v) })
    }
    #[inline(always)]
    unsafe fn add_halves(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_add_epi16(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub_halves(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_sub_epi16(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn shl_halves<const N: i32>(self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_slli_epi16::<N>(self.0) })
    }
    #[inline(always)]
    unsafe fn dot_pairs(self, x: Self, w: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_add_epi32(self.0, _mm256_madd_epi16(x.0, w.0)) })
    }
    #[inline(always)]
    unsafe fn shl_by<const N: i32>(self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_slli_epi32::<N>(self.0) })
    }
}

impl Quick for Words {
    #[inline(always)]
    unsafe fn nearest(self, scale: Self, half: Self) -> (Self, Self) {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait; registers only.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            let v = _mm256_cvtepi32_ps(self.0);
            let half = _mm256_or_ps(_mm256_and_ps(v, sign), _mm256_castsi256_ps(half.0));
            let exact = _mm256_fmadd_ps(v, _mm256_castsi256_ps(scale.0), half);
            let nearest = _mm256_cvtps_epi32(exact);
            let apart = _mm256_andnot_ps(sign, _mm256_sub_ps(exact, _mm256_cvtepi32_ps(nearest)));
            (Words(nearest), Words(_mm256_castps_si256(apart)))
        }
    }
    #[inline(always)]
    unsafe fn any_beyond(a: Self, b: Self, limit: Self) -> bool {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        unsafe {
            let most = _mm256_max_ps(_mm256_castsi256_ps(a.0), _mm256_castsi256_ps(b.0));
            _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(most, _mm256_castsi256_ps(limit.0))) != 0
        }
    }
    #[inline(always)]
    unsafe fn narrow(a: Self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only. Packing works on each half of a
        // register; the quarters are put in order.
        Words(unsafe { _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a.0, b.0)) })
    }
    #[inline(always)]
    unsafe fn pairs(a: Self, b: Self) -> (Self, Self) {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        unsafe { (Words(_mm256_unpacklo_epi16(a.0, b.0)), Words(_mm256_unpackhi_epi16(a.0, b.0))) }
    }
    #[inline(always)]
    unsafe fn narrow_pairs(a: Self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_packs_epi32(a.0, b.0) })
    }
    #[inline(always)]
    unsafe fn clamp_halves(self, low: Self, high: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only.
        Words(unsafe { _mm256_max_epi16(low.0, _mm256_min_epi16(high.0, self.0)) })
    }
    #[inline(always)]
    unsafe fn store_halves(self, p: *mut i8) {
        // SAFETY: the CPU has AVX2, by the contract of the trait, and the caller vouches for 16 writable bytes, of any
        // alignment.
        unsafe {
            let (low, high) = (_mm256_castsi256_si128(self.0), _mm256_extracti128_si256::<1>(self.0));
            _mm_storeu_si128(p.cast(), _mm_packs_epi16(low, high));
        }
    }
}
