//! Building and installing the engine for a core.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    install as copy,
    isolate::{Target, isolate},
    succeed, work, workspace,
};
use crate::mcu::{self, board::Board};

/// Before the names of Arm's binutils.
pub const CROSS: &str = "arm-none-eabi-";

/// Installs `lib/cortex-CORE/libresidual.a`.
pub fn install(prefix: &Path, core: &Board, small: bool) -> Result<()> {
    let archive = build(core, small)?;
    // Memory functions and the like come from the C toolchain.
    let target = Target { name: core.name, prefix: CROSS, runtime: false };
    let own = isolate(&archive, &target)?;
    copy(&own, &prefix.join(format!("lib/cortex-{}/libresidual.a", core.name)))
}

fn build(core: &Board, small: bool) -> Result<std::path::PathBuf> {
    let target_dir = work().join(format!("build-{}", core.name));
    let mut cargo = mcu::cargo_for(core, "rustc")?;
    cargo
        .args(["-p", "residual-capi", "--lib", "--quiet", "--profile", "firmware", "--no-default-features"])
        .args(["--features", if small { "panic-handler,small" } else { "panic-handler" }])
        .args(["--crate-type", "staticlib", "--target", core.target, "--target-dir"])
        .arg(&target_dir)
        .current_dir(workspace());
    succeed(&mut cargo).with_context(|| format!("building for cortex-{}", core.name))?;
    Ok(target_dir.join(core.target).join("firmware/libresidual_capi.a"))
}
