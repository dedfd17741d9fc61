//! Archives whose only global symbols are `residual_*`, so that they clash with no other library, Rust's included.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{succeed, work};

/// What an archive is for.
pub struct Target<'a> {
    /// tells its folders from others'
    pub name: &'a str,
    /// before the names of binutils
    pub prefix: &'a str,
    /// whether the archive's other members, Rust's own libraries, are taken in where they are needed; else what they
    /// define comes from the C toolchain
    pub runtime: bool,
}

/// Makes one relocatable object of an archive that Rust built, and an archive of it.
pub fn isolate(archive: &Path, target: &Target<'_>) -> Result<PathBuf> {
    let folder = work().join(format!("objects-{}", target.name));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let tool = |name: &str| {
        let mut command = Command::new(format!("{}{name}", target.prefix));
        command.current_dir(&folder);
        command
    };
    let members = succeed(tool("ar").arg("t").arg(archive))?;
    let own: Vec<&str> = members.lines().filter(|name| name.starts_with("residual_capi")).collect();
    ensure!(!own.is_empty(), "{}: no objects of residual_capi", archive.display());
    succeed(tool("ar").arg("x").arg(archive).args(&own))?;
    let mut link = tool("ld");
    // A group is kept once a program: its symbols are local now, so another's would be no substitute.
    link.args(["-r", "--force-group-allocation", "-o", "residual.o"]).args(&own);
    succeed(if target.runtime { link.arg(archive) } else { &mut link })?;
    // Rust's own libraries carry bitcode, which is no bitcode any more once it is joined: linkers' plugins fail on it.
    let strip = ["--remove-section=.llvmbc", "--remove-section=.llvmcmd", "--strip-debug"];
    let keep = ["--wildcard", "--keep-global-symbol=residual_*", "residual.o"];
    succeed(tool("objcopy").args(strip).args(keep))?;
    succeed(tool("ar").args(["rcsD", "libresidual.a", "residual.o"]))?;
    Ok(folder.join("libresidual.a"))
}

/// Whether an archive defines nothing but `residual_*` for others.
pub fn check(archive: &Path, prefix: &str) -> Result<()> {
    let mut nm = Command::new(format!("{prefix}nm"));
    let text = succeed(nm.args(["--extern-only", "--defined-only", "--format=just-symbols"]).arg(archive))?;
    // A line that ends with a colon names an object of the archive.
    let names: Vec<_> = text.lines().map(str::trim).filter(|name| !name.is_empty() && !name.ends_with(':')).collect();
    let foreign: Vec<_> = names.iter().filter(|name| !name.starts_with("residual_")).collect();
    ensure!(!names.is_empty(), "{} defines nothing", archive.display());
    ensure!(foreign.is_empty(), "{} defines {foreign:?}", archive.display());
    Ok(())
}
