//! Matrix products at the points of Winograd tiles where channels are few.
//!
//! ```text
//! m[p, t, j] = sum over c of v[p, t, c] * w[p, c, j]
//! ```
//!
//! With 16 to 64 products a sum, what [`gemm`](super::gemm::gemm) does once a register tile costs more than
//! the sums. Here the tiles' rows lie a constant apart, so one pointer reaches them all, and points
//! lie an odd number of cache lines apart, so that they do not meet in few sets of L1.

use super::{
    isa::Isa,
    vector::{Op, Vector, dispatch, load_all, tile_of, unroll},
};

/// Whether [`products`] computes sums over `channels` channels.
pub(crate) const fn few(channels: usize) -> bool {
    matches!(channels, 16 | 32 | 64)
}

/// Elements between points whose tiles fill `len`.
pub(crate) const fn apart(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}

/// Products of all points with one panel of weights.
pub(crate) struct Products<'a> {
    pub points: usize,
    pub tiles: usize,
    /// products a sum: elements between tiles of `v`
    pub channels: usize,
    pub v: &'a [f32],
    /// elements between points of `v`
    pub v_point: usize,
    /// for each point a row that is skipped, and `channels` rows of `width` weights
    pub u: &'a [f32],
    /// a panel's width: output channels in whole vectors
    pub width: usize,
    /// elements between points of `m`; tiles are `width` apart
    pub m: &'a mut [f32],
    pub m_point: usize,
}

/// # Panics
/// When a slice is too short for what the other fields say, or the channels are not [`few`].
pub(crate) fn products(isa: Isa, p: Products<'_>) {
    if p.points == 0 || p.tiles == 0 || p.width == 0 {
        return;
    }
    let (lanes, widest, _) = tile_of(isa);
    assert!(few(p.channels) && p.width <= widest && p.width.is_multiple_of(lanes));
    assert!(p.v.len() >= (p.points - 1) * p.v_point + p.tiles * p.channels, "input too short");
    assert!(p.u.len() >= p.points * (p.channels + 1) * p.width, "weights too short");
    assert!(p.m.len() >= (p.points - 1) * p.m_point + p.tiles * p.width, "output too short");
    // SAFETY: the lengths of all three operands were checked for the last point and tile.
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
        let vectors = self.width / V::LANES;
        let tiles = self.tiles.div_ceil(V::MAX_ROWS[vectors - 1]);
        let (height, taller) = (self.tiles / tiles, self.tiles % tiles);
        let (v, m) = (self.v.as_ptr(), self.m.as_mut_ptr());
        for point in 0..self.points {
            let mut at = 0;
            for t in 0..tiles {
                let rows = height + (t < taller) as usize;
                // SAFETY: `products` checked the last point and tile.
                unsafe {
                    let tile = Tile {
                        v: v.add(point * self.v_point + at * K),
                        w: self.u.as_ptr().add((point * (K + 1) + 1) * self.width),
                        m: m.add(point * self.m_point + at * self.width),
                    };
                    tile.call::<V, K>(rows, vectors);
                }
                at += rows;
            }
        }
    }
}

struct Tile {
    v: *const f32,
    w: *const f32,
    m: *mut f32,
}

impl Tile {
    /// Enters the instance for this many rows and vectors.
    ///
    /// # Safety
    /// `v` is readable for `rows` rows of `K` elements, `w` for `K` rows of `vectors` vectors, and `m` is
    /// writable for `rows` rows of `vectors` vectors.
    #[inline(always)]
    unsafe fn call<V: Vector, const K: usize>(&self, rows: usize, vectors: usize) {
        macro_rules! instances {
            ($($r:literal)*) => {
                match (rows, vectors) {
                    // SAFETY: the caller's promise.
                    $(($r, 1) if $r <= V::MAX_ROWS[0] => unsafe { V::invoke(Sized::<'_, $r, 1, K>(self)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 2) if $r <= V::MAX_ROWS[1] => unsafe { V::invoke(Sized::<'_, $r, 2, K>(self)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 3) if $r <= V::MAX_ROWS[2] => unsafe { V::invoke(Sized::<'_, $r, 3, K>(self)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 4) if $r <= V::MAX_ROWS[3] => unsafe { V::invoke(Sized::<'_, $r, 4, K>(self)) },)*
                    _ => unreachable!("a tile of {rows} rows and {vectors} vectors"),
                }
            };
        }
        instances!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}

/// Channels per turn of the inner loop.
const UNROLL: usize = 4;

struct Sized<'t, const MR: usize, const NV: usize, const K: usize>(&'t Tile);

impl<const MR: usize, const NV: usize, const K: usize> Op for Sized<'_, MR, NV, K> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // closures of iterators would lack the instruction set: see `load_all`
    unsafe fn run<V: Vector>(self) {
        let t = self.0;
        // SAFETY: `Tile::call`'s promise covers every pointer below.
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
                    acc[i][j].store(t.m.add((i * NV + j) * V::LANES));
                }
            });
        }
    }
}
