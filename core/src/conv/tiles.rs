//! Rows of tiles, as both kinds of minimal filtering go over them.

use core::{array, cmp::min, iter};

use super::Band;
use crate::{
    geom::{ConvGeom, Shape},
    memory::MatMut,
    simd::{
        Isa,
        winograd::{self, Filter, Products},
    },
};

/// Elements of transformed tiles a strip may fill where weights do not stay in L2 and should serve as many tiles as
/// possible.
pub(super) const LARGE_STRIP: usize = 512 * 1024;

/// A row of tiles: its image, its first output row, and its rows inside the map.
pub(super) struct TileRow {
    pub image: usize,
    pub oy: usize,
    pub height: usize,
}

/// The strips of a band in maps of `h_out` rows: the rows of tiles of `step` output rows in each, and how many, at most
/// `at_once`.
pub(super) fn strips(
    band: &Band,
    h_out: usize,
    step: usize,
    at_once: usize,
) -> impl Iterator<Item = (impl Iterator<Item = TileRow> + Clone, usize)> {
    let mut rows = band.images(h_out).flat_map(move |(image, rows)| {
        let end = rows.end;
        rows.step_by(step).map(move |oy| TileRow { image, oy, height: min(step, end - oy) })
    });
    iter::from_fn(move || {
        let strip = rows.clone().take(at_once);
        let count = rows.by_ref().take(at_once).count();
        (count > 0).then_some((strip, count))
    })
}

/// Rows of tiles computed at once, of `all` of an image, where `most` fit a strip and each has `cols` tiles.
pub(super) fn rows_at_once(most: usize, all: usize, cols: usize) -> usize {
    let most = most.max(1);
    // Strips of nearly equal height: each reads the weights again. Small maps share one.
    if most < all { all.div_ceil(all.div_ceil(most)) } else { most.min((64 / cols).max(all)) }
}

/// Multiply-adds for one image; saturates.
pub(super) fn products(filter: Filter, g: &ConvGeom) -> u64 {
    let (tiles, channels) = (filter.tiles(g.output()), (g.input.c as u64).saturating_mul(g.c_out as u64));
    (tiles as u64).saturating_mul(filter.products() as u64).saturating_mul(channels)
}

/// Transforms a strip's rows of tiles back, into the band's pixels `y` of maps `out`.
pub(super) fn store(
    isa: Isa,
    products: Products<'_>,
    strip: impl Iterator<Item = TileRow>,
    out: Shape,
    band: &Band,
    y: &mut MatMut<'_, f32>,
) {
    let cols = out.w.div_ceil(products.filter.outputs());
    for (r, TileRow { image, oy, height }) in strip.enumerate() {
        let pixels = (image * out.h + oy - band.rows.start) * out.w;
        let y = &mut y.part(pixels..pixels + height * out.w, 0..band.channels.len());
        winograd::output(isa, winograd::Output { products, first: r * cols, y, width: out.w });
    }
}

/// Copies the biases to the start of packed weights, where whole vectors can be read; what lies behind them.
pub(super) fn pack_bias<'p>(g: &ConvGeom, bias: &[f32], packed: &'p mut [f32]) -> &'p mut [f32] {
    let (head, rest) = packed.split_at_mut(bias_len(g));
    head.fill(0.0);
    head[..g.c_out].copy_from_slice(bias);
    rest
}

/// Elements of the packed biases.
pub(super) fn bias_len(g: &ConvGeom) -> usize {
    g.c_out.next_multiple_of(16)
}

/// `N` input rows of an image of `width` elements a row, from `first` on, where row 0 is the row of zeros above it.
pub(super) fn input_rows<'a, const N: usize>(
    g: &ConvGeom,
    image: &'a [f32],
    first: usize,
    zeros: &'a [f32],
) -> [&'a [f32]; N] {
    let len = g.input.w * g.input.c;
    array::from_fn(|i| match (first + i).checked_sub(1).filter(|&y| y < g.input.h) {
        Some(y) => &image[y * len..(y + 1) * len],
        None => zeros,
    })
}

/// Elements from one tile to the next of `c` channels: whole vectors, and not where the neighbour's would begin in the same
/// set of L1.
pub(super) fn apart(c: usize) -> usize {
    let c = c.next_multiple_of(16);
    c + if c.is_multiple_of(128) { 16 } else { 0 }
}
