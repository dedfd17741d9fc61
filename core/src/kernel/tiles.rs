//! Rows of tiles, as both kinds of minimal filtering go over them.

use core::{array, cmp::min, iter};

use super::Band;
use crate::geom::ConvGeom;

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
