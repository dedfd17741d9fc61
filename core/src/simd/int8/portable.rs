//! Any CPU: the `wide` crate multiplies and adds pairs, lanes are rescaled one by one.

use bytemuck::cast;
use wide::{i16x16, i32x8};

use super::lanes::{Halves, Lanes, Pass};
use crate::quant::{doubling_high, rounding_divide};

#[derive(Clone, Copy)]
pub(super) struct Words(i32x8);

fn map(v: Words, by: Words, f: impl Fn(i32, i32) -> i32) -> Words {
    let (lanes, by) = (v.0.to_array(), by.0.to_array());
    Words(i32x8::new(core::array::from_fn(|i| f(lanes[i], by[i]))))
}

impl Words {
    fn halves(self) -> i16x16 {
        cast(self.0)
    }

    fn of(halves: i16x16) -> Self {
        Words(cast(halves))
    }
}

impl Lanes for Words {
    const LANES: usize = 8;
    const PER_WORD: usize = 2;
    const PANEL: usize = 1;
    const MAX_ROWS: [usize; 4] = [4, 0, 0, 0];

    #[inline(always)]
    unsafe fn invoke<P: Pass<Self>>(pass: P) {
        // SAFETY: no particular instruction set is needed; the rest is the caller's.
        unsafe { pass.run() }
    }
    #[inline(always)]
    unsafe fn splat(v: i32) -> Self {
        Words(i32x8::splat(v))
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self {
        // SAFETY: the caller vouches for 8 readable i32 elements, of any alignment.
        Words(i32x8::new(unsafe { p.cast::<[i32; 8]>().read_unaligned() }))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut i32) {
        // SAFETY: the caller vouches for 8 writable i32 elements, of any alignment.
        unsafe { p.cast::<[i32; 8]>().write_unaligned(self.0.to_array()) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8) -> Self {
        // SAFETY: the caller vouches for 8 readable bytes, of any alignment.
        let bytes = unsafe { p.cast::<[i8; 8]>().read_unaligned() };
        Words(i32x8::new(bytes.map(i32::from)))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut i8) {
        // SAFETY: the caller vouches for 8 writable bytes, of any alignment.
        unsafe { p.cast::<[i8; 8]>().write_unaligned(self.0.to_array().map(|v| v as i8)) }
    }
    #[inline(always)]
    unsafe fn dot(self, x: Self, w: Self) -> Self {
        Words(self.0 + x.halves().dot(w.halves()))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Words(self.0 + b.0)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Words(self.0 - b.0)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Words(self.0 * b.0)
    }
    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        Words(self.0.min(high.0).max(low.0))
    }
    #[inline(always)]
    unsafe fn shl(self, count: Self) -> Self {
        map(self, count, |v, count| v.wrapping_shl(count as u32))
    }
    #[inline(always)]
    unsafe fn shr(self, count: Self) -> Self {
        map(self, count, |v, count| v.wrapping_shr(count as u32))
    }
    #[inline(always)]
    unsafe fn high(self, mult: Self) -> Self {
        map(self, mult, doubling_high)
    }
    #[inline(always)]
    unsafe fn divide(self, right: Self) -> Self {
        map(self, right, |v, right| rounding_divide(v, right as u32))
    }
}

impl Halves for Words {
    const PAIR_ROWS: [usize; 2] = [4, 0];

    #[inline(always)]
    unsafe fn load_halves(p: *const i8) -> Self {
        // SAFETY: the caller vouches for 16 readable bytes, of any alignment.
        let bytes = unsafe { p.cast::<[i8; 16]>().read_unaligned() };
        Words::of(i16x16::new(bytes.map(i16::from)))
    }
    #[inline(always)]
    unsafe fn splat_halves(v: i16) -> Self {
        Words::of(i16x16::splat(v))
    }
    #[inline(always)]
    unsafe fn add_halves(self, b: Self) -> Self {
        Words::of(self.halves() + b.halves())
    }
    #[inline(always)]
    unsafe fn sub_halves(self, b: Self) -> Self {
        Words::of(self.halves() - b.halves())
    }
    #[inline(always)]
    unsafe fn shl_halves<const N: i32>(self) -> Self {
        Words::of(self.halves() << N)
    }
    #[inline(always)]
    unsafe fn dot_pairs(self, x: Self, w: Self) -> Self {
        Words(self.0 + x.halves().dot(w.halves()))
    }
    #[inline(always)]
    unsafe fn shl_by<const N: i32>(self) -> Self {
        Words(self.0 << N)
    }
}
