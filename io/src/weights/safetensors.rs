//! The safetensors format: 8 bytes of header length, a JSON header, then the tensors.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use residual_core::{memory::Buffer, weights::Tensor};
use serde_json::{Map, Value, json};

use super::{
    ImportError,
    error::{Fault, clean},
    header::{Header, Stored},
    keys,
    place::all_finite,
    source::Source,
    store::{Collector, View},
};

/// Longest header, in bytes. The 1202-layer network takes 0.7 MB, a mean picture of 448 x 448 pixels 7 MB; every tensor
/// of a longer one would cost memory and time before anything is known about it.
const MAX_HEADER: usize = 8 << 20;

/// Reads the header and checks it against the length of the file, and the file against its checksum if it has one;
/// returns the metadata, and whether there was a checksum.
pub(super) fn read(source: &Source, out: &mut Collector<'_>) -> Result<(BTreeMap<String, String>, bool), Fault> {
    let long = || Fault::format("its header is longer than the file");
    let mut length = [0; 8];
    source.read(0, &mut length)?;
    let len = usize::try_from(u64::from_le_bytes(length)).map_err(|_| long())?;
    let start = len.checked_add(8).filter(|start| *start <= source.len()).ok_or_else(long)?;
    if len > MAX_HEADER {
        return Err(Fault::format(format!("its header takes {len} bytes, a network's at most {MAX_HEADER}")));
    }
    let Header { mut metadata, tensors } = Header::parse(&source.part(8..start)?)?;
    let content = source.len() - start;
    let taken = tensors.values().map(|stored| stored.bytes.end).max().unwrap_or(0);
    if taken != content {
        return Err(Fault::format(format!("its tensors take {taken} bytes, the file holds {content}")));
    }
    let storage = |stored: &Stored| start + stored.bytes.start..start + stored.bytes.end;
    let mut finite = vec![false; tensors.len()];
    let stated = metadata.remove(keys::CHECKSUM);
    let verified = stated.is_some();
    if let Some(stated) = stated {
        let mut sum = Checksum::new(&metadata);
        for ((name, stored), finite) in tensors.iter().zip(&mut finite) {
            sum.add(name, &stored.shape);
            *finite = true;
            source.scan(storage(stored), |block| {
                sum.0.update(block);
                *finite &= all_finite(stored.dtype, block);
            })?;
        }
        let found = sum.finish();
        // A fuzzer cannot guess checksums.
        if !cfg!(fuzzing) && stated != found {
            return Err(Fault::format(format!(
                "its checksum is {found}, its metadata says {}: it was damaged or changed since it was written",
                clean(&stated)
            )));
        }
        out.keep_names();
    }
    for ((name, stored), finite) in tensors.iter().zip(finite) {
        let (dtype, shape) = (stored.dtype, &stored.shape);
        let view = View { dtype, storage: storage(stored), offset: 0, shape, strides: None, finite };
        out.add(name, &view)?;
    }
    Ok((metadata, verified))
}

/// CRC-32 over the metadata and the tensors, both in the order of their names: where in the file a writer puts them
/// does not matter.
struct Checksum(crc32fast::Hasher);

impl Checksum {
    fn new(metadata: &BTreeMap<String, String>) -> Self {
        let mut sum = Checksum(crc32fast::Hasher::new());
        for text in metadata.iter().filter(|(key, _)| *key != keys::CHECKSUM).flat_map(|(key, value)| [key, value]) {
            sum.text(text);
        }
        sum
    }

    /// A tensor; the bytes of its elements in order are to follow.
    fn add(&mut self, name: &str, shape: &[usize]) {
        self.text(name);
        self.text(&format!("{shape:?}"));
    }

    /// Its length keeps it apart from the text after it.
    fn text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    fn finish(self) -> String {
        format!("crc32:{:08x}", self.0.finalize())
    }
}

/// Writes tensors as a safetensors file, atomically.
///
/// The bytes depend only on the tensors and the metadata: both are sorted by name. The header is padded so
/// that every tensor is aligned to 8 bytes in the file, hence lent by a reader that has the file in memory.
///
/// Tensors that are not in memory are read when they are needed, twice, one at a time.
///
/// # Errors
/// A shape that disagrees with its data, a name given twice or reserved, or a failure to read or to write.
pub fn save<'t>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'t str, Tensor<'t>)>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), ImportError> {
    let path = path.as_ref();
    let file = || path.display().to_string();
    let failed = |source: io::Error| ImportError::Io { file: file(), source };
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

    let mut metadata = metadata.clone();
    let (mut sum, mut room) = (Checksum::new(&metadata), Buffer::new(0));
    for (name, tensor) in &sorted {
        sum.add(name, tensor.shape);
        let data = tensor.data.read(&mut room)?;
        blocks(data, |block| {
            sum.0.update(block);
            Ok(())
        })
        .map_err(failed)?;
    }
    metadata.insert(keys::CHECKSUM.into(), sum.finish());

    let mut header = Map::new();
    header.insert("__metadata__".into(), json!(metadata));
    let mut end = 0;
    for (&name, tensor) in &sorted {
        let start = end;
        end += tensor.data.len() * size_of::<f32>();
        header.insert(name.into(), json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] }));
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));

    if header.len() > MAX_HEADER {
        let reason = format!("names and metadata take {} bytes, more than {MAX_HEADER}", header.len());
        return Err(failed(io::Error::other(reason)));
    }

    crate::write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        sorted.values().try_for_each(|tensor| {
            let data = tensor.data.read(&mut room).map_err(io::Error::other)?;
            blocks(data, |block| out.write_all(block))
        })
    })
    .map_err(failed)
}

/// Calls `each` with the little-endian bytes of `data`, piece by piece.
fn blocks(data: &[f32], mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut block = Vec::with_capacity(1 << 16);
    data.chunks(1 << 14).try_for_each(|part| {
        block.clear();
        block.extend(part.iter().flat_map(|v| v.to_le_bytes()));
        each(&block)
    })
}
