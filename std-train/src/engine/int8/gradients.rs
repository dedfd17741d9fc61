//! From the sums of all tasks to the gradients of the parameters.

use residual_core::{resnet::BN_EPSILON, threads::Executor};

use super::{
    super::workers::for_each,
    Sums,
    layers::{After, Conv, Layers},
    step::{Rounded, Step},
};
use crate::{layer::batch_norm::BatchNorm, parameters::Parameters};

impl Layers {
    /// Adds what the tasks have summed to `gradients`, in the order of the tasks.
    pub(super) fn gradients(
        &self,
        executor: &dyn Executor,
        step: &Step<'_>,
        parameters: &Parameters,
        tasks: &[Sums],
        gradients: &mut [f32],
    ) {
        let convs = self.convs().filter_map(|(index, conv)| Some((conv, step.convs.get(index)?.as_ref()?)));
        let mut parts: Vec<_> = convs.map(|(conv, at)| (conv, at, vec![0.0; conv.weight.len()])).collect();
        for_each(executor, parts.iter_mut().collect(), |_, (conv, at, oihw), _| conv.sum(tasks, at.input.scale, oihw));
        for (conv, at, oihw) in &parts {
            let mut bias = vec![0.0f64; conv.geom.c_out];
            for task in tasks {
                bias.iter_mut().zip(&task.bias[conv.biases.clone()]).for_each(|(sum, d)| *sum += d);
            }
            match &conv.after {
                After::Norm(norm) => unfold(norm, conv, parameters.values(), oihw, &bias, gradients),
                After::Bias(range) => {
                    gradients[conv.weight.clone()].iter_mut().zip(oihw).for_each(|(to, d)| *to += d);
                    gradients[range.clone()].iter_mut().zip(bias).for_each(|(to, d)| *to += d as f32);
                }
            }
            let elements = conv.geom.output().elements();
            let mut scale = |number: usize, rounded: &Rounded| {
                let sum: f64 = tasks.iter().map(|task| task.scales[number]).sum();
                gradients[self.scales.start + number] += (sum * rounded.damping(elements)) as f32;
            };
            scale(conv.scale, at.sum.as_ref().map_or(&at.output, |sum| &sum.output));
            if let Some(alone) = conv.alone {
                scale(alone, &at.output);
            }
        }
    }
}

impl Conv {
    /// The gradient of the folded weights, OIHW; the tasks read inputs in steps of `scale`.
    fn sum(&self, tasks: &[Sums], scale: f32, oihw: &mut [f32]) {
        let mut sum = vec![0.0f32; self.gradient.sum_len()];
        for task in tasks {
            sum.iter_mut().zip(&task.weights.as_slice()[self.sums.clone()]).for_each(|(sum, d)| *sum += d);
        }
        let mut rows = vec![0.0; self.weight.len()];
        self.gradient.finish(&sum, &mut rows);
        let (c, area) = (self.geom.input.c, self.geom.kernel * self.geom.kernel);
        for (to, from) in oihw.chunks_exact_mut(c * area).zip(rows.chunks_exact(c * area)) {
            for (tap, pixel) in from.chunks_exact(c).enumerate() {
                pixel.iter().enumerate().for_each(|(i, d)| to[i * area + tap] = d * scale);
            }
        }
    }
}

/// From the folded weights and bias to those of the convolution and its batch norm:
/// `folded w = w gamma rstd`, `folded b = beta - mean gamma rstd`, `rstd = 1 / sqrt(var + epsilon)`.
fn unfold(norm: &BatchNorm, conv: &Conv, values: &[f32], oihw: &[f32], bias: &[f64], gradients: &mut [f32]) {
    let row = oihw.len() / bias.len();
    for (o, (d_row, d_bias)) in oihw.chunks_exact(row).zip(bias).enumerate() {
        let of = |range: &std::ops::Range<usize>| f64::from(values[range.start + o]);
        let rstd = 1.0 / (of(&norm.var) + BN_EPSILON).sqrt();
        let scale = (of(&norm.gamma) * rstd) as f32;
        let places = conv.weight.start + o * row..conv.weight.start + (o + 1) * row;
        let product = values[places.clone()].iter().zip(d_row).map(|(w, d)| f64::from(*w) * f64::from(*d)).sum::<f64>();
        gradients[places].iter_mut().zip(d_row).for_each(|(to, d)| *to += d * scale);
        gradients[norm.gamma.start + o] += (rstd * (product - of(&norm.mean) * d_bias)) as f32;
        gradients[norm.beta.start + o] += *d_bias as f32;
    }
}
