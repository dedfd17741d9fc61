//! Backward: from the last layer to the first, for the images that went forward together.

use std::mem::take;

use super::{
    super::workers::carve,
    Sums,
    forward::{Maps, shortcut_pixels},
    layers::{Conv, Layers, OpKind},
    step::{ConvStep, Rounded, Step, SumStep},
};
use crate::layer::pool::{average_pool_backward, max_pool_backward};

/// Elements whose share in a scale's gradient is summed in f32.
const BLOCK: usize = 512;

impl Layers {
    /// Adds up the gradients of everything that is learned. The last value's is known; the others' are zero.
    pub(super) fn backward(&self, step: &Step<'_>, maps: &mut Maps<'_>, sums: &mut Sums, scratch: &mut [f32]) {
        for (index, op) in self.ops.iter().enumerate().rev() {
            let (from, to) = (self.shapes[op.source].elements(), self.shapes[index + 1].elements());
            let d = take(&mut maps.gradients[index + 1]);
            match &op.kind {
                OpKind::Conv(conv) => {
                    let Some(at) = &step.convs[index] else { continue };
                    self.conv_backward(conv, at, index, op.source, d, maps, sums, scratch);
                }
                // Only the pool reads what it reads.
                OpKind::MaxPool(pool) => {
                    let maps_of =
                        maps.rounded[op.source].chunks_exact(from).zip(maps.rounded[index + 1].chunks_exact(to));
                    let gradients = d.chunks_exact(to).zip(maps.gradients[op.source].chunks_exact_mut(from));
                    maps_of.zip(gradients).for_each(|((x, y), (d, dx))| max_pool_backward(pool, x, y, d, dx));
                }
                OpKind::AveragePool => {
                    let gradients = d.chunks_exact(to).zip(maps.gradients[op.source].chunks_exact_mut(from));
                    gradients.for_each(|(d, dx)| average_pool_backward(d, dx));
                }
            }
        }
    }

    /// A convolution's part; `d` is the gradient of its value, and becomes that of its sums.
    #[allow(clippy::too_many_arguments)] // a layer, its step, its place, and what is read and written
    fn conv_backward(
        &self,
        conv: &Conv,
        at: &ConvStep<'_>,
        index: usize,
        source: usize,
        d: &mut [f32],
        maps: &mut Maps<'_>,
        sums: &mut Sums,
        mut scratch: &mut [f32],
    ) {
        let (g, n, shape) = (&conv.geom, maps.n, self.shapes[index + 1]);
        let (from, to) = (g.input.elements(), shape.elements());
        let last = &*maps.rounded[index + 1];
        match (&at.sum, conv.shortcut, conv.alone) {
            (Some(sum), Some(other), Some(alone)) => {
                sums.scales[conv.scale] += pass(&sum.output, last, maps.real[index], d);
                let others = maps.gradients[other].chunks_exact_mut(self.shapes[other].elements());
                d.chunks_exact(to).zip(others).for_each(|(d, dx)| add_backward(sum, shape, d, dx));
                let [rounded, real] = &maps.alone[index];
                sums.scales[alone] += pass(&at.output, rounded, real, d);
            }
            _ => sums.scales[conv.scale] += pass(&at.output, last, maps.real[index], d),
        }
        let biases = &mut sums.bias[conv.biases.clone()];
        for pixel in d.chunks_exact(g.c_out) {
            biases.iter_mut().zip(pixel).for_each(|(sum, d)| *sum += f64::from(*d));
        }

        let len = conv.gradient.strip_len();
        let strips = carve(&mut scratch, n * len);
        let images = maps.rounded[source].chunks_exact(from);
        strips.chunks_exact_mut(len).zip(images).for_each(|(strip, x)| conv.gradient.fill(x, strip));
        let weights = &mut sums.weights.as_mut_slice()[conv.sums.clone()][..conv.gradient.sum_len()];
        let kernel = &mut scratch[..conv.gradient.scratch_len()];
        conv.gradient.accumulate(strips, d, n, 0..g.c_out, weights, kernel);

        let Some(data) = &conv.data else { return };
        let kernel = &mut scratch[..data.scratch_len()];
        for (d, dx) in d.chunks_exact(to).zip(maps.gradients[source].chunks_exact_mut(from)) {
            data.run(d, at.data, true, dx, kernel);
        }
    }
}

/// Takes a gradient back through rounding and clipping, in place: it passes where nothing was clipped. Returns the
/// gradient of the scale.
fn pass(to: &Rounded, rounded: &[f32], real: &[f32], d: &mut [f32]) -> f64 {
    // Sums of their own, so that none has to wait for another.
    const SUMS: usize = 8;
    let (low, high) = (to.low, to.high);
    let mut scale = 0.0;
    let parts = rounded.chunks(BLOCK).zip(real.chunks(BLOCK)).zip(d.chunks_mut(BLOCK));
    for ((rounded, real), d) in parts {
        let mut sums = [0.0f32; SUMS];
        let lanes = rounded.chunks(SUMS).zip(real.chunks(SUMS)).zip(d.chunks_mut(SUMS));
        for ((rounded, real), d) in lanes {
            for (((sum, d), rounded), real) in sums.iter_mut().zip(d).zip(rounded).zip(real) {
                let inside = low < *real && *real < high;
                *sum += *d * (rounded - if inside { *real } else { 0.0 });
                *d = if inside { *d } else { 0.0 };
            }
        }
        scale += sums.iter().map(|sum| f64::from(*sum)).sum::<f64>();
    }
    scale
}

/// Adds what a shortcut's addition passes on to it, of one image.
fn add_backward(sum: &SumStep, shape: residual_core::geom::Shape, d: &[f32], dx: &mut [f32]) {
    let (c, before) = (sum.add.shortcut.c, sum.add.before);
    for (d, at) in d.chunks_exact(shape.c).zip(shortcut_pixels(sum, shape)) {
        dx[at..at + c].iter_mut().zip(&d[before..before + c]).for_each(|(dx, d)| *dx += d);
    }
}
