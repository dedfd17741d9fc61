//! The JSON header of a safetensors file: where each tensor lies, and text about all.

use std::{collections::BTreeMap, ops::Range};

use serde_json::value::RawValue;

use super::{
    error::{Fault, clean},
    store::Dtype,
};

/// Entries of one object, by their names.
type Object<'h> = BTreeMap<String, &'h RawValue>;

pub(super) struct Header {
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Stored>,
}

/// A tensor; its bytes are counted from the end of the header.
pub(super) struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Range<usize>,
}

impl Header {
    /// Checks that the tensors lie one behind the other from the first byte on, each as long as its shape says.
    pub fn parse(json: &[u8]) -> Result<Self, Fault> {
        let refuse = |error: serde_json::Error| Fault::format(clean(&error.to_string()));
        let mut objects: BTreeMap<String, Object<'_>> = serde_json::from_slice(json).map_err(refuse)?;
        let text = |(key, value): (String, &RawValue)| Ok((key, serde_json::from_str(value.get()).map_err(refuse)?));
        let metadata = objects.remove("__metadata__").unwrap_or_default();
        let metadata = metadata.into_iter().map(text).collect::<Result<_, Fault>>()?;
        let stored = |(name, object): (String, Object<'_>)| match Stored::parse(&object) {
            Ok(stored) => Ok((name, stored)),
            Err(reason) => Err(Fault::tensor(&name, reason)),
        };
        let tensors = objects.into_iter().map(stored).collect::<Result<BTreeMap<_, _>, Fault>>()?;

        let mut order: Vec<_> = tensors.iter().collect();
        order.sort_by_key(|(_, stored)| (stored.bytes.start, stored.bytes.end));
        let mut end = 0;
        for (name, Stored { bytes, .. }) in order {
            if bytes.start != end {
                return Err(Fault::tensor(
                    name,
                    format!("begins at byte {}, the one before it ends at {end}", bytes.start),
                ));
            }
            end = bytes.end;
        }
        Ok(Header { metadata, tensors })
    }
}

impl Stored {
    fn parse(object: &Object<'_>) -> Result<Self, String> {
        let field = |key: &str| object.get(key).map(|raw| raw.get()).ok_or_else(|| format!("has no {key}"));
        let unfit =
            |key: &str, error: serde_json::Error| format!("has an unusable {key}: {}", clean(&error.to_string()));
        let text: String = serde_json::from_str(field("dtype")?).map_err(|e| unfit("dtype", e))?;
        let dtype = dtype(&text).ok_or_else(|| format!("has the unknown element type {}", clean(&text)))?;
        let shape: Vec<usize> = serde_json::from_str(field("shape")?).map_err(|e| unfit("shape", e))?;
        let (start, end) = serde_json::from_str(field("data_offsets")?).map_err(|e| unfit("data_offsets", e))?;
        let taken = shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
        if taken.is_none() || taken != usize::checked_sub(end, start) {
            let kind = clean(&text);
            return Err(format!("of shape {shape:?} and type {kind} does not take the bytes from {start} to {end}"));
        }
        Ok(Stored { dtype, shape, bytes: start..end })
    }
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        "F64" => Dtype::F64,
        "BOOL" => Dtype::Other("bool", 1),
        "U8" => Dtype::Other("u8", 1),
        "I8" => Dtype::Other("i8", 1),
        "U16" => Dtype::Other("u16", 2),
        "I16" => Dtype::Other("i16", 2),
        "U32" => Dtype::Other("u32", 4),
        "I32" => Dtype::Other("i32", 4),
        "U64" => Dtype::Other("u64", 8),
        "I64" => Dtype::Other("i64", 8),
        "C64" => Dtype::Other("complex", 8),
        "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => Dtype::Other("of less than 16 bits", 1),
        _ => return None,
    })
}
