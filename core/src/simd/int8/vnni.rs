//! AVX-512 with VNNI: 16 lanes of four bytes.

use core::arch::x86_64::*;

use super::lanes::{Lanes, Pass};

#[derive(Clone, Copy)]
pub(super) struct Words(__m512i);

/// # Safety
/// The CPU has AVX-512F and VNNI, and whatever the pass asks for holds.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn enter<P: Pass<Words>>(pass: P) {
    // SAFETY: this function is only entered where the CPU has both; the rest is the caller's.
    unsafe { pass.run() }
}

impl Lanes for Words {
    const LANES: usize = 16;
    const PER_WORD: usize = 4;
    const PANEL: usize = 4;
    // 6 x 4 accumulators, 4 weights, 1 input: 29 of 32 registers.
    const MAX_ROWS: [usize; 4] = [12, 12, 8, 6];

    #[inline(always)]
    unsafe fn invoke<P: Pass<Self>>(pass: P) {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait.
        unsafe { enter(pass) }
    }
    #[inline(always)]
    unsafe fn splat(v: i32) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only.
        Words(unsafe { _mm512_set1_epi32(v) })
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait, and the caller vouches for 16 readable
        // i32 elements, of any alignment.
        Words(unsafe { _mm512_loadu_si512(p.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32) {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait, and the caller vouches for 16 writable
        // i32 elements, of any alignment.
        unsafe { _mm512_storeu_si512(p.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait, and the caller vouches for 16 readable
        // bytes, of any alignment.
        Words(unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())) })
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut i8) {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait, and the caller vouches for 16 writable
        // bytes, of any alignment.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(self.0)) }
    }
    #[inline(always)]
    unsafe fn dot(self, x: Self, w: Self) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only. This form does not
        // saturate.
        Words(unsafe { _mm512_dpbusd_epi32(self.0, x.0, w.0) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only.
        Words(unsafe { _mm512_add_epi32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only.
        Words(unsafe { _mm512_sub_epi32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only.
        Words(unsafe { _mm512_max_epi32(low.0, _mm512_min_epi32(high.0, self.0)) })
    }
    #[inline(always)]
    unsafe fn shl(self, count: Self) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only.
        Words(unsafe { _mm512_sllv_epi32(self.0, count.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only.
        Words(unsafe { _mm512_mullo_epi32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn shr(self, count: Self) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only.
        Words(unsafe { _mm512_srav_epi32(self.0, count.0) })
    }
    #[inline(always)]
    unsafe fn high(self, mult: Self) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only. `round(v * mult / 2^31)`
        // for even and odd lanes in 64 bits.
        unsafe {
            let half = _mm512_set1_epi64(1 << 30);
            let even = _mm512_srli_epi64::<31>(_mm512_add_epi64(_mm512_mul_epi32(self.0, mult.0), half));
            let (v, m) = (_mm512_srli_epi64::<32>(self.0), _mm512_srli_epi64::<32>(mult.0));
            let odd = _mm512_slli_epi64::<1>(_mm512_add_epi64(_mm512_mul_epi32(v, m), half));
            Words(_mm512_mask_blend_epi32(0b1010_1010_1010_1010, even, odd))
        }
    }
    #[inline(always)]
    unsafe fn divide(self, right: Self) -> Self {
        // SAFETY: the CPU has AVX-512F and VNNI, by the contract of the trait; registers only. As `rounding_divide`.
        unsafe {
            let one = _mm512_set1_epi32(1);
            let mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, right.0), one);
            let threshold = _mm512_add_epi32(_mm512_srli_epi32::<1>(mask), _mm512_srli_epi32::<31>(self.0));
            let up = _mm512_cmpgt_epi32_mask(_mm512_and_si512(self.0, mask), threshold);
            let quotient = _mm512_srav_epi32(self.0, right.0);
            Words(_mm512_mask_add_epi32(quotient, up, quotient, one))
        }
    }
}
