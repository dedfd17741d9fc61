//! A folded network with chosen encodings as int8.

use std::collections::BTreeMap;

use residual_core::{
    Error,
    geom::ConvGeom,
    graph::{FoldedConv, Net, OpKind},
    quant::Window,
};

use super::{Kind, Layer, Method, Network, Observed, Quantization, QuantizeError, QuantizedConv, Shortcut, Stored};

/// The result a range is chosen for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    /// in the network with its sums apart
    pub name: String,
    pub relu: bool,
}

/// Every result that has an encoding of its own.
pub(super) fn tensors(net: &Net<'_>) -> Vec<Tensor> {
    let mut all = Vec::new();
    for op in net.ops() {
        if let OpKind::Conv { shortcut, relu, .. } = op.kind {
            if shortcut.is_some() {
                all.push(Tensor { name: op.name.dot("alone").to_string(), relu: false });
            }
            all.push(Tensor { name: op.name.to_string(), relu });
        }
    }
    all
}

/// What a value of the folded network is in the int8 one.
#[derive(Clone, Copy)]
enum Place {
    Value(usize),
    Sliced { value: usize, stride: usize, before: usize },
}

/// Builds the int8 network; `methods` holds a method for every name of [`tensors`].
pub(super) fn build(
    net: &Net<'_>,
    observed: &BTreeMap<String, Observed>,
    methods: &BTreeMap<String, Method>,
    input: Quantization,
    input_means: &[f64],
    correct: bool,
) -> Result<Network, QuantizeError> {
    let mut network = Network {
        input: net.input().shape,
        quantization: input,
        layers: Vec::new(),
        architecture: net.name().into(),
        classes: Vec::new(),
        preprocessing: None,
    };
    let unknown = |name: &str| QuantizeError::Unobserved { layer: name.into() };
    let stored = |name: &str, relu: bool| -> Result<Stored, QuantizeError> {
        let value = observed.get(name).ok_or_else(|| unknown(name))?;
        let q = methods.get(name).copied().unwrap_or(Method::MinMax).quantization(value, relu);
        Ok(if relu { Stored::relu(q) } else { Stored::full(q) })
    };
    let mut places = vec![Place::Value(0); net.values().len()];
    // Mean of every channel of a value, by the folded network's numbers.
    let mut means: Vec<Vec<f64>> = vec![Vec::new(); net.values().len()];
    means[0] = input_means.to_vec();
    for (index, op) in net.ops().iter().enumerate() {
        let at = op.output.index();
        let name = op.name.as_str();
        means[at] = observed.get(name).ok_or_else(|| unknown(name))?.means.clone();
        let value = |index: usize| match places[index] {
            Place::Value(value) => Ok(value),
            Place::Sliced { .. } => Err(QuantizeError::Unsupported { layer: name.into() }),
        };
        let source = value(op.input.index());
        let kind = match op.kind {
            OpKind::Subsample { stride, before, .. } => {
                places[at] = Place::Sliced { value: source?, stride, before };
                continue;
            }
            OpKind::MaxPool(window) => Kind::MaxPool(window),
            OpKind::AveragePool(_) => Kind::GlobalAveragePool,
            OpKind::Conv { geom, shortcut, relu } => {
                let shortcut = match shortcut {
                    None => None,
                    Some(other) => {
                        let (value, stride, before) = match places[other.index()] {
                            Place::Value(value) => (value, 1, 0),
                            Place::Sliced { value, stride, before } => (value, stride, before),
                        };
                        Some(Shortcut { value, stride, before, output: stored(name, relu)? })
                    }
                };
                let output = match shortcut {
                    None => stored(name, relu)?,
                    Some(_) => stored(&op.name.dot("alone"), false)?,
                };
                let (_, from) = network.value(*source.as_ref().unwrap_or(&0)).ok_or_else(|| unknown(name))?;
                let means = correct.then_some(means[op.input.index()].as_slice());
                let folded = net.conv(index).ok_or_else(|| unknown(name))?;
                Kind::Conv(conv(geom, folded, from, output, shortcut, means)?)
            }
            _ => return Err(QuantizeError::Unsupported { layer: name.into() }),
        };
        network.layers.push(Layer { name: name.into(), source: source?, kind });
        places[at] = Place::Value(network.layers.len());
    }
    Ok(network)
}

/// Quantizes weights per output channel, and the bias; with `means` of the input's channels, the bias also takes
/// back what rounding the weights adds on average.
fn conv(
    geom: ConvGeom,
    folded: &FoldedConv<'_>,
    from: Quantization,
    output: Stored,
    shortcut: Option<Shortcut>,
    means: Option<&[f64]>,
) -> Result<QuantizedConv, Error> {
    let window = Window::from(geom);
    let (taps, area) = (window.taps(), geom.kernel * geom.kernel);
    let inside = inside(&window);
    let mut weights = Vec::with_capacity(geom.weight_len());
    let (mut scales, mut bias) = (Vec::new(), Vec::new());
    for (channel, oihw) in folded.scaled()?.chunks_exact(taps).enumerate() {
        let largest = oihw.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let real = f64::from(folded.bias[channel]);
        // The bias must stay far below 2^30 steps; a channel of zeros gets its scale from that alone.
        let for_bias = real.abs() / f64::from(1u32 << 28) / f64::from(from.scale);
        // A channel that training has faded out: with a finer scale its sums would be shifted by more than the
        // microcontrollers' fast kernels can, for hundredths of an output step.
        let for_shift = f64::from(output.quantization.scale) / f64::from(from.scale) / f64::from(1u32 << 22);
        let scale = (f64::from(largest) / 127.0).max(for_bias).max(for_shift).max(1e-9) as f32;
        let mut shift = 0.0;
        for tap in 0..area {
            for c in 0..geom.input.c {
                let w = f64::from(oihw[c * area + tap]);
                let q = (w / f64::from(scale)).round().clamp(-127.0, 127.0);
                let mean = means.and_then(|m| m.get(c)).copied().unwrap_or_default();
                shift += (q * f64::from(scale) - w) * mean * inside[tap];
                weights.push(q as i8);
            }
        }
        let steps = (real - shift) / (f64::from(from.scale) * f64::from(scale));
        bias.push(steps.round().clamp(-f64::from(1 << 29), f64::from(1 << 29)) as i32);
        scales.push(scale);
    }
    Ok(QuantizedConv { window, weights, scales, bias, output, shortcut, fully_connected: false })
}

/// The part of all outputs for which each tap lies on the map.
fn inside(window: &Window) -> Vec<f64> {
    let Window { input, output, kernel, pad_top, pad_left, .. } = *window;
    let axis = |k: usize, out: usize, pad: usize, extent: usize| {
        (0..out).filter(|o| window.source(*o, k, pad, extent).is_some()).count() as f64 / out as f64
    };
    let taps = (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx)));
    taps.map(|(ky, kx)| axis(ky, output.h, pad_top, input.h) * axis(kx, output.w, pad_left, input.w)).collect()
}
