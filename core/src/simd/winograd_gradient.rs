//! The transforms of a weight gradient by Winograd's filtering: the derivative of
//! `Y = A' [ (G g G') . (B' d B) ] A` by `g`.
//!
//! ```text
//! dg = G' [ sum over tiles of (A dY A') . (B' d B) ] G
//! ```

// `unroll!` writes out more turns than run: those beyond the count are never entered.
#![allow(clippy::out_of_bounds_indexing)]

use super::{
    isa::Isa,
    vector::{Op, Vector, dispatch, unroll},
    winograd::{A2, B2, G4},
};
use crate::geom::reach;

/// Output side of a tile, input side, and points.
const M: usize = 4;
const N: usize = 6;
const POINTS: usize = N * N;

/// `A d`
#[inline(always)]
unsafe fn expand<V: Vector>(d: [V; M]) -> [V; N] {
    // SAFETY: register operations; the caller vouches for the instruction set.
    unsafe {
        let k = |v: f64| V::splat(v as f32);
        let (even_a, odd_a) = (d[2].mul_add(k(A2), d[0]), d[3].mul_add(k(A2), d[1]));
        let (even_b, odd_b) = (d[2].mul_add(k(B2), d[0]), d[3].mul_add(k(B2), d[1]));
        [
            d[0],
            odd_a.mul_add(k(0.75), even_a),
            odd_a.mul_add(k(-0.75), even_a),
            odd_b.mul_add(k(1.5), even_b),
            odd_b.mul_add(k(-1.5), even_b),
            d[3],
        ]
    }
}

/// `G' s`
#[inline(always)]
unsafe fn contract<V: Vector>(s: [V; N]) -> [V; 3] {
    // SAFETY: register operations; the caller vouches for the instruction set.
    unsafe {
        let k = |row: usize, column: usize| V::splat(G4[row][column] as f32);
        let (sum_a, diff_a) = (s[1].add(s[2]), s[1].sub(s[2]));
        let (sum_b, diff_b) = (s[3].add(s[4]), s[3].sub(s[4]));
        [
            s[0].mul_add(k(0, 0), sum_a.mul_add(k(1, 0), sum_b.mul(k(3, 0)))),
            diff_a.mul_add(k(1, 1), diff_b.mul(k(3, 1))),
            sum_a.mul_add(k(1, 2), sum_b.mul_add(k(3, 2), s[5])),
        ]
    }
}

/// Transforms one row of tiles of `dy`: `A dY A'`, point `p` of tile `t` to `u[p * point + (first + t) * channels ..]`.
pub(crate) struct Gradient<'a> {
    /// four rows of pixels, `row` elements apart
    pub dy: &'a [f32],
    pub row: usize,
    /// tiles in this row
    pub count: usize,
    /// elements between pixels, and between tiles of `u`; a multiple of 16
    pub channels: usize,
    pub u: &'a mut [f32],
    /// elements between points
    pub point: usize,
    /// tiles in `u` before this row's
    pub first: usize,
}

/// # Panics
/// When a slice is too short for what the other fields say.
pub(crate) fn gradient(isa: Isa, t: Gradient<'_>) {
    if t.count == 0 {
        return;
    }
    let pixels = reach([(t.count, M)]);
    assert!(t.channels.is_multiple_of(16) && t.dy.len() >= reach([(M - 1, t.row), (pixels, t.channels)]));
    assert!(t.u.len() >= reach([(POINTS - 1, t.point), (t.first, t.channels), (t.count, t.channels)]));
    // SAFETY: reads end with the last tile's last pixel, writes with the last point's last tile.
    unsafe { dispatch(isa, t) }
}

impl Op for Gradient<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let u = self.u.as_mut_ptr();
        for t in 0..self.count {
            for c in (0..self.channels).step_by(V::LANES) {
                // SAFETY: the tile's pixels lie in `dy` and its points in `u`, which is borrowed for writing and which
                // nothing else reads meanwhile: see `gradient`.
                unsafe {
                    let from = self.dy.as_ptr().add(t * M * self.channels + c);
                    let to = u.add((self.first + t) * self.channels + c);
                    let mut d = [[V::splat(0.0); M]; N];
                    unroll!(x < M => {
                        let mut column = [V::splat(0.0); M];
                        unroll!(y < M => { column[y] = V::load(from.add(y * self.row + x * self.channels)); });
                        let column = expand(column);
                        unroll!(y < N => { d[y][x] = column[y]; });
                    });
                    unroll!(y < N => {
                        let row = expand(d[y]);
                        unroll!(x < N => { row[x].store(to.add((y * N + x) * self.point)); });
                    });
                }
            }
        }
    }
}

/// `dw = G' S G`, from sums at the points (point by point, `dw.len() / 9` elements each) to rows of `channels`
/// input channels for every output channel, kernel row and kernel column.
///
/// # Panics
/// When the slices do not fit each other, or `channels` is not a multiple of 16.
pub(crate) fn kernels(isa: Isa, sums: &[f32], channels: usize, dw: &mut [f32]) {
    assert!(channels > 0 && channels.is_multiple_of(16) && dw.len().is_multiple_of(reach([(9, channels)])));
    assert_eq!(Some(sums.len()), (dw.len() / 9).checked_mul(POINTS));
    // SAFETY: `dw` is whole filters of nine rows of `channels` elements, and `sums` as many rows at every point.
    unsafe { dispatch(isa, Kernels { sums, channels, dw }) }
}

struct Kernels<'a> {
    sums: &'a [f32],
    channels: usize,
    dw: &'a mut [f32],
}

impl Op for Kernels<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (c, point) = (self.channels, self.sums.len() / POINTS);
        for o in 0..point / c {
            for i in (0..c).step_by(V::LANES) {
                // SAFETY: row `o` and channel `i` exist at each point and tap; `kernels` checked the lengths.
                unsafe {
                    let from = self.sums.as_ptr().add(o * c + i);
                    let to = self.dw.as_mut_ptr().add(o * 9 * c + i);
                    let mut d = [[V::splat(0.0); N]; 3];
                    unroll!(x < N => {
                        let mut column = [V::splat(0.0); N];
                        unroll!(y < N => { column[y] = V::load(from.add((y * N + x) * point)); });
                        let column = contract(column);
                        unroll!(y < 3 => { d[y][x] = column[y]; });
                    });
                    unroll!(y < 3 => {
                        let row = contract(d[y]);
                        unroll!(x < 3 => { row[x].store(to.add((y * 3 + x) * c)); });
                    });
                }
            }
        }
    }
}
