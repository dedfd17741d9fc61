//! `cargo xtask test`: every check of the project, a line for each part.

use std::{
    env, fs,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Result, ensure};
use residual_core::Isa;

use crate::{
    capi,
    cross::{self, Toolchain},
    firmware, golden, litert,
};

/// A Cortex-M4F without operating system or allocator.
const THUMB: &str = "thumbv7em-none-eabihf";

/// Seconds each fuzz target runs: enough to see that it does.
const FUZZ_SECONDS: u32 = 10;

/// Runs everything; an error says how much failed.
pub fn run() -> Result<()> {
    let mut report = Report::default();
    let root = root();

    report.part("formatting", &mut cargo(&["fmt", "--all", "--check"]));
    report.part("lints", &mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    // Its tests need the standard library.
    for (features, targets) in
        [("", "--lib"), ("alloc", "--lib"), ("std", "--all-targets"), ("parallel", "--all-targets")]
    {
        let name = if features.is_empty() { "none" } else { features };
        let args = ["clippy", "-p", "residual-core", "--no-default-features", "--features", features, targets];
        let args = [&args[..], &["--", "-D", "warnings"]].concat();
        report.part(&format!("lints of residual-core with features: {name}"), &mut cargo(&args));
    }
    let library = ["clippy", "-p", "residual", "--no-default-features", "--lib", "--", "-D", "warnings"];
    report.part("lints of residual without the command", &mut cargo(&library));
    report.part("documentation", cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"));

    report.part("tests", &mut cargo(&["test", "--workspace", "--no-fail-fast", "--", "--show-output"]));
    instruction_sets(&mut report);
    cross::tests(&mut report);
    thumb(&mut report);
    // Each core takes minutes to build for; `cargo xtask capi --check` has another.
    capi::checks_of(&mut report, &["m4"]);
    references(&mut report);
    tflite(&mut report);
    fuzz(&mut report, &root);

    report.close()
}

/// Runs some of the checks.
pub fn only(checks: impl FnOnce(&mut Report)) -> Result<()> {
    let mut report = Report::default();
    checks(&mut report);
    report.close()
}

/// The command and the library on every instruction set but the fastest, on which all tests have run; kernels test each
/// by themselves.
fn instruction_sets(report: &mut Report) {
    let known: &[&str] = if cfg!(target_arch = "x86_64") { &["portable", "avx2", "avx512"] } else { &["portable"] };
    for isa in known {
        let name = format!("command and library on {isa}");
        let Ok(found) = isa.parse::<Isa>() else {
            report.skip(&name, "this CPU lacks it");
            continue;
        };
        if found == Isa::best() {
            continue;
        }
        // Of the whole workspace, as above: else features differ and everything is built again.
        let args = ["test", "--workspace", "--test", "commands", "--test", "library", "--test", "bad_input"];
        report.part(&name, cargo(&args).env("RESIDUAL_ISA", isa));
    }
}

/// For a microcontroller: the core's descriptions alone, planning with an allocator, the engine with every feature, and
/// the applications on an emulated board.
fn thumb(report: &mut Report) {
    let name = format!("toolchain for {THUMB}");
    let toolchain = match Toolchain::find(THUMB) {
        Ok(Some(toolchain)) => toolchain,
        Ok(None) => return report.skip(&name, &cross::advice(THUMB)),
        Err(error) => return report.fail(&name, &error),
    };
    for (package, features) in
        [("residual-core", ""), ("residual-core", "alloc"), ("residual-edge", "defmt,embedded-hal,embedded-io")]
    {
        let name = if features.is_empty() { "no features" } else { features };
        // The core is portable code: that it compiles is all there is to see, and machine code takes minutes.
        let mut cargo = toolchain.cargo(if package == "residual-core" { "check" } else { "build" });
        cargo.args(["-p", package, "--no-default-features", "--features", features, "--target", THUMB]);
        report.part(&format!("{package} for {THUMB} with {name}"), &mut cargo);
    }
    let name = "applications on an emulated Cortex-M4";
    match capi::need("qemu-system-arm", &["qemu-system-arm"]) {
        Ok(()) => _ = report.check(name, firmware::quick),
        Err(reason) => report.skip(name, &reason),
    }
}

/// Reference values computed elsewhere, where they are at hand.
fn references(report: &mut Report) {
    let dir = shared().join("golden");
    if !dir.is_dir() {
        return report.skip("reference values", &format!("no {}", dir.display()));
    }
    let begin = Instant::now();
    let result = golden::run(&dir);
    let seconds = begin.elapsed().as_secs_f64();
    report.done("reference values", result.is_ok(), seconds, 1);
    if let Err(error) = result {
        println!("     {error:#}");
    }
}

/// A foreign int8 network beside LiteRT, where both are at hand.
fn tflite(report: &mut Report) {
    let name = "int8 outputs beside LiteRT's reference kernels";
    let model = shared().join("data/tflite/mlperf_tiny_resnet8_int8.tflite");
    if litert::python().is_none() || !model.exists() {
        return report.skip(name, "LiteRT (RESIDUAL_LITERT_PYTHON) or a model is not at hand");
    }
    let begin = Instant::now();
    let result = litert::run(&litert::LitertArgs::new(model, 200));
    report.done(name, result.is_ok(), begin.elapsed().as_secs_f64(), 1);
    if let Err(error) = result {
        println!("     {error:#}");
    }
}

/// Every fuzz target compiles, and runs for a moment where cargo-fuzz is installed: always from the
/// same seed, so that a failure is the change's and comes again.
fn fuzz(report: &mut Report, root: &Path) {
    let folder = root.join("fuzz");
    let targets = fs::read_dir(folder.join("fuzz_targets")).map(|entries| {
        let stem = |entry: fs::DirEntry| Some(entry.path().file_stem()?.to_str()?.to_owned());
        entries.flatten().filter_map(stem).collect::<Vec<_>>()
    });
    let Ok(mut targets) = targets else { return report.skip("fuzz targets", "no fuzz folder") };
    targets.sort();
    if output(Command::new("cargo").args(["fuzz", "--version"])).is_none() {
        return report.skip("fuzz targets", "run `cargo install cargo-fuzz` first");
    }
    for target in &targets {
        let corpus = folder.join("corpus").join(target);
        // Seeds that tests use too lie with those tests.
        let seeds = match target.as_str() {
            "torch" => root.join("io/tests/fixtures"),
            "image" => root.join("io/tests/data"),
            _ => folder.join("seeds").join(target),
        };
        if let Err(error) = fs::create_dir_all(&corpus) {
            println!("     {}: {error}", corpus.display());
        }
        let mut command = cargo(&["fuzz", "run", target, "-s", "none"]);
        command.arg(&corpus).args(seeds.is_dir().then_some(&seeds));
        command.args(["--", "-seed=1", "-max_len=65536", "-rss_limit_mb=1024"]);
        command.arg(format!("-max_total_time={FUZZ_SECONDS}"));
        report.part(&format!("fuzz target {target}, {FUZZ_SECONDS} s"), &mut command);
    }
}

/// What was checked so far.
#[derive(Default)]
pub struct Report {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    /// The last line; an error if anything failed.
    fn close(self) -> Result<()> {
        let Report { passed, failed, skipped } = self;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        ensure!(failed == 0, "{failed} checks failed");
        Ok(())
    }

    /// Runs one part and says how it went: all it printed if it failed, only what it skipped otherwise.
    pub fn part(&mut self, name: &str, command: &mut Command) -> bool {
        if std::io::stdout().is_terminal() {
            print!("..   {name}\r");
            let _ = std::io::stdout().flush();
        }
        let begin = Instant::now();
        let output = command.current_dir(root()).stdin(Stdio::null()).output();
        let seconds = begin.elapsed().as_secs_f64();
        let (ok, text) = match output {
            Ok(output) => {
                let both = [output.stdout, output.stderr].concat();
                (output.status.success(), String::from_utf8_lossy(&both).into_owned())
            }
            Err(error) => (false, error.to_string()),
        };
        let tests = tests_passed(&text);
        self.done(name, ok, seconds, tests.max(1));
        if !ok {
            println!("{text}");
        }
        for line in text.lines().filter(|line| line.starts_with("skipped:")) {
            println!("skip {name}: {}", line.trim_start_matches("skipped:").trim());
            self.skipped += 1;
        }
        ok
    }

    fn done(&mut self, name: &str, ok: bool, seconds: f64, checks: usize) {
        match ok {
            true => self.passed += checks,
            false => self.failed += 1,
        }
        let counted = if checks > 1 { format!(", {checks} tests") } else { String::new() };
        println!("{} {name} ({seconds:.0} s{counted})", if ok { "ok  " } else { "FAIL" });
    }

    /// Runs one part of this program; what it returns is said beside its name.
    pub fn check(&mut self, name: &str, part: impl FnOnce() -> Result<String>) -> bool {
        let begin = Instant::now();
        let result = part();
        let seconds = begin.elapsed().as_secs_f64();
        match &result {
            Ok(said) if said.is_empty() => self.done(name, true, seconds, 1),
            Ok(said) => self.done(&format!("{name}: {said}"), true, seconds, 1),
            Err(error) => {
                self.done(name, false, seconds, 1);
                println!("{error:#}");
            }
        }
        result.is_ok()
    }

    /// Something that could not even begin.
    pub fn fail(&mut self, name: &str, error: &anyhow::Error) {
        self.done(name, false, 0.0, 1);
        println!("{error:#}");
    }

    pub fn skip(&mut self, name: &str, reason: &str) {
        self.skipped += 1;
        println!("skip {name}: {reason}");
    }
}

/// The tests that the harness's closing lines count.
fn tests_passed(text: &str) -> usize {
    let results = text.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    results.filter_map(|line| line.split(' ').next()?.parse::<usize>().ok()).sum()
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// What a command prints if it runs at all.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of reference data beside the workspace, or `RESIDUAL_SHARED`.
fn shared() -> PathBuf {
    env::var_os("RESIDUAL_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from)
}
