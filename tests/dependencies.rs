//! Which crates of others a program takes in with this library.

use std::{collections::BTreeSet, process::Command};

/// Crates of others that the library depends on here, as the lock file has them.
fn crates(features: &[&str]) -> BTreeSet<String> {
    let tree = "tree --package residual --no-default-features --locked --offline --edges normal --prefix none";
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(tree.split(' ')).args(["--format", "{lib}"]);
    let output = cargo.args(features).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().map(|line| line.trim_end_matches(" (*)").to_owned());
    names.filter(|name| !name.is_empty() && !name.starts_with("residual")).collect()
}

#[test]
fn the_library_alone_takes_few_crates() {
    let found = crates(&[]);
    assert!(found.len() <= 40, "{} crates: {found:?}", found.len());
    for kept in ["half", "wide", "bytemuck", "thiserror", "image", "png", "zune_jpeg"] {
        assert!(found.contains(kept), "{kept}: {found:?}");
    }
    for foreign in ["rayon", "zip", "rand", "getrandom", "tempfile", "aes", "clap", "serde_derive"] {
        assert!(!found.contains(foreign), "{foreign}: {found:?}");
    }
    // What the list is read from knows of features.
    assert!(crates(&["--features", "parallel"]).contains("rayon"));
}
