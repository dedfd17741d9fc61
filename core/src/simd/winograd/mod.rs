//! The transforms of Winograd's minimal filtering F(m x m, 3x3) (Lavin & Gray 2016, section 4.1).
//!
//! ```text
//! Y = A' [ (G g G') . (B' d B) ] A        d: (m+2) x (m+2) inputs, g: 3x3, Y: m x m
//! ```
//!
//! Matrices follow from interpolation points (Toom-Cook): 0, 1, -1 and infinity for m = 2; for m = 4 we
//! take 0, +-3/4, +-3/2 and infinity. Every coefficient is then an exact f32, and the points lie
//! closer to 1 than the usual 1 and 2, which makes the error smaller at the same cost.

pub(crate) mod strided;
mod transform;

use super::{
    gemm::Epilogue,
    isa::Isa,
    vector::{LINE, Op, Vector, dispatch, tile_of, unroll},
};
use crate::{
    geom::{Shape, reach},
    memory::MatMut,
};

use strided::Stride2;
pub use transform::Tile;
pub(super) use transform::{A2, B2, G4};
use transform::{F2, F4, Inverse, Transform};

/// A pass over tiles, written once for all their sizes.
trait Pass {
    fn tile(&self) -> Tile;
    /// # Safety
    /// As [`Op::run`], for a `Transform` of this tile.
    unsafe fn each<V: Vector, F: Transform<M, N>, const M: usize, const N: usize>(self);
}

/// A [`Pass`] as an [`Op`].
struct Sized<P>(P);

impl<P: Pass> Op for Sized<P> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.0.tile() {
                Tile::Two => self.0.each::<V, F2, 2, 4>(),
                Tile::Four => self.0.each::<V, F4, 4, 6>(),
            }
        }
    }
}

/// Transforms the weights of one panel: `G g G'` of each input and output channel.
pub(crate) struct Weights<'a> {
    pub tile: Tile,
    /// for each input channel nine rows of `width` output channels, the kernel's elements in order
    pub raw: &'a [f32],
    /// output channels, a multiple of the vector's lanes
    pub width: usize,
    /// for each point a row of zeros, where gemm's panels have the bias, and `depth` rows of weights
    pub u: &'a mut [f32],
    /// elements between points
    pub point: usize,
    pub depth: usize,
    /// the row of `u` the first channel of `raw` goes to
    pub first: usize,
}

/// # Panics
/// When a slice is too short for what the other fields say.
pub(crate) fn weights(isa: Isa, t: Weights<'_>) {
    let channels = t.raw.len() / (9 * t.width);
    assert!(t.width.is_multiple_of(tile_of(isa).0) && reach([(t.first, 1), (channels, 1)]) <= t.depth);
    assert!(t.u.len() >= reach([(t.tile.points() - 1, t.point), (t.depth, t.width), (t.width, 1)]));
    // SAFETY: reads are whole rows of `raw`, writes whole rows of `u`, whose last one of the last point exists.
    unsafe { dispatch(isa, Sized(t)) }
}

impl Pass for Weights<'_> {
    fn tile(&self) -> Tile {
        self.tile
    }

    #[inline(always)]
    unsafe fn each<V: Vector, F: Transform<M, N>, const M: usize, const N: usize>(self) {
        let point = self.point;
        if self.first == 0 {
            for p in 0..N * N {
                self.u[p * point..p * point + self.width].fill(0.0);
            }
        }
        for (d, raw) in self.raw.chunks_exact(9 * self.width).enumerate() {
            for j in (0..self.width).step_by(V::LANES) {
                // SAFETY: nine rows of `raw` and, for each point, row `1 + first + d` of `u` exist.
                unsafe {
                    let from = raw.as_ptr().add(j);
                    let to = self.u.as_mut_ptr().add((1 + self.first + d) * self.width + j);
                    let at = |k: usize| from.add(k * self.width);
                    let left = F::weights([V::load(at(0)), V::load(at(3)), V::load(at(6))]);
                    let middle = F::weights([V::load(at(1)), V::load(at(4)), V::load(at(7))]);
                    let right = F::weights([V::load(at(2)), V::load(at(5)), V::load(at(8))]);
                    unroll!(y < N => {
                        let row = F::weights([left[y], middle[y], right[y]]);
                        unroll!(x < N => { row[x].store(to.add((y * N + x) * point)); });
                    });
                }
            }
        }
    }
}

/// Transforms one row of tiles: `B' d B` for each.
pub(crate) struct Input<'a, 'v> {
    pub tile: Tile,
    /// the input rows, read in place; as many as the tile has
    pub rows: [&'a [f32]; 6],
    /// pixels in a row; what lies beside them is zero
    pub width: usize,
    /// pixels of zeros before a row
    pub pad: usize,
    /// elements of a pixel
    pub channels: usize,
    /// tiles in this row
    pub count: usize,
    /// point `p` of tile `t` at `p * point + (first + t) * stride`
    pub v: &'v mut [f32],
    /// elements between tiles, a multiple of 16
    pub stride: usize,
    /// elements between points
    pub point: usize,
    /// tiles in `v` before this row's
    pub first: usize,
}

/// # Panics
/// When a slice is too short for what the other fields say.
pub(crate) fn input(isa: Isa, t: Input<'_, '_>) {
    if t.count == 0 || t.width == 0 {
        return;
    }
    assert!(t.rows[..t.tile.inputs()].iter().all(|row| row.len() >= reach([(t.width, t.channels)])));
    assert!(t.channels <= t.stride && t.stride.is_multiple_of(16));
    let tiles = reach([(t.first, t.stride), (t.count, t.stride)]);
    assert!(tiles <= t.point && t.v.len() >= reach([(t.tile.points() - 1, t.point), (tiles, 1)]));
    // SAFETY: reads end with the rows, writes of whole vectors with the last point's last tile.
    unsafe { dispatch(isa, Sized(t)) }
}

impl Pass for Input<'_, '_> {
    fn tile(&self) -> Tile {
        self.tile
    }

    #[inline(always)]
    unsafe fn each<V: Vector, F: Transform<M, N>, const M: usize, const N: usize>(self) {
        let rows: [*const f32; N] = core::array::from_fn(|y| self.rows[y].as_ptr());
        let (v, point) = (self.v.as_mut_ptr(), self.point);
        for t in 0..self.count {
            for c in (0..self.channels).step_by(V::LANES) {
                // SAFETY: pixels inside the rows are read, as far as they have channels, and the tile's points lie
                // in `v`: see `input`.
                unsafe {
                    let to = v.add((self.first + t) * self.stride + c);
                    let valid = (self.channels - c).min(V::LANES);
                    if c.is_multiple_of(LINE) {
                        for &row in &rows {
                            for x in N - M..N {
                                let at = ((t + 1) * M + x).wrapping_sub(self.pad).wrapping_mul(self.channels);
                                V::prefetch_near(row.wrapping_add(at.wrapping_add(c)));
                            }
                        }
                    }
                    let mut d = [[V::splat(0.0); N]; N];
                    unroll!(x < N => {
                        let at = (t * M + x).wrapping_sub(self.pad);
                        let mut column = [V::splat(0.0); N];
                        if at < self.width {
                            let at = at * self.channels + c;
                            unroll!(y < N => {
                                let from = rows[y].add(at);
                                column[y] = if valid == V::LANES { V::load(from) } else { V::load_first(from, valid) };
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

/// What products are made into outputs of.
#[derive(Clone, Copy)]
pub(crate) enum Filter {
    /// F(m x m, 3x3)
    Stride1(Tile),
    /// see [`strided`]
    Stride2,
}

impl Filter {
    /// Output rows and columns of a tile.
    pub(crate) const fn outputs(self) -> usize {
        match self {
            Filter::Stride1(tile) => tile.outputs(),
            Filter::Stride2 => 2,
        }
    }

    /// Tiles that cover a map.
    pub(crate) const fn tiles(self, map: Shape) -> usize {
        map.h.div_ceil(self.outputs()).saturating_mul(map.w.div_ceil(self.outputs()))
    }

    /// Products of a tile, for each input and output channel.
    pub(crate) const fn products(self) -> usize {
        match self {
            Filter::Stride1(tile) => tile.points(),
            Filter::Stride2 => strided::PRODUCTS,
        }
    }

    /// Points of a tile, at each of which products are summed.
    const fn points(self) -> usize {
        match self {
            Filter::Stride1(tile) => tile.points(),
            Filter::Stride2 => strided::POINTS,
        }
    }
}

/// Sums of products at the points of tiles, and what is done beside transforming them back.
#[derive(Clone, Copy)]
pub(crate) struct Products<'a> {
    pub filter: Filter,
    /// point `p` of tile `t` at `p * point + t * stride`
    pub m: &'a [f32],
    pub stride: usize,
    pub point: usize,
    /// one per output channel, padded to whole vectors
    pub bias: &'a [f32],
    pub epilogue: Epilogue,
}

/// Transforms one row of tiles back, adds bias and shortcut, applies ReLU and stores what lies inside
/// the map.
pub(crate) struct Output<'a, 'y, 'v> {
    pub products: Products<'a>,
    /// tiles before this row's
    pub first: usize,
    /// the rows of pixels this row of tiles covers, clipped to the map
    pub y: &'y mut MatMut<'v, f32>,
    /// pixels in a row
    pub width: usize,
}

/// # Panics
/// When a slice is too short for what the other fields say.
pub(crate) fn output(isa: Isa, t: Output<'_, '_, '_>) {
    let (rows, cols) = (t.y.rows(), t.y.cols());
    if rows == 0 || cols == 0 {
        return;
    }
    let Products { filter, m, stride, point, bias, .. } = t.products;
    let count = t.width.div_ceil(filter.outputs());
    let padded = cols.next_multiple_of(tile_of(isa).0);
    assert!(rows.is_multiple_of(t.width) && rows / t.width <= filter.outputs());
    assert!(padded <= stride && bias.len() >= padded);
    assert!(m.len() >= reach([(filter.points() - 1, point), (t.first, stride), (count, stride)]));
    // SAFETY: whole vectors of `m` and `bias` exist up to `padded`; writes are clipped to `y`.
    unsafe { dispatch(isa, t) }
}

impl Op for Output<'_, '_, '_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.products.filter {
                Filter::Stride1(Tile::Two) => self.each::<V, F2, 2, 4>(),
                Filter::Stride1(Tile::Four) => self.each::<V, F4, 4, 6>(),
                Filter::Stride2 => self.each::<V, Stride2, 2, 3>(),
            }
        }
    }
}

impl Output<'_, '_, '_> {
    /// # Safety
    /// As [`Op::run`], for the `Inverse` of this filter.
    #[inline(always)]
    unsafe fn each<V: Vector, F: Inverse<M, N>, const M: usize, const N: usize>(self) {
        let Products { m, stride, point, bias, epilogue, .. } = self.products;
        let (cols, ld) = (self.y.cols(), self.y.stride());
        let (height, y) = (self.y.rows() / self.width, self.y.as_mut_ptr());
        for t in 0..self.width.div_ceil(M) {
            let inside = (self.width - t * M).min(M);
            for c in (0..cols).step_by(V::LANES) {
                let valid = (cols - c).min(V::LANES);
                // SAFETY: the tile's points lie in `m`, pixels read and stored inside `y`: see `output`.
                unsafe {
                    let from = m.as_ptr().add((self.first + t) * stride + c);
                    let floor = V::splat(if epilogue.relu { 0.0 } else { f32::NEG_INFINITY });
                    let bias = V::load(bias.as_ptr().add(c));
                    if c.is_multiple_of(LINE) {
                        for r in 0..M {
                            for x in 0..M {
                                let at = (r * self.width + (t + 1) * M + x) * ld + c;
                                V::prefetch_near(y.cast_const().wrapping_add(at));
                            }
                        }
                    }
                    let mut d = [[V::splat(0.0); N]; M];
                    unroll!(x < N => {
                        let mut column = [V::splat(0.0); N];
                        unroll!(y < N => { column[y] = V::load(from.add((y * N + x) * point)); });
                        let column = F::output(column);
                        unroll!(y < M => { d[y][x] = column[y]; });
                    });
                    unroll!(r < M => {
                        let row = F::output(d[r]);
                        if r < height {
                            unroll!(x < M => {
                                if x < inside {
                                    let at = (r * self.width + t * M + x) * ld + c;
                                    let mut v = row[x].add(bias);
                                    if valid == V::LANES {
                                        if epilogue.add {
                                            v = v.add(V::load(y.add(at)));
                                        }
                                        floor.max(v).store(y.add(at));
                                    } else {
                                        if epilogue.add {
                                            v = v.add(V::load_first(y.add(at), valid));
                                        }
                                        floor.max(v).store_first(y.add(at), valid);
                                    }
                                }
                            });
                        }
                    });
                }
            }
        }
    }
}
