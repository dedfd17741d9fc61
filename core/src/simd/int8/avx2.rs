//! AVX2: 8 lanes of pairs of 16-bit integers.

use core::arch::x86_64::*;

use super::tile::{Lanes, Tile};

#[derive(Clone, Copy)]
pub(super) struct Words(__m256i);

#[target_feature(enable = "avx2")]
pub(super) unsafe fn invoke(mut tile: Tile<'_>) {
    // SAFETY: this function is only entered where the CPU has AVX2; the rest is the caller's.
    unsafe { tile.run::<Words>() }
}

impl Lanes for Words {
    const LANES: usize = 8;
    const PER_WORD: usize = 2;
    const PANEL: usize = 2;
    // 6 x 2 accumulators, 2 weights, 1 input: 15 of 16 registers.
    const MAX_ROWS: [usize; 4] = [12, 6, 0, 0];

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
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only. |x| <= 255 and |w| <= 128: no pair
        // reaches 2^31.
        Words(unsafe { _mm256_add_epi32(self.0, _mm256_madd_epi16(x.0, w.0)) })
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
    unsafe fn rescale(self, mult: Self, right: Self) -> Self {
        // SAFETY: the CPU has AVX2, by the contract of the trait; registers only. `round(v * mult / 2^31)` for even and
        // odd lanes in 64 bits, then the rounding
        // division by `2^right`; see `Requant::rescale`.
        unsafe {
            let half = _mm256_set1_epi64x(1 << 30);
            let even = _mm256_srli_epi64::<31>(_mm256_add_epi64(_mm256_mul_epi32(self.0, mult.0), half));
            let (v, m) = (_mm256_srli_epi64::<32>(self.0), _mm256_srli_epi64::<32>(mult.0));
            let odd = _mm256_slli_epi64::<1>(_mm256_add_epi64(_mm256_mul_epi32(v, m), half));
            let high = _mm256_blend_epi32::<0b1010_1010>(even, odd);
            let one = _mm256_set1_epi32(1);
            let mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, right.0), one);
            let threshold = _mm256_add_epi32(_mm256_srli_epi32::<1>(mask), _mm256_srli_epi32::<31>(high));
            let up = _mm256_cmpgt_epi32(_mm256_and_si256(high, mask), threshold);
            Words(_mm256_sub_epi32(_mm256_srav_epi32(high, right.0), up))
        }
    }
}
