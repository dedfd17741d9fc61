//! Threads and subnormal numbers: as many threads as the process may run, and no input that makes it slow.

mod common;

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    time::Instant,
};

use common::ARCH;
use residual::{
    plan::Options,
    resnet::{ResNet, fold_batch_norm},
    session::Session,
    testing::Generated,
};

/// What the command, started through a shell line that ends in it, says how many threads it uses.
fn threads_through(shell: &str) -> u64 {
    let line = format!("{shell} \"$0\" bench --arch {ARCH} --seconds 0.01 --json");
    let output = Command::new("sh").args(["-c", &line, env!("CARGO_BIN_EXE_residual")]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    object["threads"].as_u64().unwrap()
}

#[test]
fn affinity_limits_threads() {
    if !cfg!(target_os = "linux") || Command::new("taskset").arg("--version").output().is_err() {
        return println!("skipped: affinity: no taskset");
    }
    // A core this process may use: the first of `0-1` or `3,5`.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first = list.split([',', '-']).next().unwrap();
    assert_eq!(threads_through(&format!("exec taskset -c {first}")), 1);
    assert_eq!(threads_through("exec"), residual::available_threads() as u64);
}

/// A cgroup that is removed again.
struct Group(String);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn quotas_limit_threads() {
    if residual::available_threads() < 2 {
        return println!("skipped: quotas: a single core shows nothing");
    }
    let name = format!("residual-{}", std::process::id());
    // The unified hierarchy, or the older one for processors.
    let made = [("/sys/fs/cgroup", "cpu.max", "100000 100000"), ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "100000")]
        .into_iter()
        .find_map(|(root, file, quota)| {
            let group = Group(format!("{root}/{name}"));
            fs::create_dir(&group.0).ok()?;
            // Where this is no hierarchy but a plain folder, there is no such file to open.
            let mut file = OpenOptions::new().write(true).open(Path::new(&group.0).join(file)).ok()?;
            file.write_all(quota.as_bytes()).ok()?;
            Some(group)
        });
    let Some(group) = made else { return println!("skipped: quotas: this user cannot make a cgroup") };
    assert_eq!(threads_through(&format!("echo $$ > {}/cgroup.procs && exec", group.0)), 1);
}

/// Least milliseconds of each session, run in turn: whatever disturbs one disturbs the others.
fn least<const N: usize>(sessions: &mut [(Session, Vec<f32>); N]) -> [f64; N] {
    let mut least = [f64::INFINITY; N];
    for _ in 0..60 {
        for ((session, image), least) in sessions.iter_mut().zip(&mut least) {
            let start = Instant::now();
            session.run(image).unwrap();
            *least = least.min(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    least
}

fn session(threads: usize) -> Session {
    let spec: ResNet = "resnet20-cifar".parse().unwrap();
    let weights = Generated::new(spec);
    let net = fold_batch_norm(&spec, &weights).unwrap();
    Session::new(&net, &Options { threads, isa: residual::isa().unwrap(), ..Options::default() }).unwrap()
}

fn image(scale: f32) -> Vec<f32> {
    Generated::signed("input", 32 * 32 * 3).iter().map(|v| v * scale).collect()
}

#[test]
fn no_more_threads_are_started_than_can_run() {
    let cores = residual::available_threads();
    for (asked, started) in [(1, 1), (cores, cores), (8 * cores, cores)] {
        assert_eq!(session(asked).threads(), started, "{asked} threads on {cores} cores");
    }
}

#[test]
fn subnormal_inputs_are_not_slower() {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return println!("skipped: subnormals: nothing to set on this processor");
    }
    let [normal, subnormal] = least(&mut [(session(1), image(1.0)), (session(1), image(1e-39))]);
    println!("{normal:.3} ms, with subnormal inputs {subnormal:.3} ms");
    assert!(subnormal < 3.0 * normal, "{normal:.3} ms, with subnormal inputs {subnormal:.3} ms");
}
