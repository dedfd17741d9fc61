//! The register tile and the loops around it: every convolution and the classifier end here.
//!
//! ```text
//! y[i, j] = act( bias[j] + sum over taps t, 0 <= c < depth of
//!                a[row(i) + tap[t] + c] * w[t * depth + c, j] + (shortcut y[i, j]) )
//! ```
//!
//! `row(i)` is where output pixel `i` begins to read, so a 1x1 convolution is one tap over pixels in
//! place and a 3x3 is the same tile fed with shifted rows: no im2col copy. Each output element is one
//! chain of multiply-adds in a fixed order (bias, then taps, then channels, then shortcut), whatever the tile it
//! falls into: results do not depend on how the work is split. The shortcut comes last, for a sum that began with
//! it would wait for the cache.

mod tile;

use core::{cmp::min, ops::Range};

use super::{
    isa::Isa,
    vector::{Op, Vector, dispatch, heights, tile_of},
};
use crate::{geom::reach, memory::MatMut};
use tile::{Ahead, Run};

/// Where the output pixels begin to read: pixel `i` at
/// `start + (i / per_row) * row + (i % per_row) * pixel`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowMap {
    pub start: usize,
    pub per_row: usize,
    pub row: usize,
    pub pixel: usize,
}

impl RowMap {
    /// Pixels of `pixel` elements one after the other.
    pub(crate) const fn contiguous(pixel: usize) -> Self {
        RowMap { start: 0, per_row: usize::MAX, row: 0, pixel }
    }

    /// A position at pixel `first`. One division: they cost as much as a small tile's work.
    #[inline(always)]
    fn at(&self, first: usize) -> Position {
        Position { line: self.start + first / self.per_row * self.row, column: first % self.per_row }
    }

    /// The largest offset of the first `n` pixels; saturates.
    fn max(&self, n: usize) -> usize {
        let last = n.saturating_sub(1);
        let full = if last >= self.per_row { self.per_row - 1 } else { last };
        reach([(self.start, 1), (last / self.per_row, self.row), (full, self.pixel)])
    }
}

/// A pixel of a [`RowMap`].
#[derive(Clone, Copy)]
struct Position {
    /// where the line begins to read
    line: usize,
    /// pixel within the line
    column: usize,
}

impl Position {
    /// Where this pixel and the `N - 1` after it begin to read; moves behind them.
    #[inline(always)]
    fn take<const N: usize>(&mut self, map: &RowMap) -> [usize; N] {
        let mut offsets = [0; N];
        if map.per_row - self.column >= N {
            let first = self.line + self.column * map.pixel;
            for (i, to) in offsets.iter_mut().enumerate() {
                *to = first + i * map.pixel;
            }
            self.advance(N, map);
        } else {
            for to in &mut offsets {
                *to = self.line + self.column * map.pixel;
                self.advance(1, map);
            }
        }
        offsets
    }

    /// Moves `n` pixels on, at most to the line's end: that is the start of the next.
    #[inline(always)]
    fn advance(&mut self, n: usize, map: &RowMap) {
        self.column += n;
        if self.column == map.per_row {
            (self.line, self.column) = (self.line + map.row, 0);
        }
    }
}

/// What is done beside the products: `y = act(y + result)` or `y = act(result)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epilogue {
    /// the output already holds an identity shortcut, to which the result is added
    pub add: bool,
    /// apply ReLU
    pub relu: bool,
}

/// How weights are packed for one instruction set: panels of `width` output channels (the last one
/// may be one vector narrower), each a row of biases and then `depth` rows of weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels {
    lanes: usize,
    width: usize,
    rows: usize,
    /// products summed per output
    depth: usize,
    /// output channels
    n: usize,
}

impl Panels {
    pub(crate) fn new(isa: Isa, depth: usize, n: usize) -> Self {
        let (lanes, width, rows) = tile_of(isa);
        Panels { lanes, width, rows, depth, n }
    }

    /// Rows and columns of the largest tile, for names.
    pub(crate) const fn tile(&self) -> (usize, usize) {
        (self.rows, self.width)
    }

    /// Elements of all panels; saturates.
    pub(crate) const fn len(&self) -> usize {
        (self.depth + 1).saturating_mul(self.n.div_ceil(self.lanes).saturating_mul(self.lanes))
    }

    /// Output channels in panel multiples; a split of the channels must fall on one.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// Whether these are panels for `isa` and sums of `depth` products, with `outputs` at a panel's start.
    pub(crate) fn are(&self, isa: Isa, depth: usize, outputs: Range<usize>) -> bool {
        (self.lanes, self.width, self.rows) == tile_of(isa)
            && self.depth == depth
            && outputs.start.is_multiple_of(self.width)
            && outputs.start <= outputs.end
            && outputs.end <= self.n
            && (outputs.len().is_multiple_of(self.lanes) || outputs.end == self.n)
    }

    /// Fills `packed` from `weight(channel, depth index)` and `bias(channel)`; channels past the
    /// last are zero.
    pub(crate) fn pack(&self, packed: &mut [f32], weight: impl Fn(usize, usize) -> f32, bias: impl Fn(usize) -> f32) {
        for (panel, first) in
            packed[..self.len()].chunks_mut((self.depth + 1) * self.width).zip((0..).step_by(self.width))
        {
            let width = panel.len() / (self.depth + 1);
            let valid = min(width, self.n - first);
            panel.fill(0.0);
            let (head, body) = panel.split_at_mut(width);
            for j in 0..valid {
                head[j] = bias(first + j);
                for (d, row) in body.chunks_exact_mut(width).enumerate() {
                    row[j] = weight(first + j, d);
                }
            }
        }
    }
}

/// One matrix product. `y` has a row per pixel and `cols` columns, which are output channels
/// `first..first + cols` of the packed weights.
pub(crate) struct Gemm<'a> {
    pub a: &'a [f32],
    pub rows: RowMap,
    pub taps: &'a [usize],
    /// products per tap
    pub depth: usize,
    pub panels: Panels,
    pub packed: &'a [f32],
    /// equal parts of the pixels, each with panels of its own, one after the other in `packed`
    pub groups: usize,
    /// first output channel; a multiple of [`Panels::width`]
    pub first: usize,
    pub epilogue: Epilogue,
    /// pixels of `a` that should stay in the cache while all panels pass over them
    pub block: usize,
}

/// Computes `y`.
///
/// # Panics
/// When a slice is too short for what the other fields say; checked once, before the loops.
pub(crate) fn gemm(isa: Isa, g: &Gemm<'_>, y: &mut MatMut<'_, f32>) {
    let (m, n) = (y.rows(), y.cols());
    if m == 0 || n == 0 {
        return;
    }
    let far = g.taps.iter().max().map_or(0, |t| t.saturating_add(g.depth));
    assert!(g.rows.per_row > 0 && g.rows.max(m).saturating_add(far) <= g.a.len(), "input too short");
    assert!(g.groups > 0 && m.is_multiple_of(g.groups));
    assert!(g.packed.len() / g.groups >= g.panels.len(), "weights too short");
    let (depth, outputs) = (g.taps.len().saturating_mul(g.depth), g.first..g.first.saturating_add(n));
    assert!(g.panels.are(isa, depth, outputs), "a channel range that no panels begin");
    // SAFETY: all reads of `a` end at or before `rows.max(m) + far`, all reads of weights lie in
    // panels that exist, `y` is a valid view. No sum or product above overflowed: it would be `usize::MAX`.
    unsafe { dispatch(isa, Loops { g, y }) }
}

struct Loops<'g, 'a, 'y, 'v> {
    g: &'g Gemm<'a>,
    y: &'y mut MatMut<'v, f32>,
}

impl Op for Loops<'_, '_, '_, '_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Loops { g, y } = self;
        let (m, n, stride) = (y.rows(), y.cols(), y.stride());
        let width = V::LANES * V::PANEL;
        let panel_len = (g.panels.depth + 1) * width;
        let block = g.block.next_multiple_of(V::MAX_ROWS[V::PANEL - 1]);
        let per_group = m / g.groups;
        for group in 0..g.groups {
            // SAFETY: `gemm` checked that `packed` holds all groups.
            let packed = unsafe { g.packed.as_ptr().add(group * g.panels.len()) };
            let (mut i0, end) = (group * per_group, (group + 1) * per_group);
            while i0 < end {
                let i1 = min(i0 + block, end);
                let mut j = 0;
                while j < n {
                    let cols = min(width, n - j);
                    let vectors = cols.div_ceil(V::LANES);
                    // SAFETY: panels before this one are full, and `gemm` checked the length.
                    let panel = unsafe { packed.add((g.first + j) / width * panel_len) };
                    let heights = heights(i1 - i0, V::MAX_ROWS[vectors - 1]);
                    let tiles = heights[0].0 + heights[1].0;
                    // SAFETY: the panel begins with a row of biases.
                    let weights = unsafe { panel.add(vectors * V::LANES) };
                    let mut run = Run {
                        a: g.a.as_ptr(),
                        map: &g.rows,
                        at: g.rows.at(i0),
                        taps: g.taps,
                        depth: g.depth,
                        bias: panel,
                        add: g.epilogue.add,
                        weights,
                        ahead: Ahead::new(weights, g.panels.depth, vectors * V::LANES, tiles),
                        // SAFETY: row `i0` and column `j` lie inside the view.
                        y: unsafe { y.as_mut_ptr().add(i0 * stride + j) },
                        stride,
                        cols,
                        floor: if g.epilogue.relu { 0.0 } else { f32::NEG_INFINITY },
                    };
                    for (count, height) in heights {
                        // SAFETY: the tiles' rows, panel and view were checked by `gemm`.
                        unsafe { run.tiles::<V>(count, height, vectors) };
                    }
                    j += width;
                }
                i0 = i1;
            }
        }
    }
}
