//! AVX-512F: 32 registers of 16 lanes.

use core::arch::x86_64::*;

use super::vector::{Op, Vector};

#[derive(Clone, Copy)]
pub(super) struct F32x16(__m512);

#[target_feature(enable = "avx512f")]
unsafe fn invoke<O: Op>(op: O) {
    // SAFETY: this function is only entered where the CPU has AVX-512F; the rest is the caller's.
    unsafe { op.run::<F32x16>() }
}

#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

impl Vector for F32x16 {
    const LANES: usize = 16;
    const PANEL: usize = 4;
    // 14 x 2 accumulators, 2 weights, 1 broadcast: 31 of 32 registers.
    const MAX_ROWS: [usize; 4] = [14, 12, 9, 6];

    #[inline(always)]
    unsafe fn invoke<O: Op>(op: O) {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait; what `op` asks for is the caller's.
        unsafe { invoke(op) }
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait; registers only.
        F32x16(unsafe { _mm512_set1_ps(v) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait, and the caller vouches for 16 readable f32
        // elements, of any alignment.
        F32x16(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait, and the caller vouches for 16 writable f32
        // elements, of any alignment.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn prefetch_near(p: *const f32) {
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch(p.cast(), _MM_HINT_T0) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch(p.cast(), _MM_HINT_T1) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait, and the caller vouches for `n` readable f32
        // elements, of any alignment; masked-out lanes are not read.
        F32x16(unsafe { _mm512_maskz_loadu_ps(mask(n), p) })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait, and the caller vouches for `n` writable f32
        // elements, of any alignment; masked-out lanes are not written.
        unsafe { _mm512_mask_storeu_ps(p, mask(n), self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait; registers only.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait; registers only.
        F32x16(unsafe { _mm512_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait; registers only.
        F32x16(unsafe { _mm512_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait; registers only.
        F32x16(unsafe { _mm512_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait; registers only. MAXPS returns its second operand
        // when either is NaN.
        F32x16(unsafe { _mm512_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn where_positive(self, by: Self) -> Self {
        // SAFETY: the CPU has AVX-512F, by the contract of the trait; registers only.
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(by.0, _mm512_setzero_ps());
            F32x16(_mm512_maskz_mov_ps(positive, self.0))
        }
    }
}
