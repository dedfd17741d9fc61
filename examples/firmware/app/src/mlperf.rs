//! MLPerf Tiny's protocol, performance mode: <https://github.com/mlcommons/tiny>, `benchmark/runner`.
//!
//! Commands end with `%`, answers are lines, and `m-ready` is the last line of each:
//!
//! | command | answer |
//! |---|---|
//! | `name` | `m-name-dut-[...]` |
//! | `profile` | `m-profile-[...]`, `m-model-[ic01]` |
//! | `timestamp` | `m-lap-us-N`, microseconds |
//! | `db load N` | `m-[Expecting N bytes]` |
//! | `db HH...` | the next bytes in hexadecimal; `m-load-done` after the last |
//! | `db print [N] [offset]` | lines `m-buffer-HH-HH...` |
//! | `infer N [W]` | `W` unmeasured inferences (10 unless given), then `N` between two `m-lap-us`, then the results |
//! | `results` | `m-results-[...]`, a probability a class |
//! | `help` | the commands |
//!
//! What cannot be done is answered by `e-[reason]` and `m-ready`.

use embedded_io::{Read, Write};
use residual_core::quant::Softmax;

use crate::{Clock, Error, Network, port::print};

/// Longest command, without its end.
const COMMAND: usize = 256;
/// Unmeasured inferences unless the command says how many.
const WARM_UP: u32 = 10;

/// What the runner asks firmware for by `profile`.
const PROFILE: &str = "ULPMark for tinyML Firmware V0.0.1";
/// MLPerf Tiny's name for image classification.
const MODEL: &str = "ic01";

/// Answers commands until the line ends.
///
/// # Errors
/// Those of the line.
pub fn mlperf<P: Read + Write, C: Clock>(network: &mut Network<'_, C>, port: &mut P) -> Result<(), Error<P::Error>> {
    // The probabilities of the last inference are in `scores` already; a picture has to be loaded first.
    let mut session = Session { network, port, loaded: None, ran: false };
    session.say(format_args!("m-timestamp-mode-performance"))?;
    session.lap()?;
    session.say(format_args!("m-init-done"))?;
    session.say(format_args!("m-ready"))?;
    let (mut command, mut len) = ([0; COMMAND], 0usize);
    loop {
        let mut byte = [0];
        if session.port.read(&mut byte).map_err(Error::Line)? == 0 {
            return Ok(());
        }
        match byte {
            [b'%'] => {
                match command.get(..len) {
                    Some(text) => session.command(text)?,
                    None => session.refuse("Command too long")?,
                }
                session.say(format_args!("m-ready"))?;
                session.port.flush().map_err(Error::Line)?;
                len = 0;
            }
            [b'\r' | b'\n' | 0] => {}
            [byte] => {
                if let Some(to) = command.get_mut(len) {
                    *to = byte;
                }
                // Beyond the end it stays there: too long.
                len = (len + 1).min(COMMAND + 1);
            }
        }
    }
}

struct Session<'s, 'a, P, C> {
    network: &'s mut Network<'a, C>,
    port: &'s mut P,
    /// bytes of the picture that came, once it was announced
    loaded: Option<usize>,
    ran: bool,
}

type Said<P> = Result<(), Error<<P as embedded_io::ErrorType>::Error>>;

impl<P: Read + Write, C: Clock> Session<'_, '_, P, C> {
    fn say(&mut self, text: core::fmt::Arguments<'_>) -> Said<P> {
        print(self.port, format_args!("{text}\r\n"))
    }

    fn refuse(&mut self, reason: &str) -> Said<P> {
        self.say(format_args!("e-[{reason}]"))
    }

    fn command(&mut self, text: &[u8]) -> Said<P> {
        let mut words = text.split(|b| *b == b' ').filter(|word| !word.is_empty());
        match words.next().unwrap_or_default() {
            // The runner sends an empty command to end what another left unfinished.
            b"" => Ok(()),
            b"name" => self.say(format_args!("m-name-dut-[residual]")),
            b"profile" => {
                self.say(format_args!("m-profile-[{PROFILE}]"))?;
                self.say(format_args!("m-model-[{MODEL}]"))
            }
            b"timestamp" => self.lap(),
            b"help" => self.say(format_args!(
                "name, profile, timestamp, db load N, db HH[HH]*, db print [N=16] [offset=0], infer N [W={WARM_UP}], \
                 results"
            )),
            b"db" => self.buffer(words),
            b"infer" => self.infer(words),
            b"results" => self.results(),
            _ => self.refuse("Unknown command; try help"),
        }
    }

    fn lap(&mut self) -> Said<P> {
        let cycles = self.network.watch.cycles();
        let micros = self.network.watch.micros(cycles);
        self.say(format_args!("m-lap-us-{micros}"))
    }

    fn buffer<'w>(&mut self, mut words: impl Iterator<Item = &'w [u8]>) -> Said<P> {
        let need = self.network.picture.len();
        match words.next() {
            None => self.refuse("db needs load, print or bytes in hexadecimal"),
            Some(b"load") => match words.next().and_then(number) {
                Some(bytes) if bytes as usize == need => {
                    self.loaded = Some(0);
                    self.say(format_args!("m-[Expecting {need} bytes]"))
                }
                Some(bytes) => self.say(format_args!("e-[The input has {need} bytes, not {bytes}]")),
                None => self.refuse("db load needs a number of bytes"),
            },
            Some(b"print") => {
                let mut or = |default| words.next().map_or(Some(default), number);
                match (or(16), or(0)) {
                    (Some(bytes), Some(offset)) => self.print_buffer(offset as usize, bytes as usize),
                    _ => self.refuse("db print takes numbers"),
                }
            }
            Some(digits) => self.load(digits),
        }
    }

    fn load(&mut self, digits: &[u8]) -> Said<P> {
        let (pairs, rest) = digits.as_chunks::<2>();
        let Some(at) = self.loaded else { return self.refuse("db load comes first") };
        if !rest.is_empty() {
            return self.refuse("A byte has two digits");
        }
        if pairs.iter().any(|pair| byte(pair).is_none()) {
            return self.refuse("Not hexadecimal");
        }
        let end = at + pairs.len();
        let Some(room) = self.network.picture.get_mut(at..end) else {
            return self.refuse("More bytes than db load said");
        };
        for (to, pair) in room.iter_mut().zip(pairs) {
            *to = byte(pair).unwrap_or_default();
        }
        self.loaded = Some(end);
        if end == self.network.picture.len() { self.say(format_args!("m-load-done")) } else { Ok(()) }
    }

    fn print_buffer(&mut self, offset: usize, bytes: usize) -> Said<P> {
        let buffer: &[u8] = self.network.picture;
        let buffer = buffer.get(offset..).unwrap_or_default();
        for line in buffer.get(..bytes).unwrap_or(buffer).chunks(8) {
            print(self.port, format_args!("m-buffer"))?;
            for byte in line {
                print(self.port, format_args!("-{byte:02x}"))?;
            }
            print(self.port, format_args!("\r\n"))?;
        }
        Ok(())
    }

    fn infer<'w>(&mut self, mut words: impl Iterator<Item = &'w [u8]>) -> Said<P> {
        let (count, warm_up) = (words.next().and_then(number), words.next().map_or(Some(WARM_UP), number));
        let (Some(count @ 1..), Some(warm_up)) = (count, warm_up) else {
            return self.refuse("infer needs a number of inferences from 1, and may take one to warm up");
        };
        if self.loaded != Some(self.network.picture.len()) {
            return self.refuse("No picture is loaded");
        }
        self.say(format_args!("m-warmup-start-{warm_up}"))?;
        if !self.repeat(warm_up)? {
            return Ok(());
        }
        self.say(format_args!("m-warmup-done"))?;
        self.say(format_args!("m-infer-start-{count}"))?;
        self.lap()?;
        if !self.repeat(count)? {
            return Ok(());
        }
        self.lap()?;
        self.say(format_args!("m-infer-done"))?;
        self.results()
    }

    /// Runs inferences; whether all ran.
    fn repeat(&mut self, count: u32) -> Result<bool, Error<P::Error>> {
        for _ in 0..count {
            if let Err(e) = self.network.run_picture() {
                self.say(format_args!("e-[{e}]"))?;
                return Ok(false);
            }
            self.ran = true;
        }
        Ok(true)
    }

    fn results(&mut self) -> Said<P> {
        if !self.ran {
            return self.refuse("Nothing was inferred");
        }
        let output = self.network.output();
        let (scale, zero_point) = (output.scale, i32::from(output.zero_point));
        let softmax = Softmax::new(1.0, scale);
        let Network { scores, probabilities, .. } = &mut *self.network;
        if let Some(softmax) = &softmax {
            softmax.run(scores, probabilities);
        }
        print(self.port, format_args!("m-results-["))?;
        for (i, (score, probability)) in scores.iter().zip(probabilities.iter()).enumerate() {
            let thousandths = match &softmax {
                // In steps of 1/256 from -128.
                Some(_) => ((i32::from(*probability) + 128) * 1000 + 128) / 256,
                None => ((i32::from(*score) - zero_point) as f32 * scale * 1000.0) as i32,
            };
            let (comma, sign) = (if i > 0 { "," } else { "" }, if thousandths < 0 { "-" } else { "" });
            let (whole, rest) = (thousandths.unsigned_abs() / 1000, thousandths.unsigned_abs() % 1000);
            print(self.port, format_args!("{comma}{sign}{whole}.{rest:03}"))?;
        }
        self.say(format_args!("]"))
    }
}

/// A decimal number.
fn number(digits: &[u8]) -> Option<u32> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// A byte of two hexadecimal digits.
fn byte(pair: &[u8; 2]) -> Option<u8> {
    let digit = |d: u8| char::from(d).to_digit(16);
    Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)
}
