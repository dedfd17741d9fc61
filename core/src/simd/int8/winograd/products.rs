//! Products at the points of tiles.

use super::super::{
    super::vector::{heights, unroll},
    PairLayout,
    lanes::{Halves, Pass},
};
use crate::geom::reach;

/// Products at all points of some tiles with one panel of weights, and some of the depth.
///
/// ```text
/// m[p, t, j] = sum over pairs w of v[p, t, w] . u[p, w, j]
/// ```
pub(crate) struct Products<'a> {
    pub points: usize,
    pub tiles: usize,
    /// point `p` of tile `t` at `p * v_point + t * v_stride`
    pub v: &'a [i32],
    pub v_point: usize,
    pub v_stride: usize,
    /// pairs to begin with and how many
    pub begin: usize,
    pub pairs: usize,
    /// the panel, `depth` rows of `width` channels at each point
    pub u: &'a [i32],
    pub depth: usize,
    pub width: usize,
    /// point `p` of tile `t` at `p * m_point + t * width`
    pub m: &'a mut [i32],
    pub m_point: usize,
}

impl Products<'_> {
    pub(in crate::simd::int8) fn check(&self, PairLayout { lanes, panel, .. }: PairLayout) {
        let Products { points, tiles, v_point, v_stride, begin, pairs, depth, width, m_point, .. } = *self;
        assert!(points > 0 && tiles > 0 && width > 0 && width.is_multiple_of(lanes) && width <= panel);
        assert!(reach([(begin, 1), (pairs, 1)]) <= depth);
        let end = reach([(points - 1, v_point), (tiles - 1, v_stride), (begin, 1), (pairs, 1)]);
        assert!(self.v.len() >= end && self.u.len() >= reach([(points * depth, width)]));
        assert!(self.m.len() >= reach([(points - 1, m_point), (tiles, width)]));
    }
}

impl<L: Halves> Pass<L> for Products<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.width == L::LANES {
                self.each::<L, 1>();
            } else {
                self.each::<L, 2>();
            }
        }
    }
}

impl Products<'_> {
    #[inline(always)]
    unsafe fn each<L: Halves, const NV: usize>(self) {
        if NV > L::PANEL {
            return; // no such panel exists; this keeps the compiler from making one
        }
        let m = self.m.as_mut_ptr();
        for p in 0..self.points {
            // SAFETY: `check` found the last tile of the last point in all three.
            unsafe {
                let u = self.u.as_ptr().add((p * self.depth + self.begin) * NV * L::LANES);
                let mut v = self.v.as_ptr().add(p * self.v_point + self.begin);
                let mut to = m.add(p * self.m_point);
                for (count, height) in heights(self.tiles, L::PAIR_ROWS[NV - 1]) {
                    for _ in 0..count {
                        self.rows::<L, NV>(height, v, u, to);
                        v = v.wrapping_add(height * self.v_stride);
                        to = to.wrapping_add(height * NV * L::LANES);
                    }
                }
            }
        }
    }

    /// The instance for this many tiles.
    #[inline(always)]
    unsafe fn rows<L: Halves, const NV: usize>(&self, rows: usize, v: *const i32, u: *const i32, m: *mut i32) {
        macro_rules! instances {
            ($($r:literal)*) => {
                match rows {
                    // SAFETY: the caller's promise.
                    $($r if $r <= L::PAIR_ROWS[NV - 1] => unsafe { self.block::<L, NV, $r>(v, u, m) },)*
                    _ => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        instances!(1 2 3 4 5 6 7 8 9 10 11 12)
    }

    #[inline(always)]
    unsafe fn block<L: Halves, const NV: usize, const MR: usize>(&self, v: *const i32, u: *const i32, m: *mut i32) {
        let (stride, mut u) = (self.v_stride, u);
        // SAFETY: the caller vouches for `MR` tiles.
        unsafe {
            let mut acc = [[L::splat(0); NV]; MR];
            for d in 0..self.pairs {
                let mut weights = [L::splat(0); NV];
                unroll!(J < NV => { weights[J] = L::load(u.add(J * L::LANES)); });
                u = u.add(NV * L::LANES);
                unroll!(I < MR => {
                    let input = L::splat(*v.add(I * stride + d));
                    unroll!(J < NV => { acc[I][J] = acc[I][J].dot_pairs(input, weights[J]); });
                });
            }
            unroll!(I < MR => {
                unroll!(J < NV => { acc[I][J].store(m.add((I * NV + J) * L::LANES)); });
            });
        }
    }
}
