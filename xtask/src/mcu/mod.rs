//! `cargo xtask mcu`: the engine on emulated boards. Builds the firmware, runs it under QEMU,
//! compares its outputs with the definition and counts instructions, RAM and flash.

pub mod board;
pub mod elf;
pub mod host;

pub use host::pictures;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use residual::{Given, QuantizedModel};
use residual_core::{
    resnet::ResNet,
    rsd::{AlignedBytes, View, synthetic},
};
use residual_edge::{Fast, Small, arena_bytes};
use serde::Serialize;

use crate::cross;
use board::{BOARDS, Board};

/// Which of the engine's modes to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EngineMode {
    /// fewest instructions
    Fast,
    /// least memory
    Small,
}

/// Arguments of `cargo xtask mcu`.
#[derive(Args)]
pub struct McuArgs {
    /// The model (.rsd, .tflite); an untrained one of `--arch` if absent
    #[arg(long)]
    net: Option<PathBuf>,
    /// Architecture of the untrained model
    #[arg(long, default_value = "resnet20-cifar", conflicts_with = "net")]
    arch: ResNet,
    /// Boards; all if absent
    #[arg(long, value_parser = board::parse)]
    board: Vec<&'static Board>,
    /// The engine's mode
    #[arg(long, value_enum, default_value = "fast")]
    mode: EngineMode,
    /// Random pictures to run
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    pictures: u32,
    /// Where to write the figures
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where to write how often each instruction ran (one board only)
    #[arg(long)]
    profile: Option<PathBuf>,
}

/// What one board showed.
#[derive(Serialize)]
struct Figures {
    machine: &'static str,
    kernels: &'static str,
    /// instructions of one inference, the most of all pictures
    instructions: u64,
    arena_bytes: usize,
    /// high-water mark
    stack_bytes: usize,
    /// flash without the model: code and constants
    code_bytes: u64,
    model_bytes: usize,
    /// output bytes that differ from the definition
    mismatches: usize,
    output_bytes: usize,
    /// functions of the panic machinery that were linked
    panic_functions: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    model: String,
    mode: &'static str,
    pictures: u32,
    boards: BTreeMap<&'static str, Figures>,
}

/// Runs the command.
pub fn run(args: &McuArgs) -> Result<()> {
    let (label, model) = match &args.net {
        Some(path) => {
            let model = QuantizedModel::open(path, &Given::default())?;
            (path.display().to_string(), AlignedBytes::from(model.bytes()))
        }
        None => (format!("untrained {}", args.arch), synthetic(&args.arch, 1)?),
    };
    let view = View::new_checked(&model).with_context(|| label.clone())?;
    let (arena, mode) = match args.mode {
        EngineMode::Fast => (arena_bytes::<Fast>(&model)?, "fast"),
        EngineMode::Small => (arena_bytes::<Small>(&model)?, "small"),
    };
    let boards: Vec<&Board> = if args.board.is_empty() { BOARDS.iter().collect() } else { args.board.clone() };
    ensure!(args.profile.is_none() || boards.len() == 1, "--profile needs one --board");

    let work = workspace().join("target/mcu");
    fs::create_dir_all(&work)?;
    let plugin = build_plugin(&work)?;
    let input = view.input().context("a model has an input")?;
    let pictures = host::pictures(args.pictures as usize * input.shape.elements());
    fs::write(work.join("model.rsd"), &*model)?;
    fs::write(work.join("pictures.bin"), bytemuck::cast_slice::<i8, u8>(&pictures))?;
    let wanted: Vec<Vec<i8>> =
        pictures.chunks_exact(input.shape.elements()).map(|p| host::definition(&view, p)).collect::<Result<_>>()?;

    let mut report = Report { model: label, mode, pictures: args.pictures, boards: BTreeMap::new() };
    println!("{} in {mode} mode, {} pictures, arena {arena} bytes", report.model, args.pictures);
    println!("board  instructions   stack   code  mismatches");
    for board in boards {
        let elf = build(board, args.mode, &work)?;
        let counts = work.join(format!("{}-{mode}.counts", board.name));
        let shown = emulate(board, &elf, &plugin, &counts, args.profile.as_deref())?;
        let counted = fs::read_to_string(&counts)?;
        let laps: Vec<u64> = counted.lines().map(str::parse).collect::<Result<_, _>>()?;
        // Markers come in pairs around each inference.
        let instructions = laps.chunks_exact(2).map(|l| l[1]).max().context("no instruction counts")?;
        ensure!(shown.outputs.len() == wanted.len(), "{}: {} outputs", board.name, shown.outputs.len());
        let differ = |(got, want): (&Vec<i8>, &Vec<i8>)| {
            got.len().abs_diff(want.len()) + got.iter().zip(want).filter(|(g, w)| g != w).count()
        };
        let size = elf::size(&elf)?;
        let figures = Figures {
            machine: board.machine,
            kernels: board.kernels,
            instructions,
            arena_bytes: arena,
            stack_bytes: shown.stack,
            code_bytes: size.code,
            model_bytes: model.len(),
            mismatches: shown.outputs.iter().zip(&wanted).map(differ).sum(),
            output_bytes: wanted.iter().map(Vec::len).sum(),
            panic_functions: size.panics,
        };
        println!(
            "{:<5} {:>13} {:>7} {:>6} {:>11}",
            board.name, figures.instructions, figures.stack_bytes, figures.code_bytes, figures.mismatches
        );
        report.boards.insert(board.name, figures);
    }
    if let Some(path) = &args.json {
        let temporary = path.with_extension("json.part");
        fs::write(&temporary, serde_json::to_string_pretty(&report)? + "\n")?;
        fs::rename(&temporary, path).with_context(|| path.display().to_string())?;
    }
    let wrong: usize = report.boards.values().map(|b| b.mismatches).sum();
    ensure!(wrong == 0, "{wrong} output bytes differ from the definition");
    for (name, figures) in &report.boards {
        let panics = &figures.panic_functions;
        ensure!(panics.is_empty(), "{name}: the firmware can panic: {panics:?}");
    }
    Ok(())
}

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// What a command prints, if it succeeds.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{:?} failed:\n{}", command.get_program(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Builds the plugin that counts instructions.
pub fn build_plugin(work: &Path) -> Result<PathBuf> {
    let plugin = work.join("count.so");
    let source = workspace().join("xtask/plugin/count.c");
    succeed(Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&plugin).arg(source))?;
    Ok(plugin)
}

/// `cargo SUBCOMMAND` with the compiler and the flags for a board.
pub fn cargo_for(board: &Board, subcommand: &str) -> Result<Command> {
    let mut cargo = cross::cargo(board.target, subcommand)?;
    cargo.env(cross::setting(board.target, "RUSTFLAGS"), board.flags);
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", board.opt_level);
    Ok(cargo)
}

fn build(board: &Board, mode: EngineMode, work: &Path) -> Result<PathBuf> {
    let features: &[&str] = if mode == EngineMode::Small { &["--features", "small"] } else { &[] };
    let files = (work.join("model.rsd"), work.join("pictures.bin"));
    // One folder for all boards: what runs on the host is compiled once.
    build_firmware(board, features, &work.join("build"), &files.0, &files.1)
}

/// Builds the emulated firmware with a model and pictures.
pub fn build_firmware(
    board: &Board,
    features: &[&str],
    target_dir: &Path,
    model: &Path,
    pictures: &Path,
) -> Result<PathBuf> {
    let mut cargo = cargo_for(board, "build")?;
    cargo
        .args(["--quiet", "--release", "--target", board.target, "--target-dir"])
        .arg(target_dir)
        .args(features)
        .current_dir(workspace().join("examples/firmware/emulated"))
        .env("RESIDUAL_BOARD", board.machine)
        .env("RESIDUAL_MODEL", model)
        .env("RESIDUAL_PICTURES", pictures);
    succeed(&mut cargo).with_context(|| format!("building for {}", board.name))?;
    Ok(target_dir.join(board.target).join("release/emulated"))
}

/// What the firmware printed.
struct Shown {
    outputs: Vec<Vec<i8>>,
    stack: usize,
}

fn emulate(board: &Board, elf: &Path, plugin: &Path, counts: &Path, profile: Option<&Path>) -> Result<Shown> {
    let mut plugin = format!("{},out={}", plugin.display(), counts.display());
    if let Some(profile) = profile {
        plugin += &format!(",profile={}", profile.display());
    }
    let limit = Duration::from_secs(900).as_secs().to_string();
    let text = succeed(
        Command::new("timeout")
            .arg(limit)
            .args(["qemu-system-arm", "-M", board.machine, "-nographic", "-monitor", "none", "-serial", "null"])
            .args(["-semihosting-config", "enable=on,target=native", "-plugin", &plugin, "-kernel"])
            .arg(elf),
    )
    .with_context(|| format!("emulating {} (apt-get install qemu-system-arm)", board.machine))?;
    let mut shown = Shown { outputs: Vec::new(), stack: 0 };
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("output", hex)) => {
                let byte = |i| u8::from_str_radix(hex.get(i..i + 2).unwrap_or("?"), 16).map(|b| b as i8);
                shown.outputs.push((0..hex.len()).step_by(2).map(byte).collect::<Result<_, _>>()?);
            }
            Some(("stack", hex)) => shown.stack = shown.stack.max(usize::from_str_radix(hex, 16)?),
            _ => bail!("{}: the firmware says `{line}`", board.name),
        }
    }
    Ok(shown)
}
