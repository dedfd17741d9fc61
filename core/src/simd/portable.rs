//! The tier for every other CPU: `wide` at the build's baseline, two vectors of four lanes or one of eight.

use wide::f32x8;

use super::vector::{Op, Vector};

#[derive(Clone, Copy)]
pub(super) struct Portable(f32x8);

// The methods need no instruction set beyond the build's; they are unsafe for their pointers only.
impl Vector for Portable {
    const LANES: usize = 8;
    const PANEL: usize = 1;
    const MAX_ROWS: [usize; 4] = [6, 0, 0, 0];

    unsafe fn invoke<O: Op>(op: O) {
        // SAFETY: the baseline instruction set is always there; the rest is the caller's.
        unsafe { op.run::<Portable>() }
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Portable(f32x8::splat(v))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller vouches for 8 readable elements; arrays of f32 need 4-byte alignment only.
        Portable(f32x8::from(unsafe { *p.cast::<[f32; 8]>() }))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller vouches for 8 writable elements.
        unsafe { *p.cast::<[f32; 8]>() = self.0.to_array() }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; 8];
        // SAFETY: the caller vouches for `n` readable elements.
        let valid = unsafe { core::slice::from_raw_parts(p, n) };
        lanes[..n].copy_from_slice(valid);
        Portable(f32x8::from(lanes))
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: the caller vouches for `n` writable elements.
        let valid = unsafe { core::slice::from_raw_parts_mut(p, n) };
        valid.copy_from_slice(&self.0.to_array()[..n]);
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Portable(self.0.mul_add(a.0, b.0))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Portable(self.0 + b.0)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Portable(self.0 - b.0)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Portable(self.0 * b.0)
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // `b` is kept where the comparison is false, so where it is NaN too.
        let (a, b) = (self.0.to_array(), b.0.to_array());
        Portable(f32x8::from(core::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })))
    }
    #[inline(always)]
    unsafe fn where_positive(self, by: Self) -> Self {
        let (a, by) = (self.0.to_array(), by.0.to_array());
        Portable(f32x8::from(core::array::from_fn(|i| if by[i] > 0.0 { a[i] } else { 0.0 })))
    }
}
