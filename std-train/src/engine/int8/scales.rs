//! Encodings among the parameters: scales, which learn, and zero points, which do not.

use residual_core::{
    Name,
    resnet::{TensorSpec, fold_batch_norm},
};

use crate::{
    parameters::Parameters,
    quantize::{Encodings, Quantization, QuantizeError},
};

/// One element for each encoding, in the order of their names.
pub(super) const SCALES: &str = "int8.scales";
const ZERO_POINTS: &str = "int8.zero_points";

/// `parameters` and the encodings of their network's values, as two tensors behind the network's own. Optimiser, averages and
/// checkpoints treat them as they treat any other, but for weight decay.
///
/// # Errors
/// [`QuantizeError::NoEncoding`] for encodings of another network, [`QuantizeError::Network`] for parameters that are not
/// finite.
pub fn with_encodings(parameters: Parameters, encodings: &Encodings) -> Result<Parameters, QuantizeError> {
    let of = |name: String| match encodings.get(&name) {
        Some(q) => Ok((q.scale, f32::from(q.zero_point))),
        None => Err(QuantizeError::NoEncoding { value: name }),
    };
    let pairs = names(&parameters)?.into_iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let (scales, zeros): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
    let spec = |name, learned| TensorSpec::new(Name::new(name), &[scales.len()], learned);
    Ok(parameters.extended([(spec(SCALES, true), &scales[..]), (spec(ZERO_POINTS, false), &zeros[..])]))
}

/// `parameters` with room for the encodings that their network needs, until a file's take their place.
///
/// # Errors
/// [`QuantizeError::Network`] for parameters that are not finite.
pub fn with_room(parameters: Parameters) -> Result<Parameters, QuantizeError> {
    let blank = Quantization { scale: 1.0, zero_point: 0 };
    let encodings = names(&parameters)?.into_iter().map(|name| (name, blank)).collect();
    with_encodings(parameters, &encodings)
}

/// The names that the network of `parameters` needs encodings for, sorted.
pub(super) fn names(parameters: &Parameters) -> Result<Vec<String>, QuantizeError> {
    let net = fold_batch_norm(parameters.spec(), parameters)?;
    let mut names = crate::quantize::names(&net);
    names.sort_unstable();
    Ok(names)
}

/// The encodings that [`with_encodings`] put beside the parameters.
///
/// # Errors
/// [`QuantizeError::NoEncoding`] naming the first value without a usable one.
pub fn encodings(parameters: &Parameters) -> Result<Encodings, QuantizeError> {
    let of = |name| parameters.entry(name).map_or(&[][..], |entry| &parameters.values()[entry.range.clone()]);
    let (scales, zeros) = (of(SCALES), of(ZERO_POINTS));
    let pairs = names(parameters)?.into_iter().enumerate().map(|(i, name)| match (scales.get(i), zeros.get(i)) {
        (Some(&scale), Some(&zero)) if scale.is_finite() && scale > 0.0 => {
            Ok((name, Quantization { scale, zero_point: zero as i8 }))
        }
        _ => Err(QuantizeError::NoEncoding { value: name }),
    });
    pairs.collect()
}
