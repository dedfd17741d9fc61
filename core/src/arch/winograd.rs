//! The transforms of Winograd's minimal filtering F(m x m, 3x3) (Lavin & Gray 2016, section 4.1).
//!
//! ```text
//! Y = A' [ (G g G') . (B' d B) ] A        d: (m+2) x (m+2) inputs, g: 3x3, Y: m x m
//! ```
//!
//! Matrices follow from interpolation points (Toom-Cook): 0, 1, -1 and infinity for m = 2; for m = 4 we
//! take 0, +-3/4, +-3/2 and infinity. Every coefficient is then an exact f32, and the points lie
//! closer to 1 than the usual 1 and 2, which makes the error smaller at the same cost.

use super::{
    gemm::Epilogue,
    isa::Isa,
    vector::{Op, Vector, dispatch, tile_of, unroll},
    view::MatMut,
};

/// Output tile side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// F(2x2, 3x3)
    Two,
    /// F(4x4, 3x3)
    Four,
}

/// Squares of the finite points of m = 4.
pub(super) const A2: f64 = 9.0 / 16.0;
pub(super) const B2: f64 = 9.0 / 4.0;

/// `G` for m = 4, by rows: `[1, p, p^2] / prod(p - q)`. Row `0`; then `a` and `b`, each for `p` and `-p`.
pub(super) const G4: [[f64; 3]; 6] = {
    let (a, b) = (0.75, 1.5);
    let (n0, na, nb) = (A2 * B2, 2.0 * A2 * (A2 - B2), 2.0 * B2 * (B2 - A2));
    [
        [1.0 / n0, 0.0, 0.0],
        [1.0 / na, a / na, A2 / na],
        [1.0 / na, -a / na, A2 / na],
        [1.0 / nb, b / nb, B2 / nb],
        [1.0 / nb, -b / nb, B2 / nb],
        [0.0, 0.0, 1.0],
    ]
};
#[cfg(test)]
const G2: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

impl Tile {
    /// m: output rows and columns of a tile.
    pub const fn outputs(self) -> usize {
        match self {
            Tile::Two => 2,
            Tile::Four => 4,
        }
    }

    /// m + 2: input rows and columns of a tile.
    pub const fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// (m + 2)^2: products of a tile.
    pub const fn points(self) -> usize {
        self.inputs() * self.inputs()
    }

    /// `G`, by rows.
    #[cfg(test)]
    pub(crate) const fn g(self) -> &'static [[f64; 3]] {
        match self {
            Tile::Two => &G2,
            Tile::Four => &G4,
        }
    }

    /// Magnitudes of `A'`, by rows: what rounding errors are multiplied by on the way out.
    #[cfg(test)]
    pub(crate) fn a_abs(self) -> Vec<Vec<f64>> {
        let powers = |e: i32, points: &[f64]| points.iter().map(|p: &f64| p.powi(e)).collect::<Vec<_>>();
        let points: &[f64] = if self == Tile::Two { &[0.0, 1.0, 1.0] } else { &[0.0, 0.75, 0.75, 1.5, 1.5] };
        let m = self.outputs();
        (0..m).map(|e| [powers(e as i32, points), vec![f64::from(u8::from(e + 1 == m))]].concat()).collect()
    }

    /// Magnitudes of `B'`, by rows: what they are multiplied by on the way in.
    #[cfg(test)]
    pub(crate) fn b_abs(self) -> Vec<Vec<f64>> {
        let row = |v: &[f64]| v.to_vec();
        match self {
            Tile::Two => [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
                .iter()
                .map(|r| row(r))
                .collect(),
            Tile::Four => {
                let (p, s, a, b) = (A2 * B2, A2 + B2, 0.75, 1.5);
                let (at_a, at_b) = ([0.0, a * B2, B2, a, 1.0, 0.0], [0.0, b * A2, A2, b, 1.0, 0.0]);
                [[p, 0.0, s, 0.0, 1.0, 0.0], at_a, at_a, at_b, at_b, [0.0, p, 0.0, s, 0.0, 1.0]]
                    .iter()
                    .map(|r| row(r))
                    .collect()
            }
        }
    }
}

/// One side's transforms on vectors of channels.
trait Transform<const M: usize, const N: usize> {
    /// `G g`
    unsafe fn weights<V: Vector>(g: [V; 3]) -> [V; N];
    /// `B' d`
    unsafe fn input<V: Vector>(d: [V; N]) -> [V; N];
    /// `A' m`
    unsafe fn output<V: Vector>(m: [V; N]) -> [V; M];
}

/// Elements of a cache line.
const LINE: usize = 16;

struct F2;
struct F4;

impl Transform<2, 4> for F2 {
    #[inline(always)]
    unsafe fn weights<V: Vector>(g: [V; 3]) -> [V; 4] {
        // SAFETY: register operations; the caller vouches for the instruction set.
        unsafe {
            let half = V::splat(0.5);
            let (even, odd) = (g[0].add(g[2]).mul(half), g[1].mul(half));
            [g[0], even.add(odd), even.sub(odd), g[2]]
        }
    }
    #[inline(always)]
    unsafe fn input<V: Vector>(d: [V; 4]) -> [V; 4] {
        // SAFETY: register operations; the caller vouches for the instruction set.
        unsafe { [d[0].sub(d[2]), d[1].add(d[2]), d[2].sub(d[1]), d[1].sub(d[3])] }
    }
    #[inline(always)]
    unsafe fn output<V: Vector>(m: [V; 4]) -> [V; 2] {
        // SAFETY: as above.
        unsafe { [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).sub(m[3])] }
    }
}

impl Transform<4, 6> for F4 {
    #[inline(always)]
    unsafe fn weights<V: Vector>(g: [V; 3]) -> [V; 6] {
        // SAFETY: register operations; the caller vouches for the instruction set.
        unsafe {
            let k = |row: usize, column: usize| V::splat(G4[row][column] as f32);
            let (even_a, odd_a) = (g[2].mul_add(k(1, 2), g[0].mul(k(1, 0))), g[1].mul(k(1, 1)));
            let (even_b, odd_b) = (g[2].mul_add(k(3, 2), g[0].mul(k(3, 0))), g[1].mul(k(3, 1)));
            [g[0].mul(k(0, 0)), even_a.add(odd_a), even_a.sub(odd_a), even_b.add(odd_b), even_b.sub(odd_b), g[2]]
        }
    }
    #[inline(always)]
    unsafe fn input<V: Vector>(d: [V; 6]) -> [V; 6] {
        // SAFETY: register operations; the caller vouches for the instruction set.
        unsafe {
            let k = |v: f64| V::splat(v as f32);
            let (product, sum) = (k(A2 * B2), k(-(A2 + B2)));
            let (even_a, odd_a) = (d[2].mul_add(k(-B2), d[4]), d[1].mul_add(k(-B2), d[3]));
            let (even_b, odd_b) = (d[2].mul_add(k(-A2), d[4]), d[1].mul_add(k(-A2), d[3]));
            [
                d[0].mul_add(product, d[2].mul_add(sum, d[4])),
                odd_a.mul_add(k(0.75), even_a),
                odd_a.mul_add(k(-0.75), even_a),
                odd_b.mul_add(k(1.5), even_b),
                odd_b.mul_add(k(-1.5), even_b),
                d[1].mul_add(product, d[3].mul_add(sum, d[5])),
            ]
        }
    }
    #[inline(always)]
    unsafe fn output<V: Vector>(m: [V; 6]) -> [V; 4] {
        // SAFETY: as above.
        unsafe {
            let k = |v: f64| V::splat(v as f32);
            let (sum_a, diff_a) = (m[1].add(m[2]), m[1].sub(m[2]));
            let (sum_b, diff_b) = (m[3].add(m[4]), m[3].sub(m[4]));
            [
                m[0].add(sum_a).add(sum_b),
                diff_b.mul_add(k(1.5), diff_a.mul(k(0.75))),
                sum_b.mul_add(k(B2), sum_a.mul(k(A2))),
                diff_b.mul_add(k(1.5 * B2), diff_a.mul_add(k(0.75 * A2), m[5])),
            ]
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
    assert!(t.width.is_multiple_of(tile_of(isa).0) && t.first + channels <= t.depth);
    assert!(t.u.len() >= (t.tile.points() - 1) * t.point + (t.depth + 1) * t.width);
    // SAFETY: reads are whole rows of `raw`, writes whole rows of `u`.
    unsafe { dispatch(isa, t) }
}

impl Op for Weights<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: `weights` checked both slices.
        unsafe {
            match self.tile {
                Tile::Two => self.each::<V, F2, 2, 4>(),
                Tile::Four => self.each::<V, F4, 4, 6>(),
            }
        }
    }
}

impl Weights<'_> {
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

/// Transforms one row of tiles: `B' d B` for each. Point `p` of tile `t` goes to row `p` of `v`, column
/// `(first + t) * stride`.
pub(crate) struct Input<'a, 'v, 'm> {
    pub tile: Tile,
    /// the input rows, read in place; as many as the tile has
    pub rows: [&'a [f32]; 6],
    /// pixels in a row; what lies beside them is zero
    pub width: usize,
    /// pixels of zeros before a row
    pub pad: usize,
    /// elements between pixels
    pub pixel: usize,
    /// at most `pixel`
    pub channels: usize,
    /// tiles in this row
    pub count: usize,
    pub v: &'v mut MatMut<'m, f32>,
    /// elements between tiles, a multiple of 16
    pub stride: usize,
    /// tiles in `v` before this row's
    pub first: usize,
}

/// # Panics
/// When a slice is too short for what the other fields say.
pub(crate) fn input(isa: Isa, t: Input<'_, '_, '_>) {
    if t.count == 0 || t.width == 0 {
        return;
    }
    let last = (t.width - 1) * t.pixel + t.channels;
    assert!(t.rows[..t.tile.inputs()].iter().all(|row| row.len() >= last));
    assert!(t.channels <= t.stride && t.stride.is_multiple_of(16));
    assert!(t.v.rows() >= t.tile.points() && t.v.cols() >= (t.first + t.count) * t.stride);
    // SAFETY: reads end at `last`, writes with the last point's last tile.
    unsafe { dispatch(isa, t) }
}

impl Op for Input<'_, '_, '_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: `input` checked all slices.
        unsafe {
            match self.tile {
                Tile::Two => self.each::<V, F2, 2, 4>(),
                Tile::Four => self.each::<V, F4, 4, 6>(),
            }
        }
    }
}

impl Input<'_, '_, '_> {
    #[inline(always)]
    unsafe fn each<V: Vector, F: Transform<M, N>, const M: usize, const N: usize>(self) {
        let rows: [*const f32; N] = core::array::from_fn(|y| self.rows[y].as_ptr());
        let (v, point) = (self.v.as_mut_ptr(), self.v.stride());
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
                                let at = ((t + 1) * M + x).wrapping_sub(self.pad).wrapping_mul(self.pixel);
                                V::prefetch_near(row.wrapping_add(at.wrapping_add(c)));
                            }
                        }
                    }
                    let mut d = [[V::splat(0.0); N]; N];
                    unroll!(x < N => {
                        let at = (t * M + x).wrapping_sub(self.pad);
                        let mut column = [V::splat(0.0); N];
                        if at < self.width {
                            let at = at * self.pixel + c;
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

/// Transforms one row of tiles back, adds bias and shortcut, applies ReLU and stores what lies inside
/// the map.
pub(crate) struct Output<'a, 'y, 'v> {
    pub tile: Tile,
    /// point `p` of tile `t` at `p * point + (first + t) * stride`
    pub m: &'a [f32],
    pub stride: usize,
    pub point: usize,
    pub first: usize,
    /// one per column of `y`, padded to whole vectors
    pub bias: &'a [f32],
    pub epilogue: Epilogue,
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
    let count = t.width.div_ceil(t.tile.outputs());
    let padded = cols.next_multiple_of(tile_of(isa).0);
    assert!(rows.is_multiple_of(t.width) && rows / t.width <= t.tile.outputs());
    assert!(padded <= t.stride && t.bias.len() >= padded);
    assert!(t.m.len() >= (t.tile.points() - 1) * t.point + (t.first + count) * t.stride);
    // SAFETY: whole vectors of `m` and `bias` exist up to `padded`; writes are clipped to `y`.
    unsafe { dispatch(isa, t) }
}

impl Op for Output<'_, '_, '_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: `output` checked all slices.
        unsafe {
            match self.tile {
                Tile::Two => self.each::<V, F2, 2, 4>(),
                Tile::Four => self.each::<V, F4, 4, 6>(),
            }
        }
    }
}

impl Output<'_, '_, '_> {
    #[inline(always)]
    unsafe fn each<V: Vector, F: Transform<M, N>, const M: usize, const N: usize>(self) {
        let (cols, ld) = (self.y.cols(), self.y.stride());
        let (height, y) = (self.y.rows() / self.width, self.y.as_mut_ptr());
        for t in 0..self.width.div_ceil(M) {
            let inside = (self.width - t * M).min(M);
            for c in (0..cols).step_by(V::LANES) {
                let valid = (cols - c).min(V::LANES);
                // SAFETY: the tile's points lie in `m`, pixels read and stored inside `y`: see `output`.
                unsafe {
                    let from = self.m.as_ptr().add((self.first + t) * self.stride + c);
                    let floor = V::splat(if self.epilogue.relu { 0.0 } else { f32::NEG_INFINITY });
                    let bias = V::load(self.bias.as_ptr().add(c));
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
                        unroll!(y < N => { column[y] = V::load(from.add((y * N + x) * self.point)); });
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
                                        if self.epilogue.add {
                                            v = v.add(V::load(y.add(at)));
                                        }
                                        floor.max(v).store(y.add(at));
                                    } else {
                                        if self.epilogue.add {
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
