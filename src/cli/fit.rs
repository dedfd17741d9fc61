//! `residual fit`: whether an int8 model fits a microcontroller.

use std::{io::Write, path::PathBuf};

use anyhow::{anyhow, ensure};
use residual::{Given, QuantizedModel};
use residual_edge::{Fast, Small, arena_bytes};
use serde_json::json;

use super::{
    table::{bytes, grouped, sentence},
    wrong_usage,
};

/// Say whether an int8 model fits a microcontroller, and why not
///
/// RAM is what the engine asks for, known before anything is flashed. The time is an estimate: instructions measured
/// for ResNet-20 on an emulated core of the same kind, in proportion to multiply-adds, times typical cycles an
/// instruction.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual fit resnet20.rsd --chip stm32f405
  residual fit net.tflite --chip rp2040 --json")]
pub struct Args {
    /// int8 model (.rsd, .tflite)
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Microcontroller, such as stm32f405; any other word lists all
    #[arg(long, value_name = "NAME")]
    chip: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A core and what an inference costs on it.
struct Core {
    name: &'static str,
    kernels: &'static str,
    /// instructions a multiply-add in fast mode: ResNet-20's count by `cargo xtask mcu` over its 40.55 million
    per_mac: f64,
    /// cycles an instruction, typical of code in zero-wait memory
    cycles: f64,
}

const M0: Core = Core { name: "Cortex-M0+", kernels: "portable", per_mac: 3.18, cycles: 1.3 };
const M4: Core = Core { name: "Cortex-M4", kernels: "dsp", per_mac: 0.563, cycles: 1.25 };
const M33: Core = Core { name: "Cortex-M33", kernels: "dsp", per_mac: 0.563, cycles: 1.2 };
const M7: Core = Core { name: "Cortex-M7", kernels: "dsp", per_mac: 0.563, cycles: 0.75 };
const M55: Core = Core { name: "Cortex-M55", kernels: "mve", per_mac: 1.40, cycles: 1.2 };

struct Chip {
    name: &'static str,
    core: Core,
    /// KiB of program memory
    flash: usize,
    /// the program memory is a separate chip of usually this size
    external: bool,
    /// KiB of the largest contiguous RAM
    ram: usize,
    mhz: f64,
}

const fn chip(name: &'static str, core: Core, flash: usize, external: bool, ram: usize, mhz: f64) -> Chip {
    Chip { name, core, flash, external, ram, mhz }
}

const CHIPS: [Chip; 16] = [
    chip("stm32f405", M4, 1024, false, 128, 168.0),
    chip("stm32f411", M4, 512, false, 128, 100.0),
    chip("stm32f746", M7, 1024, false, 320, 216.0),
    chip("stm32h743", M7, 2048, false, 512, 480.0),
    chip("stm32l476", M4, 1024, false, 96, 80.0),
    chip("stm32n6", M55, 8192, true, 4096, 800.0),
    chip("nrf52832", M4, 512, false, 64, 64.0),
    chip("nrf52840", M4, 1024, false, 256, 64.0),
    chip("nrf5340", M33, 1024, false, 512, 128.0),
    chip("rp2040", M0, 2048, true, 264, 133.0),
    chip("rp2350", M33, 4096, true, 520, 150.0),
    chip("samd21", M0, 256, false, 32, 48.0),
    chip("samd51", M4, 1024, false, 256, 120.0),
    chip("mimxrt1062", M7, 8192, true, 512, 600.0),
    chip("alif-e3", M55, 5632, false, 4096, 400.0),
    chip("alif-e7", M55, 5632, false, 4096, 400.0),
];

/// Stack and statics beside the arena: twice the stack's measured high-water mark, for interrupts.
const STACK: usize = 4608;
/// Program beside the model, as measured.
const CODE: usize = 43 * 1024;

struct Mode {
    name: &'static str,
    arena: usize,
    reasons: Vec<String>,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    ensure!(
        QuantizedModel::is_one(&args.model),
        "{}: not an int8 model (.rsd, .tflite), or it cannot be read",
        args.model.display()
    );
    let model = QuantizedModel::open(&args.model, &Given::default())?;
    let asked = args.chip.to_ascii_lowercase();
    let chip = CHIPS.iter().find(|c| c.name == asked || c.name.replace('-', "") == asked).ok_or_else(|| {
        let known = CHIPS.iter().map(|c| c.name).collect::<Vec<_>>().join(", ");
        wrong_usage(format!("unknown chip {:?}; known: {known}", args.chip))
    })?;
    let fault = |error| anyhow!("{}: {error}", args.model.display());
    let arenas = [
        ("fast", arena_bytes::<Fast>(model.bytes()).map_err(fault)?),
        ("small", arena_bytes::<Small>(model.bytes()).map_err(fault)?),
    ];
    let (ram, flash) = (chip.ram * 1024, chip.flash * 1024);
    let need_flash = CODE + model.bytes().len();
    let modes = arenas.map(|(name, arena)| {
        let mut reasons = Vec::new();
        if arena + STACK > ram {
            reasons.push(format!("RAM: {} B needed (arena {arena}, stack {STACK}), {ram} there", arena + STACK));
        }
        if need_flash > flash {
            reasons.push(format!("flash: {need_flash} B needed (model {}), {flash} there", model.bytes().len()));
        }
        Mode { name, arena, reasons }
    });
    let view = model.view()?;
    let macs: u64 = (0..view.ops()).map(|i| view.op(i).map_or(0, |op| op.macs())).sum();
    let Core { name: core, kernels, per_mac, cycles } = chip.core;
    let instructions = macs as f64 * per_mac;
    let milliseconds = instructions * cycles / (chip.mhz * 1e3);
    let best = modes.iter().find(|m| m.reasons.is_empty());

    if args.json {
        let modes = modes.iter().map(|m| {
            let object = json!({
                "fits": m.reasons.is_empty(),
                "arena_bytes": m.arena,
                "ram_bytes": m.arena + STACK,
                "why_not": m.reasons,
            });
            (m.name.to_owned(), object)
        });
        let object = json!({
            "model": model.name(),
            "chip": chip.name,
            "core": core,
            "mhz": chip.mhz,
            "fits": best.is_some(),
            "mode": best.map(|m| m.name),
            "flash": { "available_bytes": flash, "needed_bytes": need_flash, "external": chip.external },
            "ram_available_bytes": ram,
            "modes": modes.collect::<serde_json::Map<_, _>>(),
            "macs": macs,
            "estimate": {
                "mode": "fast",
                "kernels": kernels,
                "instructions": instructions.round(),
                "cycles_per_instruction": cycles,
                "milliseconds": milliseconds,
            },
        });
        writeln!(out, "{object:#}")?;
        return Ok(());
    }
    sentence(out, &format!("{} on {} ({core}, {} MHz)", model.name(), chip.name, chip.mhz))?;
    let flash_kind = if chip.external { "external flash" } else { "flash" };
    writeln!(out, "{flash_kind}: {} of {} needed", bytes(need_flash as u64), bytes(flash as u64))?;
    for mode in &modes {
        let answer = if mode.reasons.is_empty() { "fits".into() } else { format!("no: {}", mode.reasons.join("; ")) };
        let need = bytes((mode.arena + STACK) as u64);
        sentence(out, &format!("{} mode ({need} of {} RAM): {answer}", mode.name, bytes(ram as u64)))?;
    }
    let text = format!(
        "{} multiply-adds; fast mode about {:.1} million instructions ({kernels} kernels), {milliseconds:.0} ms",
        grouped(macs),
        instructions / 1e6,
    );
    Ok(sentence(out, &text)?)
}
