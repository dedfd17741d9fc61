//! Tests of the import, and the writers of small files they share.

mod changing;
mod fit;
mod formats;
mod hostile;

use std::{
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use residual_core::weights::Weights;
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{ImportError, WeightFile};

/// A file made by PyTorch, see `tests/fixtures/make.py`.
fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixture_path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Real weights, which are not part of the repository.
fn shared(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("RESIDUAL_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = folder.join("data/weights").join(name);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

fn read(bytes: &[u8]) -> Result<WeightFile, ImportError> {
    WeightFile::from_bytes("test.bin", bytes.to_vec())
}

/// The one-line message of the error that reading `bytes` must give.
#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    match read(bytes) {
        Ok(file) => panic!("accepted with {:?}", file.names().collect::<Vec<_>>()),
        Err(e) => {
            let text = e.to_string();
            assert!(!text.contains('\n') && text.len() < 400 && text.contains("test.bin"), "{text}");
            text
        }
    }
}

#[track_caller]
fn tensor(file: &WeightFile, name: &str) -> (Vec<usize>, Vec<f32>) {
    let t = file.tensor(name).unwrap_or_else(|| panic!("no {name} among {:?}", file.names().collect::<Vec<_>>()));
    (t.shape.to_vec(), t.data.to_vec().unwrap())
}

/// A safetensors file from its JSON header and data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// A zip archive of stored entries in the folder `archive`.
fn zip(entries: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A `torch.save` archive of a pickle and the storage `0`.
fn torch_zip(pickle: &Asm, storage: &[u8]) -> Vec<u8> {
    zip(&[("data.pkl", &pickle.0), ("data/0", storage)], stored())
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)
}

/// A pickle in the making.
#[derive(Clone)]
struct Asm(Vec<u8>);

impl Asm {
    fn new() -> Self {
        Asm(b"\x80\x02".to_vec())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn str(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    fn int(self, value: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&value.to_le_bytes())
    }

    fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.raw(b"("), |asm, &v| asm.int(v)).raw(b"t")
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.raw(b"c").raw(module.as_bytes()).raw(b"\n").raw(name.as_bytes()).raw(b"\n")
    }

    /// A storage of `len` elements by its persistent id.
    fn storage(self, class: &str, key: &str, len: i64) -> Self {
        self.raw(b"(").str("storage").global("torch", class).str(key).str("cpu").int(len).raw(b"tQ")
    }

    /// A tensor on storage `0`.
    fn tensor(self, class: &str, len: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .storage(class, "0", len)
            .int(offset)
            .ints(shape)
            .ints(strides)
            .raw(b"\x89NtR")
    }

    /// `{name: tensor}` of f32, the whole pickle.
    fn dict(name: &str, len: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        Asm::new().raw(b"}").str(name).tensor("FloatStorage", len, offset, shape, strides).raw(b"s.")
    }
}
