//! Any CPU: the `wide` crate multiplies and adds pairs, lanes are rescaled one by one.

use bytemuck::cast;
use wide::{i16x16, i32x8};

use super::tile::{Lanes, Tile};
use crate::quant::Requant;

#[derive(Clone, Copy)]
pub(super) struct Words(i32x8);

pub(super) unsafe fn invoke(mut tile: Tile<'_>) {
    // SAFETY: no particular instruction set is needed; the rest is the caller's.
    unsafe { tile.run::<Words>() }
}

fn map(v: i32x8, f: impl Fn(usize, i32) -> i32) -> i32x8 {
    let lanes = v.to_array();
    i32x8::new(core::array::from_fn(|i| f(i, lanes[i])))
}

impl Lanes for Words {
    const LANES: usize = 8;
    const PER_WORD: usize = 2;
    const PANEL: usize = 1;
    const MAX_ROWS: [usize; 4] = [4, 0, 0, 0];

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
        let (x, w): (i16x16, i16x16) = (cast(x.0), cast(w.0));
        Words(self.0 + x.dot(w))
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
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        Words(self.0.min(high.0).max(low.0))
    }
    #[inline(always)]
    unsafe fn shl(self, count: Self) -> Self {
        let count = count.0.to_array();
        Words(map(self.0, |i, v| v.wrapping_shl(count[i] as u32)))
    }
    #[inline(always)]
    unsafe fn rescale(self, mult: Self, right: Self) -> Self {
        let (mult, right) = (mult.0.to_array(), right.0.to_array());
        Words(map(self.0, |i, v| Requant { mult: mult[i], shift: -(right[i] as i8) }.rescale(v)))
    }
}
