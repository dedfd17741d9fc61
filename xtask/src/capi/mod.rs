//! `cargo xtask capi`: the library for C, its header, and what installs them.

mod check;
mod emulate;
mod firmware;
mod header;
mod host;
mod isolate;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

pub use check::run as checks_of;
pub use tools::need;

use crate::{
    checks,
    mcu::board::{self, Board},
};

/// Arguments of `cargo xtask capi`.
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub struct CapiArgs {
    /// Write capi/include/residual.h anew from the comments and signatures in capi/src
    #[arg(long)]
    header: bool,
    /// Install header, libraries, residual-embed, pkg-config file and CMake package here
    #[arg(long)]
    prefix: Option<PathBuf>,
    /// Install the engine for these cores too
    #[arg(long, value_parser = board::parse, requires = "prefix")]
    core: Vec<&'static Board>,
    /// Check the header, the installed library, the examples and the firmware
    #[arg(long)]
    check: bool,
    /// Engines with least memory instead of fewest instructions
    #[arg(long, requires = "core")]
    small: bool,
}

/// Runs the command.
pub fn run(args: &CapiArgs) -> Result<()> {
    if args.header {
        replace(&header::path(), header::generate()?.as_bytes())?;
    }
    if let Some(prefix) = &args.prefix {
        header::check()?;
        host::install(prefix)?;
        for core in &args.core {
            firmware::install(prefix, core, args.small)?;
        }
    }
    if args.check { checks::only(|report| check::run(report, &["m4", "m7"])) } else { Ok(()) }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where everything is built.
fn work() -> PathBuf {
    workspace().join("target/c")
}

/// Runs a command that must succeed and returns what it printed.
fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = Path::new(command.get_program()).display();
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}\n{stdout}{stderr}", output.status);
    Ok(stdout)
}

/// Writes a file under a temporary name, then renames it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let part = path.with_extension("part");
        fs::write(&part, bytes)?;
        fs::rename(&part, path)
    };
    write().with_context(|| path.display().to_string())
}

/// Copies a file to where it is installed.
fn install(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))?;
        let part = to.with_extension("part");
        fs::copy(from, &part)?;
        fs::rename(&part, to)
    };
    copy().with_context(|| format!("{} to {}", from.display(), to.display()))
}
