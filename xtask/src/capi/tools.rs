//! Programs of Debian's that the checks need.

use std::process::{Command, Stdio};

/// Whether `command` is there, after an attempt to install `packages` where that is possible; or why not.
pub fn need(command: &str, packages: &[&str]) -> Result<(), String> {
    if runs(command, "--version") {
        return Ok(());
    }
    let missing = format!("no {command}: install {}", packages.join(" "));
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    if !root || !runs("apt-get", "--version") {
        return Err(missing);
    }
    println!("     installing {} for {command}", packages.join(" "));
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(args).stdin(Stdio::null());
        apt.output().is_ok_and(|output| output.status.success())
    };
    let install = [&["install", "-y", "-qq", "--no-install-recommends"], packages].concat();
    if apt(&["update", "-qq"]) && apt(&install) && runs(command, "--version") { Ok(()) } else { Err(missing) }
}

fn runs(command: &str, argument: &str) -> bool {
    let mut command = Command::new(command);
    command.arg(argument).stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}
