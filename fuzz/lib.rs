//! What the fuzz targets have in common.

use std::{alloc::System, path::PathBuf};

use residual_core::{
    Isa,
    memory::Buffer,
    plan::Options,
    quant::reference,
    resnet::ResNet,
    rsd::{AlignedBytes, View},
    session::Session,
};
use residual_edge::{Engine, Fast, Mode, Small, arena_bytes};
use residual_io::weights::{WeightFile, check, spec_from};
use residual_train::trainer::{Config, Resources};

/// No input of at most 64 KiB may need more: asking for it ends the run as a finding.
#[global_allocator]
static ALLOCATOR: cap::Cap<System> = cap::Cap::new(System, 64 << 20);

/// Reads a file and everything a caller could read from it.
pub fn import(bytes: &[u8]) {
    let Ok(file) = WeightFile::from_bytes("fuzz", bytes.to_vec()) else { return };
    assert_eq!(file.tensors().count(), file.names().len());
    let mut room = Buffer::new(0);
    for (name, tensor) in file.tensors() {
        assert_eq!(tensor.shape.iter().product::<usize>(), tensor.data.len(), "{name}");
        // The file is in memory, whose tensors can always be read.
        assert_eq!(tensor.data.read(&mut room).unwrap().len(), tensor.data.len(), "{name}");
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

/// Runs a model whose work is small on `input`, which is continued where it is short: every fast kernel and the
/// microcontroller's engines must equal the definition.
pub fn execute(view: &View<'_>, model: &[u8], input: &[u8]) {
    let elements = |i: usize| view.value(i).map_or(usize::MAX, |v| v.shape.elements());
    let macs = (0..view.ops()).map(|i| view.op(i).map_or(0, |op| op.macs())).fold(0u64, u64::saturating_add);
    if macs > 1 << 22 || view.arena_bytes() > 1 << 20 || (0..=view.ops()).any(|i| elements(i) > 1 << 20) {
        return;
    }
    let given = input.iter().map(|&byte| byte as i8);
    let input: Vec<i8> = given.chain((input.len()..).map(|i| (i * 89) as i8)).take(elements(0)).collect();
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
    on_host(view, &input, &values);
    on_chip::<Fast>(model, &input, &values[view.ops()]);
    on_chip::<Small>(model, &input, &values[view.ops()]);
}

fn on_host(view: &View<'_>, input: &[i8], values: &[Vec<i8>]) {
    let Ok(net) = view.net() else { return };
    let options = Options { isa: Isa::best(), ..Options::default() };
    let Ok(mut session) = Session::new(&net, &options) else { return };
    let mut ops = 0;
    let check = |step: &residual_core::plan::Step, y: &[i8]| {
        // A shortcut brought to another shape is a step, but no op of the model.
        if step.kernel_name().as_str() != "subsample" {
            ops += 1;
            assert!(y == values[ops], "op {} differs", ops - 1);
        }
    };
    session.run_with(input, check).unwrap();
}

fn on_chip<M: Mode>(model: &[u8], input: &[i8], output: &[i8]) {
    // More than any microcontroller has is not a finding.
    let Some(bytes) = arena_bytes::<M>(model).ok().filter(|bytes| *bytes <= 16 << 20) else { return };
    let mut arena = AlignedBytes::zeroed(bytes);
    let mut engine = Engine::<M>::new(model, &mut arena).unwrap();
    engine.input_mut().copy_from_slice(input);
    assert!(engine.run().unwrap().values == output, "the engine differs");
}

/// Makes a model's length and checksum right, so that what lies behind their checks is reached.
pub fn mend(model: &mut AlignedBytes) {
    if model.len() >= 32 {
        let (len, checksum) = (model.len() as u32, checksum(&model[20..]));
        model[12..16].copy_from_slice(&len.to_le_bytes());
        model[16..20].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// A folder of this process.
pub fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("residual-fuzz-{}-{name}", std::process::id()))
}

/// A run that takes no time.
pub fn small_run() -> Config {
    let arch: ResNet = "resnet8-cifar-w1".parse().expect("a network's name");
    Config { input: residual_train::data::Size::square(8), batch_size: 4, ..Config::paper(&arch, 2) }
}

/// One thread for everything.
pub fn resources() -> Resources {
    Resources { threads: 1, workers: 1, isa: Isa::PORTABLE }
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
