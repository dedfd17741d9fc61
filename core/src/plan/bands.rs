//! Splitting a layer's output into bands that threads can take.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{
    conv::Band,
    geom::Shape,
    memory::{Parts, Rect},
};

/// What splitting depends on.
pub(super) struct Work {
    /// multiply-adds of one image
    pub macs: u64,
    /// elements of the weights as the kernel multiplies them
    pub weight_len: usize,
    /// one image's output
    pub output: Shape,
    /// rows and channels a band begins at multiples of
    pub granularity: (usize, usize),
}

/// Below this many multiply-adds or moved elements a band costs more to hand out than it saves.
const MIN_WORK: u64 = 100_000;

/// Weights up to this many elements stay in L2: bands may be many.
const SMALL_WEIGHTS: usize = 1 << 16;

/// Weights above this many elements are more to read than the pixels: better every thread reads a part of them for all
/// pixels than all of them for some.
const LARGE_WEIGHTS: usize = 1 << 20;

/// Parts of the channels: as few as keep `threads` busy, for each part reads all of the input.
fn channel_parts(panels: usize, threads: usize) -> usize {
    let time = |parts: usize| panels.div_ceil(parts) * parts.div_ceil(threads);
    [1, 2, 4].map(|bands| (bands * threads).clamp(1, panels.max(1))).into_iter().min_by_key(|&p| time(p)).unwrap_or(1)
}

/// The bands of one layer and the rectangles (pixels x channels) they write.
///
/// Layer after layer a thread gets the same rows where it can: what it reads then lies in its own cache.
pub(super) fn split(work: &Work, batch: usize, threads: usize) -> (Vec<Band>, Vec<Rect>) {
    let Shape { h, w, c } = work.output;
    let total = (work.macs.max((h * w * c) as u64)).saturating_mul(batch as u64);
    let most = if threads == 1 { 1 } else { (total / MIN_WORK).clamp(1, (4 * threads) as u64) as usize };
    // Half of what can be handed out, for a layer may have as many bands of rows and of channels.
    let most = most.min(Parts::<()>::MAX / 2);
    let threads = threads.min(most);
    let (row_step, channel_step) = work.granularity;
    let (units_per_image, panels) = (h.div_ceil(row_step), c.div_ceil(channel_step));
    let units = batch * units_per_image;
    let row_of = |unit: usize| unit / units_per_image * h + (unit % units_per_image * row_step).min(h);
    let by_rows = |units: Range<usize>, bands: usize| {
        cuts(units, bands).map(move |part| Band { rows: row_of(part.start)..row_of(part.end), channels: 0..c })
    };
    let by_channels = |units: Range<usize>| {
        let parts = channel_parts(panels, threads).min(most);
        by_rows(units, if parts < threads { most / parts } else { 1 }).flat_map(move |band| {
            cuts(0..panels, parts).map(move |part| Band {
                channels: part.start * channel_step..(part.end * channel_step).min(c),
                ..band.clone()
            })
        })
    };
    let bands: Vec<Band> = if work.weight_len <= SMALL_WEIGHTS {
        by_rows(0..units, most).collect()
    } else if work.weight_len > LARGE_WEIGHTS || units < threads {
        by_channels(0..units).collect()
    } else {
        // A band for each thread, for each band reads all weights. Threads take them from both ends; the rows between,
        // too few for one each, they divide by channels.
        let (each, front) = (units / threads, threads.div_ceil(2));
        let between = each * front..units - each * (threads - front);
        by_rows(0..between.start, front)
            .chain(by_channels(between.clone()))
            .chain(by_rows(between.end..units, threads - front))
            .collect()
    };
    let rects =
        bands.iter().map(|b| Rect { rows: b.rows.start * w..b.rows.end * w, cols: b.channels.clone() }).collect();
    (bands, rects)
}

/// A range cut into at most `parts` of nearly equal length, none of them empty.
fn cuts(whole: Range<usize>, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let (start, n) = (whole.start, whole.len());
    let parts = parts.min(n);
    // `n * i / parts`, of which no product overflows.
    let at = move |i: usize| start + n / parts * i + n % parts * i / parts;
    (0..parts).map(move |i| at(i)..at(i + 1))
}

#[cfg(test)]
mod tests {
    use super::{Work, split};
    use crate::{geom::Shape, memory::Parts};

    #[test]
    fn bands_cover_every_row_and_channel_once() {
        for (h, w, c, granularity, weight_len, batch, threads) in [
            (14, 14, 512, (4, 32), 1 << 21, 1, 2),
            (28, 28, 128, (4, 32), 1 << 19, 1, 2),
            (14, 14, 72, (2, 32), 1 << 19, 3, 4),
            (14, 14, 72, (1, 16), 1 << 19, 1, 5),
            (7, 7, 512, (1, 32), 1 << 19, 1, 1),
            (56, 56, 64, (4, 32), 1000, 3, 4),
            (7, 7, 100, (1, 32), 1 << 21, 2, 1),
            (1, 1, 1000, (1, 32), 1 << 21, 5, 3),
            (9, 5, 3, (4, 32), 10, 2, 64),
            (14, 14, 5000, (1, 32), 1 << 19, 40, 300),
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
            assert!(bands.len() <= Parts::<()>::MAX && bands.iter().all(|b| !b.rows.is_empty()));
            let least = threads.min(Parts::<()>::MAX / 2).min(batch * h.div_ceil(granularity.0));
            assert!(threads == 1 || bands.len() >= least);
        }
    }
}
