//! Convolutions of any geometry: the inputs of a few pixels are interleaved once and multiplied with
//! every channel's weights.

use residual_core::quant::{Conv, Requant, Window};

use super::{ADD_TABLES, fast_sum};
use crate::arch::{dot, split, unpack, winograd::Rescale};

/// Rows of an input map, the first of them row `first`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// NHWC rows, one after another
    pub data: &'a [i8],
    /// number of the first
    pub first: usize,
    /// bytes of each
    pub len: usize,
}

impl<'a> Rows<'a> {
    fn get(&self, y: usize) -> Option<&'a [i8]> {
        self.data.get(y.checked_sub(self.first)? * self.len..)?.get(..self.len)
    }
}

/// Bytes of the buffer in which the inputs of one pixel are collected where words would straddle
/// pixels.
pub fn gather_bytes(conv: &Conv<'_>) -> usize {
    if conv.window.input.c.is_multiple_of(4) { 0 } else { conv.window.taps().next_multiple_of(4) }
}

/// Writes one pixel's inputs, `words`, into slot `p` of the interleaved pairs `x`; `x` starts at the
/// first of them.
#[inline(always)]
fn interleave<const P: usize>(words: &[u32], zero: i8, p: usize, x: &mut [u32]) {
    // Subtracting the zero point from both halves of a linear pair.
    let offset = (i32::from(zero) + 128) as u32 * 0x0001_0001;
    for (word, slots) in words.iter().zip(x.chunks_exact_mut(2 * P)) {
        let (even, odd) = unpack(*word);
        if let Some(slot) = slots.get_mut(p) {
            *slot = split(even.wrapping_sub(offset));
        }
        if let Some(slot) = slots.get_mut(P + p) {
            *slot = split(odd.wrapping_sub(offset));
        }
    }
}

/// Zeros `quads` words of pixel `p`.
fn blank<const P: usize>(quads: usize, p: usize, x: &mut [u32]) {
    for slots in x.chunks_exact_mut(2 * P).take(quads) {
        for half in slots.chunks_exact_mut(P) {
            if let Some(slot) = half.get_mut(p) {
                *slot = 0;
            }
        }
    }
}

/// Interleaves the inputs of output pixel `(oy, ox)` as pixel `p`. Padding is 0.
fn collect<const P: usize>(
    conv: &Conv<'_>,
    rows: &Rows<'_>,
    (oy, ox): (usize, usize),
    p: usize,
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
        for (ky, x) in x.chunks_exact_mut(2 * P * quads).enumerate().take(kernel) {
            match conv.window.source(oy, ky, pad_top, input.h) {
                None => blank::<P>(quads, p, x),
                Some(y) => {
                    let row = rows.get(y)?.get(start..)?.get(..whole)?;
                    let (before, x) = x.split_at_mut_checked(2 * P * from * c / 4)?;
                    let (inside, after) = x.split_at_mut_checked(2 * P * whole / 4)?;
                    blank::<P>(usize::MAX, p, before);
                    interleave::<P>(bytemuck::try_cast_slice(row).ok()?, conv.input_zero, p, inside);
                    blank::<P>(usize::MAX, p, after);
                }
            }
        }
        return Some(());
    }
    let bytes: &mut [i8] = bytemuck::cast_slice_mut(gather);
    let (taps, _) = bytes.split_at_mut_checked(conv.window.taps().next_multiple_of(4))?;
    taps.fill(conv.input_zero);
    for (ky, taps) in taps.chunks_exact_mut(kernel * c).enumerate().take(kernel) {
        if let Some(y) = conv.window.source(oy, ky, pad_top, input.h) {
            let row = rows.get(y)?.get(start..)?.get(..whole)?;
            let taps = taps.get_mut(from * c..)?;
            taps.iter_mut().zip(row).for_each(|(t, x)| *t = *x);
        }
    }
    interleave::<P>(bytemuck::try_cast_slice(taps).ok()?, conv.input_zero, p, x);
    Some(())
}

/// Computes output row `oy` of `conv`; `output` holds the shortcut's row if there is one. Scratch as
/// [`crate::arena`] sizes it.
#[inline(never)]
pub fn run<const P: usize>(
    conv: &Conv<'_>,
    rows: &Rows<'_>,
    oy: usize,
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
    let x = x.get_mut(..P * padded / 2)?;
    let c = conv.window.output.c;
    for (group, pixels) in output.chunks_mut(P * c).enumerate() {
        let ox = group * P;
        let count = pixels.len() / c;
        for p in 0..count {
            collect::<P>(conv, rows, (oy, ox + p), p, gather, x)?;
        }
        for (channel, out) in (0..c).zip(0..) {
            let row = conv.weights.get(channel * taps..)?;
            let bias = *conv.bias.get(channel)?;
            let sums = match row.get(..padded) {
                // The last word may hold some of the next channel's weights; its inputs are 0.
                Some(row) => dot::<P>(row, x, bias),
                None => last_dot::<P>(row.get(..taps)?, x, bias)?,
            };
            finish(conv, tables, channel, &sums, pixels.get_mut(out..)?)?;
        }
    }
    Some(())
}

/// [`dot`] for a row of weights that ends inside a word at the end of the tensor.
#[inline(never)]
fn last_dot<const P: usize>(row: &[i8], x: &[u32], bias: i32) -> Option<[i32; P]> {
    let (whole, rest) = row.split_at_checked(row.len() & !3)?;
    let (x, x_rest) = x.split_at_checked(whole.len() / 2 * P)?;
    let mut tail = [0; 4];
    tail.iter_mut().zip(rest).for_each(|(t, w)| *t = *w);
    let mut sums = dot::<P>(whole, x, bias);
    let more = dot::<P>(&tail, x_rest, 0);
    sums.iter_mut().zip(more).for_each(|(s, m)| *s = s.wrapping_add(m));
    Some(sums)
}

/// Rescales, adds the shortcut and stores one channel of the pixels.
#[inline(always)]
fn finish<const P: usize>(
    conv: &Conv<'_>,
    tables: &[i32],
    channel: usize,
    sums: &[i32; P],
    output: &mut [i8],
) -> Option<()> {
    let (mult, shift) = (*conv.mult.get(channel)?, *conv.shift.get(channel)?);
    let pixels = output.iter_mut().step_by(conv.window.output.c).zip(sums);
    let zero = i32::from(conv.output.zero_point);
    let (min, max) = (i32::from(conv.output.min), i32::from(conv.output.max));
    match &conv.add {
        None => {
            let Some(rescale) = Rescale::new(mult, shift, zero) else {
                return finish_slowly(conv, tables, channel, sums, output);
            };
            for (y, sum) in pixels {
                *y = rescale.apply(sum << 1).max(min).min(max) as i8;
            }
        }
        Some(add) => {
            // Tables are indexed by the value + 128.
            let rescale = Rescale::new(mult, shift, zero + 128);
            let (Some(rescale), Some(sum)) = (rescale, fast_sum(add, tables)) else {
                return finish_slowly(conv, tables, channel, sums, output);
            };
            for (y, acc) in pixels {
                *y = sum.apply(rescale.apply(acc << 1).max(min + 128).min(max + 128), *y);
            }
        }
    }
    Some(())
}

/// [`finish`] for factors and ranges the fast forms do not cover.
#[inline(never)]
fn finish_slowly(conv: &Conv<'_>, tables: &[i32], channel: usize, sums: &[i32], output: &mut [i8]) -> Option<()> {
    let scale = Requant { mult: *conv.mult.get(channel)?, shift: *conv.shift.get(channel)? };
    for (y, acc) in output.iter_mut().step_by(conv.window.output.c).zip(sums) {
        let value = conv.output.encode(scale.rescale(*acc));
        *y = match &conv.add {
            None => value,
            Some(add) => {
                let term = tables.get(usize::from(value as u8 ^ 0x80))?;
                let other = tables.get(256 + usize::from(*y as u8))?;
                add.encode(term.wrapping_add(*other) >> 1)
            }
        };
    }
    Some(())
}
