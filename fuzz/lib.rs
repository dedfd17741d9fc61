//! What the fuzz targets of the weights import have in common.

use std::alloc::System;

use residual_train::import::{WeightFile, check, spec_from};

/// No input of at most 64 KiB may need more: asking for it ends the run as a finding.
#[global_allocator]
static ALLOCATOR: cap::Cap<System> = cap::Cap::new(System, 64 << 20);

/// Reads a file and everything a caller could read from it.
pub fn import(bytes: &[u8]) {
    let Ok(file) = WeightFile::from_bytes("fuzz", bytes.to_vec()) else { return };
    assert_eq!(file.tensors().count(), file.names().len());
    for (name, tensor) in file.tensors() {
        assert_eq!(tensor.shape.iter().product::<usize>(), tensor.data.len(), "{name}");
        assert_eq!(file.shape(name), Some(tensor.shape));
    }
    if let Err(error) = file.class_names() {
        assert!(!error.to_string().contains('\n'));
    }
    for arch in [None, Some("resnet8-cifar")] {
        let result = spec_from(&file, arch).and_then(|spec| check(&spec, &file));
        if let Err(error) = result {
            assert!(!error.to_string().contains('\n'));
        }
    }
}
