//! AVX2 with FMA: 16 registers of 8 lanes.

use core::arch::x86_64::*;

use super::vector::{Op, Vector};

#[derive(Clone, Copy)]
pub(super) struct F32x8(__m256);

/// Lane masks for the first `n` lanes: eight of them starting at `8 - n`.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[target_feature(enable = "avx2,fma")]
unsafe fn invoke<O: Op>(op: O) {
    // SAFETY: this function is only entered where the CPU has AVX2 and FMA; the rest is the caller's.
    unsafe { op.run::<F32x8>() }
}

#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    debug_assert!(n <= 8);
    // SAFETY: `8 - n .. 16 - n` lies within the 16 masks for n <= 8; AVX2 is the caller's promise.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast()) }
}

impl Vector for F32x8 {
    const LANES: usize = 8;
    const PANEL: usize = 2;
    // 6 x 2 accumulators, 2 weights, 1 broadcast: 15 of 16 registers.
    const MAX_ROWS: [usize; 4] = [12, 6, 0, 0];

    #[inline(always)]
    unsafe fn invoke<O: Op>(op: O) {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait; what `op` asks for is the caller's.
        unsafe { invoke(op) }
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait; registers only.
        F32x8(unsafe { _mm256_set1_ps(v) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait, and the caller vouches for 8 readable f32
        // elements, of any alignment.
        F32x8(unsafe { _mm256_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait, and the caller vouches for 8 writable f32
        // elements, of any alignment.
        unsafe { _mm256_storeu_ps(p, self.0) }
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
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait, and the caller vouches for `n` readable f32
        // elements, of any alignment; masked-out lanes are not read.
        F32x8(unsafe { _mm256_maskload_ps(p, mask(n)) })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait, and the caller vouches for `n` writable f32
        // elements, of any alignment; masked-out lanes are not written.
        unsafe { _mm256_maskstore_ps(p, mask(n), self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait; registers only.
        F32x8(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait; registers only.
        F32x8(unsafe { _mm256_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait; registers only.
        F32x8(unsafe { _mm256_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait; registers only.
        F32x8(unsafe { _mm256_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait; registers only. MAXPS returns its second
        // operand when either is NaN.
        F32x8(unsafe { _mm256_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn where_positive(self, by: Self) -> Self {
        // SAFETY: the CPU has AVX2 and FMA, by the contract of the trait; registers only.
        unsafe {
            let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(by.0, _mm256_setzero_ps());
            F32x8(_mm256_and_ps(positive, self.0))
        }
    }
}
