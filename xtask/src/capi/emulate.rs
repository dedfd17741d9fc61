//! The C firmware on emulated boards, beside the Rust one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use residual_core::{
    resnet::ResNet,
    rsd::{AlignedBytes, View, synthetic},
};

use super::{firmware, isolate, succeed, workspace};
use crate::mcu::{self, board::Board, elf, host};

const PICTURES: usize = 20;

/// A model and pictures in files, and the outputs the definition gives.
pub struct Work {
    folder: PathBuf,
    plugin: PathBuf,
    outputs: Vec<Vec<i8>>,
}

impl Work {
    /// An untrained ResNet-20; its work does not depend on weights.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let net: ResNet = "resnet20-cifar".parse()?;
        let model: AlignedBytes = synthetic(&net, 1)?;
        let view = View::new_checked(&model)?;
        let pictures = host::pictures(PICTURES * net.input().elements());
        fs::write(folder.join("model.rsd"), &*model)?;
        fs::write(folder.join("pictures.bin"), bytemuck::cast_slice::<i8, u8>(&pictures))?;
        let outputs = pictures.chunks_exact(net.input().elements()).map(|p| host::definition(&view, p));
        let (outputs, plugin) = (outputs.collect::<Result<_>>()?, mcu::build_plugin(folder)?);
        Ok(Work { folder: folder.into(), plugin, outputs })
    }

    /// Builds and runs the C firmware and the Rust one for `core`; says how they compare.
    pub fn compare(&self, prefix: &Path, core: &Board) -> Result<String> {
        let archive = prefix.join(format!("lib/cortex-{}/libresidual.a", core.name));
        isolate::check(&archive, firmware::CROSS)?;

        let build = self.folder.join(format!("c-{}", core.name));
        let (model, pictures) = (self.folder.join("model.rsd"), self.folder.join("pictures.bin"));
        let path = |name: &str, path: &Path| format!("{name}={}", path.display());
        let mut make = Command::new("make");
        make.current_dir(workspace().join("examples/c/firmware")).arg(format!("CORE={}", core.name));
        make.args([path("PREFIX", prefix), path("MODEL", &model), path("PICTURES", &pictures), path("BUILD", &build)]);
        succeed(&mut make)?;
        let rust_dir = self.folder.join(format!("rust-{}", core.name));
        let rust = mcu::build_firmware(core, &[], &rust_dir, &model, &pictures)?;
        let c = build.join("firmware.elf");

        let (c_text, c_instructions) = self.run(core, &c, "c")?;
        let (_, rust_instructions) = self.run(core, &rust, "rust")?;
        let outputs: Vec<&str> = c_text.lines().filter_map(|line| line.strip_prefix("output ")).collect();
        ensure!(outputs.len() == PICTURES, "{} outputs of the C firmware:\n{c_text}", outputs.len());
        let hex = |output: &Vec<i8>| output.iter().map(|v| format!("{:02x}", *v as u8)).collect::<String>();
        let wrong = outputs.iter().zip(&self.outputs).filter(|(got, want)| **got != hex(want)).count();
        ensure!(wrong == 0, "{wrong} of {PICTURES} outputs of the C firmware differ from the definition");
        let classes = c_text.lines().filter(|line| line.starts_with("class ")).count();
        ensure!(classes == PICTURES, "{classes} classes of the C firmware:\n{c_text}");

        let (c_size, rust_size) = (elf::size(&c)?, elf::size(&rust)?);
        for (firmware, size) in [("C", &c_size), ("Rust", &rust_size)] {
            ensure!(size.panics.is_empty(), "the {firmware} firmware can panic: {:?}", size.panics);
        }
        let ratio = c_instructions as f64 / rust_instructions as f64;
        let summary = format!(
            "{PICTURES} outputs equal; {c_instructions} instructions, Rust firmware {rust_instructions} \
             ({:+.3}%); code {} bytes, Rust firmware {}",
            100.0 * (ratio - 1.0),
            c_size.code,
            rust_size.code
        );
        ensure!((0.99..=1.01).contains(&ratio), "{summary}");
        Ok(summary)
    }

    /// What a firmware prints, and the most instructions of an inference.
    fn run(&self, core: &Board, elf: &Path, name: &str) -> Result<(String, u64)> {
        let counts = self.folder.join(format!("{name}-{}.counts", core.name));
        let plugin = format!("{},out={}", self.plugin.display(), counts.display());
        let mut qemu = Command::new("timeout");
        qemu.args(["900", "qemu-system-arm", "-M", core.machine, "-display", "none", "-monitor", "none"]);
        qemu.args(["-serial", "stdio", "-semihosting-config", "enable=on,target=native"]);
        let text = succeed(qemu.args(["-plugin", &plugin, "-kernel"]).arg(elf))?;
        if let Some(line) = text.lines().find(|line| line.starts_with("error") || line.starts_with("panic")) {
            bail!("{}: the firmware says `{line}`", core.machine);
        }
        // Markers come in pairs around each inference.
        let laps = fs::read_to_string(&counts)?.lines().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let most = laps.chunks_exact(2).map(|lap| lap[1]).max().context("no instruction counts")?;
        Ok((text.replace('\r', ""), most))
    }
}
