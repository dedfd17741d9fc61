//! The gradient of a convolution's weights.
//!
//! ```text
//! dw[o, ky, kx, i] = sum over images and output pixels (oy, ox) of
//!                    dy[oy, ox, o] * x[oy * stride + ky - pad, ox * stride + kx - pad, i]
//! ```
//!
//! The input is read from a *strip*: a copy of one image with its zero padding, where a kernel row
//! of pixels is contiguous. Several images can be summed in one call, which reads and writes the sums once.
//! Where Winograd is allowed and pays, sums are taken at the points of its tiles and become `dw` in the end.

use core::ops::Range;

use super::winograd_gradient::PointSums;
use crate::{
    geom::{ConvGeom, reach},
    simd::{Addend, Isa, OuterSum, Pixels, SLACK, affine, outer_sum},
};

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub struct WeightGradient {
    isa: Isa,
    geom: ConvGeom,
    /// elements between pixels and between rows of a strip
    pixel: usize,
    row: usize,
    /// rows of a strip
    rows: usize,
    points: Option<PointSums>,
}

/// Largest kernel side.
const MAX_SIDE: usize = 11;

/// Elements of strip and gradient that pass at once where the weights are few: two thirds of L1.
const BLOCK: usize = 32 * 1024 / 4;

impl WeightGradient {
    /// For a convolution of this shape, or `None` if it is not valid or its kernel larger than 11x11.
    pub fn new(isa: Isa, geom: ConvGeom, winograd: bool) -> Option<Self> {
        let supported = geom.is_valid() && geom.kernel <= MAX_SIDE && geom.pad < geom.kernel.max(2);
        if !supported {
            return None;
        }
        let (c, padding) = (geom.input.c, 2 * geom.pad);
        let points = (winograd && PointSums::supports(&geom)).then_some(PointSums { isa, geom });
        // Multiples of 512 bytes would put a column of pixels into few sets of the L1 cache.
        let pixel = if c.is_multiple_of(128) && points.is_none() { c + 16 } else { c };
        let (rows, columns) = points.map_or((geom.input.h + padding, geom.input.w + padding), |p| p.strip());
        Some(WeightGradient { isa, geom, pixel, row: columns * pixel, rows, points })
    }

    /// Elements of one image's strip.
    pub fn strip_len(&self) -> usize {
        (self.rows * self.row + SLACK).next_multiple_of(16)
    }

    /// Whether sums are not `dw` itself: then they are for all channels, and [`WeightGradient::finish`] makes
    /// `dw` of them.
    pub fn is_winograd(&self) -> bool {
        self.points.is_some()
    }

    /// Elements of the sums.
    pub fn sum_len(&self) -> usize {
        self.points.map_or(self.len(), |p| p.sum_len(self.geom.c_out))
    }

    /// Scratch elements [`WeightGradient::accumulate`] needs.
    pub fn scratch_len(&self) -> usize {
        self.points.map_or(0, |p| p.scratch_len())
    }

    /// Elements of `dw`: `c_out` rows in the order kernel row, kernel column, input channel.
    pub fn len(&self) -> usize {
        self.geom.weight_len()
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies one image into its strip.
    ///
    /// # Panics
    /// When a slice does not fit the shape.
    pub fn fill(&self, image: &[f32], strip: &mut [f32]) {
        let c = self.geom.input.c;
        self.fill_rows(image, strip, |from, to| {
            if self.pixel == c {
                to.copy_from_slice(from);
            } else {
                for (to, from) in to.chunks_mut(self.pixel).zip(from.chunks_exact(c)) {
                    to[..c].copy_from_slice(from);
                }
            }
        });
    }

    /// Fills the strip with `max(0, scale * image + shift)`: the convolution's input where that is
    /// batch norm and ReLU of another convolution's output.
    ///
    /// # Panics
    /// When a slice does not fit the shape.
    pub fn fill_normalised(&self, image: &[f32], scale: &[f32], shift: &[f32], strip: &mut [f32]) {
        self.fill_rows(image, strip, |from, to| {
            affine(self.isa, from, scale, shift, Addend::None, true, to, self.pixel);
        });
    }

    fn fill_rows(&self, image: &[f32], strip: &mut [f32], copy: impl Fn(&[f32], &mut [f32])) {
        let ConvGeom { input, pad, .. } = self.geom;
        assert!(image.len() == input.elements() && strip.len() == self.strip_len());
        let (top, rest) = strip.split_at_mut(pad * self.row);
        let (middle, bottom) = rest.split_at_mut(input.h * self.row);
        top.fill(0.0);
        bottom.fill(0.0);
        let side = pad * self.pixel;
        for (to, from) in middle.chunks_exact_mut(self.row).zip(image.chunks_exact(input.w * input.c)) {
            let (left, rest) = to.split_at_mut(side);
            let (middle, right) = rest.split_at_mut(input.w * self.pixel);
            left.fill(0.0);
            right.fill(0.0);
            copy(from, middle);
        }
    }

    /// Adds the gradient of output channels `channels` over `images` images to `sums`, the rows of those
    /// channels. `strips` and `dy` hold all images, one after the other.
    ///
    /// # Panics
    /// When a slice does not fit the shape, or a Winograd gradient is asked for a part of the channels.
    pub fn accumulate(
        &self,
        strips: &[f32],
        dy: &[f32],
        images: usize,
        channels: Range<usize>,
        sums: &mut [f32],
        scratch: &mut [f32],
    ) {
        let ConvGeom { input, kernel, stride, .. } = self.geom;
        let out = self.geom.output();
        assert!(strips.len() == reach([(images, self.strip_len())]) && dy.len() == reach([(images, out.elements())]));
        assert!(channels.end <= out.c && sums.len() * out.c == channels.len() * self.sum_len());
        if let Some(points) = &self.points {
            assert_eq!(channels, 0..out.c);
            return points.accumulate(strips, dy, sums, &mut scratch[..points.scratch_len()]);
        }
        let mut taps = [0; MAX_SIDE * MAX_SIDE];
        let (n_taps, depth) = if self.pixel == input.c {
            taps.iter_mut().take(kernel).enumerate().for_each(|(ky, t)| *t = ky * self.row);
            (kernel, kernel * input.c)
        } else {
            for (i, t) in taps.iter_mut().take(kernel * kernel).enumerate() {
                *t = i / kernel * self.row + i % kernel * self.pixel;
            }
            (kernel * kernel, input.c)
        };
        // Many weights: read and write them once, for all pixels. Few: keep some rows in the L1 cache
        // while all weights pass over them.
        let per_row = out.w * (stride * stride * self.pixel + out.c);
        let whole = self.len() > images * out.h * per_row / 2;
        let rows = if whole { out.h } else { (BLOCK / per_row).clamp(1, out.h) };
        let at_once = if whole || rows == out.h { images } else { 1 };
        for image in (0..images).step_by(at_once) {
            for row in (0..out.h).step_by(rows) {
                let pixels = Pixels {
                    count: [at_once, rows.min(out.h - row), out.w],
                    x: [self.strip_len(), stride * self.row, stride * self.pixel],
                    dy: [out.elements(), out.w * out.c, out.c],
                };
                let x = &strips[image * self.strip_len() + row * stride * self.row..];
                let dy = &dy[image * out.elements() + row * out.w * out.c + channels.start..];
                outer_sum(self.isa, &OuterSum { x, dy, pixels, taps: &taps[..n_taps], depth }, sums);
            }
        }
    }
    /// Makes `dw` of the sums over all images.
    ///
    /// # Panics
    /// When a slice does not fit the shape.
    pub fn finish(&self, sums: &[f32], dw: &mut [f32]) {
        match &self.points {
            Some(points) => points.finish(sums, dw),
            None => dw.copy_from_slice(sums),
        }
    }

    /// Elements of one image's part of the two buffers that [`WeightGradient::transform`] fills and
    /// [`WeightGradient::sum_wide`] reads, for layers with many weights.
    pub fn wide_lens(&self) -> (usize, usize) {
        self.points.map_or((self.strip_len(), self.geom.output().elements()), |p| p.image_lens())
    }

    /// Scratch elements [`WeightGradient::sum_wide`] needs for so many output channels.
    pub fn wide_sum_len(&self, channels: usize) -> usize {
        self.points.map_or(0, |p| p.sum_len(channels))
    }

    /// Prepares one image for [`WeightGradient::sum_wide`]. `scratch` is as for [`WeightGradient::accumulate`].
    ///
    /// # Panics
    /// When a slice does not fit the shape.
    pub fn transform(&self, strip: &[f32], dy: &[f32], x_part: &mut [f32], dy_part: &mut [f32], scratch: &mut [f32]) {
        match &self.points {
            Some(points) => points.transform(strip, dy, x_part, dy_part, &mut scratch[..points.scratch_len()]),
            None => {
                x_part.copy_from_slice(strip);
                dy_part.copy_from_slice(dy);
            }
        }
    }

    /// `dw` of output channels `channels` over `images` images, from what [`WeightGradient::transform`] left.
    ///
    /// # Panics
    /// When a slice does not fit the shape.
    pub fn sum_wide(
        &self,
        x: &[f32],
        dy: &[f32],
        images: usize,
        channels: Range<usize>,
        scratch: &mut [f32],
        dw: &mut [f32],
    ) {
        let lens = self.wide_lens();
        assert!(x.len() == reach([(images, lens.0)]) && dy.len() == reach([(images, lens.1)]));
        match &self.points {
            Some(points) => {
                let sums = &mut scratch[..points.sum_len(channels.len())];
                points.sum(x, dy, channels, sums, dw);
            }
            None => {
                dw.fill(0.0);
                self.accumulate(x, dy, images, channels, dw, &mut []);
            }
        }
    }
}
