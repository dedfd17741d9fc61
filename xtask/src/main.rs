//! Everything a maintainer runs: `cargo xtask test|golden|bench|litert|mcu|firmware|capi`.

mod bench;
mod capi;
mod checks;
mod cross;
mod firmware;
mod golden;
mod litert;
mod mcu;
mod preprocess;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything a maintainer of residual runs")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check: formatting, lints, documentation, tests on every instruction set, reference values, fuzzing
    Test,
    /// Check every network in DIR/logits.json and every pair of pictures in DIR/preprocess
    Golden {
        /// folder with the reference values
        dir: PathBuf,
    },
    /// Time this project's networks beside other runtimes
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Compare int8 .tflite files with LiteRT's reference kernels, byte by byte
    Litert(litert::LitertArgs),
    /// Run an int8 model on emulated microcontrollers: bytes, instructions, RAM and flash
    Mcu(mcu::McuArgs),
    /// Build the applications of examples/firmware for every board, and run those that QEMU emulates
    Firmware(firmware::FirmwareArgs),
    /// Build and install the library for C
    Capi(capi::CapiArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Test => checks::run(),
        Command::Golden { dir } => golden::run(&dir),
        Command::Bench(command) => bench::run(command),
        Command::Litert(args) => litert::run(&args),
        Command::Mcu(args) => mcu::run(&args),
        Command::Firmware(args) => firmware::run(&args),
        Command::Capi(args) => capi::run(&args),
    }
}
