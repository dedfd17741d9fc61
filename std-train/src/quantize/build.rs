//! A folded network with chosen encodings as int8.

use std::collections::BTreeMap;

use residual_core::{
    Error,
    geom::ConvGeom,
    graph::{FoldedConv, Net, OpKind},
    quant::Window,
};

use super::{Encodings, Kind, Layer, Network, Observed, Quantization, QuantizeError, QuantizedConv, Shortcut, Stored};

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

/// The names of all encodings that [`build`] needs.
pub(crate) fn names(net: &Net<'_>) -> Vec<String> {
    let results = tensors(net).into_iter().map(|tensor| tensor.name);
    std::iter::once(Encodings::INPUT.to_owned()).chain(results).collect()
}

/// What a value of the folded network is in the int8 one.
#[derive(Clone, Copy)]
enum Place {
    Value(usize),
    Sliced { value: usize, stride: usize, before: usize },
}

/// What bias correction knows of a network: the mean of every channel of its values, by the folded network's numbers.
pub(super) struct Means<'m> {
    pub input: &'m [f64],
    pub observed: &'m BTreeMap<String, Observed>,
}

impl Means<'_> {
    fn of(&self, name: &str) -> Result<&[f64], QuantizeError> {
        let value = self.observed.get(name).ok_or_else(|| QuantizeError::Unobserved { layer: name.into() })?;
        Ok(&value.means)
    }
}

/// Builds the int8 network with an encoding for every name of [`tensors`]; with `means`, biases take back what rounding
/// the weights adds on average.
pub(super) fn build(
    net: &Net<'_>,
    encodings: &Encodings,
    correct: Option<&Means<'_>>,
) -> Result<Network, QuantizeError> {
    let unknown = |name: &str| QuantizeError::NoEncoding { value: name.into() };
    let encoded = |name: &str| encodings.get(name).ok_or_else(|| unknown(name));
    let stored = |name: &str, relu: bool| -> Result<Stored, QuantizeError> {
        let q = encoded(name)?;
        Ok(if relu { Stored::relu(q) } else { Stored::full(q) })
    };
    let mut network = Network {
        input: net.input().shape,
        quantization: encoded(Encodings::INPUT)?,
        layers: Vec::new(),
        architecture: net.name().into(),
        classes: Vec::new(),
        preprocessing: None,
    };
    let mut places = vec![Place::Value(0); net.values().len()];
    let mut means: Vec<&[f64]> = vec![&[]; net.values().len()];
    means[0] = correct.map_or(&[], |means| means.input);
    for (index, op) in net.ops().iter().enumerate() {
        let at = op.output.index();
        let name = op.name.as_str();
        if let Some(known) = correct {
            means[at] = known.of(name)?;
        }
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
                let means = correct.map(|_| means[op.input.index()]);
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
