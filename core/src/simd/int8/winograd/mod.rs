//! Exact integer Winograd: the transforms of F(m x m, 3x3) scaled so that every coefficient is an integer.
//!
//! ```text
//! s Y = A' [ (G g G') . (B' d B) ] A        d: (m+2) x (m+2) inputs, g: 3x3, Y: m x m
//! ```
//!
//! | | points | rows of G | s |
//! |---|---|---|---|
//! | m = 2 | 0, 1, -1, infinity | (2 0 0) (1 1 1) (1 -1 1) (0 0 2) | 4 |
//! | m = 4 | 0, 1, -1, 2, -2, infinity | (6 0 0) (-1 -1 -1) (-1 1 -1) (1 2 4) (1 -2 4) (0 0 12) | 576 |
//!
//! Transformed inputs are at most 100 times a difference of bytes, transformed weights at most 144 times a weight: both
//! fit 16 bits, and no pair of products reaches `2^31`. Sums are taken modulo `2^32`. What comes out is a multiple of `s`,
//! so the inverse of its odd factor modulo `2^32` and a shift recover `Y` exactly wherever `s / 9 Y` (`s Y` for m = 2) fits
//! 32 bits.

mod output;
mod products;

pub(crate) use output::{Output, Part};
pub(crate) use products::Products;

use core::ops::Range;

use super::{
    super::{vector::unroll, winograd::Tile},
    lanes::{Halves, Pass},
};
use crate::geom::reach;

/// The transforms of one tile. `N` inputs and points along a side, `M` outputs.
pub(super) trait Transform<L: Halves, const M: usize, const N: usize> {
    /// `B' d`
    unsafe fn input(d: [L; N]) -> [L; N];
    /// `G g`
    unsafe fn weights(g: [L; 3]) -> [L; N];
    /// `A' m`, on lanes
    unsafe fn output(m: [L; N]) -> [L; M];
    /// `Y` of `s Y`
    unsafe fn unscale(y: L) -> L;
}

struct F2;

impl<L: Halves> Transform<L, 2, 4> for F2 {
    #[inline(always)]
    unsafe fn input([a, b, c, d]: [L; 4]) -> [L; 4] {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe { [a.sub_halves(c), b.add_halves(c), c.sub_halves(b), b.sub_halves(d)] }
    }

    #[inline(always)]
    unsafe fn weights([a, b, c]: [L; 3]) -> [L; 4] {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            let outer = a.add_halves(c);
            [a.shl_halves::<1>(), outer.add_halves(b), outer.sub_halves(b), c.shl_halves::<1>()]
        }
    }

    #[inline(always)]
    unsafe fn output([a, b, c, d]: [L; 4]) -> [L; 2] {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe { [a.add(b).add(c), b.sub(c).sub(d)] }
    }

    #[inline(always)]
    unsafe fn unscale(y: L) -> L {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe { y.shr(L::splat(2)) }
    }
}

struct F4;

impl<L: Halves> Transform<L, 4, 6> for F4 {
    #[inline(always)]
    unsafe fn input([a, b, c, d, e, f]: [L; 6]) -> [L; 6] {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            let (even, odd) = (e.sub_halves(c.shl_halves::<2>()), d.sub_halves(b.shl_halves::<2>()));
            let (near, twice) = (e.sub_halves(c), d.sub_halves(b).shl_halves::<1>());
            [
                a.sub_halves(c).shl_halves::<2>().add_halves(near),
                even.add_halves(odd),
                even.sub_halves(odd),
                near.add_halves(twice),
                near.sub_halves(twice),
                f.sub_halves(d).sub_halves(twice.shl_halves::<1>()),
            ]
        }
    }

    #[inline(always)]
    unsafe fn weights([a, b, c]: [L; 3]) -> [L; 6] {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            let (outer, four) = (a.add_halves(c), a.add_halves(c.shl_halves::<2>()));
            let (twice, last) = (b.shl_halves::<1>(), c.shl_halves::<2>());
            [
                a.shl_halves::<2>().add_halves(a.shl_halves::<1>()),
                L::splat_halves(0).sub_halves(outer).sub_halves(b),
                b.sub_halves(outer),
                four.add_halves(twice),
                four.sub_halves(twice),
                last.shl_halves::<1>().add_halves(last),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output([a, b, c, d, e, f]: [L; 6]) -> [L; 4] {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            let (sum, difference) = (b.add(c).shl_by::<2>(), b.sub(c).shl_by::<2>());
            let (far, twice) = (d.add(e), d.sub(e).shl_by::<1>());
            [
                a.add(sum).add(far),
                difference.add(twice),
                sum.add(far.shl_by::<2>()),
                difference.add(twice.shl_by::<2>()).add(f.shl_by::<1>()),
            ]
        }
    }

    #[inline(always)]
    unsafe fn unscale(y: L) -> L {
        /// 9 times it is 1 modulo `2^32`.
        const NINTH: i32 = 954_437_177;
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe { y.mul(L::splat(NINTH)).shr(L::splat(6)) }
    }
}

/// A pass over tiles, written once for all their sizes.
pub(super) trait OfTile {
    fn tile(&self) -> Tile;
    /// # Safety
    /// As [`Pass::run`].
    unsafe fn each<L: Halves, F: Transform<L, M, N>, const M: usize, const N: usize>(self);
}

/// An [`OfTile`] as a [`Pass`].
pub(super) struct OfAnyTile<P>(pub P);

impl<L: Halves, P: OfTile> Pass<L> for OfAnyTile<P> {
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.0.tile() {
                Tile::Two => self.0.each::<L, F2, 2, 4>(),
                Tile::Four => self.0.each::<L, F4, 4, 6>(),
            }
        }
    }
}

/// Most halves of a vector.
const HALVES: usize = 32;

/// Transforms the weights of one panel at one row of points: row `i` of `G g G'`.
pub(crate) struct Weights<'a> {
    pub tile: Tile,
    /// the row of points
    pub row: usize,
    /// for each pair of input channels and each vector of output channels the nine taps, row by row, each a pair of bytes
    /// for every lane
    pub taps: &'a [i8],
    /// lanes of the panel
    pub width: usize,
    /// pairs of input channels, and those that are transformed
    pub depth: usize,
    pub pairs: Range<usize>,
    /// pair `w` of the row's point `p` at `(p * depth + w) * width`
    pub u: &'a mut [i32],
}

impl Weights<'_> {
    /// Bytes of the taps of a panel of `width` lanes.
    pub(crate) const fn taps_len(width: usize, depth: usize) -> usize {
        depth.saturating_mul(18 * width)
    }

    pub(super) fn check(&self, lanes: usize) {
        let Weights { tile, width, depth, .. } = *self;
        assert!(self.row < tile.inputs() && width.is_multiple_of(lanes));
        assert!(self.pairs.start <= self.pairs.end && self.pairs.end <= depth);
        assert!(self.taps.len() == Weights::taps_len(width, depth) && self.u.len() >= tile.inputs() * depth * width);
    }
}

impl OfTile for Weights<'_> {
    fn tile(&self) -> Tile {
        self.tile
    }

    #[inline(always)]
    unsafe fn each<L: Halves, F: Transform<L, M, N>, const M: usize, const N: usize>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.row {
                0 => self.points::<L, F, M, N, 0>(),
                1 => self.points::<L, F, M, N, 1>(),
                2 => self.points::<L, F, M, N, 2>(),
                3 => self.points::<L, F, M, N, 3>(),
                4 => self.points::<L, F, M, N, 4>(),
                _ => self.points::<L, F, M, N, 5>(),
            }
        }
    }
}

impl Weights<'_> {
    /// Row `ROW`, known to the compiler, so that it leaves out what other rows need.
    #[inline(always)]
    unsafe fn points<L: Halves, F: Transform<L, M, N>, const M: usize, const N: usize, const ROW: usize>(self) {
        if ROW >= N {
            return; // no such row exists
        }
        let vectors = self.width / L::LANES;
        for w in self.pairs {
            for j in 0..vectors {
                // SAFETY: taps and points of each pair and vector lie in their slices: see `check`.
                unsafe {
                    let taps = self.taps.as_ptr().add((w * vectors + j) * 18 * L::LANES);
                    let to = self.u.as_mut_ptr().add(w * self.width + j * L::LANES);
                    let points = F::weights([
                        F::weights(column(taps, 0))[ROW],
                        F::weights(column(taps, 1))[ROW],
                        F::weights(column(taps, 2))[ROW],
                    ]);
                    unroll!(P < N => { points[P].store(to.add(P * self.depth * self.width)); });
                }
            }
        }
    }
}

/// Column `x` of nine taps. A function and no closure, here as in all passes: closures are not always inlined, and outside
/// the function that enables the instruction set they are many times slower.
#[inline(always)]
unsafe fn column<L: Halves>(taps: *const i8, x: usize) -> [L; 3] {
    // SAFETY: the caller vouches for the taps.
    unsafe {
        [
            L::load_halves(taps.add(x * 2 * L::LANES)),
            L::load_halves(taps.add((3 + x) * 2 * L::LANES)),
            L::load_halves(taps.add((6 + x) * 2 * L::LANES)),
        ]
    }
}

/// The first `valid` bytes as halves, zeros elsewhere.
#[inline(always)]
unsafe fn halves<L: Halves>(from: *const i8, valid: usize) -> L {
    // SAFETY: the caller vouches for `valid` bytes, at most a vector's halves.
    unsafe {
        if valid == 2 * L::LANES {
            return L::load_halves(from);
        }
        let mut part = [0; HALVES];
        core::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), valid);
        L::load_halves(part.as_ptr())
    }
}

/// Transforms one row of tiles: `B' d B` for each, of inputs less their zero point.
pub(crate) struct Input<'a, 'v> {
    pub tile: Tile,
    /// the input rows, read in place, `None` outside the map; as many as the tile has
    pub rows: [Option<&'a [i8]>; 6],
    /// pixels in a row; what lies beside them is zero
    pub width: usize,
    /// pixels of zeros before a row
    pub pad: usize,
    pub channels: usize,
    pub zero: i8,
    /// tiles in this row
    pub count: usize,
    /// point `p` of tile `t` at `p * point + (first + t) * stride`, in pairs of channels
    pub v: &'v mut [i32],
    /// words between tiles, whole vectors
    pub stride: usize,
    /// words between points
    pub point: usize,
    /// tiles in `v` before this row's
    pub first: usize,
}

impl Input<'_, '_> {
    pub(super) fn check(&self, lanes: usize) {
        let row = reach([(self.width, self.channels)]);
        assert!(self.rows.iter().flatten().all(|r| r.len() >= row));
        assert!(self.channels.div_ceil(2) <= self.stride && self.stride.is_multiple_of(lanes));
        let tiles = reach([(self.first, self.stride), (self.count, self.stride)]);
        assert!(tiles <= self.point && self.v.len() >= reach([(self.tile.points() - 1, self.point), (tiles, 1)]));
    }
}

impl OfTile for Input<'_, '_> {
    fn tile(&self) -> Tile {
        self.tile
    }

    #[inline(always)]
    unsafe fn each<L: Halves, F: Transform<L, M, N>, const M: usize, const N: usize>(self) {
        let (v, point) = (self.v.as_mut_ptr(), self.point);
        let rows: [Option<&[i8]>; N] = core::array::from_fn(|y| self.rows[y]);
        // SAFETY: registers only.
        let zero = unsafe { L::splat_halves(self.zero.into()) };
        for t in 0..self.count {
            for c in (0..self.channels).step_by(2 * L::LANES) {
                let valid = (self.channels - c).min(2 * L::LANES);
                // SAFETY: pixels inside the rows are read, as far as they have channels, and the tile's points lie
                // in `v`: see `check`.
                unsafe {
                    let to = v.add((self.first + t) * self.stride + c / 2);
                    let mut d = [[L::splat(0); N]; N];
                    unroll!(x < N => {
                        let at = (t * M + x).wrapping_sub(self.pad);
                        let mut column = [L::splat(0); N];
                        if at < self.width {
                            let at = at * self.channels + c;
                            unroll!(y < N => {
                                if let Some(row) = rows[y] {
                                    column[y] = halves::<L>(row.as_ptr().add(at), valid).sub_halves(zero);
                                }
                            });
                        }
                        let column = F::input(column);
                        unroll!(y < N => { d[y][x] = column[y]; });
                    });
                    unroll!(y < N => {
                        let row = F::input(d[y]);
                        unroll!(x < N => { row[x].store(to.add((y * N + x) * point)); });
                    });
                }
            }
        }
    }
}
