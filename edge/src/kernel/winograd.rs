//! 3x3 convolutions of stride 1 by exact Winograd.

use residual_core::quant::{Conv, Window};

use super::{ADD_TABLES, fast_sum, is_full};
use crate::arch::{
    products, transform_output,
    winograd::{
        MAX_CHANNELS, Patch, Place, Rescale, Sum, tile_words, transform_input, transform_weights, weight_words,
    },
};

/// Bytes of the 36 sums of two channels and four tiles.
pub const SUMS: usize = 36 * 8 * 4;

/// Whether `conv` can be computed here.
pub fn supports(conv: &Conv<'_>) -> bool {
    let Window { input, output, kernel, stride, .. } = conv.window;
    let geometry = kernel == 3 && stride == 1 && output.h * output.w >= 16;
    let channels = input.c.is_multiple_of(4) && input.c <= MAX_CHANNELS && output.c.is_multiple_of(2);
    let fast = |shift: &i8| (-22..=-1).contains(shift);
    geometry
        && channels
        && is_full(conv.output)
        && conv.shift.iter().all(fast)
        && conv.add.is_none_or(|add| is_full(add.output) && fast(&add.rescale_sum.shift))
}

fn tile_columns(conv: &Conv<'_>) -> usize {
    conv.window.output.w.div_ceil(4)
}

fn tile_count(conv: &Conv<'_>) -> usize {
    conv.window.output.h.div_ceil(4) * tile_columns(conv)
}

/// Groups of four tiles in the whole map.
pub fn groups(conv: &Conv<'_>) -> usize {
    tile_count(conv).div_ceil(4)
}

/// The corner of tile `index`, `None` past the last.
fn corner(conv: &Conv<'_>, index: usize) -> Option<(usize, usize)> {
    let columns = tile_columns(conv);
    (index < tile_count(conv)).then(|| (4 * (index / columns), 4 * (index % columns)))
}

fn patch(window: &Window, y0: usize, x0: usize) -> Patch {
    let Window { input, pad_top, pad_left, .. } = *window;
    let quads = input.c / 4;
    let rows = [0, 1, 2, 3, 4, 5].map(|k| window.source(y0, k, pad_top, input.h).map(|y| y * input.w));
    let columns = [0, 1, 2, 3, 4, 5].map(|k| window.source(x0, k, pad_left, input.w));
    columns.map(|x| rows.map(|row| Some((row? + x?) * quads)))
}

/// Computes the outputs of tile groups `first..first + groups`; the output holds the shortcut if
/// there is one. Scratch as [`crate::arena`] sizes it.
pub fn run(
    conv: &Conv<'_>,
    input: &[i8],
    output: &mut [i8],
    work: &mut [u8],
    tiles: &mut [u8],
    first: usize,
    groups: usize,
) -> Option<()> {
    let channels = conv.window.input.c;
    let map: &[u32] = bytemuck::try_cast_slice(input).ok()?;
    let weights: &[u32] = bytemuck::try_cast_slice(conv.weights).ok()?;
    let tables = if conv.add.is_some() { ADD_TABLES } else { 0 };
    let (tables, work) = work.split_at_mut_checked(tables)?;
    let (sums, work) = work.split_at_mut_checked(SUMS)?;
    let u: &mut [u32] = bytemuck::try_cast_slice_mut(work.get_mut(..4 * weight_words(channels))?).ok()?;
    let sums: &mut [[i32; 8]] = bytemuck::try_cast_slice_mut(sums).ok()?;
    let sums: &mut [[i32; 8]; 36] = sums.try_into().ok()?;
    let tables: &[i32] = bytemuck::try_cast_slice(tables).ok()?;
    let sum = match &conv.add {
        Some(add) => Some(fast_sum(add, tables)?),
        None => None,
    };
    let tiles: &mut [u32] = bytemuck::try_cast_slice_mut(tiles).ok()?;
    let one = tile_words(channels);
    let tiles = tiles.get_mut(..groups * one)?;
    for (g, v) in tiles.chunks_exact_mut(one).enumerate() {
        for t in 0..4 {
            if let Some((y0, x0)) = corner(conv, 4 * (first + g) + t) {
                let patch = patch(&conv.window, y0, x0);
                transform_input(map, &patch, channels, conv.input_zero, t, v).then_some(())?;
            }
        }
    }
    let row = 9 * channels / 4;
    for (pair, both) in weights.chunks_exact(2 * row).enumerate() {
        let (w0, w1) = both.split_at(row);
        transform_weights([w0, w1], channels, u).then_some(())?;
        let both = [Channel::new(conv, 2 * pair)?, Channel::new(conv, 2 * pair + 1)?];
        for (g, v) in tiles.chunks_exact(one).enumerate() {
            products(u, v, sums);
            for t in 0..4 {
                let Some((y0, x0)) = corner(conv, 4 * (first + g) + t) else { break };
                for (j, channel) in both.iter().enumerate() {
                    store(conv, sums, 4 * j + t, channel, (y0, x0), sum.as_ref(), output)?;
                }
            }
        }
    }
    Some(())
}

/// What an output channel needs.
struct Channel {
    index: usize,
    bias: i32,
    rescale: Rescale,
}

impl Channel {
    fn new(conv: &Conv<'_>, index: usize) -> Option<Self> {
        let zero = i32::from(conv.output.zero_point) + if conv.add.is_some() { 128 } else { 0 };
        let rescale = Rescale::new(*conv.mult.get(index)?, *conv.shift.get(index)?, zero)?;
        Some(Channel { index, bias: *conv.bias.get(index)?, rescale })
    }
}

/// Transforms and stores one tile of one channel, its corner at `(y0, x0)`.
#[inline(always)]
fn store(
    conv: &Conv<'_>,
    sums: &[[i32; 8]; 36],
    lane: usize,
    channel: &Channel,
    (y0, x0): (usize, usize),
    sum: Option<&Sum<'_>>,
    output: &mut [i8],
) -> Option<()> {
    let out = conv.window.output;
    let Channel { index, bias, ref rescale } = *channel;
    let start = (y0 * out.w + x0) * out.c + index;
    if y0 + 4 <= out.h && x0 + 4 <= out.w {
        let place = Place { start, pixel_stride: out.c, row_stride: out.w * out.c };
        return transform_output(sums, lane, bias, rescale, sum, output, place).then_some(());
    }
    store_part(conv, sums, lane, channel, (y0, x0), sum, output)
}

/// [`store`] for a tile that sticks out of the map: it goes through a small map of its own.
#[inline(never)]
fn store_part(
    conv: &Conv<'_>,
    sums: &[[i32; 8]; 36],
    lane: usize,
    channel: &Channel,
    (y0, x0): (usize, usize),
    sum: Option<&Sum<'_>>,
    output: &mut [i8],
) -> Option<()> {
    let out = conv.window.output;
    let start = (y0 * out.w + x0) * out.c + channel.index;
    let mut tile = [0; 16];
    let (rows, columns) = ((out.h - y0).min(4), (out.w - x0).min(4));
    let at = |y: usize, x: usize| start + (y * out.w + x) * out.c;
    for y in 0..rows {
        for x in 0..columns {
            *tile.get_mut(4 * y + x)? = *output.get(at(y, x))?;
        }
    }
    let place = Place { start: 0, pixel_stride: 1, row_stride: 4 };
    transform_output(sums, lane, channel.bias, &channel.rescale, sum, &mut tile, place).then_some(())?;
    for y in 0..rows {
        for x in 0..columns {
            *output.get_mut(at(y, x))? = *tile.get(4 * y + x)?;
        }
    }
    Some(())
}
