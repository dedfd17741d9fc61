//! Minimal filtering for 3x3 kernels of stride 2 (Yepez & Ko 2020): 25 products for 2 x 2 outputs instead of 36.
//!
//! Along one side two outputs need
//!
//! ```text
//! y0 = g0 d0 + g1 d1 + g2 d2        A = (d0 - d2) g0 + d1 g1        y0 = A + B
//! y1 = g0 d2 + g1 d3 + g2 d4        B = d2 (g0 + g2)                y1 = B + C
//!                                   C = (d4 - d2) g2 + d3 g1
//! ```
//!
//! The even inputs meet two weights: that is F(2, 2), three products. The odd ones meet one, and what they add to one
//! output only joins the sum of a point that goes into that output only. So there are 3 x 3 points, whose sums over the
//! channels have 1, 2 or 4 parts.

use crate::geom::reach;

use super::{
    super::{
        isa::Isa,
        vector::{LINE, Op, Vector, dispatch, unroll},
    },
    transform::Inverse,
};

/// Sums of a tile.
pub(crate) const POINTS: usize = 9;
/// Inputs of a tile along one side, and the factors they become.
pub(crate) const SIDE: usize = 5;
/// Products of a tile: every two sides' factors meet.
pub(crate) const PRODUCTS: usize = SIDE * SIDE;
/// Parts of A, B and C, and the first of them among the factors.
const PARTS: [usize; 3] = [2, 1, 2];
const FIRST: [usize; 3] = [0, 2, 3];

/// Parts of a point's sum: products a channel.
pub(crate) const fn parts(point: usize) -> usize {
    PARTS[point / 3] * PARTS[point % 3]
}

/// The factors, row and column, that a part of a point multiplies.
fn factors(point: usize, part: usize) -> (usize, usize) {
    let (y, x) = (point / 3, point % 3);
    (FIRST[y] + part / PARTS[x], FIRST[x] + part % PARTS[x])
}

/// Calls `each(point, part, factor)` for the factors made of the nine elements of a kernel.
pub(crate) fn weights(kernel: &[f32; 9], mut each: impl FnMut(usize, usize, f32)) {
    let side = |[a, b, c]: [f32; 3]| [a, b, a + c, c, b];
    let rows = [0, 3, 6].map(|r| side([kernel[r], kernel[r + 1], kernel[r + 2]]));
    let columns: [[f32; SIDE]; SIDE] = core::array::from_fn(|x| side(rows.map(|row| row[x])));
    for point in 0..POINTS {
        for part in 0..parts(point) {
            let (y, x) = factors(point, part);
            each(point, part, columns[x][y]);
        }
    }
}

/// Where the transformed tiles of one point lie.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    pub start: usize,
    /// elements between tiles; each has the channels of its parts one after the other
    pub stride: usize,
}

/// Transforms one row of tiles.
pub(crate) struct Input<'a, 'v> {
    /// the input rows, read in place
    pub rows: [&'a [f32]; SIDE],
    /// pixels in a row; what lies beside them is zero
    pub width: usize,
    /// pixels of zeros before a row
    pub pad: usize,
    /// elements of a pixel, a multiple of 16
    pub channels: usize,
    /// tiles in this row
    pub count: usize,
    pub v: &'v mut [f32],
    pub places: [Place; POINTS],
    /// tiles in `v` before this row's
    pub first: usize,
}

/// # Panics
/// When a slice is too short for what the other fields say.
pub(crate) fn input(isa: Isa, t: Input<'_, '_>) {
    if t.count == 0 || t.width == 0 {
        return;
    }
    assert!(t.channels.is_multiple_of(16) && t.rows.iter().all(|row| row.len() >= reach([(t.width, t.channels)])));
    for (point, place) in t.places.iter().enumerate() {
        let tiles = [(t.first, place.stride), (t.count - 1, place.stride)];
        let end = reach([(place.start, 1), tiles[0], tiles[1], (parts(point), t.channels)]);
        assert!(end <= t.v.len(), "transformed tiles too short");
    }
    // SAFETY: whole vectors are read inside the rows, and every part of every tile of every point lies in `v`.
    unsafe { dispatch(isa, t) }
}

impl Op for Input<'_, '_> {
    #[inline(always)]
    #[allow(clippy::out_of_bounds_indexing)] // in branches of `unroll!` that are never taken
    unsafe fn run<V: Vector>(self) {
        const STEP: usize = SIDE - 1;
        let (v, channels) = (self.v.as_mut_ptr(), self.channels);
        let rows: [*const f32; SIDE] = core::array::from_fn(|y| self.rows[y].as_ptr());
        // Where the products of every two sides' factors go.
        let mut to = [Place::default(); PRODUCTS];
        for (point, place) in self.places.iter().enumerate() {
            for part in 0..parts(point) {
                let (y, x) = factors(point, part);
                let start = place.start + self.first * place.stride + part * channels;
                to[y * SIDE + x] = Place { start, ..*place };
            }
        }
        for t in 0..self.count {
            for c in (0..channels).step_by(V::LANES) {
                // SAFETY: pixels inside the rows are read, and the tile's parts lie in `v`: see `input`.
                unsafe {
                    if c.is_multiple_of(LINE) {
                        for &row in &rows {
                            for x in SIDE - STEP..SIDE {
                                let at = ((t + 1) * STEP + x).wrapping_sub(self.pad).wrapping_mul(channels);
                                V::prefetch_near(row.wrapping_add(at.wrapping_add(c)));
                            }
                        }
                    }
                    let mut d = [[V::splat(0.0); SIDE]; SIDE];
                    unroll!(x < SIDE => {
                        let at = (t * STEP + x).wrapping_sub(self.pad);
                        let mut column = [V::splat(0.0); SIDE];
                        if at < self.width {
                            unroll!(y < SIDE => { column[y] = V::load(rows[y].add(at * channels + c)); });
                        }
                        let column = side(column);
                        unroll!(y < SIDE => { d[y][x] = column[y]; });
                    });
                    unroll!(y < SIDE => {
                        let row = side(d[y]);
                        unroll!(x < SIDE => {
                            let Place { start, stride } = to[y * SIDE + x];
                            row[x].store(v.add(start + t * stride + c));
                        });
                    });
                }
            }
        }
    }
}

/// The factors of one side.
///
/// # Safety
/// The CPU has `V`'s instruction set.
#[inline(always)]
unsafe fn side<V: Vector>(d: [V; SIDE]) -> [V; SIDE] {
    // SAFETY: register operations; the caller vouches for the instruction set.
    unsafe { [d[0].sub(d[2]), d[1], d[2], d[4].sub(d[2]), d[3]] }
}

/// From A, B and C to the outputs.
pub(super) struct Stride2;

impl Inverse<2, 3> for Stride2 {
    #[inline(always)]
    unsafe fn output<V: Vector>(m: [V; 3]) -> [V; 2] {
        // SAFETY: register operations; the caller vouches for the instruction set.
        unsafe { [m[0].add(m[1]), m[1].add(m[2])] }
    }
}
