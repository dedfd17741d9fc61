//! WebAssembly's 128-bit vectors. They are there if the build says so (`-C target-feature=+simd128`).

use core::arch::wasm32::*;

use super::vector::{Op, Vector};

#[derive(Clone, Copy)]
pub(super) struct F32x4(v128);

// The build enables the instruction set: methods are unsafe for their pointers only.
impl Vector for F32x4 {
    const LANES: usize = 4;
    const PANEL: usize = 2;
    // On an x86-64 host 16 registers are behind them: 6 x 2 accumulators, 2 weights, 1 broadcast.
    const MAX_ROWS: [usize; 4] = [12, 6, 0, 0];

    #[inline(always)]
    unsafe fn invoke<O: Op>(op: O) {
        // SAFETY: the build has the instruction set; the rest is the caller's.
        unsafe { op.run::<F32x4>() }
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        F32x4(f32x4_splat(v))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller vouches for 4 readable elements; no alignment is needed.
        F32x4(unsafe { v128_load(p.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller vouches for 4 writable elements; no alignment is needed.
        unsafe { v128_store(p.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        debug_assert!(n <= 4);
        let mut lanes = [0.0f32; 4];
        // SAFETY: the caller vouches for `n <= 4` readable elements.
        unsafe {
            core::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            F32x4::load(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        debug_assert!(n <= 4);
        let mut lanes = [0.0f32; 4];
        // SAFETY: the caller vouches for `n <= 4` writable elements.
        unsafe {
            self.store(lanes.as_mut_ptr());
            core::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // The fused instruction is left to the host's choice, which would make results differ between hosts.
        F32x4(f32x4_add(f32x4_mul(self.0, a.0), b.0))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        F32x4(f32x4_add(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        F32x4(f32x4_sub(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        F32x4(f32x4_mul(self.0, b.0))
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // `x < y ? y : x`, so the second where the comparison fails: `b`, NaN or not.
        F32x4(f32x4_pmax(b.0, self.0))
    }
    #[inline(always)]
    unsafe fn where_positive(self, by: Self) -> Self {
        F32x4(v128_and(f32x4_gt(by.0, f32x4_splat(0.0)), self.0))
    }
}
