//! NEON: 32 registers of 4 lanes. Every AArch64 CPU has it.

use core::arch::aarch64::*;

use super::vector::{Op, Vector};

#[derive(Clone, Copy)]
pub(super) struct F32x4(float32x4_t);

#[target_feature(enable = "neon")]
unsafe fn invoke<O: Op>(op: O) {
    // SAFETY: NEON is part of AArch64; the rest is the caller's.
    unsafe { op.run::<F32x4>() }
}

impl Vector for F32x4 {
    const LANES: usize = 4;
    const PANEL: usize = 4;
    // 6 x 4 accumulators, 4 weights, 1 broadcast: 29 of 32 registers.
    const MAX_ROWS: [usize; 4] = [14, 12, 8, 6];

    #[inline(always)]
    unsafe fn invoke<O: Op>(op: O) {
        // SAFETY: the CPU has NEON, by the contract of the trait; what `op` asks for is the caller's.
        unsafe { invoke(op) }
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: the CPU has NEON, by the contract of the trait; registers only.
        F32x4(unsafe { vdupq_n_f32(v) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the CPU has NEON, by the contract of the trait, and the caller vouches for 4 readable f32 elements,
        // of any alignment.
        F32x4(unsafe { vld1q_f32(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the CPU has NEON, by the contract of the trait, and the caller vouches for 4 writable f32 elements,
        // of any alignment.
        unsafe { vst1q_f32(p, self.0) }
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
        // SAFETY: the CPU has NEON, by the contract of the trait; registers only. FMLA adds the product to its first
        // operand.
        F32x4(unsafe { vfmaq_f32(b.0, self.0, a.0) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the CPU has NEON, by the contract of the trait; registers only.
        F32x4(unsafe { vaddq_f32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the CPU has NEON, by the contract of the trait; registers only.
        F32x4(unsafe { vsubq_f32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the CPU has NEON, by the contract of the trait; registers only.
        F32x4(unsafe { vmulq_f32(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // SAFETY: the CPU has NEON, by the contract of the trait; registers only. FMAX would let a NaN in `self`
        // through too, unlike the other instruction sets.
        F32x4(unsafe { vbslq_f32(vcgtq_f32(self.0, b.0), self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn where_positive(self, by: Self) -> Self {
        // SAFETY: the CPU has NEON, by the contract of the trait; registers only.
        F32x4(unsafe { vbslq_f32(vcgtzq_f32(by.0), self.0, vdupq_n_f32(0.0)) })
    }
}
