//! Tiles, their matrices, and one side's transforms on vectors of channels.

use super::super::vector::Vector;

/// Output tile side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// F(2x2, 3x3)
    Two,
    /// F(4x4, 3x3)
    Four,
}

/// Squares of the finite points of m = 4.
pub(in crate::simd) const A2: f64 = 9.0 / 16.0;
pub(in crate::simd) const B2: f64 = 9.0 / 4.0;

/// `G` for m = 4, by rows: `[1, p, p^2] / prod(p - q)`. Row `0`; then `a` and `b`, each for `p` and `-p`.
pub(in crate::simd) const G4: [[f64; 3]; 6] = {
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

/// One side's way back, on vectors of channels.
pub(super) trait Inverse<const M: usize, const N: usize> {
    /// `A' m`
    unsafe fn output<V: Vector>(m: [V; N]) -> [V; M];
}

/// One side's transforms on vectors of channels.
pub(super) trait Transform<const M: usize, const N: usize>: Inverse<M, N> {
    /// `G g`
    unsafe fn weights<V: Vector>(g: [V; 3]) -> [V; N];
    /// `B' d`
    unsafe fn input<V: Vector>(d: [V; N]) -> [V; N];
}

/// m = 2.
pub(super) struct F2;
/// m = 4.
pub(super) struct F4;

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
}

impl Inverse<2, 4> for F2 {
    #[inline(always)]
    unsafe fn output<V: Vector>(m: [V; 4]) -> [V; 2] {
        // SAFETY: register operations; the caller vouches for the instruction set.
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
}

impl Inverse<4, 6> for F4 {
    #[inline(always)]
    unsafe fn output<V: Vector>(m: [V; 6]) -> [V; 4] {
        // SAFETY: register operations; the caller vouches for the instruction set.
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
