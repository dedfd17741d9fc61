//! What the whole-program tests share: the command, generated weights, pictures, data sets.
#![allow(dead_code)] // every test program takes its part

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use residual::{
    Preprocessing,
    resnet::ResNet,
    testing::Generated,
    weights::{Tensor, Weights},
    weights::{describe, save},
};
use tempfile::TempDir;

/// CIFAR networks of this depth run in no time.
pub const ARCH: &str = "resnet8-cifar";
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

pub fn residual(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_residual"));
    command.args(args);
    command
}

/// Runs the command, which must succeed, and returns what it said on standard error.
pub fn said(args: &[&str]) -> String {
    let output = residual(args).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// Runs the command, which must succeed, and returns what it printed.
pub fn succeed(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = residual(args).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{args:?}: {status}\n{stderr}");
    String::from_utf8(stdout).unwrap()
}

/// Runs the command, which must print one JSON object.
pub fn json(args: &[&str]) -> serde_json::Value {
    let text = succeed(args);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(value.is_object(), "{text}");
    value
}

/// Runs the command, which must fail with one line `error: ...` on standard error, behind lines `note: ...` at most, and
/// nothing else anywhere.
pub fn fail(args: &[&str]) -> (i32, String) {
    check_failure(args, &mut residual(args))
}

pub fn check_failure(args: &[&str], command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    let code = status.code().unwrap_or_else(|| panic!("{args:?} died: {status}\n{stderr}"));
    assert!(code == 1 || code == 2, "{args:?}: {status}\n{stderr}");
    assert_eq!(String::from_utf8(stdout).unwrap(), "", "{args:?}");
    let lines: Vec<&str> = stderr.lines().collect();
    let (error, notes) = lines.split_last().unwrap_or((&"", &[]));
    let said = error.starts_with("error: ") && notes.iter().all(|line| line.starts_with("note: "));
    assert!(said, "{args:?}: {stderr}");
    (code, (*error).to_owned())
}

/// A folder with generated weights, pictures and data sets.
pub struct Fixture(TempDir);

impl Fixture {
    pub fn new() -> Self {
        Fixture(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path as an argument.
    pub fn arg(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Generated weights with everything in their metadata, as `name`.
    pub fn weights(&self, name: &str, arch: &str) -> String {
        let spec: ResNet = arch.parse().unwrap();
        let mut metadata = describe(&spec, Some(&names(spec.classes())));
        metadata.extend(Preprocessing::cifar([0.5; 3], [0.25; 3]).to_metadata());
        write_weights(&self.path(name), spec, &metadata);
        self.arg(name)
    }

    /// Generated weights that say nothing about themselves.
    pub fn bare_weights(&self, name: &str, arch: &str) -> String {
        write_weights(&self.path(name), arch.parse().unwrap(), &Default::default());
        self.arg(name)
    }

    /// A picture of `width` x `height` that `seed` decides.
    pub fn picture(&self, name: &str, width: u32, height: u32, seed: u32) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x, y| image::Rgb([(x * 7 + seed * 31) as u8, (y * 5 + seed * 17) as u8, (x * y + seed) as u8]);
        image::RgbImage::from_fn(width, height, pixel).save(path).unwrap();
        self.arg(name)
    }

    /// A tree of class folders with `each` pictures in the first `classes` of [`CLASSES`].
    pub fn tree(&self, name: &str, classes: usize, each: u32) -> String {
        for (i, class) in CLASSES.iter().take(classes).enumerate() {
            for n in 0..each {
                self.picture(&format!("{name}/{class}/{n}.png"), 32, 32, i as u32 * each + n);
            }
        }
        self.arg(name)
    }

    /// CIFAR-10's test file with `n` records.
    pub fn cifar(&self, name: &str, n: usize) -> String {
        let dir = self.path(name);
        fs::create_dir_all(&dir).unwrap();
        let record = |i: usize| (0..3073).map(move |b| if b == 0 { (i % 10) as u8 } else { (b * (i + 3) / 7) as u8 });
        fs::write(dir.join("test_batch.bin"), (0..n).flat_map(record).collect::<Vec<u8>>()).unwrap();
        self.arg(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self.arg(name)
    }
}

fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|i| CLASSES.get(i).map_or_else(|| format!("class {i}"), ToString::to_string)).collect()
}

pub fn write_weights(path: &Path, spec: ResNet, metadata: &std::collections::BTreeMap<String, String>) {
    let weights = Generated::new(spec);
    let tensors: Vec<(&str, Tensor<'_>)> = weights.names().map(|name| (name, weights.tensor(name).unwrap())).collect();
    save(path, tensors, metadata).unwrap();
}

/// The folder of reference data beside the workspace, or `RESIDUAL_SHARED`.
pub fn shared() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    std::env::var_os("RESIDUAL_SHARED").map_or_else(beside, PathBuf::from)
}
