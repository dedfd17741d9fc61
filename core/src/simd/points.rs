//! Matrix products at the points of Winograd tiles where channels are few.
//!
//! ```text
//! m[p, t, j] = sum over c of v[p, t, c] * w[p, c, j]
//! ```
//!
//! With 16 to 64 products a sum, what [`gemm`](super::gemm::gemm) does once a register tile costs more than
//! the sums. Here the tiles' rows lie a constant apart, so one pointer reaches them all, and points
//! lie an odd number of cache lines apart, so that they do not meet in few sets of L1.

use core::{cmp::min, ops::Range};

use super::{
    gemm::Panels,
    isa::Isa,
    vector::{Op, Vector, dispatch, heights, load_all, tile_of, unroll},
};
use crate::geom::reach;

/// Whether [`products`] computes sums over `channels` channels.
pub(crate) const fn few(channels: usize) -> bool {
    matches!(channels, 16 | 32 | 64)
}

/// Elements between points whose tiles fill `len`.
pub(crate) const fn apart(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}

/// Products of all points with panels of weights.
pub(crate) struct Products<'a> {
    pub points: usize,
    pub tiles: usize,
    /// products a sum: elements between tiles of `v`
    pub channels: usize,
    pub v: &'a [f32],
    /// elements between points of `v`
    pub v_point: usize,
    /// those of one point
    pub panels: Panels,
    /// the panels of every point, whose biases are skipped
    pub packed: &'a [f32],
    /// output channels, the first a multiple of [`Panels::width`]
    pub outputs: Range<usize>,
    pub m: &'a mut [f32],
    /// elements between tiles of `m`, whole vectors, and between points
    pub m_stride: usize,
    pub m_point: usize,
}

/// # Panics
/// When a slice is too short for what the other fields say, or the channels are not [`few`].
pub(crate) fn products(isa: Isa, p: Products<'_>) {
    if p.points == 0 || p.tiles == 0 || p.outputs.is_empty() {
        return;
    }
    assert!(few(p.channels) && p.panels.are(isa, p.channels, p.outputs.clone()));
    let width = p.outputs.len().next_multiple_of(tile_of(isa).0);
    assert!(width <= p.m_stride);
    assert!(p.v.len() >= reach([(p.points - 1, p.v_point), (p.tiles, p.channels)]), "input too short");
    assert!(p.packed.len() >= reach([(p.points, p.panels.len())]), "weights too short");
    let end = reach([(p.points - 1, p.m_point), (p.tiles - 1, p.m_stride), (width, 1)]);
    assert!(p.m.len() >= end, "output too short");
    // SAFETY: the lengths of all three operands were checked for the last point and tile, with products that saturate:
    // none of them overflowed.
    unsafe { dispatch(isa, p) }
}

impl Op for Products<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.channels {
                16 => self.each::<V, 16>(),
                32 => self.each::<V, 32>(),
                _ => self.each::<V, 64>(),
            }
        }
    }
}

impl Products<'_> {
    #[inline(always)]
    unsafe fn each<V: Vector, const K: usize>(self) {
        let (width, m) = (self.panels.width(), self.m.as_mut_ptr());
        for point in 0..self.points {
            for first in (0..self.outputs.len()).step_by(width) {
                let vectors = min(width, self.outputs.len() - first).div_ceil(V::LANES);
                // SAFETY: `products` checked the last point, panel and tile. Panels before this one are full, and each
                // begins with a row of biases.
                unsafe {
                    let panel = self.packed.as_ptr().add(point * self.panels.len());
                    let mut run = Run {
                        v: self.v.as_ptr().add(point * self.v_point),
                        w: panel.add((self.outputs.start + first) * (K + 1) + vectors * V::LANES),
                        m: m.add(point * self.m_point + first),
                        m_stride: self.m_stride,
                    };
                    for (count, height) in heights(self.tiles, V::MAX_ROWS[vectors - 1]) {
                        run.tiles::<V, K>(count, height, vectors);
                    }
                }
            }
        }
    }
}

/// Register tiles one below the other.
struct Run {
    /// the next tile's inputs and products
    v: *const f32,
    m: *mut f32,
    w: *const f32,
    m_stride: usize,
}

impl Run {
    /// Computes the next `count` tiles, in the instance for this many rows and vectors.
    ///
    /// # Safety
    /// `v` is readable for `count * rows` rows of `K` elements, `w` for `K` rows of `vectors` vectors, and `m` is
    /// writable for `count * rows` rows of `vectors` vectors.
    #[inline(always)]
    unsafe fn tiles<V: Vector, const K: usize>(&mut self, count: usize, rows: usize, vectors: usize) {
        if count == 0 {
            return;
        }
        macro_rules! instances {
            ($($r:literal)*) => {
                match (rows, vectors) {
                    // SAFETY: the caller's promise.
                    $(($r, 1) if $r <= V::MAX_ROWS[0] => unsafe { V::invoke(Sized::<'_, $r, 1, K>(self, count)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 2) if $r <= V::MAX_ROWS[1] => unsafe { V::invoke(Sized::<'_, $r, 2, K>(self, count)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 3) if $r <= V::MAX_ROWS[2] => unsafe { V::invoke(Sized::<'_, $r, 3, K>(self, count)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 4) if $r <= V::MAX_ROWS[3] => unsafe { V::invoke(Sized::<'_, $r, 4, K>(self, count)) },)*
                    _ => unreachable!("a tile of {rows} rows and {vectors} vectors"),
                }
            };
        }
        instances!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}

/// Channels per turn of the inner loop.
const UNROLL: usize = 4;

struct Sized<'t, const MR: usize, const NV: usize, const K: usize>(&'t mut Run, usize);

impl<const MR: usize, const NV: usize, const K: usize> Op for Sized<'_, MR, NV, K> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // closures of iterators would lack the instruction set: see `load_all`
    unsafe fn run<V: Vector>(self) {
        let Sized(t, count) = self;
        for _ in 0..count {
            // SAFETY: the promise of `Run::tiles` covers every pointer below.
            unsafe {
                let (mut v, mut w) = (t.v, t.w);
                let mut acc = [[V::splat(0.0); NV]; MR];
                for _ in 0..K / UNROLL {
                    for u in 0..UNROLL {
                        let wv: [V; NV] = load_all(w.add(u * NV * V::LANES));
                        unroll!(i < MR => {
                            let a = V::splat(*v.add(i * K + u));
                            for j in 0..NV {
                                acc[i][j] = a.mul_add(wv[j], acc[i][j]);
                            }
                        });
                    }
                    v = v.add(UNROLL);
                    w = w.add(UNROLL * NV * V::LANES);
                }
                unroll!(i < MR => {
                    for j in 0..NV {
                        acc[i][j].store(t.m.add(i * t.m_stride + j * V::LANES));
                    }
                });
                t.v = t.v.add(MR * K);
                t.m = t.m.wrapping_add(MR * t.m_stride);
            }
        }
    }
}
