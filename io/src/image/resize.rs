//! Antialiased bilinear resizing, byte for byte what Pillow's `Image.resize(.., BILINEAR)` gives.
//!
//! The filter is the triangle `1 - |t|`, stretched by the reduction `s = max(src / dst, 1)`. Output
//! pixel `i` is centred at `c = (i + 1/2) src / dst` and sums the input pixels `x` with
//!
//! ```text
//! w(x) = max(0, 1 - |x + 1/2 - c| / s),   normalised to sum 1, as integers round(w 2^22)
//! ```
//!
//! One pass goes across the rows, one down the columns, with an 8-bit picture in between; each
//! rounds to nearest, so their order shows in the last bit. The pass down comes first where it
//! removes more than twice the rows than the pass across removes columns (found by experiment
//! with Pillow 13), and a pass that would change nothing is skipped.

use std::ops::Range;

use super::Image;
use crate::DataError;

/// Fraction bits of a weight: 32 bits less 8 for the sample and 2 of headroom.
const PRECISION: u32 = 22;
const HALF: u32 = 1 << (PRECISION - 1);

impl Image {
    /// This picture at `width x height`, antialiased bilinear (Pillow's `BILINEAR`).
    ///
    /// # Errors
    /// [`DataError::Geometry`] if a side is 0 or more than [`Image::MAX_SIDE`].
    pub fn resize(&self, width: usize, height: usize) -> Result<Image, DataError> {
        self.resize_window((width, height), 0..width, 0..height)
    }

    /// The window `columns x rows` of this picture resized to `size` (width, height): the same
    /// bytes as resizing, then cropping, without computing what is cropped away.
    ///
    /// # Errors
    /// [`DataError::Geometry`] if the window is empty, larger than [`Image::MAX_SIDE`] or not
    /// inside `size`.
    pub fn resize_window(
        &self,
        size: (usize, usize),
        columns: Range<usize>,
        rows: Range<usize>,
    ) -> Result<Image, DataError> {
        let inside = |r: &Range<usize>, n: usize| !r.is_empty() && r.end <= n && r.len() <= Image::MAX_SIDE;
        if !inside(&columns, size.0) || !inside(&rows, size.1) {
            return Err(DataError::Geometry {
                what: "resize",
                from_width: self.width(),
                from_height: self.height(),
                width: columns.len(),
                height: rows.len(),
            });
        }
        let from = (self.width(), self.height());
        let (width, height) = (columns.len(), rows.len());
        let (across, down) = (Pass::new(from.0, size.0, columns), Pass::new(from.1, size.1, rows));
        let pixels = if down_first(from, size) {
            let needed = across.span();
            let low = down.down(self.pixels(), from.0 * 3, needed.start * 3..needed.end * 3, 0);
            across.across(&low, needed.len() * 3, needed.start)
        } else {
            let needed = down.span();
            let source = &self.pixels()[needed.start * from.0 * 3..needed.end * from.0 * 3];
            let narrow = across.across(source, from.0 * 3, 0);
            down.down(&narrow, width * 3, 0..width * 3, needed.start)
        };
        Ok(Image::from_parts(width, height, pixels))
    }
}

/// Whether the pass down the columns comes before that across the rows.
fn down_first(from: (usize, usize), to: (usize, usize)) -> bool {
    let removed = |axis: fn((usize, usize)) -> usize| axis(from) as i64 - axis(to) as i64;
    let (columns, rows) = (removed(|s| s.0), removed(|s| s.1));
    rows > 0 && rows > 2 * columns
}

/// What happens along one axis.
enum Pass {
    /// a part of it, as it is
    Keep(Range<usize>),
    /// weighted sums
    Blend(Axis),
}

impl Pass {
    fn new(from: usize, to: usize, window: Range<usize>) -> Self {
        if from == to { Pass::Keep(window) } else { Pass::Blend(Axis::new(from, to, window)) }
    }

    /// The input positions that any output position reads.
    fn span(&self) -> Range<usize> {
        match self {
            Pass::Keep(window) => window.clone(),
            Pass::Blend(axis) => axis.span(),
        }
    }

    /// Every row of `stride` bytes, resampled across; the first pixel of a row is position `origin`.
    fn across(&self, from: &[u8], stride: usize, origin: usize) -> Vec<u8> {
        let rows = from.chunks_exact(stride);
        match self {
            Pass::Keep(window) => {
                let bytes = (window.start - origin) * 3..(window.end - origin) * 3;
                rows.flat_map(|row| &row[bytes.clone()]).copied().collect()
            }
            Pass::Blend(axis) => {
                let to_stride = axis.firsts.len() * 3;
                let mut to = vec![0; rows.len() * to_stride];
                for (from, to) in rows.zip(to.chunks_exact_mut(to_stride)) {
                    blend_across(from, axis, origin, to);
                }
                to
            }
        }
    }

    /// The part `bytes` of rows of `stride` bytes, resampled down; the first row is position `origin`.
    fn down(&self, from: &[u8], stride: usize, bytes: Range<usize>, origin: usize) -> Vec<u8> {
        let row = |y: usize| (y - origin) * stride;
        match self {
            Pass::Keep(window) => {
                let rows = from[row(window.start)..row(window.end)].chunks_exact(stride);
                rows.flat_map(|row| &row[bytes.clone()]).copied().collect()
            }
            Pass::Blend(axis) => {
                let mut to = vec![0; axis.firsts.len() * bytes.len()];
                for (to, (first, weights)) in to.chunks_exact_mut(bytes.len()).zip(axis.iter()) {
                    blend_down(&from[row(first)..row(first + weights.len())], stride, bytes.start, weights, to);
                }
                to
            }
        }
    }
}

/// For every output position of one axis, the first input position and the weights from there:
/// as many for each, some of them 0, so that the loops over them have a fixed length.
struct Axis {
    firsts: Vec<usize>,
    weights: Vec<u32>,
    taps: usize,
}

impl Axis {
    /// The part `window` of the axis that takes `src` positions to `dst`.
    fn new(src: usize, dst: usize, window: Range<usize>) -> Self {
        let scale = src as f64 / dst as f64;
        let stretch = scale.max(1.0);
        let inverse = 1.0 / stretch;
        // Float to integer conversions truncate and saturate at 0.
        let reach = |i: usize| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - stretch + 0.5) as usize;
            (centre, first, ((centre + stretch + 0.5) as usize).min(src))
        };
        let taps = window.clone().map(reach).map(|(_, first, end)| end - first).max().unwrap_or(0);
        let mut axis = Axis { firsts: Vec::with_capacity(window.len()), weights: vec![0; window.len() * taps], taps };
        let mut exact = Vec::with_capacity(taps);
        for (i, weights) in window.zip(axis.weights.chunks_exact_mut(taps)) {
            let (centre, first, end) = reach(i);
            exact.clear();
            exact.extend((first..end).map(|x| (1.0 - ((x as f64 - centre + 0.5) * inverse).abs()).max(0.0)));
            // In order, from 0: the sum's rounding is part of the definition.
            let sum = exact.iter().fold(0.0, |a, w| a + w);
            // Near the end, fewer positions are left than taps: begin earlier, with zeros.
            let begin = first.min(src - taps);
            for (weight, w) in weights[first - begin..].iter_mut().zip(&exact) {
                *weight = (0.5 + w / sum * f64::from(1 << PRECISION)) as u32;
            }
            axis.firsts.push(begin);
        }
        axis
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[u32])> {
        self.firsts.iter().copied().zip(self.weights.chunks_exact(self.taps))
    }

    fn span(&self) -> Range<usize> {
        self.firsts.first().copied().unwrap_or(0)..self.firsts.last().map_or(0, |first| first + self.taps)
    }
}

fn to_u8(sum: u32) -> u8 {
    // Rounded weights can sum to slightly more than 1.
    (sum >> PRECISION).min(255) as u8
}

/// Calls `$f::<N>` with `N = $taps` where that is one of the usual numbers, else `N = 0`: any.
macro_rules! with_taps {
    ($taps:expr, $f:ident($($arg:expr),*)) => {
        match $taps {
            2 => $f::<2>($($arg),*),
            3 => $f::<3>($($arg),*),
            4 => $f::<4>($($arg),*),
            5 => $f::<5>($($arg),*),
            6 => $f::<6>($($arg),*),
            _ => $f::<0>($($arg),*),
        }
    };
}

/// One row, resampled across.
fn blend_across(from: &[u8], axis: &Axis, origin: usize, to: &mut [u8]) {
    with_taps!(axis.taps, across_taps(from, axis, origin, to))
}

fn across_taps<const N: usize>(from: &[u8], axis: &Axis, origin: usize, to: &mut [u8]) {
    let (to, _) = to.as_chunks_mut::<3>();
    for (to, (first, weights)) in to.iter_mut().zip(axis.iter()) {
        let taps = if N == 0 { weights.len() } else { N };
        let (pixels, _) = from[(first - origin) * 3..][..taps * 3].as_chunks::<3>();
        let mut sum = [HALF; 3];
        for (p, &w) in pixels.iter().zip(&weights[..taps]) {
            for c in 0..3 {
                sum[c] += u32::from(p[c]) * w;
            }
        }
        *to = sum.map(to_u8);
    }
}

/// One output row from all rows of `from`, beginning at byte `at` of each.
fn blend_down(from: &[u8], stride: usize, at: usize, weights: &[u32], to: &mut [u8]) {
    with_taps!(weights.len(), down_taps(from, stride, at, weights, to))
}

fn down_taps<const N: usize>(from: &[u8], stride: usize, at: usize, weights: &[u32], to: &mut [u8]) {
    const LANES: usize = 16;
    let taps = if N == 0 { weights.len() } else { N };
    let weights = &weights[..taps];
    let mut at = at;
    let (blocks, rest) = to.as_chunks_mut::<LANES>();
    for block in blocks {
        let mut sum = [HALF; LANES];
        for (t, &w) in weights.iter().enumerate() {
            let samples = &from[t * stride + at..][..LANES];
            for (s, &p) in sum.iter_mut().zip(samples) {
                *s += u32::from(p) * w;
            }
        }
        *block = sum.map(to_u8);
        at += LANES;
    }
    for to in rest {
        let sum = weights.iter().enumerate().fold(HALF, |s, (t, &w)| s + u32::from(from[t * stride + at]) * w);
        *to = to_u8(sum);
        at += 1;
    }
}
