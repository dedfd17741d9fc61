//! `cargo xtask firmware`: the applications of `examples/firmware`, built for every board as someone builds them who has
//! one; `--run` speaks to those that QEMU emulates over their serial lines.

mod application;
mod line;
mod session;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use residual::{Given, QuantizedModel};
use residual_core::{
    resnet::ResNet,
    rsd::{AlignedBytes, View, synthetic},
};

use crate::mcu::{elf, workspace};
use application::{APPLICATIONS, Target, parse};

/// Arguments of `cargo xtask firmware`.
#[derive(Args)]
pub struct FirmwareArgs {
    /// The model (.rsd, .tflite); an untrained one of `--arch` if absent
    #[arg(long)]
    net: Option<PathBuf>,
    /// Architecture of the untrained model
    #[arg(long, default_value = "resnet20-cifar", conflicts_with = "net")]
    arch: ResNet,
    /// Boards; all if absent
    #[arg(long, value_parser = parse)]
    board: Vec<&'static Target>,
    /// Run the applications where QEMU has the board, and compare what they answer with the host
    #[arg(long)]
    run: bool,
    /// Random pictures to run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=200))]
    pictures: u32,
}

/// Runs the command.
pub fn run(args: &FirmwareArgs) -> Result<()> {
    let (label, model) = match &args.net {
        Some(path) => {
            let model = QuantizedModel::open(path, &Given::default())?;
            (path.display().to_string(), AlignedBytes::from(model.bytes()))
        }
        None => (format!("untrained {}", args.arch), synthetic(&args.arch, 1)?),
    };
    let boards: Vec<&Target> = if args.board.is_empty() { APPLICATIONS.iter().collect() } else { args.board.clone() };
    println!("{label}, {} bytes", model.len());
    check(&boards, &model, args.run.then_some(args.pictures), |line| println!("{line}"))
}

/// What `cargo xtask test` does of it: the applications with an untrained network on an emulated Cortex-M4.
pub fn quick() -> Result<String> {
    let mut said = Vec::new();
    let board = parse("mps2-m4").map_err(anyhow::Error::msg)?;
    let model = synthetic(&"resnet8-cifar".parse()?, 1)?;
    check(&[board], &model, Some(2), |line| said.push(line))?;
    Ok(said.join("; "))
}

/// Builds both applications for every board, and runs them with some pictures.
fn check(boards: &[&Target], model: &[u8], pictures: Option<u32>, mut say: impl FnMut(String)) -> Result<()> {
    let work = workspace().join("target/mcu");
    fs::create_dir_all(&work)?;
    let file = work.join("application.rsd");
    fs::write(&file, model)?;
    let view = View::new_checked(model)?;
    for board in boards {
        let folder = application::build(board, &file)?;
        for name in ["classify", "mlperf"] {
            let elf = folder.join(name);
            let size = elf::size(&elf)?;
            let code = size.code.saturating_sub(model.len() as u64);
            let mut line =
                format!("{} {name}: {code} bytes of flash beside the model, {} of RAM", board.name, size.ram);
            if let (Some(pictures), Some(machine)) = (pictures, board.machine) {
                let ran = session::run(name, machine, &elf, view, pictures);
                line += &format!(", {}", ran.with_context(|| format!("{name} on {machine}"))?);
            }
            say(line);
        }
    }
    Ok(())
}
