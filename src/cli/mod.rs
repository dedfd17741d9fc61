//! Parsing the command line, and saying in one line what went wrong.

mod args;
mod bench;
mod bench_train;
mod cold;
mod convert;
mod demo;
mod eval;
mod features;
mod fit;
mod hint;
mod input;
mod inspect;
mod peak;
mod plan_file;
mod predict;
mod progress;
mod quantize;
mod shipped;
mod stats;
mod table;
mod train;
mod tune;

use std::{
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind};
use residual::{printable, trainer::TrainError};

/// Deep residual networks on CPUs: train, inspect, classify, measure.
#[derive(Parser)]
#[command(
    name = "residual",
    version,
    max_term_width = 100,
    after_help = "\
Begin with:
  residual demo                                     see it work; needs nothing
  residual inspect --arch resnet50                  what a network of the paper is made of
  residual convert --weights resnet18.pth --arch resnet18 -o resnet18.safetensors
  residual predict --weights resnet18.safetensors photo.jpg
  residual eval --weights resnet18.safetensors --data-path imagenet
  residual train --arch resnet20-cifar --data-path cifar-10-batches-bin --output-dir out

Architectures: resnet18 resnet34 resnet50 resnet101 resnet152 plain18 plain34, resnet20-cifar plain20-cifar
(any 6n+2 layers); suffixes -A -Ac -B -C choose shortcuts, -v1 the paper's stride placement, -wN the width,
-inN the input's channels (1: grey).
RESIDUAL_ISA=portable|avx2|avx512 forces an instruction set."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Predict(predict::Args),
    Eval(eval::Args),
    Convert(convert::Args),
    // Boxed: it has many flags.
    Train(Box<train::Args>),
    Quantize(quantize::Args),
    Features(features::Args),
    Fit(fit::Args),
    Bench(bench::Args),
    Tune(tune::Args),
    Demo(demo::Args),
}

pub fn main() -> ExitCode {
    // A fault that is not the user's, in one line; where a picture's decoder is to blame, the picture's error follows.
    std::panic::set_hook(Box::new(|panic| note(&format!("fault in this program: {panic}").replace('\n', " "))));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match &cli.command {
        Command::Inspect(args) => inspect::run(args, &mut out),
        Command::Predict(args) => predict::run(args, &mut out),
        Command::Eval(args) => eval::run(args, &mut out),
        Command::Convert(args) => convert::run(args, &mut out),
        Command::Train(args) => train::run(args, &mut out),
        Command::Features(args) => features::run(args, &mut out),
        Command::Fit(args) => fit::run(args, &mut out),
        Command::Quantize(args) => quantize::run(args, &mut out),
        Command::Bench(args) => bench::run(args, &mut out),
        Command::Tune(args) => tune::run(args, &mut out),
        Command::Demo(args) => demo::run(args, &mut out),
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        // `residual inspect ... | head` is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<clap::Error>() {
            Some(error) => usage(error),
            None => {
                complain(&hint::explain(&error));
                ExitCode::from(exit_code(&error))
            }
        },
    }
}

/// A mistake in the arguments that only a command sees: arguments that exclude each other, or that a file excludes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// An error of wrong usage.
fn wrong_usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// The user asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Interrupted(String);

/// As shells and other programs have it: 2 for wrong usage, 130 after Ctrl-C, 1 for what failed.
fn exit_code(error: &anyhow::Error) -> u8 {
    let setting = matches!(error.downcast_ref(), Some(TrainError::Setting { .. }));
    if error.is::<Interrupted>() {
        130
    } else if setting || error.is::<Usage>() {
        2
    } else {
        1
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Help goes to standard output; anything else becomes one line and exit code 2.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is no failure here either.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
            let kept: Vec<_> = lines.filter(|l| !l.is_empty() && !l.starts_with("For more information")).collect();
            complain(kept.join(" ").trim_start_matches("error: "));
            ExitCode::from(2)
        }
    }
}

fn complain(message: &str) {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "error: {}", printable(&line));
}

/// Writes a whole file, or leaves what was there.
fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = residual::write_atomic(path, |file| file.write_all(bytes));
    written.map_err(|error| anyhow::anyhow!("cannot write {}: {error}", path.display()))
}

/// Something the user should know that is no failure.
fn note(message: &str) {
    let _ = writeln!(io::stderr(), "note: {}", printable(message));
}
