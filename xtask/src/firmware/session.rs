//! What is said over an emulated board's serial line, compared with the host.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use residual_core::{quant::Softmax, rsd::View};
use residual_edge::source::{Format, Picture, Table};

use super::line::Line;
use crate::mcu::host;

/// Bytes that MLPerf Tiny's runner sends at once.
const AT_ONCE: usize = 31;

/// A model, and what the host makes of pictures.
struct Expected<'m> {
    view: View<'m>,
    picture: Picture,
    table: Table,
}

impl Expected<'_> {
    /// The definition's output for a picture of the input's size.
    fn scores(&self, pixels: &[u8]) -> Result<Vec<i8>> {
        let input: Vec<i8> = pixels.iter().enumerate().map(|(i, v)| self.table.get(i % 3, *v)).collect();
        host::definition(&self.view, &input)
    }

    /// MLPerf Tiny's line for that output: its softmax in three decimals.
    fn results(&self, scores: &[i8]) -> Result<String> {
        let scale = self.view.output().context("a model has an output")?.scale;
        let softmax = Softmax::new(1.0, scale).context("logits of an unusual scale")?;
        let mut probabilities = vec![0; scores.len()];
        softmax.run(scores, &mut probabilities);
        let text = |p: &i8| format!("{:.3}", (f64::from(*p) + 128.0) / 256.0);
        Ok(format!("m-results-[{}]", probabilities.iter().map(text).collect::<Vec<_>>().join(",")))
    }
}

/// Runs an application on QEMU's `machine` with some pictures; what was compared.
pub fn run(application: &str, machine: &str, elf: &Path, view: View<'_>, pictures: u32) -> Result<String> {
    let input = view.input().context("a model has an input")?.shape;
    ensure!(input.c == 3, "the applications take pictures of three channels, the input is {input}");
    let picture = Picture { width: u16::try_from(input.w)?, height: u16::try_from(input.h)?, format: Format::Rgb888 };
    // As the firmware: what does not say how pixels become inputs takes int8.
    let table = Table::new(&view).unwrap_or(Table::raw());
    let expected = Expected { view, picture, table };
    let pixels = host::pictures(pictures as usize * input.elements());
    let pixels: &[u8] = bytemuck::cast_slice(&pixels);
    let pixels: Vec<&[u8]> = pixels.chunks_exact(input.elements()).collect();
    let line = Line::open(machine, elf)?;
    Ok(match application {
        "classify" => {
            format!("{} output bytes equal the definition's on {machine}", classify(line, &expected, &pixels)?)
        }
        "mlperf" => format!("{} answers as expected on {machine}", mlperf(line, &expected, &pixels)?),
        other => bail!("no session for {other}"),
    })
}

/// Pictures in, classes out; the output bytes compared.
fn classify(mut line: Line, expected: &Expected<'_>, pictures: &[&[u8]]) -> Result<usize> {
    line.until("ready ")?;
    let mut compared = 0;
    // One that does not fit, between bytes that mean nothing.
    let small = Picture { width: 1, ..expected.picture };
    line.send(&[b"garbage", &small.header()[..], b"\xff"].concat())?;
    let said = line.until("ready")?;
    ensure!(said.len() == 2 && said[0].starts_with("error "), "a picture too small: {said:?}");
    for pixels in pictures {
        line.send(&[&expected.picture.header()[..], pixels].concat())?;
        let said = line.until("ready")?;
        let find = |key: &str| said.iter().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let scores = expected.scores(pixels)?;
        let want: String = scores.iter().map(|v| format!("{v:02x}")).collect();
        ensure!(find("scores ") == want, "{said:?}, the definition says {want}");
        let most = scores.iter().max().context("a class")?;
        let class = scores.iter().position(|v| v == most).unwrap_or_default();
        let name = expected.view.classes().nth(class).unwrap_or_default();
        // The board's lines are trimmed.
        let want = format!("{class} {name}");
        ensure!(find("class ").trim_end() == want.trim_end(), "{said:?}, expected class {want}");
        let layers = said.iter().filter(|line| line.starts_with("layer ")).count();
        ensure!(layers == expected.view.ops() && !find("time ").is_empty(), "no times in {said:?}");
        compared += scores.len();
    }
    Ok(compared)
}

/// A session as MLPerf Tiny's runner has it, and what it must not come to harm by; the answers compared.
fn mlperf(mut line: Line, expected: &Expected<'_>, pictures: &[&[u8]]) -> Result<usize> {
    line.until("m-ready")?;
    let mut answers = 0;
    let mut ask = |command: &str, want: &[&str]| -> Result<()> {
        line.send(format!("{command}%").as_bytes())?;
        let said = line.until("m-ready")?;
        // Times differ.
        let said: Vec<&str> = said.iter().map(|line| line.split_once("-us-").map_or(&**line, |(key, _)| key)).collect();
        answers += 1;
        ensure!(said == [want, &["m-ready"]].concat(), "`{command}`: {said:?} instead of {want:?}");
        Ok(())
    };
    ask("name", &["m-name-dut-[residual]"])?;
    ask("profile", &["m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[ic01]"])?;
    ask("timestamp", &["m-lap"])?;
    ask("infer 1", &["e-[No picture is loaded]"])?;
    ask(&"x".repeat(2000), &["e-[Command too long]"])?;
    for pixels in pictures {
        let bytes = pixels.len();
        ask(&format!("db load {bytes}"), &[&format!("m-[Expecting {bytes} bytes]")])?;
        let pieces = pixels.chunks(AT_ONCE).count();
        for (i, piece) in pixels.chunks(AT_ONCE).enumerate() {
            let hex: String = piece.iter().map(|b| format!("{b:02x}")).collect();
            let done: &[&str] = if i + 1 == pieces { &["m-load-done"] } else { &[] };
            ask(&format!("db {hex}"), done)?;
        }
        let results = expected.results(&expected.scores(pixels)?)?;
        let laps = ["m-warmup-start-1", "m-warmup-done", "m-infer-start-2", "m-lap", "m-lap", "m-infer-done"];
        ask("infer 2 1", &[&laps[..], &[&results]].concat())?;
        ask("results", &[&results])?;
        ask("db zz", &["e-[Not hexadecimal]"])?;
    }
    Ok(answers)
}
