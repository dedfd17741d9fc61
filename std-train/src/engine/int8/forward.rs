//! Forward: the int8 network on a few images of a task, keeping what backward reads.

use residual_core::{
    conv::{Band, Epilogue},
    geom::Shape,
    memory::MatMut,
    quant::reference::global_average_pool,
    simd::max_pool,
};

use super::{
    super::workers::carve,
    Part,
    layers::{Conv, Layers, OpKind},
    step::{ConvStep, Step, SumStep},
};
use crate::{engine::Loss, layer::softmax::cross_entropy};

/// The maps of some images, one after the other in every slice.
pub(super) struct Maps<'s> {
    pub n: usize,
    /// every value, in steps from its zero point: integers
    pub rounded: Vec<&'s mut [f32]>,
    /// of every value, by its real numbers
    pub gradients: Vec<&'s mut [f32]>,
    /// of every convolution what was rounded to its value, in the same steps; with a shortcut, the sum
    pub real: Vec<&'s mut [f32]>,
    /// of every convolution with a shortcut: its result alone, rounded and before
    pub alone: Vec<[&'s mut [f32]; 2]>,
}

impl<'s> Maps<'s> {
    pub(super) fn new(layers: &Layers, n: usize, scratch: &mut &'s mut [f32]) -> Self {
        let mut of = |elements: usize| carve(scratch, n * elements);
        let rounded = layers.shapes.iter().map(|shape| of(shape.elements())).collect();
        let gradients = layers.shapes.iter().map(|shape| of(shape.elements())).collect();
        let (mut real, mut alone) = (Vec::new(), Vec::new());
        for op in &layers.ops {
            let (own, with) = match &op.kind {
                OpKind::Conv(conv) => (conv.geom.output().elements(), conv.alone.is_some()),
                _ => (0, false),
            };
            let elements = if with { own } else { 0 };
            real.push(of(own));
            alone.push([of(elements), of(elements)]);
        }
        Maps { n, rounded, gradients, real, alone }
    }
}

impl Layers {
    /// Takes a task's images through the network and back.
    pub(super) fn task(
        &self,
        step: &Step<'_>,
        images: &[f32],
        labels: &[u32],
        loss: Loss,
        part: &mut Part<'_>,
        mut scratch: &mut [f32],
    ) {
        let Part { images: own, sums } = part;
        sums.weights.as_mut_slice().fill(0.0);
        sums.bias.fill(0.0);
        sums.scales.fill(0.0);
        sums.score = Default::default();
        let elements = self.spec.input().elements();
        let at_once = self.at_once(own.len());
        let scratch = &mut scratch;
        for first in own.clone().step_by(at_once) {
            let group = first..(first + at_once).min(own.end);
            let mut scratch = &mut scratch[..];
            let mut maps = Maps::new(self, group.len(), &mut scratch);
            self.forward(step, &images[group.start * elements..group.end * elements], &mut maps, scratch);
            let logits = self.logits(step, &maps);
            let last = maps.gradients.len() - 1;
            maps.gradients.iter_mut().for_each(|map| map.fill(0.0));
            let gradient = Some((&mut *maps.gradients[last], 1.0 / loss.count as f64));
            sums.score.add(cross_entropy(&logits, &labels[group], loss.smoothing, gradient));
            self.backward(step, &mut maps, sums, scratch);
        }
    }

    /// What the last layer's integers mean.
    pub(super) fn logits(&self, step: &Step<'_>, maps: &Maps<'_>) -> Vec<f32> {
        let scale = step.values.last().map_or(1.0, |q| q.scale);
        maps.rounded.last().map_or_else(Vec::new, |map| map.iter().map(|v| v * scale).collect())
    }

    /// Computes every value of the images.
    pub(super) fn forward(&self, step: &Step<'_>, images: &[f32], maps: &mut Maps<'_>, scratch: &mut [f32]) {
        let input = step.values[0];
        let zero = i16::from(input.zero_point);
        for (to, real) in maps.rounded[0].iter_mut().zip(images) {
            *to = f32::from(i16::from(input.quantize(*real)) - zero);
        }
        for (index, op) in self.ops.iter().enumerate() {
            let (before, after) = maps.rounded.split_at_mut(index + 1);
            let (from, to) = (self.shapes[op.source].elements(), self.shapes[index + 1].elements());
            let values = before[op.source].chunks_exact(from).zip(after[0].chunks_exact_mut(to));
            match &op.kind {
                OpKind::MaxPool(pool) => {
                    let window = (*pool).into();
                    values.for_each(|(x, y)| max_pool(self.isa, &window, x, 0..pool.output().h, y));
                }
                OpKind::AveragePool => {
                    let zero = i16::from(step.values[op.source].zero_point);
                    values.for_each(|(x, y)| average(self.shapes[op.source], zero, x, y));
                }
                OpKind::Conv(conv) => {
                    let Some(at) = &step.convs[index] else { continue };
                    let reals = maps.real[index].chunks_exact_mut(to);
                    for (i, ((x, y), real)) in values.zip(reals).enumerate() {
                        let Some((sum, other)) = at.sum.as_ref().zip(conv.shortcut) else {
                            self.convolve(conv, at, x, y, real, scratch);
                            continue;
                        };
                        let [alone, alone_real] = &mut maps.alone[index];
                        let (alone, alone_real) = (&mut alone[i * to..(i + 1) * to], &mut alone_real[i * to..][..to]);
                        self.convolve(conv, at, x, alone, alone_real, scratch);
                        let len = self.shapes[other].elements();
                        let other = &before[other][i * len..(i + 1) * len];
                        add(at, sum, self.shapes[index + 1], alone, other, y, real);
                    }
                }
            }
        }
    }

    /// One image's convolution by itself: rounded, and before.
    fn convolve(
        &self,
        conv: &Conv,
        at: &ConvStep<'_>,
        x: &[f32],
        rounded: &mut [f32],
        real: &mut [f32],
        mut scratch: &mut [f32],
    ) {
        let (g, op) = (&conv.geom, &at.op);
        let sums = carve(&mut scratch, rounded.len());
        let kernel = &mut scratch[..conv.forward.scratch_len(g)];
        let y = MatMut::new(sums, g.c_out);
        conv.forward.run(g, x, at.forward, Epilogue::default(), &Band::whole(g, 1), y, kernel);
        let pixels = rounded.chunks_exact_mut(g.c_out).zip(real.chunks_exact_mut(g.c_out));
        for ((rounded, real), sums) in pixels.zip(sums.chunks_exact(g.c_out)) {
            let results = rounded.iter_mut().zip(real).zip(sums);
            for ((((rounded, real), sum), bias), (factor, ratio)) in results.zip(op.bias).zip(&at.factors) {
                let acc = (*sum as i32).wrapping_add(*bias);
                *rounded = at.output.steps(op.output.encode(factor.rescale_as(op.rounding, acc)));
                *real = acc as f32 * ratio;
            }
        }
    }
}

/// One image's mean of every channel, as the definition rounds it.
fn average(shape: Shape, zero: i16, x: &[f32], y: &mut [f32]) {
    let bytes: Vec<i8> = x.iter().map(|v| (*v as i16 + zero) as i8).collect();
    let mut means = vec![0i8; y.len()];
    // The lengths are those of the shape.
    if global_average_pool(shape, &bytes, &mut means).is_ok() {
        y.iter_mut().zip(means).for_each(|(y, q)| *y = f32::from(i16::from(q) - zero));
    }
}

/// One image's addition of `other`, the shortcut, to `alone`: rounded, and before. `shape` is that of the sum.
fn add(
    at: &ConvStep<'_>,
    sum: &SumStep,
    shape: Shape,
    alone: &[f32],
    other: &[f32],
    rounded: &mut [f32],
    real: &mut [f32],
) {
    let own = |term: usize, steps: f32, zero: i16| sum.terms[term][(steps as i16 + zero + 128) as u8 as usize];
    let zero = i16::from(sum.add.shortcut_zero);
    let [of_alone, of_other] = sum.ratios;
    for (pixel, at_pixel) in (0..).step_by(shape.c).zip(shortcut_pixels(sum, shape)).take(shape.h * shape.w) {
        for o in 0..shape.c {
            let i = pixel + o;
            let from = o.checked_sub(sum.add.before).filter(|c| *c < sum.add.shortcut.c);
            let steps = from.map_or(0.0, |c| other[at_pixel + c]);
            let total = own(0, alone[i], at.output.zero).wrapping_add(own(1, steps, zero));
            rounded[i] = sum.output.steps(sum.add.encode(total));
            // Terms that nearly cancel must not be clipped by mistake.
            real[i] = (f64::from(alone[i]) * of_alone + f64::from(steps) * of_other) as f32;
        }
    }
}

/// Where the pixel of the shortcut begins that is added to each pixel of the sum.
pub(super) fn shortcut_pixels(sum: &SumStep, shape: Shape) -> impl Iterator<Item = usize> {
    let (map, stride) = (sum.add.shortcut, sum.add.stride);
    (0..shape.h).flat_map(move |y| (0..shape.w).map(move |x| (y * map.w + x) * stride * map.c))
}
