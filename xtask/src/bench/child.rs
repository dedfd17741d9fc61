//! A runtime in a process of its own that loads once and times slices on demand.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, de::DeserializeOwned};

/// What a runtime says of itself when it is ready.
#[derive(Deserialize)]
pub struct Ready {
    pub version: String,
    /// largest difference from the reference logits, relative to the largest logit; 0 where nothing is compared
    #[serde(default)]
    pub error: f64,
    /// milliseconds until its first result, its libraries being loaded already
    #[serde(default)]
    pub load_ms: Option<f64>,
    /// the most memory it had until then
    #[serde(default)]
    pub peak_rss_mb: Option<f64>,
}

/// What a runtime says of one slice.
#[derive(Deserialize)]
pub struct Slice {
    pub median_ms: f64,
    pub min_ms: f64,
    /// the most memory it ever had, where it says
    #[serde(default)]
    pub peak_rss_mb: f64,
}

/// The process. Ends when dropped.
pub struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Child {
    /// Starts the process; what it writes to standard error goes into `log`. It inherits the current folder.
    pub fn start(command: &mut Command, log: &Path) -> Result<Child> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let stdout = BufReader::new(stdout.context("no pipe from the process")?);
        Ok(Child { process, stdin, stdout, log: log.to_owned() })
    }

    /// Waits until it has loaded.
    pub fn ready(&mut self) -> Result<Ready> {
        self.read()
    }

    /// Has it run for about so many seconds.
    pub fn slice(&mut self, seconds: f64) -> Result<Slice> {
        let stdin = self.stdin.as_mut().context("the process was told to end")?;
        writeln!(stdin, "{seconds}").and_then(|()| stdin.flush()).map_err(|_| self.end())?;
        self.read()
    }

    /// Processor time it has used, where the system tells (Linux).
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        // The second field, a name in parentheses, may hold anything; user and system time are fields 14 and 15, in
        // ticks of 10 ms on every Linux there is.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(10 * ticks))
    }

    fn read<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.is_empty() {
            return Err(self.end());
        }
        serde_json::from_str(&line).with_context(|| format!("it says {:?}", line.trim()))
    }

    /// The last thing it said before it ended.
    fn end(&self) -> anyhow::Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().map(str::trim).rfind(|line| !line.is_empty());
        anyhow!("it ended: {} ({})", last.unwrap_or("without a word"), self.log.display())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The end of its input ends it; one that is busy is ended.
        drop(self.stdin.take());
        for _ in 0..50 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
