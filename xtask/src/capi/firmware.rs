//! Building and installing the engine for a core.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::{install as copy, succeed, work, workspace};
use crate::mcu::{self, board::Board};

const CROSS: &str = "arm-none-eabi-";

/// Installs `lib/cortex-CORE/libresidual.a`.
pub fn install(prefix: &Path, core: &Board, small: bool) -> Result<()> {
    let archive = build(core, small)?;
    let own = isolate(&archive, core)?;
    copy(&own, &prefix.join(format!("lib/cortex-{}/libresidual.a", core.name)))
}

fn build(core: &Board, small: bool) -> Result<std::path::PathBuf> {
    let target_dir = work().join(format!("build-{}", core.name));
    let mut cargo = mcu::cargo_for(core, "rustc")?;
    cargo
        .args(["-p", "residual-capi", "--lib", "--quiet", "--release", "--no-default-features"])
        .args(["--features", if small { "panic-handler,small" } else { "panic-handler" }])
        .args(["--crate-type", "staticlib", "--target", core.target, "--target-dir"])
        .arg(&target_dir)
        .current_dir(workspace());
    succeed(&mut cargo).with_context(|| format!("building for cortex-{}", core.name))?;
    Ok(target_dir.join(core.target).join("release/libresidual_capi.a"))
}

/// An archive whose only global symbols are `residual_*`, so that it clashes with no other library, Rust's
/// included. Memory functions and the like come from the C toolchain.
fn isolate(archive: &Path, core: &Board) -> Result<std::path::PathBuf> {
    let folder = work().join(format!("objects-{}", core.name));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let tool = |name: &str| {
        let mut command = Command::new(format!("{CROSS}{name}"));
        command.current_dir(&folder);
        command
    };
    let members = succeed(tool("ar").arg("t").arg(archive))?;
    let own: Vec<&str> = members.lines().filter(|name| name.starts_with("residual_capi")).collect();
    ensure!(!own.is_empty(), "{}: no objects of residual_capi", archive.display());
    succeed(tool("ar").arg("x").arg(archive).args(&own))?;
    succeed(tool("ld").args(["-r", "-o", "residual.o"]).args(&own))?;
    succeed(tool("objcopy").args(["--wildcard", "--keep-global-symbol=residual_*", "residual.o"]))?;
    succeed(tool("ar").args(["rcsD", "libresidual.a", "residual.o"]))?;
    Ok(folder.join("libresidual.a"))
}

/// Names of the symbols an installed archive defines for others, and of those it expects from others.
pub fn symbols(archive: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let text = succeed(Command::new(format!("{CROSS}nm")).arg("--extern-only").arg(archive))?;
    let (mut defined, mut expected) = (Vec::new(), Vec::new());
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["U", name] => expected.push(name.to_owned()),
            [_, _, name] => defined.push(name.to_owned()),
            _ => {}
        }
    }
    Ok((defined, expected))
}
