//! Folding batch norm into the convolution before it, and a specification into a list of ops.
//!
//! Inference-time batch norm is affine per channel (Ioffe & Szegedy 2015, section 3.1), so
//!
//! ```text
//! gamma * (conv(x, w) - mean) / sqrt(var + eps) + beta  =  conv(x, scale * w) + bias
//! scale = gamma / sqrt(var + eps)      bias = beta - mean * scale
//! ```

use alloc::{string::ToString, vec::Vec};

use super::{BlockSpec, ConvSpec, HeadSpec, ResNet, ShortcutSpec};
use crate::{
    Error, Name,
    geom::{ConvGeom, Shape},
    graph::{Builder, FoldedConv, Graph, Net, OpKind, Tensors, Value, ValueId},
    weights::{Elements, Weights},
};

/// Batch norm's epsilon, PyTorch's default.
pub const BN_EPSILON: f64 = 1e-5;

/// A part of a network, cut between stages. A stage is what the paper calls conv2_x to conv5_x and torchvision `layer1`
/// to `layer4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// stages left out at the beginning; none keeps the stem, too
    pub skip: usize,
    /// the last stage that belongs to the part; `None` for all of them and the classifier
    pub until: Option<usize>,
}

impl Part {
    /// Everything.
    pub const WHOLE: Part = Part { skip: 0, until: None };

    /// From the stem to stage `k` (1 is `layer1`): features.
    pub const fn trunk(k: usize) -> Self {
        Part { skip: 0, until: Some(k) }
    }

    /// From behind stage `k` to the logits: what a trunk's output is classified by.
    pub const fn head(k: usize) -> Self {
        Part { skip: k, until: None }
    }
}

/// The list of ops of `spec`, without weights: enough to plan it.
///
/// # Errors
/// [`Error::InvalidNetwork`] for a network that cannot be built.
pub fn graph(spec: &ResNet) -> Result<Graph, Error> {
    let none = |_: Layer<'_>| Ok(Tensors::None);
    Ok(walk(spec, Part::WHOLE, none)?.into_graph())
}

/// Builds the list of ops of `spec` with `weights`, batch norm folded into the convolutions.
///
/// The weights of convolutions stay where they are and are read when they are packed. Weights that were folded before (a convolution with a bias and no batch norm) are taken as they
/// are.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::TensorLength`], [`Error::Unreadable`], [`Error::NotFinite`], naming the first tensor
/// that does not fit.
pub fn fold_batch_norm<'w>(spec: &ResNet, weights: &'w impl Weights) -> Result<Net<'w>, Error> {
    fold_part(spec, weights, Part::WHOLE)
}

/// [`fold_batch_norm`] of some stages only. A part that begins behind a stage reads that stage's output; one that ends
/// with a stage returns its output.
///
/// # Errors
/// As [`fold_batch_norm`]; [`Error::InvalidNetwork`] if there are no such stages.
pub fn fold_part<'w>(spec: &ResNet, weights: &'w impl Weights, part: Part) -> Result<Net<'w>, Error> {
    let tensors = |layer: Layer<'_>| -> Result<Tensors<'w>, Error> {
        Ok(Tensors::F32(match layer {
            Layer::Conv(conv) => fold_conv(conv, weights)?,
            Layer::Classifier(head) => {
                let [weight, bias] = head.tensors();
                let oihw = tensor(weights, weight.name, weight.elements())?;
                let bias = vector(weights, bias.name, bias.elements())?;
                FoldedConv { oihw, scale: Vec::new(), bias }
            }
        }))
    };
    walk(spec, part, tensors)
}

/// A layer that has tensors.
enum Layer<'s> {
    Conv(&'s ConvSpec),
    Classifier(&'s HeadSpec),
}

/// Walks over the layers of `part`; `tensors` gives those of each convolution.
fn walk<'w>(
    spec: &ResNet,
    part: Part,
    mut tensors: impl FnMut(Layer<'_>) -> Result<Tensors<'w>, Error>,
) -> Result<Net<'w>, Error> {
    let stages = spec.stages().len();
    if part.skip >= stages || part.until.is_some_and(|last| last <= part.skip || last > stages) {
        return Err(Error::InvalidNetwork { reason: "a part must hold at least one of the network's stages" });
    }
    let of_stage = spec.stages().iter().enumerate().flat_map(|(s, &n)| core::iter::repeat_n(s + 1, usize::from(n)));
    let blocks = || of_stage.clone().zip(spec.blocks()).filter(|(stage, _)| *stage > part.skip);
    let input = match blocks().next() {
        Some((_, block)) if part.skip > 0 => block.input(),
        _ => spec.input(),
    };
    let mut net = Builder::of(spec.to_string(), Value::f32(input));
    let mut x = ValueId::INPUT;
    let mut conv = |net: &mut Builder<'w>, conv: &ConvSpec, input, shortcut, relu| -> Result<ValueId, Error> {
        let kind = OpKind::Conv { geom: conv.geom, shortcut, relu };
        Ok(net.push(conv.name, input, kind, None, tensors(Layer::Conv(conv))?))
    };
    if part.skip == 0 {
        let stem = spec.stem();
        x = conv(&mut net, &stem.conv, x, None, true)?;
        if let Some(pool) = stem.pool {
            x = net.max_pool_of("maxpool", x, pool)?;
        }
    }
    for (_, block) in blocks().filter(|(stage, _)| part.until.is_none_or(|last| *stage <= last)) {
        x = add_block(&mut net, &block, x, &mut conv)?;
    }
    if part.until.is_none() {
        let head = spec.head();
        x = net.average_pool("avgpool", x)?;
        let input = Shape::new(1, 1, head.input.c);
        let geom = ConvGeom { input, c_out: head.classes, kernel: 1, stride: 1, pad: 0 };
        let kind = OpKind::Conv { geom, shortcut: None, relu: false };
        x = net.push(head.name, x, kind, None, tensors(Layer::Classifier(&head))?);
    }
    net.finish(&[x])
}

/// Adds a block that reads `x`, by calls of `conv(net, layer, input, shortcut, relu)`.
fn add_block<'w>(
    net: &mut Builder<'w>,
    block: &BlockSpec,
    mut x: ValueId,
    conv: &mut impl FnMut(&mut Builder<'w>, &ConvSpec, ValueId, Option<ValueId>, bool) -> Result<ValueId, Error>,
) -> Result<ValueId, Error> {
    let shortcut = match &block.shortcut {
        ShortcutSpec::None => None,
        ShortcutSpec::Identity => Some(x),
        ShortcutSpec::Project(project) => Some(conv(net, project, x, None, false)?),
        &ShortcutSpec::Pad { stride, before, after } => {
            Some(net.subsample(block.name.dot("shortcut"), x, stride, [before, after])?)
        }
    };
    let (last, inner) = block.convs().split_last().ok_or(Error::InvalidNetwork { reason: "an empty block" })?;
    for spec in inner {
        x = conv(net, spec, x, None, true)?;
    }
    conv(net, last, x, shortcut, true)
}

fn fold_conv<'w>(conv: &ConvSpec, weights: &'w impl Weights) -> Result<FoldedConv<'w>, Error> {
    let [weight, gamma, beta, mean, var] = conv.tensors();
    let oihw = tensor(weights, weight.name, weight.elements())?;
    let bias = conv.name.dot("bias");
    if weights.tensor(&gamma.name).is_none() && weights.tensor(&bias).is_some() {
        let bias = vector(weights, bias, conv.geom.c_out)?;
        return Ok(FoldedConv { oihw, scale: Vec::new(), bias });
    }
    let get = |t: super::TensorSpec| vector(weights, t.name, t.elements());
    let (gamma, beta, mean, var_name, var) = (get(gamma)?, get(beta)?, get(mean)?, var.name, get(var)?);
    let (mut scale, mut bias) = (Vec::with_capacity(var.len()), Vec::with_capacity(var.len()));
    for i in 0..var.len() {
        let rstd = 1.0 / sqrt(f64::from(var[i]) + BN_EPSILON);
        let s = f64::from(gamma[i]) * rstd;
        let b = f64::from(beta[i]) - f64::from(mean[i]) * s;
        if !(s as f32).is_finite() || !(b as f32).is_finite() {
            return Err(Error::NotFinite(var_name));
        }
        scale.push(s as f32);
        bias.push(b as f32);
    }
    Ok(FoldedConv { oihw, scale, bias })
}

fn tensor(weights: &impl Weights, name: Name, need: usize) -> Result<Elements<'_>, Error> {
    let tensor = weights.tensor(&name).ok_or(Error::MissingTensor(name))?;
    if tensor.data.len() != need {
        return Err(Error::TensorLength { name, need, got: tensor.data.len() });
    }
    Ok(tensor.data)
}

/// A tensor of batch norm or a bias, read at once.
fn vector(weights: &impl Weights, name: Name, need: usize) -> Result<Vec<f32>, Error> {
    Ok(tensor(weights, name, need)?.to_vec()?)
}

/// Square root without the standard library: Newton's iteration from an estimate by the exponent.
pub(crate) fn sqrt(x: f64) -> f64 {
    if !(x > 0.0 && x.is_finite()) {
        return f64::NAN;
    }
    let mut y = f64::from_bits((x.to_bits() >> 1) + (1023 << 51));
    // The estimate is within 6%; every step squares the relative error.
    for _ in 0..5 {
        y = 0.5 * (y + x / y);
    }
    y
}

#[cfg(test)]
mod tests {
    #[test]
    fn sqrt_is_the_standard_librarys_to_an_ulp() {
        for i in 0..10_000 {
            let x = f64::from(i) * 0.37 + 1e-5;
            let (got, want) = (super::sqrt(x), x.sqrt());
            assert!((got - want).abs() <= want * f64::EPSILON, "{x}: {got} for {want}");
        }
        assert!(super::sqrt(-1.0).is_nan() && super::sqrt(0.0).is_nan());
    }
}
