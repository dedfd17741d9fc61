//! Compilers for other machines: rustup's where it has the target, else one made of Debian's packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    capi,
    checks::{self, Report},
    mcu::{succeed, workspace},
};

/// A cargo with the standard library of one target.
#[derive(Clone, Copy)]
pub enum Toolchain {
    /// the one in use
    Rustup,
    /// another, linked by `xtask/scripts/cross-toolchain.sh`
    Debian,
}

impl Toolchain {
    /// The one for `target`, made where it is missing; `None` where that is not possible.
    ///
    /// # Errors
    /// When making it fails.
    pub fn find(target: &str) -> Result<Option<Toolchain>> {
        let prints = |program: &str, args: &[&str]| checks::output(Command::new(program).args(args));
        let installed = prints("rustup", &["target", "list", "--installed"]);
        if installed.is_some_and(|targets| targets.lines().any(|line| line == target)) {
            return Ok(Some(Toolchain::Rustup));
        }
        if prints("apt-get", &["--version"]).is_none() {
            return Ok(None);
        }
        succeed(Command::new("bash").arg(workspace().join("xtask/scripts/cross-toolchain.sh")).arg(target))?;
        Ok(Some(Toolchain::Debian))
    }

    /// `cargo SUBCOMMAND`, further arguments still to come.
    pub fn cargo(self, subcommand: &str) -> Command {
        let mut cargo = Command::new("cargo");
        // The variables cargo set for this program would choose the host's compiler.
        for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            cargo.env_remove(variable);
        }
        match self {
            Toolchain::Rustup => cargo.arg(subcommand),
            // Debian's compiler may be older than the one this workspace asks for; the crates do not mind.
            Toolchain::Debian => cargo.args(["+cross", subcommand, "--ignore-rust-version"]),
        };
        cargo
    }
}

/// What to do where [`Toolchain::find`] finds none.
pub fn advice(target: &str) -> String {
    format!("run `rustup target add {target}` first")
}

/// The cargo for `target`.
///
/// # Errors
/// When there is none.
pub fn cargo(target: &str, subcommand: &str) -> Result<Command> {
    match Toolchain::find(target)? {
        Some(toolchain) => Ok(toolchain.cargo(subcommand)),
        None => bail!("{}", advice(target)),
    }
}

/// The variable cargo reads a setting of `target` from.
pub fn setting(target: &str, setting: &str) -> String {
    format!("CARGO_TARGET_{}_{setting}", target.to_uppercase().replace(['-', '.'], "_"))
}

/// A machine that is emulated to run the core's tests.
struct Machine {
    name: &'static str,
    target: &'static str,
    /// programs that link for it and emulate it, and Debian's packages of them
    tools: &'static [(&'static str, &'static [&'static str])],
    settings: &'static [(&'static str, &'static str)],
}

const MACHINES: [Machine; 2] = [
    Machine {
        name: "NEON",
        target: "aarch64-unknown-linux-gnu",
        tools: &[
            ("qemu-aarch64", &["qemu-user"]),
            ("aarch64-linux-gnu-gcc", &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]),
        ],
        settings: &[("LINKER", "aarch64-linux-gnu-gcc"), ("RUNNER", "qemu-aarch64 -L /usr/aarch64-linux-gnu")],
    },
    Machine {
        name: "WebAssembly",
        target: "wasm32-wasip1",
        tools: &[("node", &["nodejs"])],
        settings: &[
            // All memory from the start: Node 20's WASI writes to where it was before it grew. Debian's C library lacks
            // functions for threads, which the runner makes errors where they are called.
            (
                "RUSTFLAGS",
                "-C target-feature=+simd128 -C link-arg=--initial-memory=1073741824 -C link-arg=--allow-undefined",
            ),
            // From the package's folder.
            ("RUNNER", "node --no-warnings ../xtask/scripts/wasi.mjs"),
        ],
    },
];

/// The core's tests on the vectors of other processors.
pub fn tests(report: &mut Report) {
    for machine in &MACHINES {
        let name = format!("kernels on {}, emulated", machine.name);
        if let Err(reason) = machine.tools.iter().try_for_each(|(tool, packages)| capi::need(tool, packages)) {
            report.skip(&name, &reason);
            continue;
        }
        match Toolchain::find(machine.target) {
            Ok(Some(toolchain)) => {
                let mut cargo = toolchain.cargo("test");
                cargo.args(["-p", "residual-core", "--lib", "--target", machine.target]);
                for (key, value) in machine.settings {
                    cargo.env(setting(machine.target, key), value);
                }
                report.part(&name, cargo.args(["--", "--show-output"]));
            }
            Ok(None) => report.skip(&name, &advice(machine.target)),
            Err(error) => report.fail(&name, &error),
        }
    }
}
