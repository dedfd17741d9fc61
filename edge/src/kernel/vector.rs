//! Convolutions of any geometry on a vector unit: products of whole channels, for 8 outputs at a time.

use core::ops::Range;

use residual_core::quant::{Conv, Rounding, Window};

use super::{ADD_TABLES, direct, direct::Rows, fast_sum, is_full};
use crate::arch::{
    mve::{
        BLOCK, CHUNK, Channel, MAX_STRIDE, Patch, Store, Task, blank, channel, lay, pack, spread, strip_bytes, sum_of,
    },
    winograd::Rescale,
};

/// Channels rescaled at a time where there is no room for all.
const FEW: usize = 8;

/// What the channels of a row have in common.
struct Row<'c, 'm> {
    conv: &'c Conv<'m>,
    tables: &'c [i32],
    store: Store<'c>,
    /// whether outputs are stored by the kernels
    fast: bool,
}

impl Row<'_, '_> {
    /// Channel `index`'s weights.
    fn weights(&self, index: usize) -> Option<&[i8]> {
        let taps = self.conv.window.taps();
        self.conv.weights.get(index * taps..)?.get(..taps)
    }

    /// How channel `index` is stored; its bias takes in what the input's zero point adds to every sum.
    fn channel(&self, index: usize) -> Option<Channel> {
        let conv = self.conv;
        let inputs = i32::from(conv.input_zero).wrapping_mul(sum_of(self.weights(index)?));
        let bias = conv.bias.get(index)?.wrapping_sub(inputs);
        let zero = conv.output.zero_point.into();
        match Rescale::new(*conv.mult.get(index)?, *conv.shift.get(index)?, zero) {
            Some(rescale) => Some(channel(bias, rescale)),
            None => Some([bias, 0, 0, 0]),
        }
    }

    #[inline(never)]
    fn fill(&self, first: usize, channels: &mut [Channel]) -> Option<()> {
        for (index, channel) in channels.iter_mut().enumerate() {
            *channel = self.channel(first + index)?;
        }
        Some(())
    }

    /// Computes a block of `count` outputs for `channels` from `first` on; `y` begins at the first of them.
    #[inline(never)]
    fn block(&self, patch: Patch<'_>, count: usize, first: usize, channels: &[Channel], y: &mut [i8]) -> Option<()> {
        let (taps, c) = (self.conv.window.taps(), self.conv.window.output.c);
        if self.fast && count == BLOCK {
            let weights = self.conv.weights.get(first * taps..)?.get(..channels.len() * taps)?;
            return patch.store(weights, channels, self.store, y).then_some(());
        }
        let mut y = y;
        for (index, channel) in channels.iter().enumerate() {
            let weights = self.weights(first + index)?;
            if self.fast {
                let mut own = [0; BLOCK];
                own.iter_mut().zip(y.iter().step_by(c.max(1))).take(count).for_each(|(own, y)| *own = *y);
                let store = Store { stride: 1, ..self.store };
                patch.store(weights, core::slice::from_ref(channel), store, &mut own).then_some(())?;
                y.iter_mut().step_by(c.max(1)).zip(own).take(count).for_each(|(y, own)| *y = own);
            } else {
                let mut sums = [0; BLOCK];
                patch.sums(weights, &mut sums).then_some(())?;
                sums.iter_mut().for_each(|sum| *sum = sum.wrapping_add(channel[0]));
                direct::finish(self.conv, self.tables, first + index, sums.get(..count)?, y)?;
            }
            y = y.get_mut(1..)?;
        }
        Some(())
    }

    /// Collects the windows of `count` outputs from `(oy, ox)` on.
    #[inline(never)]
    fn collect(&self, rows: &Rows<'_>, (oy, ox): (usize, usize), count: usize, patch: &mut [i8]) -> Option<()> {
        let Window { input, kernel, stride, pad_top, pad_left, .. } = self.conv.window;
        let (zero, c, line) = (self.conv.input_zero, input.c, kernel * input.c);
        let left = ox * stride;
        // Outputs `from..to` of the block have their whole line on the map.
        let from = (pad_left.saturating_sub(left) + stride - 1).checked_div(stride)?.min(count);
        let room = (input.w + pad_left + 1).saturating_sub(left + kernel);
        let to = (room + stride - 1).checked_div(stride)?.min(count).max(from);
        let lines = patch.chunks_exact_mut((line.next_multiple_of(CHUNK) * BLOCK).max(1));
        for (ky, lines) in lines.take(kernel).enumerate() {
            let Some(y) = self.conv.window.source(oy, ky, pad_top, input.h) else {
                lines.fill(zero);
                continue;
            };
            let row = rows.get(y)?;
            let inside = row.get((left + from * stride).saturating_sub(pad_left) * c..).unwrap_or_default();
            spread(inside, stride * c, line, to - from, lines.get_mut(from * CHUNK..)?).then_some(())?;
            for p in (0..from).chain(to..count) {
                self.edge(row, left + p * stride, lines.get_mut(p * CHUNK..)?)?;
            }
        }
        Some(())
    }

    /// Collects a line that begins at column `left - pad` and does not lie on the map as a whole.
    fn edge(&self, row: &[i8], left: usize, to: &mut [i8]) -> Option<()> {
        let Window { input, kernel, pad_left, .. } = self.conv.window;
        let (zero, c) = (self.conv.input_zero, input.c);
        for piece in to.chunks_mut(BLOCK * CHUNK).take((kernel * c).div_ceil(CHUNK)) {
            *piece.first_chunk_mut::<CHUNK>()? = [zero; CHUNK];
        }
        let from = pad_left.saturating_sub(left).min(kernel);
        let end = (input.w + pad_left).saturating_sub(left).min(kernel).max(from);
        let row = row.get((left + from).saturating_sub(pad_left) * c..).unwrap_or_default();
        let inside = row.get(..(end - from) * c)?;
        if (from * c).is_multiple_of(CHUNK) {
            let to = to.get_mut(from * c * BLOCK..).unwrap_or_default();
            return spread(inside, 0, inside.len(), 1, to).then_some(());
        }
        for (k, value) in (from * c..).zip(inside) {
            *to.get_mut(k / CHUNK * BLOCK * CHUNK + k % CHUNK)? = *value;
        }
        Some(())
    }
}

/// Computes output rows `oys` of `conv`; `output` begins at the first of them and holds the shortcut's rows if
/// there is one. Scratch as [`crate::arena`] sizes it for [`direct::run`].
#[inline(never)]
pub fn run(
    conv: &Conv<'_>,
    rows: &Rows<'_>,
    oys: Range<usize>,
    output: &mut [i8],
    work: &mut [u8],
    tiles: &mut [u8],
) -> Option<()> {
    let tables = if conv.add.is_some() { ADD_TABLES } else { 0 };
    let tables: &[i32] = bytemuck::try_cast_slice(work.get(..tables)?).ok()?;
    let sum = conv.add.as_ref().and_then(|add| fast_sum(add, tables));
    let Window { input, output: out, kernel, stride, .. } = conv.window;
    let fast = is_full(conv.output)
        && conv.rounding == Rounding::Twice
        && conv.add.is_some() == sum.is_some()
        && out.c <= MAX_STRIDE
        && conv.shift.iter().all(|shift| (-22..=-1).contains(shift));
    let row = Row { conv, tables, store: Store { sum, stride: out.c }, fast };
    let strip = strip_bytes(out.w / BLOCK, input.c);
    let copied = if input.c == CHUNK { 0 } else { conv.weights.len() };
    if fast
        && kernel == 3
        && stride == 1
        && input.c.is_multiple_of(CHUNK)
        && out.w.is_multiple_of(BLOCK)
        && let Some((channels, rest)) = tiles.split_at_mut_checked(size_of::<Channel>() * out.c)
        && let Some((strips, rest)) = rest.split_at_mut_checked(3 * strip)
        && let Some(packed) = rest.get_mut(..copied)
    {
        let channels: &mut [Channel] = bytemuck::try_cast_slice_mut(channels).ok()?;
        return over_strips(&row, rows, oys, strip, (channels, strips, packed), output);
    }
    over_patches(&row, rows, oys, tiles, output)
}

/// 3x3 windows over strips of three rows. With [`crate::engine::ROWS`] rows at a time, laying out all three
/// for the first of them and packing weights costs little; what is there from the last call is not used.
#[inline(never)]
fn over_strips(
    row: &Row<'_, '_>,
    rows: &Rows<'_>,
    oys: Range<usize>,
    strip: usize,
    (channels, strips, packed): (&mut [Channel], &mut [u8], &mut [u8]),
    output: &mut [i8],
) -> Option<()> {
    let conv = row.conv;
    let Window { input, pad_top, pad_left, output: out, .. } = conv.window;
    row.fill(0, channels)?;
    let mut weights = conv.weights;
    if !packed.is_empty() {
        let packed = bytemuck::cast_slice_mut(packed);
        pack(weights, input.c, packed).then_some(())?;
        weights = packed;
    }
    let weights = bytemuck::try_cast_slice(weights).ok()?;
    let strips: &mut [i32] = bytemuck::try_cast_slice_mut(strips).ok()?;
    let (first, rest) = strips.split_at_mut_checked(strip / 4)?;
    let (second, third) = rest.split_at_mut_checked(strip / 4)?;
    let (mut top, mut middle, mut bottom) = (first, second, third);
    let start = oys.start;
    for strip in [&mut *top, &mut *middle, &mut *bottom] {
        blank(conv.input_zero, bytemuck::cast_slice_mut(strip));
    }
    let lay = |oy: usize, ky: usize, to: &mut [i32]| {
        let to = bytemuck::cast_slice_mut(to);
        match conv.window.source(oy, ky, pad_top, input.h) {
            Some(y) => lay(rows.get(y)?, input.c, pad_left, to).then_some(()),
            None => {
                blank(conv.input_zero, to);
                Some(())
            }
        }
    };
    lay(start, 0, middle)?;
    lay(start, 1, bottom)?;
    let mut task = Task::new(row.store, channels)?;
    for (index, oy) in oys.enumerate() {
        let output = output.get_mut(index * out.w * out.c..)?.get_mut(..out.w * out.c)?;
        (top, middle, bottom) = (middle, bottom, top);
        lay(oy, 2, bottom)?;
        task.windows([top, middle, bottom], weights, out.w / BLOCK, output).then_some(())?;
    }
    Some(())
}

/// Every channel's weights, each line and then the channel filled up to `each` bytes with zeros; `None` if they do
/// not fit.
fn padded<'s>(conv: &Conv<'_>, each: usize, packed: &'s mut [u8]) -> Option<&'s [i32]> {
    let packed: &mut [i8] = bytemuck::cast_slice_mut(packed.get_mut(..each * conv.window.output.c)?);
    packed.fill(0);
    let line = conv.window.kernel * conv.window.input.c;
    for channel in 0..conv.window.output.c {
        for ky in 0..conv.window.kernel {
            let from = conv.weights.get((channel * conv.window.kernel + ky) * line..)?.get(..line)?;
            let to = packed.get_mut(channel * each + ky * line.next_multiple_of(CHUNK)..)?;
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
    }
    bytemuck::try_cast_slice(packed).ok()
}

/// Any windows, those of a block collected.
#[inline(never)]
fn over_patches(
    row: &Row<'_, '_>,
    rows: &Rows<'_>,
    oys: Range<usize>,
    tiles: &mut [u8],
    output: &mut [i8],
) -> Option<()> {
    let conv = row.conv;
    let Window { input, output: out, kernel, .. } = conv.window;
    let (taps, line, least) = (conv.window.taps(), kernel * input.c, direct::patch_bytes(&conv.window));
    // Three chunks at a time where there is room for the rest of the last three.
    let all = least.next_multiple_of(3 * BLOCK * CHUNK);
    let all = if all <= tiles.len() { all } else { least };
    let (patch, rest) = tiles.split_at_mut_checked(all)?;
    let (kept, rest): (Option<&[Channel]>, _) = match rest.split_at_mut_checked(size_of::<Channel>() * out.c) {
        Some((all, rest)) => {
            let all = bytemuck::try_cast_slice_mut(all).ok()?;
            row.fill(0, all)?;
            (Some(all), rest)
        }
        None => (None, &mut [][..]),
    };
    let each = all / BLOCK;
    let weights: Option<&[i32]> = match each.is_multiple_of(3 * CHUNK) && row.fast {
        true if line.is_multiple_of(CHUNK) && each == taps => bytemuck::try_cast_slice(conv.weights).ok(),
        true if oys.len() > 1 => padded(conv, each, rest),
        _ => None,
    };
    let mut threes = match (weights, kept) {
        (Some(weights), Some(channels)) => Some((Task::new(row.store, channels)?, weights)),
        _ => None,
    };
    let mut few = [[0; 4]; FEW];
    for (index, oy) in oys.enumerate() {
        let output = output.get_mut(index * out.w * out.c..)?.get_mut(..out.w * out.c)?;
        for ox in (0..out.w).step_by(BLOCK) {
            let count = BLOCK.min(out.w - ox);
            row.collect(rows, (oy, ox), count, bytemuck::cast_slice_mut(patch))?;
            let words = bytemuck::try_cast_slice(patch).ok()?;
            let y = output.get_mut(ox * out.c..)?;
            if let (Some((task, weights)), BLOCK) = (&mut threes, count) {
                task.threes(words, weights, y).then_some(())?;
                continue;
            }
            let patch = Patch { words, lines: kernel, line };
            for from in (0..out.c).step_by(kept.map_or(FEW, <[_]>::len).max(1)) {
                let channels = match kept {
                    Some(all) => all,
                    None => {
                        let some = few.get_mut(..(out.c - from).min(FEW))?;
                        row.fill(from, some)?;
                        some
                    }
                };
                row.block(patch, count, from, channels, y.get_mut(from..)?)?;
            }
        }
    }
    Some(())
}
