//! Vector kernels for Cortex-M55 and M85 (MVE, Helium): 16 products an instruction.

use core::marker::PhantomData;

use super::winograd::{Rescale, Sum};

mod assembly;

/// Sums of weights, modulo 2^32.
pub fn sum_of(weights: &[i8]) -> i32 {
    // SAFETY: `weights` is readable for its length.
    unsafe { assembly::sum_of(weights.as_ptr(), weights.len()) }
}

/// Copies as much of `from` as `to` holds.
pub fn copy(from: &[i8], to: &mut [i8]) {
    let len = from.len().min(to.len());
    // SAFETY: both are valid for `len` bytes and cannot overlap.
    unsafe { assembly::copy(from.as_ptr(), to.as_mut_ptr(), len) }
}

/// `sums[channel][pixel] = sum_k weights[channel][k] x[pixel][k]` for two channels and three pixels.
/// `false` if the lengths differ.
pub fn dot_2x3(weights: [&[i8]; 2], x: [&[i8]; 3], sums: &mut [[i32; 4]; 2]) -> bool {
    let len = weights[0].len();
    if weights[1].len() != len || x.iter().any(|x| x.len() != len) {
        return false;
    }
    let pointers = [weights[0], weights[1], x[0], x[1], x[2]].map(<[i8]>::as_ptr);
    // SAFETY: the five pointers are readable for `len` bytes, `sums` is an array of 8 words.
    unsafe { assembly::dot_2x3(&pointers, len, sums.as_mut_ptr().cast()) };
    true
}

/// Sums of a 3x3 window over rows of `C` channels, four pixels at a time.
#[derive(Clone, Copy, Debug)]
pub enum Channels {
    /// 16 of them
    C16,
    /// 32
    C32,
    /// 64
    C64,
}

impl Channels {
    /// For this number of channels, if there is a kernel.
    pub fn new(channels: usize) -> Option<Self> {
        match channels {
            16 => Some(Channels::C16),
            32 => Some(Channels::C32),
            64 => Some(Channels::C64),
            _ => None,
        }
    }

    fn count(self) -> usize {
        match self {
            Channels::C16 => 16,
            Channels::C32 => 32,
            Channels::C64 => 64,
        }
    }

    /// `sums[channel][x] = sum weights[channel][ky][kx] rows[ky][x + kx]` for all `x` of a row of sums, whose
    /// length is a multiple of 4. `false` if a length or an alignment does not fit.
    pub fn window(self, rows: [&[i32]; 3], weights: [&[i32]; 2], sums: [&mut [i32]; 2]) -> bool {
        let [first, second] = sums;
        let (c, pixels) = (self.count(), first.len());
        let row = pixels.saturating_add(2).saturating_mul(c / 4);
        let fits = second.len() == pixels && pixels.is_multiple_of(4) && pixels > 0;
        if !fits || rows.iter().any(|r| r.len() < row) || weights.iter().any(|w| w.len() < 9 * c / 4) {
            return false;
        }
        let mut task = assembly::Window {
            rows: rows.map(<[i32]>::as_ptr),
            weights: weights.map(<[i32]>::as_ptr),
            sums: [first.as_mut_ptr(), second.as_mut_ptr()],
            end: pixels * c,
        };
        // SAFETY: rows hold `pixels + 2` pixels of `c` bytes, weights `9 c` bytes, sums `pixels` words,
        // `pixels` being a positive multiple of 4; all are aligned to words.
        unsafe {
            match self {
                Channels::C16 => assembly::window16(&mut task),
                Channels::C32 => assembly::window32(&mut task),
                Channels::C64 => assembly::window64(&mut task),
            }
        }
        true
    }
}

/// How the sums of a channel become bytes. The assembly reads it in this order.
#[repr(C)]
pub struct Finish<'t> {
    bias: i32,
    mult: i32,
    half: i32,
    /// negative: to the right
    shift: i32,
    stride: usize,
    conv_table: *const i32,
    shortcut_table: *const i32,
    sum_mult: i32,
    sum_half: i32,
    sum_shift: i32,
    tables: PhantomData<&'t [i32]>,
}

impl<'t> Finish<'t> {
    /// For pixels `stride` bytes apart. With a `sum`, `rescale` must be offset by 128 ([`Sum::apply`]).
    pub fn new(bias: i32, rescale: Rescale, sum: Option<Sum<'t>>, stride: usize) -> Self {
        let (conv_table, shortcut_table, last) = match sum {
            Some(sum) => (sum.conv.as_ptr(), sum.shortcut.as_ptr(), sum.rescale),
            None => (core::ptr::null(), core::ptr::null(), rescale),
        };
        Finish {
            bias,
            mult: rescale.mult,
            half: rescale.half,
            shift: -(rescale.shift as i32),
            stride,
            conv_table,
            shortcut_table,
            sum_mult: last.mult,
            sum_half: last.half,
            sum_shift: -(last.shift as i32),
            tables: PhantomData,
        }
    }

    /// Stores a byte for each of `sums`; with a sum, the bytes there are the shortcut. `false` if one lies
    /// outside `y`.
    pub fn store(&self, sums: &[i32], y: &mut [i8]) -> bool {
        let Some(last) = sums.len().checked_sub(1) else { return true };
        if last.saturating_mul(self.stride) >= y.len() {
            return false;
        }
        // SAFETY: the last byte, at `last * stride`, is inside `y`; tables are arrays of 256.
        unsafe {
            let store = if self.conv_table.is_null() { assembly::store } else { assembly::store_sum };
            store(sums.as_ptr(), y.as_mut_ptr(), sums.len(), self);
        }
        true
    }
}
