//! 3x3 convolutions of stride 1 by exact Winograd.

use residual_core::{
    geom::Shape,
    quant::{Conv, Window},
};

use super::{ADD_TABLES, fast_sum, is_full};
use crate::arch::{
    Finish, products,
    winograd::{MAX_CHANNELS, Map, Rescale, tile_words, transform_input, transform_weights, weight_words},
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

/// The corners of the tiles from one on, row by row.
struct Corners {
    y: usize,
    x: usize,
    out: Shape,
}

impl Corners {
    fn new(conv: &Conv<'_>, tile: usize) -> Self {
        let columns = tile_columns(conv);
        let row = tile.checked_div(columns).unwrap_or_default();
        Corners { y: 4 * row, x: 4 * (tile - row * columns), out: conv.window.output }
    }
}

/// `(y, x)`, and whether the whole tile lies on the map.
impl Iterator for Corners {
    type Item = (usize, usize, bool);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, usize, bool)> {
        let (y, x) = (self.y, self.x);
        self.x += 4;
        let whole = self.x <= self.out.w && y + 4 <= self.out.h;
        if self.x >= self.out.w {
            self.x = 0;
            self.y += 4;
        }
        (y < self.out.h).then_some((y, x, whole))
    }
}

/// Computes the outputs of tile groups `first..first + groups`; the output holds the shortcut if
/// there is one. Scratch as [`crate::arena`] sizes it; with `resident` it keeps all transformed weights
/// from the call with `first == 0` on.
#[allow(clippy::too_many_arguments)] // one call site
pub fn run(
    conv: &Conv<'_>,
    input: &[i8],
    output: &mut [i8],
    work: &mut [u8],
    tiles: &mut [u8],
    first: usize,
    groups: usize,
    resident: bool,
) -> Option<()> {
    let depth = conv.window.input.c;
    let map: &[u32] = bytemuck::try_cast_slice(input).ok()?;
    let weights: &[u32] = bytemuck::try_cast_slice(conv.weights).ok()?;
    let tables = if conv.add.is_some() { ADD_TABLES } else { 0 };
    let (tables, work) = work.split_at_mut_checked(tables)?;
    let (sums, work) = work.split_at_mut_checked(SUMS)?;
    let pair_words = weight_words(depth);
    let pairs = if resident { conv.window.output.c / 2 } else { 1 };
    let u: &mut [u32] = bytemuck::try_cast_slice_mut(work.get_mut(..4 * pair_words * pairs)?).ok()?;
    let sums: &mut [[i32; 8]] = bytemuck::try_cast_slice_mut(sums).ok()?;
    let sums: &mut [[i32; 8]; 36] = sums.try_into().ok()?;
    let tables: &[i32] = bytemuck::try_cast_slice(tables).ok()?;
    let sum = match &conv.add {
        Some(add) => Some(fast_sum(add, tables)?),
        None => None,
    };
    let tiles: &mut [u32] = bytemuck::try_cast_slice_mut(tiles).ok()?;
    let one = tile_words(depth);
    let tiles = tiles.get_mut(..groups * one)?;
    let Window { input: Shape { h, w, .. }, pad_top, pad_left, output: out, .. } = conv.window;
    let map = Map { words: map, h, w, quads: depth / 4, pad_top, pad_left, zero: conv.input_zero };
    let mut corners = Corners::new(conv, 4 * first);
    for v in tiles.chunks_exact_mut(one.max(1)) {
        for (t, (y, x, _)) in corners.by_ref().take(4).enumerate() {
            transform_input(&map, (y, x), t, v).then_some(())?;
        }
    }
    let row = 9 * depth / 4;
    let (pixel_stride, row_stride) = (out.c, out.w * out.c);
    let finish = || Finish::new(sum, pixel_stride, row_stride);
    let (mut both, mut part) = ([finish(), finish()], Finish::new(sum, 1, 4));
    let mut weights = weights;
    for pair in 0..out.c / 2 {
        let (w0, rest) = weights.split_at_checked(row)?;
        let (w1, rest) = rest.split_at_checked(row)?;
        weights = rest;
        let u = u.get_mut(if resident { pair * pair_words } else { 0 }..)?.get_mut(..pair_words)?;
        if first == 0 || !resident {
            transform_weights([w0, w1], depth, u).then_some(())?;
        }
        let channels = [channel(conv, 2 * pair)?, channel(conv, 2 * pair + 1)?];
        for (finish, (bias, rescale)) in both.iter_mut().zip(channels) {
            finish.set(bias, rescale);
        }
        let mut corners = Corners::new(conv, 4 * first);
        for v in tiles.chunks_exact(one.max(1)) {
            products(u, v, sums);
            for t in 0..4 {
                let Some((y, x, whole)) = corners.next() else { break };
                let start = y * row_stride + x * pixel_stride + 2 * pair;
                if whole {
                    Finish::store(&both, sums, t, output, start).then_some(())?;
                } else {
                    for (j, (bias, rescale)) in channels.into_iter().enumerate() {
                        part.set(bias, rescale);
                        store_part(conv, &part, sums, t + 4 * j, (y, x), start + j, output)?;
                    }
                }
            }
        }
    }
    Some(())
}

/// Bias and rescaling of an output channel.
fn channel(conv: &Conv<'_>, index: usize) -> Option<(i32, Rescale)> {
    let zero = i32::from(conv.output.zero_point) + if conv.add.is_some() { 128 } else { 0 };
    let rescale = Rescale::new(*conv.mult.get(index)?, *conv.shift.get(index)?, zero)?;
    Some((*conv.bias.get(index)?, rescale))
}

/// Stores a tile that sticks out of the map: `finish` is for a map of 4x4, which it goes through.
#[inline(never)]
fn store_part(
    conv: &Conv<'_>,
    finish: &Finish<'_>,
    sums: &[[i32; 8]; 36],
    lane: usize,
    (y0, x0): (usize, usize),
    start: usize,
    output: &mut [i8],
) -> Option<()> {
    let out = conv.window.output;
    let mut tile = [0; 16];
    let (rows, columns) = ((out.h - y0).min(4), (out.w - x0).min(4));
    let at = |y: usize, x: usize| start + (y * out.w + x) * out.c;
    for y in 0..rows {
        for x in 0..columns {
            *tile.get_mut(4 * y + x)? = *output.get(at(y, x))?;
        }
    }
    Finish::store(core::slice::from_ref(finish), sums, lane, &mut tile, 0).then_some(())?;
    for y in 0..rows {
        for x in 0..columns {
            *output.get_mut(at(y, x))? = *tile.get(4 * y + x)?;
        }
    }
    Some(())
}
