//! `capi/include/residual.h`: generated here and committed, so that users' builds need no generator.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use cbindgen::{Builder, Config};

use super::workspace;

/// Where the header lies.
pub fn path() -> PathBuf {
    workspace().join("capi/include/residual.h")
}

/// What it has to be.
pub fn generate() -> Result<String> {
    let capi = workspace().join("capi");
    let file = capi.join("cbindgen.toml");
    let mut config =
        Config::from_file(&file).map_err(anyhow::Error::msg).with_context(|| file.display().to_string())?;
    for text in [&mut config.header, &mut config.after_includes].into_iter().flatten() {
        *text = text
            .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
            .replace("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR"))
            .replace("@MINOR@", env!("CARGO_PKG_VERSION_MINOR"))
            .replace("@PATCH@", env!("CARGO_PKG_VERSION_PATCH"));
    }
    let mut bytes = Vec::new();
    Builder::new().with_crate(capi).with_config(config).generate().context("cbindgen")?.write(&mut bytes);
    // An enum's values take its C name, whose suffix says nothing.
    Ok(String::from_utf8(bytes)?.replace("RESIDUAL_STATUS_T_", "RESIDUAL_").replace("_PRECISION_T_", "_"))
}

/// Whether the committed header is what its sources say.
pub fn check() -> Result<()> {
    let (path, want) = (path(), generate()?);
    let have = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = have.lines().zip(want.lines()).position(|(a, b)| a != b).map_or(have.lines().count(), |i| i) + 1;
    ensure!(have == want, "capi/include/residual.h:{line} differs from its sources: run `cargo xtask capi --header`");
    Ok(())
}

/// Every function the header declares.
pub fn functions() -> Result<Vec<String>> {
    let text = generate()?;
    let name = |line: &str| {
        let before = line.split_once('(')?.0;
        let name = before.rsplit([' ', '*']).next()?;
        (name.starts_with("residual_") && !before.starts_with([' ', '#', '/'])).then(|| name.to_owned())
    };
    let names: Vec<String> = text.lines().filter_map(name).collect();
    ensure!(names.len() >= 20, "only {} functions found in the header", names.len());
    Ok(names)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_header_is_what_its_sources_say() {
        super::check().unwrap();
    }
}
