//! Cross-layer equalization (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
//! section 4.1), with ranges of activations from calibration pictures.
//!
//! Between two convolutions with nothing but ReLU between them, the outputs of channel `i` may be divided by any `s > 0` if
//! the weights that read them are multiplied by it: the network stays the same. int8 gives all channels of a map one scale,
//! and all weights of an output channel one: channels of very different size lose their bits in one or the other. With
//! `a` the largest output of a channel and `w` the largest weight that reads it, relative to the largest term of its sum,
//! `s = sqrt(a / w)` makes both `sqrt(a w)`.

use std::collections::BTreeMap;

use residual_core::{
    Error,
    geom::ConvGeom,
    graph::{FoldedConv, Net, Op, OpKind},
};

use super::Observed;

/// Convolutions with other tensors than the network they were made for, by the number of the op.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Equalized(BTreeMap<usize, Tensors>);

/// OIHW with the scale of batch norm applied, and biases.
#[derive(Clone, Debug, PartialEq)]
struct Tensors {
    oihw: Vec<f32>,
    bias: Vec<f32>,
}

impl Equalized {
    /// Equalizes what can be in `net`, whose ops' results were `observed`.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub(super) fn new(net: &Net<'_>, observed: &BTreeMap<String, Observed>) -> Result<Self, Error> {
        let mut all = Equalized::default();
        for (second, op) in net.ops().iter().enumerate() {
            let (Some(first), OpKind::Conv { geom, .. }) = (producer(net, op), op.kind) else { continue };
            let Some(seen) = observed.get(net.ops()[first].name.as_str()) else { continue };
            let (Some(before), Some(after)) = (all.tensors(net, first)?, all.tensors(net, second)?) else { continue };
            let factors = factors(&geom, &after.oihw, &seen.largest);
            let (before, after) = scaled(before, after, &factors, &geom);
            all.0.insert(first, before);
            all.0.insert(second, after);
        }
        Ok(all)
    }

    /// `net` with its convolutions equalized.
    pub fn apply<'n>(&'n self, net: &Net<'n>) -> Net<'n> {
        self.0.iter().fold(net.clone(), |net, (index, Tensors { oihw, bias })| {
            net.with_conv(*index, FoldedConv::new(oihw, bias.clone()))
        })
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tensors of every convolution that was equalized, with the number of its op: OIHW with the scale of batch norm
    /// applied, and the bias.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[f32], &[f32])> {
        self.0.iter().map(|(index, Tensors { oihw, bias })| (*index, &oihw[..], &bias[..]))
    }

    fn tensors(&self, net: &Net<'_>, index: usize) -> Result<Option<Tensors>, Error> {
        if let Some(changed) = self.0.get(&index) {
            return Ok(Some(changed.clone()));
        }
        let own = net.conv(index).map(|conv| Ok(Tensors { oihw: conv.scaled()?, bias: conv.bias.clone() }));
        own.transpose()
    }
}

/// The convolution whose result only `op` reads, and nothing is added to.
fn producer(net: &Net<'_>, op: &Op) -> Option<usize> {
    let value = op.input;
    let readers = net.ops().iter().filter(|other| other.input == value || other.shortcut() == Some(value)).count();
    let first = net.ops().iter().position(|other| other.output == value)?;
    let alone = matches!(net.ops()[first].kind, OpKind::Conv { shortcut: None, .. });
    (alone && readers == 1 && !net.outputs().contains(&value)).then_some(first)
}

/// What the outputs of each channel are divided by, from the weights that read them and their largest values.
fn factors(geom: &ConvGeom, oihw: &[f32], largest: &[f32]) -> Vec<f32> {
    let (c, area) = (geom.input.c, geom.kernel * geom.kernel);
    let mut weights = vec![0.0f32; c];
    for row in oihw.chunks_exact(c * area) {
        let taps = || row.chunks_exact(area).map(|taps| taps.iter().fold(0.0f32, |most, w| most.max(w.abs())));
        let term = taps().zip(largest).fold(0.0f32, |most, (w, a)| most.max(w * a));
        if term > 0.0 {
            weights.iter_mut().zip(taps()).for_each(|(most, w)| *most = most.max(w / term));
        }
    }
    // A channel that was always zero, or that nobody weighs, becomes as small as the smallest other.
    let live = |(a, w): (&f32, &f32)| Some((a * w).sqrt()).filter(|size| *size > 0.0);
    let least = largest.iter().zip(&weights).filter_map(live).fold(f32::INFINITY, f32::min);
    let factor = |(a, w): (&f32, &f32)| match (*a > 0.0, *w > 0.0) {
        (true, true) => (a / w).sqrt(),
        (false, true) => least / w,
        (true, false) => a / least,
        (false, false) => 1.0,
    };
    largest.iter().zip(&weights).map(factor).map(|s| if s.is_normal() { s } else { 1.0 }).collect()
}

/// Both convolutions with the channels between them divided.
fn scaled(mut first: Tensors, mut second: Tensors, factors: &[f32], geom: &ConvGeom) -> (Tensors, Tensors) {
    let taps = first.oihw.len() / factors.len().max(1);
    for ((row, bias), s) in first.oihw.chunks_exact_mut(taps).zip(&mut first.bias).zip(factors) {
        row.iter_mut().for_each(|w| *w /= s);
        *bias /= s;
    }
    let area = geom.kernel * geom.kernel;
    for row in second.oihw.chunks_exact_mut(factors.len() * area) {
        for (taps, s) in row.chunks_exact_mut(area).zip(factors) {
            taps.iter_mut().for_each(|w| *w *= s);
        }
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use residual_core::{
        Isa,
        resnet::{ResNet, fold_batch_norm},
        testing::{Generated, Uniform},
    };

    use super::super::{Method, Options, observe::observe, quantize};
    use super::*;

    /// A network whose channels between two convolutions are scaled by powers of two and back, at random.
    fn unbalanced<'n>(net: &Net<'n>, changed: &'n mut Equalized) -> Net<'n> {
        let mut random = Uniform::new(3);
        for (second, op) in net.ops().iter().enumerate() {
            let (Some(first), OpKind::Conv { geom, .. }) = (producer(net, op), op.kind) else { continue };
            let power = |v: f32| 0.5f32.powi((3.5 * (v + 1.0)) as i32);
            let factors: Vec<f32> = random.by_ref().take(geom.input.c).map(power).collect();
            let (before, after) =
                (changed.tensors(net, first).unwrap().unwrap(), changed.tensors(net, second).unwrap().unwrap());
            let (before, after) = scaled(before, after, &factors, &geom);
            changed.0.insert(first, before);
            changed.0.insert(second, after);
        }
        assert!(!changed.is_empty());
        changed.apply(net)
    }

    #[test]
    fn networks_with_unbalanced_channels_become_the_same_int8_network() {
        for name in ["resnet8-cifar", "resnet11-cifar-bottleneck"] {
            let spec: ResNet = name.parse().unwrap();
            let spec = spec.with_input(12, 12).unwrap();
            let weights = Generated::new(spec);
            let net = fold_batch_norm(&spec, &weights).unwrap();
            let inputs: Vec<Vec<f32>> = (0..4).map(|seed| Uniform::new(seed).vec(spec.input().elements())).collect();
            let mut changed = Equalized::default();
            let other = unbalanced(&net, &mut changed);
            let quantized = |net: &Net<'_>, equalize| {
                let options = Options { equalize, method: Some(Method::MinMax), ..Options::default() };
                quantize(net, &inputs, &options).unwrap()
            };
            let equalized = |net: &Net<'_>| {
                let equalized = Equalized::new(net, &observe(net, &inputs, 1, Isa::best()).unwrap()).unwrap();
                quantized(&equalized.apply(net), false).network
            };
            let (network, wanted) = (equalized(&other), equalized(&net));
            for (layer, wanted) in network.layers.iter().zip(&wanted.layers) {
                assert!(layer == wanted, "{name}: {}", layer.name);
            }
            // It is chosen where it is better.
            let (plain, best) = (quantized(&other, false), quantized(&other, true));
            let better = best.divergence < plain.divergence;
            assert_eq!((better, best.network == network), (!best.equalized.is_empty(), better), "{name}");
            assert!(better || name != "resnet8-cifar");
        }
    }
}
