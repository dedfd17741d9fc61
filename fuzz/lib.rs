//! What the fuzz targets of the weights import have in common.

use std::alloc::System;

use residual_core::{Isa, plan::Options, quant::reference, rsd::View, session::Session};
use residual_io::weights::{WeightFile, check, spec_from};

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

/// Runs a model whose work is small: every fast kernel must equal the definition.
pub fn execute(view: &View<'_>) {
    let elements = |i: usize| view.value(i).map_or(usize::MAX, |v| v.shape.elements());
    let macs = (0..view.ops()).map(|i| view.op(i).map_or(0, |op| op.macs())).fold(0u64, u64::saturating_add);
    if macs > 1 << 22 || view.arena_bytes() > 1 << 20 || (0..=view.ops()).any(|i| elements(i) > 1 << 20) {
        return;
    }
    let Ok(net) = view.net() else { return };
    let options = Options { isa: Isa::best(), ..Options::default() };
    let Ok(mut session) = Session::new(&net, &options) else { return };
    let input: Vec<i8> = (0..elements(0)).map(|i| (i * 89) as i8).collect();
    let mut values = vec![input.clone()];
    for i in 0..view.ops() {
        let (Some(op), Some(source)) = (view.op(i), view.source(i)) else { return };
        let mut y = vec![0; op.output().elements()];
        let shortcut = view.shortcut(i).map_or(&[][..], |s| &values[s]);
        if reference::execute(&op, &values[source], shortcut, &mut y).is_err() {
            return;
        }
        values.push(y);
    }
    let mut ops = 0;
    let check = |step: &residual_core::plan::Step, y: &[i8]| {
        // A shortcut brought to another shape is a step, but no op of the model.
        if step.kernel_name().as_str() != "subsample" {
            ops += 1;
            assert!(y == values[ops], "op {} differs", ops - 1);
        }
    };
    session.run_with(&input, check).unwrap();
}

/// CRC-32 as in zip and PNG.
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !crc
}
