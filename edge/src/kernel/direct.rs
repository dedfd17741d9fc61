//! Convolutions of any geometry: the inputs of a few pixels are interleaved once and multiplied with
//! every channel's weights.

use core::ops::Range;

use residual_core::quant::{Conv, Requant, Window};

use super::{ADD_TABLES, TERM_BITS, fast_sum, is_full};
use crate::arch::{Eight, dot4, interleave, winograd::Rescale};

/// Consecutive rows of a map in a ring.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// NHWC rows
    pub data: &'a [i8],
    /// number of the first row that is there
    pub first: usize,
    /// where it begins in `data`
    pub start: usize,
    /// bytes of each
    pub len: usize,
}

impl<'a> Rows<'a> {
    /// All rows of a map.
    pub fn all(data: &'a [i8], window: &Window) -> Self {
        Rows { data, first: 0, start: 0, len: window.input.w * window.input.c }
    }

    /// Row `y`.
    pub fn get(&self, y: usize) -> Option<&'a [i8]> {
        let at = self.start + y.checked_sub(self.first)? * self.len;
        let at = if at < self.data.len() { at } else { at - self.data.len() };
        self.data.get(at..)?.get(..self.len)
    }
}

/// Bytes of the buffer in which the inputs of one pixel are collected where words would straddle
/// pixels.
pub fn gather_bytes(conv: &Conv<'_>) -> usize {
    if conv.window.input.c.is_multiple_of(4) { 0 } else { conv.window.taps().next_multiple_of(4) }
}

/// Bytes of the windows of eight pixels, every line in whole pieces of 16, as vectors need them.
pub fn patch_bytes(window: &Window) -> usize {
    8 * window.kernel * (window.kernel * window.input.c).next_multiple_of(16)
}

/// Bytes of interleaved pixels, `pixels` (4 or 8) at a time.
pub fn tile_bytes(conv: &Conv<'_>, pixels: usize) -> usize {
    (2 * pixels * conv.window.taps().next_multiple_of(4)).max(patch_bytes(&conv.window))
}

/// Zeros slot `p` of all pairs.
#[inline(never)]
pub fn blank(p: usize, pixels: usize, x: &mut [u32]) {
    for slot in x.iter_mut().skip(p).step_by(pixels.max(1)) {
        *slot = 0;
    }
}

/// Interleaves the inputs of output pixel `(oy, ox)` as pixel `p`. Padding is 0.
#[inline(never)]
fn collect(
    conv: &Conv<'_>,
    rows: &Rows<'_>,
    (oy, ox): (usize, usize),
    p: usize,
    pixels: usize,
    gather: &mut [u8],
    x: &mut [u32],
) -> Option<()> {
    let Window { input, kernel, stride, pad_top, pad_left, .. } = conv.window;
    let c = input.c;
    // Taps `from..to` of a row lie on the map and are neighbours in memory.
    let left = ox * stride;
    let from = pad_left.saturating_sub(left).min(kernel);
    let to = (input.w + pad_left).saturating_sub(left).min(kernel);
    let start = (left + from).saturating_sub(pad_left) * c;
    let whole = to.saturating_sub(from) * c;
    if c.is_multiple_of(4) {
        let quads = kernel * c / 4;
        let mut rest = x;
        for ky in 0..kernel {
            let (x, below) = rest.split_at_mut_checked(2 * pixels * quads)?;
            rest = below;
            match conv.window.source(oy, ky, pad_top, input.h) {
                None => blank(p, pixels, x),
                Some(y) => {
                    let row = rows.get(y)?.get(start..)?.get(..whole)?;
                    let (before, x) = x.split_at_mut_checked(pixels * from * c / 2)?;
                    let (inside, after) = x.split_at_mut_checked(pixels * whole / 2)?;
                    blank(p, pixels, before);
                    interleave(bytemuck::try_cast_slice(row).ok()?, conv.input_zero, p, pixels, inside);
                    blank(p, pixels, after);
                }
            }
        }
        return Some(());
    }
    let bytes: &mut [i8] = bytemuck::cast_slice_mut(gather);
    let (taps, _) = bytes.split_at_mut_checked(conv.window.taps().next_multiple_of(4))?;
    taps.fill(conv.input_zero);
    for ky in 0..kernel {
        if let Some(y) = conv.window.source(oy, ky, pad_top, input.h) {
            let row = rows.get(y)?.get(start..)?.get(..whole)?;
            let taps = taps.get_mut((ky * kernel + from) * c..)?;
            taps.iter_mut().zip(row).for_each(|(t, x)| *t = *x);
        }
    }
    interleave(bytemuck::try_cast_slice(taps).ok()?, conv.input_zero, p, pixels, x);
    Some(())
}

/// Computes output rows `oys` of `conv`, `pixels` (4 or 8) at a time; `output` begins at the first of them
/// and holds the shortcut's rows if there is one. Scratch as [`crate::arena`] sizes it.
#[inline(never)]
#[allow(unused_variables)] // vectors do without `pixels`
pub fn run(
    conv: &Conv<'_>,
    rows: &Rows<'_>,
    oys: Range<usize>,
    pixels: usize,
    output: &mut [i8],
    work: &mut [u8],
    tiles: &mut [u8],
) -> Option<()> {
    #[cfg(residual_kernels = "mve")]
    return super::vector::run(conv, rows, oys, output, work, tiles);
    #[cfg(not(residual_kernels = "mve"))]
    interleaved(conv, rows, oys, pixels, output, work, tiles)
}

#[cfg_attr(residual_kernels = "mve", allow(dead_code))]
fn interleaved(
    conv: &Conv<'_>,
    rows: &Rows<'_>,
    oys: Range<usize>,
    pixels: usize,
    output: &mut [i8],
    work: &mut [u8],
    tiles: &mut [u8],
) -> Option<()> {
    let taps = conv.window.taps();
    let padded = taps.next_multiple_of(4);
    let tables = if conv.add.is_some() { ADD_TABLES } else { 0 };
    let (tables, gather) = work.split_at_mut_checked(tables)?;
    let tables: &[i32] = bytemuck::try_cast_slice(tables).ok()?;
    let x: &mut [u32] = bytemuck::try_cast_slice_mut(tiles).ok()?;
    let x = x.get_mut(..pixels * padded / 2)?;
    let (w, c) = (conv.window.output.w, conv.window.output.c);
    let sum = conv.add.as_ref().and_then(|add| fast_sum(add, tables));
    let fast = is_full(conv.output) && conv.add.is_some() == sum.is_some();
    // Tables are indexed by the value + 128.
    let zero = i32::from(conv.output.zero_point) + if sum.is_some() { 128 } else { 0 };
    let mut eight = Eight::new(sum, c);
    for (index, oy) in oys.enumerate() {
        let output = output.get_mut(index * w * c..)?.get_mut(..w * c)?;
        for ox in (0..w).step_by(pixels.max(1)) {
            let count = pixels.min(w - ox);
            let mut out = output.get_mut(ox * c..)?.get_mut(..count * c)?;
            for p in 0..count {
                collect(conv, rows, (oy, ox + p), p, pixels, gather, x)?;
            }
            let mut weights = conv.weights;
            for (channel, ((bias, mult), shift)) in conv.bias.iter().zip(conv.mult).zip(conv.shift).enumerate() {
                // The last word may hold some of the next channel's weights; its inputs are 0.
                let row = weights.get(..padded).unwrap_or(weights);
                weights = weights.get(taps..)?;
                match Rescale::new(*mult, *shift, zero) {
                    Some(rescale) if fast && count == 8 && row.len() == padded => {
                        eight.store(row, x, *bias, &rescale, out).then_some(())?;
                    }
                    _ => {
                        let mut sums = [0; 8];
                        sum_up(&mut eight, row, x, *bias, pixels, &mut sums)?;
                        finish(conv, tables, channel, sums.get(..count)?, out)?;
                    }
                }
                out = out.get_mut(1..)?;
            }
        }
    }
    Some(())
}

/// The sums of 4 or 8 pixels, also for a row of weights that ends inside a word.
#[inline(never)]
fn sum_up(eight: &mut Eight<'_>, row: &[i8], x: &[u32], bias: i32, pixels: usize, sums: &mut [i32; 8]) -> Option<()> {
    let mut tail = [0; 4];
    let (whole, rest) = row.split_at_checked(row.len() & !3)?;
    tail.iter_mut().zip(rest).for_each(|(t, w)| *t = *w);
    let (x, x_rest) = x.split_at_checked(whole.len() / 2 * pixels)?;
    for (weights, x, bias) in [(whole, x, bias), (&tail[..], x_rest, 0)] {
        let add = |(sum, more): (&mut i32, &i32)| *sum = sum.wrapping_add(*more);
        match pixels {
            8 => sums.iter_mut().zip(eight.sums(weights, x, bias)).for_each(|(s, m)| add((s, m))),
            _ => sums.iter_mut().zip(&dot4(weights, x, bias)).for_each(add),
        }
    }
    Some(())
}

/// Rescales, adds the shortcut and stores one channel of the pixels.
#[inline(never)]
pub fn finish(conv: &Conv<'_>, tables: &[i32], channel: usize, sums: &[i32], output: &mut [i8]) -> Option<()> {
    let scale = Requant { mult: *conv.mult.get(channel)?, shift: *conv.shift.get(channel)? };
    for (y, acc) in output.iter_mut().step_by(conv.window.output.c.max(1)).zip(sums) {
        let value = conv.output.encode(scale.rescale_as(conv.rounding, *acc));
        *y = match &conv.add {
            None => value,
            Some(add) => {
                let term = tables.get(usize::from(value as u8 ^ 0x80))?;
                let other = tables.get(256 + usize::from(*y as u8))?;
                add.encode(term.wrapping_add(*other) >> TERM_BITS)
            }
        };
    }
    Some(())
}
