//! What quantizing costs, layer by layer.

mod page;

use std::collections::BTreeMap;

use residual_core::{
    graph::{FoldedConv, Net, OpKind},
    logits::{argmax, softmax},
    plan,
    rsd::View,
    session::Session,
};

pub use page::html;

use super::{COMPARED, Kind, Options, Quantization, QuantizeError, Quantized, kl, observe::in_chunks, probabilities};

/// What quantizing does to one layer's result.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReport {
    /// the layer
    pub name: String,
    /// the method its range was chosen by; `None` for pools, which keep their input's encoding
    pub method: Option<&'static str>,
    /// its encoding
    pub quantization: Quantization,
    /// smallest and largest f32 value seen in calibration
    pub observed: (f32, f32),
    /// signal over quantization noise of the whole network up to here, in dB
    pub sqnr: f64,
    /// part of the 256 codes between the smallest and the largest that occurred
    pub range_use: f64,
    /// part of the results at the end of the range where information is lost (a ReLU's zeros not counted)
    pub saturation: f64,
    /// percentage of pictures right when this layer alone is quantized: its weights and its result
    pub top1_alone: Option<f64>,
}

/// What quantizing costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// the network
    pub architecture: String,
    /// pictures it was measured on
    pub pictures: usize,
    /// percentage right in f32
    pub top1_f32: f64,
    /// percentage right in int8
    pub top1_int8: f64,
    /// by layer, in order
    pub layers: Vec<LayerReport>,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    signal: f64,
    noise: f64,
    min: i8,
    max: i8,
    ends: u64,
    values: u64,
}

/// Runs a quantized network and the one it was made from on the same pictures, and compares them. `inputs` are normalised
/// pictures, NHWC; `labels` are their classes.
///
/// # Errors
/// As [`super::quantize`].
pub fn report(
    net: &Net<'_>,
    quantized: &Quantized,
    inputs: &[Vec<f32>],
    labels: &[usize],
    options: &Options,
) -> Result<Report, QuantizeError> {
    let net = &quantized.equalized.apply(net);
    let network = &quantized.network;
    let model = network.to_model()?;
    let view = View::new_checked(&model)?;
    let planned = plan::Options { isa: options.isa, ..Default::default() };
    let mut session = Session::new(&view.net()?, &planned)?;
    let mut reference = Session::new(net, &planned)?;
    let encodings: Vec<Quantization> = (1..=network.layers.len()).filter_map(|v| Some(network.value(v)?.1)).collect();
    let fresh = Tally { min: i8::MAX, max: i8::MIN, ..Tally::default() };
    let mut tallies = vec![fresh; network.layers.len()];
    let (mut right_f32, mut right_int8) = (0usize, 0usize);
    for (input, label) in inputs.iter().zip(labels) {
        let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        let logits = reference.run_with(input, |step, y: &[f32]| {
            values.insert(step.name.to_string(), y.to_vec());
        })?;
        right_f32 += usize::from(argmax(logits) == *label);
        let bytes: Vec<i8> = input.iter().map(|v| network.quantization.quantize(*v)).collect();
        let output = session.run_with(&bytes, |step, y: &[i8]| {
            // A shortcut brought to another shape is a step, but no layer.
            let Some(op) = network.layers.iter().position(|layer| *layer.name == *step.name) else { return };
            let (tally, q) = (&mut tallies[op], encodings[op]);
            let Some(real) = values.get(&network.layers[op].name) else { return };
            let floor = match &network.layers[op].kind {
                Kind::Conv(conv) => conv.shortcut.map_or(conv.output, |s| s.output).min > -128 || q.zero_point == -128,
                _ => q.zero_point == -128,
            };
            for (y, real) in y.iter().zip(real) {
                let d = f64::from(q.dequantize(*y)) - f64::from(*real);
                tally.signal += f64::from(*real) * f64::from(*real);
                tally.noise += d * d;
                (tally.min, tally.max) = (tally.min.min(*y), tally.max.max(*y));
                tally.ends += u64::from(*y == 127 || (!floor && *y == -128));
            }
            tally.values += y.len() as u64;
        })?;
        let output: Vec<f32> = output.iter().map(|v| f32::from(*v)).collect();
        right_int8 += usize::from(argmax(&output) == *label);
    }
    let percent = |right: usize| 100.0 * right as f64 / inputs.len().max(1) as f64;
    let mut layers = Vec::new();
    for ((layer, tally), quantization) in network.layers.iter().zip(&tallies).zip(&encodings) {
        let observed = quantized.observed.get(&layer.name).map_or((0.0, 0.0), |o| (o.min, o.max));
        layers.push(LayerReport {
            name: layer.name.clone(),
            method: quantized.methods.get(&layer.name).map(|m| m.name()),
            quantization: *quantization,
            observed,
            sqnr: 10.0 * (tally.signal / tally.noise.max(f64::MIN_POSITIVE)).log10(),
            range_use: (f64::from(tally.max) - f64::from(tally.min)).max(0.0) / 255.0,
            saturation: tally.ends as f64 / tally.values.max(1) as f64,
            top1_alone: alone(net, layer, *quantization, inputs, options, |i, logits| {
                f64::from(u8::from(labels.get(i) == Some(&argmax(logits))))
            })?
            .map(|right| percent(right as usize)),
        });
    }
    Ok(Report {
        architecture: network.architecture.clone(),
        pictures: inputs.len(),
        top1_f32: percent(right_f32),
        top1_int8: percent(right_int8),
        layers,
    })
}

/// A layer that quantizing disturbs, and how much by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Blamed {
    /// the layer
    pub layer: String,
    /// mean divergence of the class probabilities from those of the f32 network when this layer alone is quantized
    pub divergence: f64,
}

/// Mean divergence of the class probabilities from which on accuracy suffers. Two networks of 20 layers on the 10,000 test
/// pictures of CIFAR-10, with balanced channels and without, ranges chosen well and badly: what they lost of their f32
/// accuracy, in points, was 0.0 to 0.1 at divergences of 0.0006 to 0.006, 0.0 to 0.4 at 0.01 to 0.02, and 1.0 to 1.3 at 0.047
/// to 0.12.
const LARGE: f64 = 0.03;

/// The layer that costs most, where quantizing disturbs the network so much that accuracy will suffer, by a point or so;
/// `None` where it does not. `inputs` are the calibration pictures.
///
/// # Errors
/// As [`super::quantize`].
pub fn blame(
    net: &Net<'_>,
    quantized: &Quantized,
    inputs: &[Vec<f32>],
    options: &Options,
) -> Result<Option<Blamed>, QuantizeError> {
    if quantized.divergence < LARGE {
        return Ok(None);
    }
    let net = &quantized.equalized.apply(net);
    let inputs = &inputs[..inputs.len().min(COMPARED)];
    let wanted = probabilities(net, inputs, options)?;
    let mut worst: Option<Blamed> = None;
    for (index, layer) in quantized.network.layers.iter().enumerate() {
        let Some((_, q)) = quantized.network.value(index + 1) else { continue };
        let sum = alone(net, layer, q, inputs, options, |i, logits| kl(&wanted[i], &softmax(logits)))?;
        let Some(divergence) = sum.map(|sum| sum / inputs.len().max(1) as f64) else { continue };
        if worst.as_ref().is_none_or(|worst| worst.divergence < divergence) {
            worst = Some(Blamed { layer: layer.name.clone(), divergence });
        }
    }
    Ok(worst)
}

/// The sum of `score(number of the picture, logits)` over all pictures when `layer` alone is quantized.
fn alone(
    net: &Net<'_>,
    layer: &super::Layer,
    q: Quantization,
    inputs: &[Vec<f32>],
    options: &Options,
    score: impl Fn(usize, &[f32]) -> f64 + Sync,
) -> Result<Option<f64>, QuantizeError> {
    let Kind::Conv(conv) = &layer.kind else { return Ok(None) };
    let Some(index) = net.ops().iter().position(|op| *op.name == *layer.name) else { return Ok(None) };
    let (OpKind::Conv { geom, .. }, Some(weights)) = (net.ops()[index].kind, net.conv(index)) else { return Ok(None) };
    let (area, c) = (geom.kernel * geom.kernel, geom.input.c);
    let mut oihw = vec![0.0; geom.weight_len()];
    for (i, w) in conv.weights.iter().enumerate() {
        // OHWI to OIHW
        let (o, tap, channel) = (i / (area * c), i / c % area, i % c);
        oihw[(o * c + channel) * area + tap] = f32::from(*w) * conv.scale(o);
    }
    let tensors = FoldedConv::new(&oihw, weights.bias.clone());
    let net = net.clone().with_conv(index, tensors);
    let sums = in_chunks(&net, inputs, options.threads, options.isa, |session, first, pictures| {
        let mut sum = 0.0;
        for (i, picture) in pictures.iter().enumerate() {
            let logits = session.run_editing(picture, |step, y: &mut [f32]| {
                if *step.name == *layer.name {
                    y.iter_mut().for_each(|v| *v = q.dequantize(q.quantize(*v)));
                }
            })?;
            sum += score(first + i, logits);
        }
        Ok(sum)
    })?;
    Ok(Some(sums.iter().sum()))
}
