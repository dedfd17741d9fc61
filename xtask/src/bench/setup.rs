//! What the runtimes need: a Python environment, the networks in their formats, and the Rust runtimes' programs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::ours;

/// Where everything lies.
pub struct Setup {
    root: PathBuf,
    cache: PathBuf,
    python: PathBuf,
}

impl Setup {
    /// In `cache`, by default `target/peers` of this workspace; with an interpreter that has the packages already, or one
    /// in an environment made here from PyPI (about 3 GB).
    pub fn new(cache: Option<&Path>, python: Option<&Path>) -> Result<Setup> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let given =
            |path: Option<&Path>, name| path.map(Path::to_owned).or_else(|| env::var_os(name).map(PathBuf::from));
        let cache = given(cache, "RESIDUAL_PEERS_CACHE").unwrap_or_else(|| root.join("target/peers"));
        let python = given(python, "RESIDUAL_PEERS_PYTHON");
        for folder in ["models", "logs"] {
            let folder = cache.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        // Processes that are timed run in the folder this one was started in.
        let (root, cache) = (fs::canonicalize(root)?, fs::canonicalize(cache)?);
        let python = match python {
            // Not canonical: the link's place is how Python knows its environment.
            Some(python) => std::path::absolute(python)?,
            None => environment(&root, &cache)?,
        };
        Ok(Setup { root, cache, python })
    }

    /// The folder of exported networks.
    pub fn models(&self) -> PathBuf {
        self.cache.join("models")
    }

    /// Where a process's standard error goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.cache.join("logs").join(format!("{}.log", name.replace(['/', '@'], "_")))
    }

    /// Exports a network for one batch, where that is missing.
    ///
    /// For ncnn and for MNN only where they are asked for.
    pub fn export(&self, network: &str, batch: usize, ncnn: bool, mnn: bool) -> Result<()> {
        let models = self.models();
        let missing = |file: String| !models.join(file).exists();
        let kinds = [
            (true, format!("{network}-b{batch}.onnx")),
            (ncnn, format!("{network}.ncnn.param")),
            (mnn, format!("{network}-b{batch}.mnn")),
        ];
        if kinds.into_iter().any(|(asked, file)| asked && missing(file)) {
            eprintln!("exporting {network}, batch {batch}");
            let mut command = Command::new(&self.python);
            command.arg(self.root.join("xtask/peers/export.py")).arg(&models).arg(network).arg(batch.to_string());
            command.args(ncnn.then_some("--ncnn")).args(mnn.then_some("--mnn"));
            quietly(&mut command, &self.log("export"))?;
        }
        ours::convert(&models, network)
    }

    /// Quantizes a network that was exported for MNN, too, for everyone, where that is missing.
    pub fn quantize(&self, network: &str, batch: usize) -> Result<()> {
        let models = self.models();
        let kinds = ["int8.onnx", "int8.mnn"];
        if kinds.iter().any(|kind| !models.join(format!("{network}-b{batch}.{kind}")).exists()) {
            eprintln!("quantizing {network}, batch {batch}");
            let mut command = Command::new(&self.python);
            command.arg(self.root.join("xtask/peers/quantize.py")).arg(&models).arg(network).arg(batch.to_string());
            quietly(&mut command, &self.log("quantize"))?;
        }
        ours::quantize_ours(&models, network)
    }

    /// The process for a Python runtime, `serve.py` or `train.py`, arguments still to come.
    pub fn python(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.root.join("xtask/peers").join(script));
        command
    }

    /// Builds a Rust runtime's program for this machine's CPU; the process, arguments still to come.
    pub fn rust(&self, peer: &str) -> Result<Command> {
        let (package, target) = (format!("peer-{peer}"), self.cache.join("rust"));
        let program = target.join("release").join(&package);
        if !program.exists() {
            eprintln!("building {package}");
        }
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--release", "--package", &package, "--manifest-path"]);
        command.arg(self.root.join("benches/peers/Cargo.toml")).arg("--target-dir").arg(&target);
        command.env("RUSTFLAGS", "-C target-cpu=native");
        quietly(&mut command, &self.log(&package))?;
        Ok(Command::new(program))
    }
}

/// A Python environment with the runtimes, made where it is missing or the list of packages has changed.
fn environment(root: &Path, cache: &Path) -> Result<PathBuf> {
    let (list, folder) = (root.join("xtask/peers/requirements.txt"), cache.join("venv"));
    let (python, stamp) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let wanted = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    eprintln!("making a Python environment in {} (some minutes, once)", folder.display());
    let log = cache.join("logs/pip.log");
    quietly(Command::new("python3").args(["-m", "venv"]).arg(&folder), &log)?;
    let pip = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.args(["-m", "pip", "install", "--quiet"]).args(arguments);
        command
    };
    quietly(pip(&["--requirement"]).arg(&list), &log)?;
    // Alone: its GPU libraries are ten times its size and a CPU needs none of them.
    quietly(&mut pip(&["--no-deps", "torch", "torchvision"]), &log)?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// Runs a command with its output in `log`; an error says where to look.
fn quietly(command: &mut Command, log: &Path) -> Result<()> {
    let file = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let program = command.get_program().display().to_string();
    let status = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status();
    let status = status.with_context(|| format!("cannot run {program}"))?;
    ensure!(status.success(), "{program} ended with {status}, see {}", log.display());
    Ok(())
}
