//! `cargo xtask bench peers`: slices of every runtime in turn, so that whatever the machine does meets all alike.

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use residual::{
    peak::{fma_gflops, read_gbs},
    resnet::ResNet,
};

use super::{
    How, Slices,
    child::{Child, Ready, Slice},
    counts, given, median, plot,
    report::{self, Row},
    setup::Setup,
};

/// Compare with ONNX Runtime, OpenVINO, PyTorch, ncnn, MNN (from PyPI), tract, rten, candle and burn (from the Rust registry)
///
/// Every runtime is a process that loads a network once. Then come rounds: in each, every runtime runs for a short
/// slice while the others are idle. A ratio is a runtime's median time in a slice divided by ours in the same round;
/// the median over all rounds is printed. What is missing is set up first: a Python environment and the networks'
/// files in target/peers, the Rust runtimes' programs for this CPU.
#[derive(clap::Args)]
pub struct Args {
    /// Two minutes instead of an hour: three networks, batch 1, few short rounds
    #[arg(long)]
    quick: bool,
    /// Pictures at once
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    batches: Vec<usize>,
    /// Of onnxruntime, openvino, pytorch, pytorch-compile, ncnn, mnn, tract, rten, candle, burn, residual-direct (this project
    /// without Winograd) and residual@FILE (another build of xtask)
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    peers: Vec<String>,
    /// What all compute in. int8 networks are made of the f32 ones with the same calibration pictures; inputs and outputs
    /// stay f32
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    #[command(flatten)]
    slices: Slices,
    #[command(flatten)]
    how: How,
}

/// `--dtype`.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    F32,
    Int8,
}

/// The largest difference from PyTorch's logits, relative to the largest, of a runtime that computes the same network.
const TOLERANCE: f64 = 1e-3;

/// The same for int8: rounding adds up from layer to layer, but a network that is broken differs by as much as the logits.
const INT8_TOLERANCE: f64 = 0.3;

/// Threads that spin after a run, as most runtimes' do for a moment, have stopped by then.
pub const SETTLE: Duration = Duration::from_millis(20);

/// Fewest rounds, however long they take.
const LEAST_ROUNDS: usize = 3;

pub const OURS: &str = "residual";
const PYTHON: [&str; 6] = ["onnxruntime", "openvino", "pytorch", "pytorch-compile", "ncnn", "mnn"];
/// Those for which an int8 network can be made with what PyPI has; ncnn's quantizer is not there.
const INT8: [&str; 3] = ["onnxruntime", "openvino", "mnn"];
const RUST: [&str; 4] = ["tract", "rten", "candle", "burn"];

pub fn run(args: &Args) -> Result<()> {
    let quick = ["resnet50", "resnet18", "cifar20"];
    let all = ["resnet18", "resnet34", "resnet50", "resnet152", "cifar20", "cifar56", "cifar110"];
    let networks = args.how.networks(if args.quick { &quick } else { &all })?;
    let batches: &[usize] = match &args.batches[..] {
        [] if args.quick => &[1],
        [] => &[1, 16],
        given => counts(given, "--batches")?,
    };
    let threads = args.how.threads()?;
    let (rounds, slice, patience) = if args.quick { (6, 0.1, 12) } else { (21, 0.3, 120) };
    let (rounds, slice) = (args.how.rounds(rounds), args.slices.seconds(slice)?);
    let length = Length { rounds, slice, patience: Duration::from_secs(patience) };

    let setup = args.how.setup()?;
    let programs = programs(&setup, &args.peers, args.dtype, !args.quick)?;
    let mut rows = Vec::new();
    for spec in networks {
        for &batch in batches {
            let has = |peer| programs.iter().any(|(name, _)| name == peer);
            setup.export(&spec.to_string(), batch, has("ncnn"), has("mnn"))?;
            if args.dtype == Dtype::Int8 {
                setup.quantize(&spec.to_string(), batch)?;
            }
            for &threads in threads {
                rows.extend(Case::new(&setup, spec, batch, threads).run(&programs, args.dtype, &length)?);
                args.how.save(&rows)?;
                if let Some(path) = &args.how.json {
                    let picture = plot::svg(&rows);
                    residual::write_atomic(&path.with_extension("svg"), |out| out.write_all(picture.as_bytes()))?;
                }
            }
        }
    }
    print!("{}", report::markdown(&rows));
    Ok(())
}

/// How this project and the peers asked for, or all, are started. What cannot be set up is skipped.
pub fn programs(setup: &Setup, peers: &[String], dtype: Dtype, compiled: bool) -> Result<Vec<(String, Vec<OsString>)>> {
    let default: Vec<&str> = match dtype {
        // Compiling takes a minute for every network.
        Dtype::F32 => PYTHON.into_iter().filter(|p| *p != "pytorch-compile" || compiled).chain(RUST).collect(),
        Dtype::Int8 => INT8.to_vec(),
    };
    let names = given(peers, &default).into_iter().filter(|name| name != OURS);
    let mut programs = Vec::new();
    for name in [OURS.to_owned()].into_iter().chain(names) {
        match program(setup, &name, dtype) {
            Ok(command) => programs.push((name, command)),
            Err(error) if name == OURS => return Err(error),
            Err(error) => eprintln!("skipped: {name}: {error:#}"),
        }
    }
    Ok(programs)
}

/// How a runtime is started: the program and its first arguments.
fn program(setup: &Setup, name: &str, dtype: Dtype) -> Result<Vec<OsString>> {
    let words = |command: &Command| {
        std::iter::once(command.get_program()).chain(command.get_args()).map(Into::into).collect::<Vec<_>>()
    };
    let int8 = (dtype == Dtype::Int8).then_some("--int8");
    let ours = |program: PathBuf, more: &[&str]| {
        let mut command = Command::new(program);
        words(command.args(["bench", "ours"]).args(more).args(int8))
    };
    if let Some(build) = name.strip_prefix("residual@") {
        return Ok(ours(fs::canonicalize(build).with_context(|| build.to_owned())?, &[]));
    }
    let here = || env::current_exe().context("cannot find this program's file");
    match name {
        OURS => Ok(ours(here()?, &[])),
        "residual-direct" => Ok(ours(here()?, &["--no-winograd"])),
        _ if INT8.contains(&name) => Ok(words(setup.python("serve.py").args(int8))),
        _ if dtype == Dtype::Int8 => anyhow::bail!("no int8 network can be made for it here"),
        _ if PYTHON.contains(&name) => Ok(words(&setup.python("serve.py"))),
        _ if RUST.contains(&name) => Ok(words(&setup.rust(name)?)),
        _ => anyhow::bail!("no such peer"),
    }
}

/// One network, batch and number of threads.
pub struct Case<'s> {
    setup: &'s Setup,
    spec: ResNet,
    batch: usize,
    threads: usize,
}

/// How long it is timed.
struct Length {
    rounds: usize,
    /// seconds
    slice: f64,
    patience: Duration,
}

/// A runtime that is ready.
struct Runner {
    name: String,
    child: Child,
    ready: Ready,
    /// milliseconds, median and least, one of each round
    slices: Vec<Slice>,
    /// processor time used while others ran
    idle: Duration,
}

impl<'s> Case<'s> {
    pub fn new(setup: &'s Setup, spec: ResNet, batch: usize, threads: usize) -> Self {
        Case { setup, spec, batch, threads }
    }

    fn run(&self, programs: &[(String, Vec<OsString>)], dtype: Dtype, length: &Length) -> Result<Vec<Row>> {
        let tolerance = if dtype == Dtype::Int8 { INT8_TOLERANCE } else { TOLERANCE };
        let title = format!("{}, batch {}, {} threads", self.spec, self.batch, self.threads);
        eprintln!("{title}");
        // All load at once, then one after the other is waited for.
        let started: Vec<_> = programs.iter().map(|(name, words)| (name, self.start(name, words))).collect();
        let mut runners = Vec::new();
        for (name, child) in started {
            let ready = child.and_then(|mut child| {
                let ready = child.ready()?;
                // Not `>`: the difference may be NaN.
                ensure!(ready.error <= tolerance, "its logits differ by {:.1e} from PyTorch's", ready.error);
                Ok(Runner { name: name.clone(), child, ready, slices: Vec::new(), idle: Duration::ZERO })
            });
            match ready {
                Ok(runner) => runners.push(runner),
                Err(error) if name == OURS => return Err(error.context(title)),
                Err(error) => eprintln!("skipped: {name}: {title}: {error:#}"),
            }
        }
        let isa = residual::isa()?;
        let read_gbs = read_gbs(isa, self.threads, Duration::from_millis(100));
        let (mut peaks, mut begin) = (Vec::new(), Instant::now());
        // Round 0 is a rehearsal: caches, clocks, choices that runtimes make when first used.
        for round in 0..=length.rounds {
            if round == 1 {
                begin = Instant::now();
                peaks.clear();
                for runner in &mut runners {
                    runner.slices.clear();
                    runner.idle = Duration::ZERO;
                }
            } else if round > LEAST_ROUNDS && begin.elapsed() > length.patience {
                break;
            }
            peaks.push(fma_gflops(isa, self.threads, SETTLE));
            // Everyone is first, and behind everyone else, in turn.
            let n = runners.len();
            for i in (0..n).map(|i| (i + round) % n) {
                self.slice(&mut runners, i, length.slice)?;
            }
        }
        let elapsed = begin.elapsed();
        for runner in &runners {
            if runner.idle > elapsed / 50 {
                eprintln!("note: {} used {:.0?} of {elapsed:.0?} while others ran", runner.name, runner.idle);
            }
        }
        Ok(self.rows(&runners, median(peaks), read_gbs))
    }

    pub fn start(&self, name: &str, words: &[OsString]) -> Result<Child> {
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments).arg(self.setup.models()).arg(name).arg(self.spec.to_string());
        command.arg(self.batch.to_string()).arg(self.threads.to_string());
        Child::start(&mut command, &self.setup.log(name))
    }

    /// One runtime runs, and the processor time of the others is watched.
    fn slice(&self, runners: &mut [Runner], which: usize, seconds: f64) -> Result<()> {
        let before: Vec<_> = runners.iter().map(|runner| runner.child.cpu_time()).collect();
        let runner = &mut runners[which];
        let slice = runner.child.slice(seconds).with_context(|| runner.name.clone())?;
        runner.slices.push(slice);
        for (i, (runner, before)) in runners.iter_mut().zip(before).enumerate() {
            if let (Some(before), Some(after), true) = (before, runner.child.cpu_time(), i != which) {
                runner.idle += after.saturating_sub(before);
            }
        }
        thread::sleep(SETTLE);
        Ok(())
    }

    fn rows(&self, runners: &[Runner], fma_gflops: f64, read_gbs: f64) -> Vec<Row> {
        let Some(ours) = runners.iter().find(|runner| runner.name == OURS) else { return Vec::new() };
        let row = |runner: &Runner| {
            let median_ms = median(runner.slices.iter().map(|slice| slice.median_ms));
            let ratios = runner.slices.iter().zip(&ours.slices).map(|(theirs, ours)| theirs.median_ms / ours.median_ms);
            let macs = self.spec.macs() * self.batch as u64;
            Row {
                network: self.spec.to_string(),
                batch: self.batch,
                threads: self.threads,
                peer: runner.name.clone(),
                version: runner.ready.version.clone(),
                median_ms,
                min_ms: runner.slices.iter().map(|slice| slice.min_ms).fold(f64::INFINITY, f64::min),
                ratio: median(ratios),
                rounds: runner.slices.len(),
                error: runner.ready.error,
                gflops: 2.0 * macs as f64 / (median_ms * 1e6),
                fma_gflops,
                read_gbs,
            }
        };
        runners.iter().map(row).collect()
    }
}
