//! Folding batch norm into the convolution before it, and a specification into a list of ops.
//!
//! Inference-time batch norm is affine per channel (Ioffe & Szegedy 2015, section 3.1), so
//!
//! ```text
//! gamma * (conv(x, w) - mean) / sqrt(var + eps) + beta  =  conv(x, scale * w) + bias
//! scale = gamma / sqrt(var + eps)      bias = beta - mean * scale
//! ```

use alloc::vec::Vec;

use super::{ConvSpec, ResNet, ShortcutSpec};
use crate::{
    Error, Name,
    geom::{ConvGeom, Shape},
    graph::{FoldedConv, Net, OpKind, Source, ValueId},
    weights::Weights,
};

/// Batch norm's epsilon, PyTorch's default.
pub const BN_EPSILON: f64 = 1e-5;

/// Builds the list of ops of `spec` with `weights`, batch norm folded into the convolutions.
///
/// Weights that were folded before (a convolution with a bias and no batch norm) are taken as they
/// are.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::TensorLength`], [`Error::NotFinite`], naming the first tensor
/// that does not fit.
pub fn fold_batch_norm<'w>(spec: &ResNet, weights: &'w impl Weights) -> Result<Net<'w>, Error> {
    let mut net = Net { source: Source(Some(weights)), ..Net::new(*spec) };
    let conv = |net: &mut Net<'w>, conv: &ConvSpec, input, shortcut, relu| -> Result<ValueId, Error> {
        let folded = fold_conv(conv, weights)?;
        Ok(net.push(conv.name, input, OpKind::Conv { geom: conv.geom, weights: folded, shortcut, relu }))
    };

    let stem = spec.stem();
    let mut x = conv(&mut net, &stem.conv, ValueId::INPUT, None, true)?;
    if let Some(pool) = stem.pool {
        x = net.push(Name::new("maxpool"), x, OpKind::MaxPool(pool));
    }
    for block in spec.blocks() {
        let shortcut = match &block.shortcut {
            ShortcutSpec::None => None,
            ShortcutSpec::Identity => Some(x),
            ShortcutSpec::Project(project) => Some(conv(&mut net, project, x, None, false)?),
            &ShortcutSpec::Pad { stride, before, after } => {
                let kind = OpKind::Subsample { input: block.input(), stride, before, after };
                Some(net.push(block.name.dot("shortcut"), x, kind))
            }
        };
        let (last, inner) = block.convs().split_last().ok_or(Error::InvalidNetwork { reason: "an empty block" })?;
        for spec in inner {
            x = conv(&mut net, spec, x, None, true)?;
        }
        x = conv(&mut net, last, x, shortcut, true)?;
    }

    let head = spec.head();
    x = net.push(Name::new("avgpool"), x, OpKind::AveragePool(head.input));
    let geom = ConvGeom { input: Shape::new(1, 1, head.input.c), c_out: head.classes, kernel: 1, stride: 1, pad: 0 };
    let [weight, bias] = head.tensors();
    let oihw = tensor(weights, weight.name, weight.elements())?;
    let bias = tensor(weights, bias.name, bias.elements())?.to_vec();
    let weights = FoldedConv { oihw, scale: Vec::new(), bias };
    net.push(head.name, x, OpKind::Conv { geom, weights, shortcut: None, relu: false });
    Ok(net)
}

fn fold_conv<'w>(conv: &ConvSpec, weights: &'w impl Weights) -> Result<FoldedConv<'w>, Error> {
    let [weight, gamma, beta, mean, var] = conv.tensors();
    let oihw = tensor(weights, weight.name, weight.elements())?;
    let bias = conv.name.dot("bias");
    if weights.tensor(&gamma.name).is_none() && weights.tensor(&bias).is_some() {
        let bias = tensor(weights, bias, conv.geom.c_out)?.to_vec();
        return Ok(FoldedConv { oihw, scale: Vec::new(), bias });
    }
    let get = |t: super::TensorSpec| tensor(weights, t.name, t.elements());
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

fn tensor(weights: &impl Weights, name: Name, need: usize) -> Result<&[f32], Error> {
    let tensor = weights.tensor(&name).ok_or(Error::MissingTensor(name))?;
    if tensor.data.len() != need {
        return Err(Error::TensorLength { name, need, got: tensor.data.len() });
    }
    Ok(tensor.data)
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
