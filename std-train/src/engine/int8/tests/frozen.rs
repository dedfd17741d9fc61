//! The int8 network in f64 with every rounding held fast: `round(v)` is `v` plus what was added at the beginning, and what
//! was clipped then stays at its bound. It computes what int8 does, and it has derivatives: those that the
//! straight-through estimator claims.

use residual_core::resnet::BN_EPSILON;

use super::super::{
    Int8Engine, Maps, Step,
    layers::{After, Conv, Layers, OpKind},
    step::Rounded,
};
use crate::{
    engine::reference::{conv_forward, cross_entropy},
    parameters::Parameters,
};

/// What became of one element where it was rounded.
#[derive(Clone, Copy)]
enum Fixed {
    Offset(f64),
    Bound(f64),
}

/// What one layer holds fast, for all images.
enum Layer {
    Conv {
        weights: Vec<f64>,
        bias: Vec<f64>,
        alone: Vec<Fixed>,
        own: Vec<Fixed>,
        ratio: Option<Shortcut>,
    },
    /// which element of its input each element is; none where all are zero
    MaxPool(Vec<Option<usize>>),
    AveragePool(Vec<f64>),
}

#[derive(Clone, Copy)]
struct Shortcut {
    stride: usize,
    before: usize,
}

pub struct Frozen {
    values: Vec<f64>,
    input: Vec<f64>,
    labels: Vec<u32>,
    layers: Layers,
    fixed: Vec<Layer>,
    damping: Vec<f64>,
}

impl Frozen {
    /// Holds fast what the forward pass of all images has left in `maps`.
    pub fn new(
        engine: &Int8Engine,
        step: &Step<'_>,
        maps: &Maps<'_>,
        parameters: &Parameters,
        images: &[f32],
        labels: &[u32],
    ) -> Self {
        let options = super::options(engine.batch, 1, residual_core::Isa::best(), false);
        let network = super::network(parameters).unwrap();
        let layers = Layers::new(parameters, &network, &options).unwrap();
        let values: Vec<f64> = parameters.values().iter().map(|&v| f64::from(v)).collect();
        let input = images.iter().map(|v| f64::from(step.values[0].dequantize(step.values[0].quantize(*v)))).collect();
        let mut frozen = Frozen {
            damping: vec![1.0; values.len()],
            values,
            input,
            labels: labels.to_vec(),
            layers,
            fixed: Vec::new(),
        };
        let mut real = vec![frozen.input.clone()];
        for index in 0..frozen.layers.ops.len() {
            let layer = frozen.fix(index, step, maps, &network, &real);
            frozen.fixed.push(layer);
            let y = frozen.compute(index, &frozen.values, &real);
            let scale = f64::from(step.values[index + 1].scale);
            for (got, want) in y.iter().zip(maps.rounded[index + 1].iter()) {
                assert!(
                    (got - scale * f64::from(*want)).abs() < 1e-6 * scale.max(got.abs()),
                    "layer {index}: {got} {want}"
                );
            }
            real.push(y);
        }
        frozen
    }

    /// The part of all roundings that clipped.
    pub fn clipped(&self) -> f64 {
        let all = || {
            self.fixed.iter().filter_map(|l| if let Layer::Conv { own, .. } = l { Some(own) } else { None }).flatten()
        };
        all().filter(|f| matches!(f, Fixed::Bound(b) if *b != 0.0)).count() as f64 / all().count() as f64
    }

    /// A parameter's size, for the length of a difference.
    pub fn size(&self, i: usize) -> f64 {
        self.values[i].abs().max(1e-3)
    }

    /// What the gradient of parameter `i` is multiplied by.
    pub fn damping(&self, i: usize) -> f64 {
        self.damping[i]
    }

    /// The mean loss with `d` added to parameter `i`.
    pub fn loss(&self, i: usize, d: f64) -> f64 {
        let mut values = self.values.clone();
        values[i] += d;
        let mut real = vec![self.input.clone()];
        for index in 0..self.layers.ops.len() {
            let y = self.compute(index, &values, &real);
            real.push(y);
        }
        cross_entropy(real.last().unwrap(), &self.labels, 0.1).0
    }

    fn scale(&self, values: &[f64], number: usize) -> f64 {
        values[self.layers.scales.start + number]
    }

    /// The folded weights and bias.
    fn folded(&self, conv: &Conv, values: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let w = &values[conv.weight.clone()];
        let row = w.len() / conv.geom.c_out;
        match &conv.after {
            After::Bias(range) => (w.to_vec(), values[range.clone()].to_vec()),
            After::Norm(norm) => {
                let of = |range: &std::ops::Range<usize>, o: usize| values[range.start + o];
                let scale = |o| of(&norm.gamma, o) / (of(&norm.var, o) + BN_EPSILON).sqrt();
                let weights = w.iter().enumerate().map(|(i, w)| w * scale(i / row)).collect();
                (weights, (0..conv.geom.c_out).map(|o| of(&norm.beta, o) - of(&norm.mean, o) * scale(o)).collect())
            }
        }
    }

    /// Finds what layer `index` holds fast.
    fn fix(
        &mut self,
        index: usize,
        step: &Step<'_>,
        maps: &Maps<'_>,
        network: &crate::quantize::Network,
        real: &[Vec<f64>],
    ) -> Layer {
        let op = &self.layers.ops[index];
        let (source, rounded) = (op.source, &maps.rounded[index + 1]);
        let conv = match &op.kind {
            OpKind::MaxPool(pool) => {
                // Of integers, where ties are ties and zeros are zeros.
                let x: Vec<f64> = maps.rounded[source].iter().map(|v| f64::from(*v)).collect();
                let (y, found) = crate::engine::reference::max_pool_forward(pool, &x);
                return Layer::MaxPool(y.iter().zip(found).map(|(y, at)| (*y > 0.0).then_some(at)).collect());
            }
            OpKind::AveragePool => {
                let mean = means(&real[source], self.layers.shapes[source].c, maps.n);
                let scale = f64::from(step.values[index + 1].scale);
                let offsets = mean.iter().zip(rounded.iter()).map(|(mean, q)| scale * f64::from(*q) - mean);
                return Layer::AveragePool(offsets.collect());
            }
            OpKind::Conv(conv) => conv,
        };
        let at = step.convs[index].as_ref().unwrap();
        let crate::quantize::Kind::Conv(quantized) = &network.layers[index].kind else { panic!("no convolution") };
        let (area, c) = (conv.geom.kernel * conv.geom.kernel, conv.geom.input.c);
        let (mut weights, mut bias) = self.folded(conv, &self.values);
        for (i, w) in weights.iter_mut().enumerate() {
            let (o, channel, tap) = (i / (c * area), i / area % c, i % area);
            let q = f64::from(quantized.weights[(o * area + tap) * c + channel]);
            *w = q * f64::from(quantized.scale(o)) - *w;
            assert!(w.abs() <= 0.5001 * f64::from(quantized.scale(o)));
        }
        for (o, b) in bias.iter_mut().enumerate() {
            *b = f64::from(quantized.bias[o]) * f64::from(at.input.scale) * f64::from(quantized.scale(o)) - *b;
        }
        let ratio = quantized.shortcut.map(|s| Shortcut { stride: s.stride, before: s.before });
        let scales = self.layers.scales.start;
        let elements = conv.geom.output().elements() as f64;
        let stored = at.sum.as_ref().map_or(at.output, |sum| sum.output);
        self.damping[scales + conv.scale] = 1.0 / (elements * f64::from(stored.high)).sqrt();
        if let Some(alone) = conv.alone {
            self.damping[scales + alone] = 1.0 / (elements * f64::from(at.output.high)).sqrt();
        }
        let mut layer = Layer::Conv { weights, bias, alone: Vec::new(), own: Vec::new(), ratio };
        let result = self.convolve(index, &layer, &self.values, real);
        let first = match conv.alone {
            Some(_) => fix(&result, &at.output, maps.alone[index][0]),
            None => fix(&result, &stored, rounded),
        };
        let Layer::Conv { alone, own, .. } = &mut layer else { panic!("no convolution") };
        *(if conv.alone.is_some() { alone } else { own }) = first;
        if conv.alone.is_some() {
            let sum = self.sum(index, &layer, &self.values, real);
            let Layer::Conv { own, .. } = &mut layer else { panic!("no convolution") };
            *own = fix(&sum, &stored, rounded);
        }
        layer
    }

    /// Layer `index` of all images, in real numbers.
    fn compute(&self, index: usize, values: &[f64], real: &[Vec<f64>]) -> Vec<f64> {
        let op = &self.layers.ops[index];
        match (&self.fixed[index], &op.kind) {
            (Layer::MaxPool(from), _) => from.iter().map(|at| at.map_or(0.0, |at| real[op.source][at])).collect(),
            (Layer::AveragePool(offsets), _) => {
                let n = self.labels.len();
                let means = means(&real[op.source], self.layers.shapes[op.source].c, n);
                means.iter().zip(offsets).map(|(mean, offset)| mean + offset).collect()
            }
            (layer @ Layer::Conv { own, .. }, OpKind::Conv(conv)) => {
                let before = match conv.alone {
                    Some(_) => self.sum(index, layer, values, real),
                    None => self.convolve(index, layer, values, real),
                };
                rounded(&before, self.scale(values, conv.scale), own)
            }
            _ => panic!("a layer of another kind"),
        }
    }

    fn convolve(&self, index: usize, layer: &Layer, values: &[f64], real: &[Vec<f64>]) -> Vec<f64> {
        let (Layer::Conv { weights, bias, .. }, OpKind::Conv(conv)) = (layer, &self.layers.ops[index].kind) else {
            panic!("no convolution")
        };
        let (mut w, mut b) = self.folded(conv, values);
        w.iter_mut().zip(weights).for_each(|(w, offset)| *w += offset);
        b.iter_mut().zip(bias).for_each(|(b, offset)| *b += offset);
        let mut y = conv_forward(&conv.geom, &real[self.layers.ops[index].source], &w);
        y.chunks_exact_mut(b.len()).for_each(|pixel| pixel.iter_mut().zip(&b).for_each(|(y, b)| *y += b));
        y
    }

    /// The convolution's result, rounded, and its shortcut.
    fn sum(&self, index: usize, layer: &Layer, values: &[f64], real: &[Vec<f64>]) -> Vec<f64> {
        let (Layer::Conv { alone, ratio: Some(shortcut), .. }, OpKind::Conv(conv)) =
            (layer, &self.layers.ops[index].kind)
        else {
            panic!("no shortcut")
        };
        let before = self.convolve(index, layer, values, real);
        let mut y = rounded(&before, self.scale(values, conv.alone.unwrap()), alone);
        let (from, out) = (self.layers.shapes[conv.shortcut.unwrap()], self.layers.shapes[index + 1]);
        for (i, y) in y.iter_mut().enumerate() {
            let (image, pixel, channel) = (i / out.elements(), i / out.c % (out.h * out.w), i % out.c);
            let (row, column) = (pixel / out.w * shortcut.stride, pixel % out.w * shortcut.stride);
            if let Some(c) = channel.checked_sub(shortcut.before).filter(|c| *c < from.c) {
                let at = image * from.elements() + (row * from.w + column) * from.c + c;
                *y += real[conv.shortcut.unwrap()][at];
            }
        }
        y
    }
}

/// Every channel's mean in every image.
fn means(x: &[f64], c: usize, n: usize) -> Vec<f64> {
    let (image, pixels) = (x.len() / n, x.len() / n / c);
    let channel = |i: usize, c0: usize| x[i * image..(i + 1) * image].iter().skip(c0).step_by(c).sum::<f64>();
    (0..n * c).map(|k| channel(k / c, k % c) / pixels as f64).collect()
}

fn rounded(real: &[f64], scale: f64, fixed: &[Fixed]) -> Vec<f64> {
    let one = |(v, fixed): (&f64, &Fixed)| match fixed {
        Fixed::Offset(offset) => v + offset * scale,
        Fixed::Bound(bound) => bound * scale,
    };
    real.iter().zip(fixed).map(one).collect()
}

/// What rounding `real` to the integers `rounded` did. The definition rounds twice, the first time to half a step or less.
fn fix(real: &[f64], to: &Rounded, rounded: &[f32]) -> Vec<Fixed> {
    let one = |(real, q): (&f64, &f32)| {
        let (v, q) = (real / f64::from(to.scale), f64::from(*q));
        let (low, high) = (f64::from(to.low), f64::from(to.high));
        // Sums of integers that are exactly 0 are not quite that in f64.
        if v <= low + 1e-9 || v >= high - 1e-9 {
            assert!((q - v.clamp(low, high)).abs() < 0.76, "{v} became {q}");
            return Fixed::Bound(if v <= low + 1e-9 { low } else { high });
        }
        assert!((q - v).abs() < 0.76, "{v} became {q}");
        Fixed::Offset(q - v)
    };
    real.iter().zip(rounded).map(one).collect()
}
