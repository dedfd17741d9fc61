//! Building and installing the host's library.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    header, install as copy,
    isolate::{Target, isolate},
    replace, succeed, workspace,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What programs are bound to: before 1.0 a minor version may change functions.
fn abi() -> &'static str {
    match env!("CARGO_PKG_VERSION_MAJOR") {
        "0" => concat!("0.", env!("CARGO_PKG_VERSION_MINOR")),
        major => major,
    }
}

/// Installs header, libraries, `residual-embed`, pkg-config file and CMake package.
pub fn install(prefix: &Path) -> Result<()> {
    let built = build()?;
    let lib = prefix.join("lib");
    copy(&header::path(), &prefix.join("include/residual.h"))?;
    copy(&archive(&built.join("libresidual_capi.a"))?, &lib.join("libresidual.a"))?;
    let shared = format!("libresidual.so.{VERSION}");
    copy(&built.join("libresidual_capi.so"), &lib.join(&shared))?;
    for name in [format!("libresidual.so.{}", abi()), "libresidual.so".into()] {
        link(&shared, &lib.join(name))?;
    }
    copy(&built.join("residual-embed"), &prefix.join("bin/residual-embed"))?;
    for (template, to) in [
        ("residual.pc.in", "lib/pkgconfig/residual.pc"),
        ("residual-config.cmake.in", "lib/cmake/residual/residual-config.cmake"),
        ("residual-config-version.cmake.in", "lib/cmake/residual/residual-config-version.cmake"),
    ] {
        let path = workspace().join("capi/package").join(template);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let text = text
            .replace("@VERSION@", VERSION)
            .replace("@ABI@", abi())
            .replace("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR"))
            .replace("@MINOR@", env!("CARGO_PKG_VERSION_MINOR"));
        replace(&prefix.join(to), text.as_bytes())?;
    }
    Ok(())
}

/// Builds with a profile of its own, in which panics unwind as far as the library's border.
fn build() -> Result<PathBuf> {
    let soname = format!("link-arg=-Wl,-soname,libresidual.so.{}", abi());
    let common = ["-p", "residual-capi", "--quiet", "--profile", "capi", "--no-default-features"];
    let cargo = |verb| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace()).arg(verb).args(common);
        cargo
    };
    let library = ["--features", "host", "--lib", "--crate-type", "staticlib,cdylib", "--", "-C", &soname];
    succeed(cargo("rustc").args(library))?;
    succeed(cargo("build").args(["--features", "embed", "--bin", "residual-embed"]))?;
    Ok(workspace().join("target/capi"))
}

/// The static library as it is installed.
fn archive(built: &Path) -> Result<PathBuf> {
    // Other systems' linkers and archives are of other kinds.
    let elf = cfg!(target_os = "linux");
    if elf { isolate(built, &Target { name: "host", prefix: "", runtime: true }) } else { Ok(built.into()) }
}

fn link(to: &str, at: &Path) -> Result<()> {
    let _ = fs::remove_file(at);
    #[cfg(unix)]
    std::os::unix::fs::symlink(to, at).with_context(|| at.display().to_string())?;
    #[cfg(not(unix))]
    fs::copy(at.with_file_name(to), at).with_context(|| at.display().to_string())?;
    Ok(())
}
