//! The safetensors format: 8 bytes of header length, a JSON header, then the tensors.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use residual_core::weights::Tensor;
use safetensors::tensor::{Dtype as Stored, Metadata};
use serde_json::{Map, Value, json};

use super::{
    ImportError, checksum,
    error::{Fault, clean},
    store::{Collector, Dtype, View},
};

/// Reads the header and checks it against the length of the file; returns the metadata.
pub(super) fn read(bytes: &[u8], out: &mut Collector<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let header = header(bytes).ok_or_else(|| Fault::format("its header is longer than the file"))?;
    // Not `SafeTensors::deserialize`: its sum of lengths overflows on hostile headers.
    let parsed: Metadata = serde_json::from_slice(header).map_err(|e| Fault::format(clean(&e.to_string())))?;
    let start = 8 + header.len();
    let held = bytes.len() - start;
    if parsed.data_len() != held {
        return Err(Fault::format(format!("its tensors take {} bytes, the file holds {held}", parsed.data_len())));
    }
    for (name, info) in parsed.tensors().into_iter().collect::<BTreeMap<_, _>>() {
        let (from, to) = info.data_offsets;
        let view = View {
            dtype: dtype(info.dtype),
            storage: start + from..start + to,
            offset: 0,
            shape: &info.shape,
            strides: None,
        };
        out.add(&name, &view)?;
    }
    Ok(parsed.metadata().clone().unwrap_or_default().into_iter().collect())
}

/// The JSON text, if the file begins like a safetensors file.
pub(super) fn header(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let header = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    header.starts_with(b"{").then_some(header)
}

fn dtype(stored: Stored) -> Dtype {
    match stored {
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::Bf16,
        Stored::F64 => Dtype::F64,
        Stored::BOOL => Dtype::Other("bool", 1),
        Stored::U8 => Dtype::Other("u8", 1),
        Stored::I8 => Dtype::Other("i8", 1),
        Stored::U16 => Dtype::Other("u16", 2),
        Stored::I16 => Dtype::Other("i16", 2),
        Stored::U32 => Dtype::Other("u32", 4),
        Stored::I32 => Dtype::Other("i32", 4),
        Stored::U64 => Dtype::Other("u64", 8),
        Stored::I64 => Dtype::Other("i64", 8),
        Stored::C64 => Dtype::Other("complex", 8),
        _ => Dtype::Other("of less than 16 bits", 1),
    }
}

/// Writes tensors as a safetensors file, atomically.
///
/// The bytes depend only on the tensors and the metadata: both are sorted by name. A checksum of the file is added to
/// the metadata, and compared when it is read. The header is padded so
/// that every tensor is aligned to 8 bytes in the file, hence borrowed when mapped.
///
/// # Errors
/// A shape that disagrees with its data, a name given twice or reserved, or a failure to write.
pub fn save<'t>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'t str, Tensor<'t>)>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), ImportError> {
    let path = path.as_ref();
    let file = || path.display().to_string();
    let refuse = |tensor: &str, reason: String| ImportError::Tensor { file: file(), tensor: clean(tensor), reason };
    let mut sorted = BTreeMap::new();
    for (name, tensor) in tensors {
        let elements = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if elements != Some(tensor.data.len()) {
            let reason = format!("has shape {:?} but {} elements", tensor.shape, tensor.data.len());
            return Err(refuse(name, reason));
        }
        if name == "__metadata__" {
            return Err(refuse(name, "has a reserved name".into()));
        }
        if sorted.insert(name, tensor).is_some() {
            return Err(refuse(name, "is given twice".into()));
        }
    }

    let mut header = Map::new();
    let mut metadata = metadata.clone();
    checksum::announce(&mut metadata);
    header.insert("__metadata__".into(), json!(metadata));
    let mut end = 0;
    for (&name, tensor) in &sorted {
        let start = end;
        end += size_of_val(tensor.data);
        header.insert(name.into(), json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] }));
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));

    let mut block = Vec::with_capacity(1 << 16);
    let mut blocks = |take: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
        for part in sorted.values().flat_map(|tensor| tensor.data.chunks(1 << 14)) {
            block.clear();
            block.extend(part.iter().flat_map(|v| v.to_le_bytes()));
            take(&block)?;
        }
        Ok(())
    };
    checksum::seal(&mut header, |take| {
        // Nothing is written here, so nothing fails.
        let _ = blocks(&mut |block| {
            take(block);
            Ok(())
        });
    });
    crate::write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        blocks(&mut |block| out.write_all(block))
    })
    .map_err(|source| ImportError::Io { file: file(), source })
}
