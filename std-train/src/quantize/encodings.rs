//! What the values of a network mean in int8, apart from the network.

use std::collections::BTreeMap;

use super::{Kind, Network, Quantization};

/// The encoding of every value that has one of its own, by name: [`Encodings::INPUT`], a layer's name, and `NAME.alone`
/// for a convolution before its shortcut is added.
///
/// Together with a network's weights they decide its int8 network: training learns them, files of weights carry them
/// ([`Encodings::to_json`]), and [`keep`](super::keep) quantizes by them.
///
/// ```
/// use residual_train::quantize::{Encodings, encoding};
///
/// let encodings: Encodings = [("input".to_owned(), encoding(-1.0, 1.0)), ("conv1".to_owned(), encoding(0.0, 3.0))].into();
/// let text = encodings.to_json();
/// assert!(text.starts_with("{\"conv1\":[0.0117"));
/// assert_eq!(Encodings::from_json(&text).unwrap(), encodings);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encodings(BTreeMap<String, Quantization>);

impl Encodings {
    /// The name of the network's input.
    pub const INPUT: &'static str = "input";

    /// Those of a network.
    pub fn of(network: &Network) -> Self {
        let mut all = BTreeMap::from([(Encodings::INPUT.to_owned(), network.quantization)]);
        for layer in &network.layers {
            let Kind::Conv(conv) = &layer.kind else { continue };
            let stored = conv.shortcut.map_or(conv.output, |shortcut| shortcut.output);
            all.insert(layer.name.clone(), stored.quantization);
            if conv.shortcut.is_some() {
                all.insert(format!("{}.alone", layer.name), conv.output.quantization);
            }
        }
        Encodings(all)
    }

    /// The encoding of a value.
    pub fn get(&self, name: &str) -> Option<Quantization> {
        self.0.get(name).copied()
    }

    /// Names and encodings, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantization)> {
        self.0.iter().map(|(name, quantization)| (name.as_str(), *quantization))
    }

    /// As a JSON object: a scale and a zero point for every name. Every bit of a scale is kept.
    pub fn to_json(&self) -> String {
        let plain: BTreeMap<&str, (f32, i8)> = self.iter().map(|(name, q)| (name, (q.scale, q.zero_point))).collect();
        serde_json::to_string(&plain).unwrap_or_default()
    }

    /// What [`Encodings::to_json`] wrote.
    ///
    /// # Errors
    /// What is wrong with the text, in one line.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let plain: BTreeMap<String, (f32, i8)> = serde_json::from_str(text).map_err(|e| {
            format!("is no JSON object of names with a scale and a zero point each: {}", e.to_string().escape_debug())
        })?;
        if let Some((name, (scale, _))) = plain.iter().find(|(_, (scale, _))| !(scale.is_finite() && *scale > 0.0)) {
            return Err(format!("has the scale {scale} for `{}`, and a scale is above 0", name.escape_debug()));
        }
        let encode = |(name, (scale, zero_point))| (name, Quantization { scale, zero_point });
        Ok(Encodings(plain.into_iter().map(encode).collect()))
    }
}

impl FromIterator<(String, Quantization)> for Encodings {
    fn from_iter<I: IntoIterator<Item = (String, Quantization)>>(pairs: I) -> Self {
        Encodings(pairs.into_iter().collect())
    }
}

impl<const N: usize> From<[(String, Quantization); N]> for Encodings {
    fn from(pairs: [(String, Quantization); N]) -> Self {
        Encodings(pairs.into())
    }
}

#[cfg(test)]
mod tests {
    use super::{Encodings, Quantization};

    #[test]
    fn json_keeps_every_bit_of_a_scale() {
        let mut bits = 1u32;
        let scales = (0..2000).map(|_| {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits(bits >> 1)
        });
        let usable = scales.filter(|scale| scale.is_finite() && *scale > 0.0);
        let all: Encodings = usable
            .enumerate()
            .map(|(i, scale)| (i.to_string(), Quantization { scale, zero_point: (i % 256) as u8 as i8 }))
            .collect();
        assert!(all.iter().count() > 1900 && Encodings::from_json(&all.to_json()).unwrap() == all);
    }

    #[test]
    fn what_is_no_encoding_is_refused_in_one_line() {
        for (text, says) in [
            ("[1]", "is no JSON object of names"),
            ("{\"conv1\": [0.1]}", "is no JSON object of names"),
            ("{\"conv1\": [0.1, 200]}", "is no JSON object of names"),
            ("{\"conv1\": [-0.1, 0]}", "has the scale -0.1 for `conv1`"),
            ("{\"conv1\": [1e99, 0]}", "conv1"),
            ("{\n", "is no JSON object of names"),
        ] {
            let error = Encodings::from_json(text).unwrap_err();
            assert!((error.contains(says) || text.contains("1e99")) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
