//! Convolutions of any geometry on a vector unit: products of whole channels.

use residual_core::quant::{Conv, Rounding, Window};

use super::{ADD_TABLES, direct::Rows, fast_sum, is_full};
use crate::arch::{
    mve::{Channels, Finish, copy, dot_2x3, sum_of},
    winograd::{Rescale, Sum},
};

/// What the channels of a row have in common.
struct Row<'c, 'm> {
    conv: &'c Conv<'m>,
    tables: &'c [i32],
    sum: Option<Sum<'c>>,
    /// every channel's [`Row::folded`], or nothing where there is no room
    biases: &'c [i32],
}

impl Row<'_, '_> {
    /// Channel `channel`'s weights; one past the last stands for the last.
    fn weights(&self, channel: usize) -> Option<&[i8]> {
        let taps = self.conv.window.taps();
        let channel = channel.min(self.conv.window.output.c.checked_sub(1)?);
        self.conv.weights.get(channel * taps..)?.get(..taps)
    }

    fn bias(&self, channel: usize) -> Option<i32> {
        self.biases.get(channel).copied().or_else(|| self.folded(channel))
    }

    /// The bias less what the input's zero point adds to every sum.
    fn folded(&self, channel: usize) -> Option<i32> {
        let zero = i32::from(self.conv.input_zero);
        Some(self.conv.bias.get(channel)?.wrapping_sub(zero.wrapping_mul(sum_of(self.weights(channel)?))))
    }

    /// Stores a channel's sums as bytes; `y` begins at the first.
    fn store(&self, channel: usize, bias: i32, sums: &mut [i32], y: &mut [i8]) -> Option<()> {
        let conv = self.conv;
        let zero = i32::from(conv.output.zero_point) + if conv.add.is_some() { 128 } else { 0 };
        let rescale = Rescale::new(*conv.mult.get(channel)?, *conv.shift.get(channel)?, zero);
        let fast =
            is_full(conv.output) && conv.rounding == Rounding::Twice && (conv.add.is_none() || self.sum.is_some());
        match rescale {
            Some(rescale) if fast => {
                Finish::new(bias, rescale, self.sum, conv.window.output.c).store(sums, y).then_some(())
            }
            _ => {
                sums.iter_mut().for_each(|s| *s = s.wrapping_add(bias));
                super::direct::finish(conv, self.tables, channel, sums, y)
            }
        }
    }
}

/// Computes output row `oy` of `conv`; `output` holds the shortcut's row if there is one. Scratch as
/// [`crate::arena`] sizes it for [`super::direct::run`].
#[inline(never)]
pub fn run(
    conv: &Conv<'_>,
    rows: &Rows<'_>,
    oy: usize,
    output: &mut [i8],
    work: &mut [u8],
    tiles: &mut [u8],
    first: bool,
) -> Option<()> {
    let tables = if conv.add.is_some() { ADD_TABLES } else { 0 };
    let tables: &[i32] = bytemuck::try_cast_slice(work.get(..tables)?).ok()?;
    let sum = conv.add.as_ref().and_then(|add| fast_sum(add, tables));
    let mut row = Row { conv, tables, sum, biases: &[] };
    let Window { input, output: out, kernel, stride, .. } = conv.window;
    // What either way needs at most, if the biases are to fit behind it.
    let pixels = out.w.next_multiple_of(4);
    let most = (8 * pixels + 3 * (pixels + 2) * input.c).max(3 * conv.window.taps()).next_multiple_of(4);
    let (tiles, rest) = tiles.split_at_mut_checked(most.min(tiles.len()))?;
    if let Some(biases) = rest.get_mut(..4 * out.c) {
        let biases: &mut [i32] = bytemuck::try_cast_slice_mut(biases).ok()?;
        if first {
            for (channel, bias) in biases.iter_mut().enumerate() {
                *bias = row.folded(channel)?;
            }
        }
        row.biases = biases;
    }
    if kernel == 3
        && stride == 1
        && let Some(channels) = Channels::new(input.c)
        && let Ok(weights) = bytemuck::try_cast_slice(conv.weights)
    {
        let strip = (pixels + 2) * input.c;
        if let Some((sums, strips)) = tiles.split_at_mut_checked(8 * pixels)
            && let Some(strips) = strips.get_mut(..3 * strip)
        {
            let sums = bytemuck::try_cast_slice_mut(sums).ok()?;
            return windows(&row, channels, weights, rows, oy, strip, sums, bytemuck::cast_slice_mut(strips), output);
        }
    }
    dots(&row, rows, oy, bytemuck::cast_slice_mut(tiles), output)
}

/// Writes the part of row `y` that begins at column `left - pad` where there is one, and the zero point
/// elsewhere.
fn pad(conv: &Conv<'_>, rows: &Rows<'_>, y: Option<usize>, left: usize, to: &mut [i8]) -> Option<()> {
    let Window { input, pad_left, .. } = conv.window;
    let before = (pad_left.saturating_sub(left) * input.c).min(to.len());
    let row = match y {
        Some(y) => rows.get(y)?.get(left.saturating_sub(pad_left) * input.c..).unwrap_or_default(),
        None => &[],
    };
    let (margin, to) = to.split_at_mut_checked(before)?;
    let (inside, after) = to.split_at_mut_checked(row.len().min(to.len()))?;
    margin.fill(conv.input_zero);
    copy(row, inside);
    after.fill(conv.input_zero);
    Some(())
}

/// 3x3 windows over padded copies of three rows.
#[allow(clippy::too_many_arguments)] // one call site
fn windows(
    row: &Row<'_, '_>,
    channels: Channels,
    weights: &[i32],
    rows: &Rows<'_>,
    oy: usize,
    strip: usize,
    sums: &mut [i32],
    strips: &mut [i8],
    output: &mut [i8],
) -> Option<()> {
    let Window { input, output: out, pad_top, .. } = row.conv.window;
    for (ky, to) in strips.chunks_exact_mut(strip.max(1)).enumerate() {
        pad(row.conv, rows, row.conv.window.source(oy, ky, pad_top, input.h), 0, to)?;
    }
    let strips: &[i32] = bytemuck::try_cast_slice(strips).ok()?;
    let (top, rest) = strips.split_at_checked(strip / 4)?;
    let (middle, bottom) = rest.split_at_checked(strip / 4)?;
    let taps = 9 * input.c / 4;
    for channel in (0..out.c).step_by(2) {
        let (a, b) = sums.split_at_mut_checked(sums.len() / 2)?;
        let own = |channel: usize| weights.get(channel.min(out.c - 1) * taps..);
        let both = [own(channel)?, own(channel + 1)?];
        channels.window([top, middle, bottom], both, [&mut *a, &mut *b]).then_some(())?;
        row.store(channel, row.bias(channel)?, a.get_mut(..out.w)?, output.get_mut(channel..)?)?;
        if channel + 1 < out.c {
            row.store(channel + 1, row.bias(channel + 1)?, b.get_mut(..out.w)?, output.get_mut(channel + 1..)?)?;
        }
    }
    Some(())
}

/// Any window, its inputs collected for three pixels.
fn dots(row: &Row<'_, '_>, rows: &Rows<'_>, oy: usize, collected: &mut [i8], output: &mut [i8]) -> Option<()> {
    let Window { input, output: out, kernel, stride, pad_top, .. } = row.conv.window;
    let (taps, line) = (row.conv.window.taps(), kernel * input.c);
    let collected = collected.get_mut(..3 * taps)?;
    for ox in (0..out.w).step_by(3) {
        let count = (out.w - ox).min(3);
        for (p, x) in collected.chunks_exact_mut(taps.max(1)).enumerate() {
            for (ky, to) in x.chunks_exact_mut(line.max(1)).enumerate() {
                let y = row.conv.window.source(oy, ky, pad_top, input.h);
                // Pixels beyond the last are computed and dropped.
                pad(row.conv, rows, y, (ox + p.min(count - 1)) * stride, to)?;
            }
        }
        let (first, rest) = collected.split_at_checked(taps)?;
        let (second, third) = rest.split_at_checked(taps)?;
        for channel in (0..out.c).step_by(2) {
            let mut sums = [[0; 4]; 2];
            let weights = [row.weights(channel)?, row.weights(channel + 1)?];
            dot_2x3(weights, [first, second, third], &mut sums).then_some(())?;
            for (channel, sums) in (channel..out.c).zip(&mut sums) {
                let y = output.get_mut(ox * out.c + channel..)?;
                row.store(channel, row.bias(channel)?, sums.get_mut(..count)?, y)?;
            }
        }
    }
    Some(())
}
