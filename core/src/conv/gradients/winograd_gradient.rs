//! The weight gradient of a 3x3 convolution of stride 1 at the points of Winograd tiles: a quarter of the
//! multiplications.
//!
//! ```text
//! dw = G' [ sum over tiles of (A dy A') . (B' x B) ] G
//! ```
//!
//! Sums stay at the points, 36 for each pair of channels, until all images have passed. The error
//! bound is in NUMERICS.md.

use core::{array, ops::Range};

use crate::{
    geom::ConvGeom,
    simd::{
        Isa, OuterSum, Pixels, SLACK, Tile, outer_sum, points,
        winograd::{self, Input},
        winograd_gradient::{self, Gradient},
    },
};

const TILE: Tile = Tile::Four;
const STEP: usize = TILE.outputs();

/// Elements of transformed tiles, of both operands, that are summed at once.
const STRIP: usize = 80 * 1024;

/// Where transformed tiles go, and the elements between their points.
struct Points<'a> {
    v: &'a mut [f32],
    v_point: usize,
    u: &'a mut [f32],
    u_point: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PointSums {
    pub isa: Isa,
    pub geom: ConvGeom,
}

impl PointSums {
    /// Whole vectors of channels only; with fewer than 32 the transforms cost more than they spare.
    pub(super) fn supports(g: &ConvGeom) -> bool {
        let pays = |c: usize| c >= 32 && c.is_multiple_of(16);
        (g.kernel, g.stride, g.pad) == (3, 1, 1) && pays(g.input.c) && pays(g.c_out)
    }

    /// Rows and columns of tiles.
    fn grid(&self) -> (usize, usize) {
        let out = self.geom.output();
        (out.h.div_ceil(STEP), out.w.div_ceil(STEP))
    }

    /// Rows and columns of a strip: all that the tiles read.
    pub(super) fn strip(&self) -> (usize, usize) {
        let (rows, cols) = self.grid();
        (rows * STEP + 2, cols * STEP + 2)
    }

    /// Elements of the sums of so many output channels.
    pub(super) fn sum_len(&self, channels: usize) -> usize {
        TILE.points() * self.geom.input.c * channels
    }

    /// Rows of tiles summed at once.
    fn rows(&self) -> usize {
        let tile = TILE.points() * (self.geom.input.c + self.geom.c_out);
        (STRIP / (tile * self.grid().1.max(1))).max(1)
    }

    /// Elements between points of `x` and of `dy`, for so many tiles.
    fn apart(&self, tiles: usize) -> (usize, usize) {
        (points::apart(tiles * self.geom.input.c), points::apart(tiles * self.geom.c_out))
    }

    fn row_len(&self) -> usize {
        self.grid().1 * STEP * self.geom.c_out
    }

    pub(super) fn scratch_len(&self) -> usize {
        let (v, u) = self.apart(self.rows() * self.grid().1);
        TILE.points() * (v + u) + SLACK + STEP * self.row_len()
    }

    /// Elements of one image's transformed input and gradient.
    pub(super) fn image_lens(&self) -> (usize, usize) {
        let (rows, cols) = self.grid();
        let (v, u) = self.apart(rows * cols);
        (TILE.points() * v + SLACK, TILE.points() * u)
    }

    /// Transforms one row of tiles: `row` of the image in the strip, into tiles from `first` on.
    fn transform_row(&self, strip: &[f32], dy: &[f32], row: usize, first: usize, to: Points<'_>, edge: &mut [f32]) {
        let (out, (_, count), c_in) = (self.geom.output(), self.grid(), self.geom.input.c);
        let line = self.strip().1 * c_in;
        let Points { v, v_point, u, u_point } = to;
        // The strip has its zeros around it.
        let rows = array::from_fn(|i| &strip[(row * STEP + i) * line..][..line]);
        let (width, pad, channels, stride, point) = (self.strip().1, 0, c_in, c_in, v_point);
        let input = Input { tile: TILE, rows, width, pad, channels, count, v, stride, point, first };
        winograd::input(self.isa, input);
        let (dy, row) = self.whole_tiles(&dy[row * STEP * out.w * out.c..], edge);
        let (channels, point) = (out.c, u_point);
        winograd_gradient::gradient(self.isa, Gradient { dy, row, count, channels, u, point, first });
    }

    /// Adds to the sums at the points. `strips` and `dy` hold all images, strips padded as [`PointSums::strip`] says.
    pub(super) fn accumulate(&self, strips: &[f32], dy: &[f32], sums: &mut [f32], scratch: &mut [f32]) {
        let (g, out) = (&self.geom, self.geom.output());
        let ((rows, cols), (c_in, c_out)) = (self.grid(), (g.input.c, g.c_out));
        let at_once = self.rows();
        let (v_len, u_len) = self.apart(at_once * cols);
        let (v, rest) = scratch.split_at_mut(TILE.points() * v_len + SLACK);
        let (u, edge) = rest.split_at_mut(TILE.points() * u_len);
        let images = dy.len() / out.elements();
        let strip_len = strips.len() / images.max(1);
        for start in (0..images * rows).step_by(at_once) {
            let here = at_once.min(images * rows - start);
            let tiles = here * cols;
            let (v_point, u_point) = self.apart(tiles);
            for r in 0..here {
                let (image, row) = ((start + r) / rows, (start + r) % rows);
                let strip = &strips[image * strip_len..(image + 1) * strip_len];
                let dy = &dy[image * out.elements()..(image + 1) * out.elements()];
                let to = Points { v: &mut *v, v_point, u: &mut *u, u_point };
                self.transform_row(strip, dy, row, r * cols, to, edge);
            }
            for (p, sums) in sums.chunks_exact_mut(c_in * c_out).enumerate() {
                let pixels = Pixels { count: [1, 1, tiles], x: [0, 0, c_in], dy: [0, 0, c_out] };
                let (x, dy) = (&v[p * v_point..], &u[p * u_point..]);
                outer_sum(self.isa, &OuterSum { x, dy, pixels, taps: &[0], depth: c_in }, sums);
            }
        }
    }

    /// Transforms one image, for [`PointSums::sum`].
    pub(super) fn transform(&self, strip: &[f32], dy: &[f32], v: &mut [f32], u: &mut [f32], edge: &mut [f32]) {
        let (rows, cols) = self.grid();
        let (v_point, u_point) = self.apart(rows * cols);
        for row in 0..rows {
            let to = Points { v: &mut *v, v_point, u: &mut *u, u_point };
            self.transform_row(strip, dy, row, row * cols, to, edge);
        }
    }

    /// `dw` of output channels `channels` over all transformed images, through sums at the points.
    pub(super) fn sum(&self, v: &[f32], u: &[f32], channels: Range<usize>, sums: &mut [f32], dw: &mut [f32]) {
        let ((rows, cols), (c_in, c_out)) = (self.grid(), (self.geom.input.c, self.geom.c_out));
        let (tiles, lens) = (rows * cols, self.image_lens());
        let (v_point, u_point) = self.apart(tiles);
        let images = v.len() / lens.0.max(1);
        sums.fill(0.0);
        for (p, sums) in sums.chunks_exact_mut(c_in * channels.len()).enumerate() {
            let pixels = Pixels { count: [images, 1, tiles], x: [lens.0, 0, c_in], dy: [lens.1, 0, c_out] };
            let (x, dy) = (&v[p * v_point..], &u[p * u_point + channels.start..]);
            outer_sum(self.isa, &OuterSum { x, dy, pixels, taps: &[0], depth: c_in }, sums);
        }
        self.finish(sums, dw);
    }

    /// Four rows of whole tiles, and the elements of a row: in place, or with zeros around in `edge`.
    fn whole_tiles<'d>(&self, dy: &'d [f32], edge: &'d mut [f32]) -> (&'d [f32], usize) {
        let (from, to) = (self.geom.output().w * self.geom.c_out, self.row_len());
        if from == to && dy.len() >= STEP * from {
            return (dy, from);
        }
        let edge = &mut edge[..STEP * to];
        edge.fill(0.0);
        for (to, from) in edge.chunks_exact_mut(to).zip(dy.chunks_exact(from)) {
            to[..from.len()].copy_from_slice(from);
        }
        (edge, to)
    }

    pub(super) fn finish(&self, sums: &[f32], dw: &mut [f32]) {
        winograd_gradient::kernels(self.isa, sums, self.geom.input.c, dw);
    }
}

#[cfg(test)]
mod tests {
    use super::{PointSums, STEP, TILE};
    use crate::{
        conv::{WeightGradient, reference::ConvF64},
        geom::{ConvGeom, Shape},
        simd::Isa,
        testing::Uniform,
    };

    /// The sum of the magnitudes of all terms: `|G'| [ sum over tiles (|A| |dy| |A'|) . (|B'| |x| |B|) ] |G|`, in the
    /// order of `dw`.
    fn magnitudes(g: &ConvGeom, x: &[f32], dy: &[f32]) -> Vec<f64> {
        let (out, n) = (g.output(), TILE.inputs());
        let (a, b, kernel) = (TILE.a_abs(), TILE.b_abs(), TILE.g());
        let (c_in, c_out) = (g.input.c, g.c_out);
        let mut sums = vec![0.0; n * n * c_out * c_in];
        for (ty, tx) in (0..out.h).step_by(STEP).flat_map(|y| (0..out.w).step_by(STEP).map(move |x| (y, x))) {
            let value = |map: &[f32], s: Shape, y: usize, x: usize, c: usize| {
                if y < s.h && x < s.w { f64::from(map[(y * s.w + x) * s.c + c]).abs() } else { 0.0 }
            };
            let transformed = |side: usize,
                               c: usize,
                               factor: &dyn Fn(usize, usize) -> f64,
                               at: &dyn Fn(usize, usize, usize) -> f64| {
                let mut points = vec![0.0; n * n];
                for (p, point) in points.iter_mut().enumerate() {
                    for (i, j) in (0..side).flat_map(|i| (0..side).map(move |j| (i, j))) {
                        *point += factor(p / n, i) * factor(p % n, j) * at(i, j, c);
                    }
                }
                points
            };
            let us: Vec<_> = (0..c_out)
                .map(|o| transformed(STEP, o, &|p, i| a[i][p], &|i, j, o| value(dy, out, ty + i, tx + j, o)))
                .collect();
            let vs: Vec<_> = (0..c_in)
                .map(|c| {
                    transformed(n, c, &|p, i| b[p][i], &|i, j, c| match (
                        (ty + i).checked_sub(1),
                        (tx + j).checked_sub(1),
                    ) {
                        (Some(y), Some(x_)) => value(x, g.input, y, x_, c),
                        _ => 0.0,
                    })
                })
                .collect();
            for (p, o, c) in (0..n * n).flat_map(|p| (0..c_out).flat_map(move |o| (0..c_in).map(move |c| (p, o, c)))) {
                sums[(p * c_out + o) * c_in + c] += us[o][p] * vs[c][p];
            }
        }
        let mut dw = vec![0.0; 9 * c_out * c_in];
        for (i, to) in dw.iter_mut().enumerate() {
            let (o, tap, c) = (i / c_in / 9, i / c_in % 9, i % c_in);
            *to = (0..n * n)
                .map(|p| (kernel[p / n][tap / 3] * kernel[p % n][tap % 3]).abs() * sums[(p * c_out + o) * c_in + c])
                .sum();
        }
        dw
    }

    #[test]
    fn the_gradient_by_tiles_matches_its_definition_on_every_isa() {
        let images = 3;
        for (h, w, c_in, c_out) in [(8, 8, 32, 32), (5, 13, 32, 48), (4, 3, 64, 32), (9, 6, 48, 64), (16, 16, 32, 32)] {
            let g = ConvGeom { input: Shape::new(h, w, c_in), c_out, kernel: 3, stride: 1, pad: 1 };
            let (n, m) = (g.input.elements(), g.output().elements());
            let mut random = Uniform::new(g.weight_len() as u64);
            let (x, dy) = (random.vec(images * n), random.vec(images * m));
            let mut want = vec![0.0; g.weight_len()];
            let mut magnitude = vec![0.0; g.weight_len()];
            for (x, dy) in x.chunks(n).zip(dy.chunks(m)) {
                let [x64, dy64] = [x, dy].map(|v| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
                let zeros = vec![0.0; g.weight_len()];
                ConvF64 { x: &x64, w: &zeros }.backward(&g, &dy64, &mut vec![0.0; n], &mut want);
                magnitude.iter_mut().zip(magnitudes(&g, x, dy)).for_each(|(to, v)| *to += v);
            }
            for isa in Isa::available() {
                let gradient = WeightGradient::new(isa, g, true).unwrap();
                assert!(gradient.is_winograd() && PointSums::supports(&g));
                let strip = gradient.strip_len();
                let mut strips = vec![f32::NAN; images * strip];
                for (strip, x) in strips.chunks_mut(strip).zip(x.chunks(n)) {
                    gradient.fill(x, strip);
                }
                let mut scratch = vec![f32::NAN; gradient.scratch_len()];
                let mut sums = vec![0.0; gradient.sum_len()];
                gradient.accumulate(&strips[..strip], &dy[..m], 1, 0..c_out, &mut sums, &mut scratch);
                gradient.accumulate(&strips[strip..], &dy[m..], images - 1, 0..c_out, &mut sums, &mut scratch);
                let mut dw = vec![f32::NAN; gradient.len()];
                gradient.finish(&sums, &mut dw);
                // The same through all images' transforms and parts of the channels.
                let (v_len, u_len) = gradient.wide_lens();
                let (mut v, mut u) = (vec![f32::NAN; images * v_len], vec![f32::NAN; images * u_len]);
                for (i, (v, u)) in v.chunks_mut(v_len).zip(u.chunks_mut(u_len)).enumerate() {
                    gradient.transform(
                        &strips[i * strip..(i + 1) * strip],
                        &dy[i * m..(i + 1) * m],
                        v,
                        u,
                        &mut scratch,
                    );
                }
                let mut wide = vec![f32::NAN; gradient.len()];
                for (channels, part) in [(0..16, 0..16 * 9 * c_in), (16..c_out, 16 * 9 * c_in..gradient.len())] {
                    let mut sums = vec![f32::NAN; gradient.wide_sum_len(channels.len())];
                    gradient.sum_wide(&v, &u, images, channels, &mut sums, &mut wide[part]);
                }
                // Products and sums over all tiles, and no more than 60 operations in the three transforms.
                let terms = images * h.div_ceil(STEP) * w.div_ceil(STEP) + 60;
                let k = terms as f64 * f64::from(f32::EPSILON) / 2.0;
                for (i, got) in dw.iter().enumerate().chain(wide.iter().enumerate()) {
                    let (o, tap, c) = (i / c_in / 9, i / c_in % 9, i % c_in);
                    let error = (f64::from(*got) - want[(o * c_in + c) * 9 + tap]).abs();
                    let bound = k / (1.0 - k) * magnitude[i];
                    assert!(error <= bound, "{isa} {g} at {i}: off by {error:e}, {bound:e} allowed");
                }
            }
        }
    }
}
