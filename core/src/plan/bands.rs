//! Splitting a layer's output into bands that threads can take.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{
    arch::{Parts, Rect},
    geom::Shape,
    kernel::Band,
};

/// What splitting depends on.
pub(super) struct Work {
    /// multiply-adds of one image
    pub macs: u64,
    /// elements of the packed weights
    pub weight_len: usize,
    /// one image's output
    pub output: Shape,
    /// rows and channels a band begins at multiples of
    pub granularity: (usize, usize),
}

/// Below this many multiply-adds or moved elements a band costs more to hand out than it saves.
const MIN_WORK: u64 = 100_000;

/// Weights above this many elements are read from beyond L2: better every thread reads a part of
/// them for all pixels than all of them for some.
const LARGE_WEIGHTS: usize = 1 << 18;

/// Parts of the channels: as few as keep `threads` busy, for each part reads all of the input.
fn channel_parts(panels: usize, threads: usize) -> usize {
    let time = |parts: usize| panels.div_ceil(parts) * parts.div_ceil(threads);
    [1, 2, 4].map(|bands| (bands * threads).clamp(1, panels.max(1))).into_iter().min_by_key(|&p| time(p)).unwrap_or(1)
}

/// `0..n` cut for `threads`, and what each part fills of a matrix of `rows` that has `columns` for each of the `n`.
pub(super) fn columns(n: usize, threads: usize, rows: usize, columns: usize) -> (Vec<Range<usize>>, Vec<Rect>) {
    let rect = |part: &Range<usize>| Rect { rows: 0..rows, cols: part.start * columns..part.end * columns };
    let parts: Vec<_> = cuts(n, (4 * threads).min(Parts::<()>::MAX)).collect();
    let rects = parts.iter().map(rect).collect();
    (parts, rects)
}

/// The bands of one layer and the rectangles (pixels x channels) they write.
pub(super) fn split(work: &Work, batch: usize, threads: usize) -> (Vec<Band>, Vec<Rect>) {
    let Shape { h, w, c } = work.output;
    let total = (work.macs.max((h * w * c) as u64)).saturating_mul(batch as u64);
    let most = if threads == 1 { 1 } else { (total / MIN_WORK).clamp(1, (4 * threads) as u64) as usize };
    let most = most.min(Parts::<()>::MAX);
    let (row_step, channel_step) = work.granularity;
    let panels = c.div_ceil(channel_step);
    let parts = if work.weight_len > LARGE_WEIGHTS { channel_parts(panels, threads).min(most) } else { 1 };
    let channels: Vec<Range<usize>> =
        cuts(panels, parts).map(|p| p.start * channel_step..(p.end * channel_step).min(c)).collect();
    let units_per_image = h.div_ceil(row_step);
    let row_of = |unit: usize| unit / units_per_image * h + (unit % units_per_image * row_step).min(h);
    let row_bands = if parts >= threads { 1 } else { most / parts };
    let mut bands = Vec::new();
    for channels in channels {
        for units in cuts(batch * units_per_image, row_bands) {
            bands.push(Band { rows: row_of(units.start)..row_of(units.end), channels: channels.clone() });
        }
    }
    let rects =
        bands.iter().map(|b| Rect { rows: b.rows.start * w..b.rows.end * w, cols: b.channels.clone() }).collect();
    (bands, rects)
}

/// `0..n` cut into at most `parts` ranges of nearly equal length.
fn cuts(n: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = parts.min(n).max(1);
    (0..parts).map(move |i| n * i / parts..n * (i + 1) / parts)
}

#[cfg(test)]
mod tests {
    use super::{Work, split};
    use crate::geom::Shape;

    #[test]
    fn bands_cover_every_row_and_channel_once() {
        for (h, w, c, granularity, weight_len, batch, threads) in [
            (14, 14, 512, (4, 32), 1 << 20, 1, 2),
            (56, 56, 64, (4, 32), 1000, 3, 4),
            (7, 7, 100, (1, 32), 1 << 20, 2, 1),
            (1, 1, 1000, (1, 32), 1 << 20, 5, 3),
            (9, 5, 3, (4, 32), 10, 2, 64),
        ] {
            let work = Work { macs: 1 << 30, weight_len, output: Shape::new(h, w, c), granularity };
            let (bands, rects) = split(&work, batch, threads);
            let mut seen = vec![0; batch * h * c];
            for (band, rect) in bands.iter().zip(&rects) {
                assert_eq!(rect.rows, band.rows.start * w..band.rows.end * w);
                assert_eq!(band.channels.start % granularity.1, 0);
                assert_eq!(band.rows.start % h % granularity.0, 0);
                for row in band.rows.clone() {
                    band.channels.clone().for_each(|ch| seen[row * c + ch] += 1);
                }
            }
            assert!(seen.iter().all(|&n| n == 1));
            assert!(threads == 1 || bands.len() >= threads.min(batch * h.div_ceil(granularity.0)));
        }
    }
}
