//! SMLAD kernels for Cortex-M4, M7 and M33. Names and contracts as in `portable`.

/// Module-level assembly does not inherit `-C target-cpu`, and ARMv8-M's baseline lacks the extension.
#[cfg(residual_v8m)]
macro_rules! cpu {
    () => {
        ".cpu cortex-m33"
    };
}
#[cfg(not(residual_v8m))]
macro_rules! cpu {
    () => {
        ""
    };
}

mod assembly;
mod block;
mod finish;
mod output;
mod transform;
mod window;
mod windows;

pub use block::{Block, block_words, pack};
pub use output::Finish;
pub use transform::{input_of_quad, weights_of_quad};
pub use windows::Windows;

use core::{marker::PhantomData, ops::Range};

use super::winograd::{Rescale, Sum};

/// Writes one pixel's inputs less their zero point, `words`, into slot `p` of `pixels` in the interleaved
/// pairs `x`; `x` starts at the first of them.
#[inline(always)]
pub fn interleave(words: &[u32], zero: i8, p: usize, pixels: usize, x: &mut [u32]) {
    if p < pixels && !words.is_empty() && words.len().saturating_mul(2 * pixels) <= x.len() {
        let zeros = (i32::from(zero) as u32 & 0xffff).wrapping_mul(0x0001_0001);
        let Some(slot) = x.get_mut(p..) else { return };
        // SAFETY: `words` is readable; the last slot written is `(2 words - 1) pixels + p`, below
        // `2 words pixels <= x.len()`.
        unsafe { assembly::interleave(words.as_ptr(), words.len(), slot.as_mut_ptr(), 4 * pixels, zeros) };
    }
}

/// The inputs of all quads that `weights` and `x`, interleaved for `pixels`, have in common.
fn common(weights: &[i8], x: &[u32], pixels: usize) -> Option<Range<*const u32>> {
    let quads = (weights.len() / 4).min(x.len() / (2 * pixels));
    x.get(..quads * 2 * pixels).filter(|x| !x.is_empty()).map(<[u32]>::as_ptr_range)
}

/// `out[p] = bias + sum_k weights[k] * x[p][k]` for 4 pixels.
///
/// `x` holds, for every four inputs, the pairs `(0, 2)` of all pixels, then `(1, 3)` of all pixels.
/// The last word of weights may reach past its row; the inputs there are 0.
pub fn dot4(weights: &[i8], x: &[u32], bias: i32) -> [i32; 4] {
    let mut acc = [bias; 4];
    if let Some(x) = common(weights, x, 4) {
        // SAFETY: `x` is a positive number of quads, and `weights` holds as many; `acc` has 4 words.
        unsafe { assembly::dot4(weights.as_ptr(), x.start, acc.as_mut_ptr(), x.end) };
    }
    acc
}

/// Whether [`Eight::window`] has a kernel for so many channels.
pub fn has_window(channels: usize) -> bool {
    matches!(channels, 16 | 32 | 64)
}

/// Sums of 8 pixels, and how they become bytes.
pub struct Eight<'t> {
    task: finish::Task,
    tables: PhantomData<&'t [i32]>,
}

impl<'t> Eight<'t> {
    /// For pixels `stride` bytes apart. With a `sum`, every rescaling must be offset by 128
    /// ([`Sum::apply`](super::winograd::Sum::apply)).
    pub fn new(sum: Option<Sum<'t>>, stride: usize) -> Self {
        let null = core::ptr::null();
        let (conv_table, shortcut_table) = sum.map_or((null, null), |s| (s.conv.as_ptr(), s.shortcut.as_ptr()));
        let (sum_shift, sum_mult, sum_half) =
            sum.map_or((0, 0, 0), |s| (s.rescale.shift, s.rescale.mult, s.rescale.half));
        let y = core::ptr::null_mut();
        let (bias, mult, half, shift, sums) = (0, 0, 0, 0, [0; 8]);
        let task = finish::Task {
            bias,
            mult,
            half,
            shift,
            stride,
            y,
            conv_table,
            shortcut_table,
            sum_shift,
            sum_mult,
            sum_half,
            sums,
        };
        Eight { task, tables: PhantomData }
    }

    /// As [`dot4`] for 8 pixels.
    pub fn sums(&mut self, weights: &[i8], x: &[u32], bias: i32) -> &mut [i32; 8] {
        self.task.bias = bias;
        self.task.y = core::ptr::null_mut();
        self.task.sums = [bias; 8];
        if let Some(x) = common(weights, x, 8) {
            // SAFETY: `x` is a positive number of quads, and `weights` holds as many; `y` is NULL.
            unsafe { assembly::dot8(weights.as_ptr(), x.start, &mut self.task, x.end) };
        }
        &mut self.task.sums
    }

    /// As [`Eight::store`] for a 3x3 window over ten columns, interleaved for each of three rows; for the numbers of
    /// channels that [`has_window`].
    pub fn window(&mut self, weights: &[i8], x: &[u32], bias: i32, rescale: &Rescale, y: &mut [i8]) -> bool {
        let kernel = match weights.len() / 9 {
            16 => window::window16,
            32 => window::window32,
            64 => window::window64,
            _ => return false,
        };
        let task = &mut self.task;
        let Some(x) = x.get(..weights.len() / 9 * 15).map(<[u32]>::as_ptr_range) else { return false };
        if y.len() <= task.stride.saturating_mul(7) {
            return false;
        }
        (task.bias, task.mult, task.half, task.shift) = (bias, rescale.mult, rescale.half, rescale.shift);
        task.y = y.as_mut_ptr();
        // SAFETY: `weights` holds nine times the channels and `x` 15 times as many words; the last output, at
        // `7 stride`, is inside `y`; the tables, if any, are arrays of 256.
        unsafe { kernel(weights.as_ptr(), x.start, task, x.end) };
        true
    }

    /// As [`Eight::sums`], rescaled and stored at multiples of the stride in `y`; with a sum, the bytes there
    /// are the shortcut. `false` if one lies outside.
    #[inline(always)]
    pub fn store(&mut self, weights: &[i8], x: &[u32], bias: i32, rescale: &Rescale, y: &mut [i8]) -> bool {
        let task = &mut self.task;
        if y.len() <= task.stride.saturating_mul(7) {
            return false;
        }
        (task.bias, task.mult, task.half, task.shift) = (bias, rescale.mult, rescale.half, rescale.shift);
        task.y = y.as_mut_ptr();
        let Some(x) = common(weights, x, 8) else { return false };
        // SAFETY: `x` is a positive number of quads, and `weights` holds as many; the last output, at
        // `7 stride`, is inside `y`; the tables, if any, are arrays of 256.
        unsafe { assembly::dot8(weights.as_ptr(), x.start, task, x.end) };
        true
    }
}

/// The products of Winograd's domain: `m[position][channel][tile] = sum_pairs u * v`.
///
/// `u` is `[pair][36][2 channels]`, `v` is `[pair][36][4 tiles]`; sums are modulo 2^32. The number of
/// pairs is even and at least 2.
#[inline(always)]
pub fn products(u: &[u32], v: &[u32], m: &mut [[i32; 8]; 36]) {
    let pairs = (u.len() / 72).min(v.len() / 144) & !1;
    if pairs >= 2 {
        let frame = assembly::Frame::new(pairs, m.as_mut_ptr().cast());
        // SAFETY: `u` holds `72 pairs` words and `v` holds `144 pairs`, `m` the 288 sums `frame`
        // describes; `pairs` is even and at least 2.
        unsafe { assembly::products(u.as_ptr(), v.as_ptr(), &frame) };
    }
}
