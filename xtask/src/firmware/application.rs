//! What the applications are built for, and how.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::mcu::{
    board::{self, Board},
    cargo_for, succeed, workspace,
};

/// A chip or board.
#[derive(Debug)]
pub struct Target {
    /// what the command line calls it
    pub name: &'static str,
    /// its folder in `examples/firmware`
    folder: &'static str,
    /// cargo's feature that chooses it
    feature: Option<&'static str>,
    /// the board whose core it has
    core: &'static str,
    /// QEMU's machine that runs the very same binary
    pub machine: Option<&'static str>,
}

const fn on(
    name: &'static str,
    folder: &'static str,
    feature: Option<&'static str>,
    core: &'static str,
    machine: Option<&'static str>,
) -> Target {
    Target { name, folder, feature, core, machine }
}

/// All of them.
pub const APPLICATIONS: [Target; 7] = [
    on("mps2-m4", "mps", None, "m4", Some("mps2-an386")),
    on("mps2-m7", "mps", None, "m7", Some("mps2-an500")),
    on("mps3-m55", "mps", None, "m55", Some("mps3-an547")),
    // A Netduino Plus 2 has this chip.
    on("stm32f405", "stm32f4", Some("stm32f405"), "m4", Some("netduinoplus2")),
    on("stm32f407", "stm32f4", Some("stm32f407"), "m4", None),
    on("stm32f411", "stm32f4", Some("stm32f411"), "m4", None),
    on("nrf52840", "nrf52840", None, "m4", None),
];

/// The one called `name`.
pub fn parse(name: &str) -> Result<&'static Target, String> {
    static ALL: &[Target] = &APPLICATIONS;
    let names = || ALL.iter().map(|a| a.name).collect::<Vec<_>>().join(", ");
    ALL.iter().find(|a| a.name == name).ok_or_else(|| format!("unknown board, expected one of {}", names()))
}

/// Builds both applications with the model in a file; the folder they are in.
pub fn build(target: &Target, model: &Path) -> Result<PathBuf> {
    let core: &Board = board::parse(target.core).map_err(anyhow::Error::msg)?;
    let target_dir = workspace().join("target/mcu/boards");
    let mut cargo = cargo_for(core, "build")?;
    cargo.args(["--quiet", "--release", "--target", core.target, "--target-dir"]).arg(&target_dir);
    if let Some(feature) = target.feature {
        cargo.args(["--no-default-features", "--features", feature]);
    }
    let folder = workspace().join("examples/firmware").join(target.folder);
    cargo.current_dir(folder).env("RESIDUAL_BOARD", core.machine).env("RESIDUAL_MODEL", model);
    succeed(&mut cargo).with_context(|| format!("building for {}", target.name))?;
    Ok(target_dir.join(core.target).join("release"))
}
