//! An emulated board's serial line.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// Longest wait for a line: an inference, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The other end of a board's serial line. The board stops when it is dropped.
pub struct Line {
    emulator: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Line {
    /// Starts a firmware on QEMU's `machine`.
    pub fn open(machine: &str, elf: &Path) -> Result<Self> {
        let mut emulator = Command::new("qemu-system-arm")
            .args(["-M", machine, "-nographic", "-monitor", "none", "-serial", "stdio", "-kernel"])
            .arg(elf)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-arm (apt-get install qemu-system-arm)")?;
        let input = emulator.stdin.take().context("no input")?;
        let output = BufReader::new(emulator.stdout.take().context("no output")?);
        let (sender, lines) = channel();
        // So that a board which says nothing is noticed.
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line.trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Line { emulator, input, lines })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.input.write_all(bytes)?;
        Ok(self.input.flush()?)
    }

    /// The lines up to the next that begins with `last`.
    pub fn until(&mut self, last: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            lines.push(line.with_context(|| format!("the board said {lines:?}, and no `{last}`"))?);
            if lines.last().is_some_and(|line| line.starts_with(last)) {
                return Ok(lines);
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}
