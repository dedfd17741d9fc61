//! Both applications on a line in memory, beside the definition: whole exchanges, torn and damaged ones.

use std::collections::VecDeque;

use embedded_io::{ErrorKind, ErrorType, Read, Write};
use firmware_app::{Clock, Error, Memory, Network, Watch, classify, mlperf};
use residual_core::{
    quant::{Softmax, reference},
    rsd::{AlignedBytes, View, synthetic},
};
use residual_edge::{
    Fast, arena_bytes,
    source::{Format, Picture},
};

/// A line whose other end has said everything already; it hands that out in pieces of the given sizes, in turn.
struct Line {
    input: VecDeque<u8>,
    pieces: Vec<usize>,
    turn: usize,
    output: Vec<u8>,
    /// bytes it takes
    room: usize,
}

impl Line {
    fn new(input: &[u8], pieces: &[usize]) -> Self {
        let input = input.iter().copied().collect();
        Line { input, pieces: pieces.to_vec(), turn: 0, output: Vec::new(), room: usize::MAX }
    }
}

impl ErrorType for Line {
    type Error = ErrorKind;
}

impl Read for Line {
    fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        self.turn += 1;
        let len = self.pieces[self.turn % self.pieces.len()].min(to.len()).min(self.input.len());
        to[..len].iter_mut().for_each(|b| *b = self.input.pop_front().unwrap());
        Ok(len)
    }
}

impl Write for Line {
    fn write(&mut self, from: &[u8]) -> Result<usize, ErrorKind> {
        self.turn += 1;
        let len = self.pieces[self.turn % self.pieces.len()].min(from.len());
        if len > self.room {
            return Err(ErrorKind::BrokenPipe);
        }
        self.room -= len;
        self.output.extend(&from[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// A clock that moves on by 1000 at every look; it wraps every few inferences.
struct Ticks(u32);

impl Clock for Ticks {
    fn now(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(1000);
        self.0
    }

    fn hertz(&self) -> u32 {
        2_000_000
    }
}

fn model() -> AlignedBytes {
    synthetic(&"resnet8-cifar".parse().unwrap(), 5).unwrap()
}

type App = fn(&mut Network<'_, Ticks>, &mut Line) -> Result<(), Error<ErrorKind>>;

/// What the application leaves on `line`.
fn run_on(line: &mut Line, app: App) -> Result<(), Error<ErrorKind>> {
    let model = model();
    let mut arena = AlignedBytes::zeroed(arena_bytes::<Fast>(&model).unwrap());
    let ops = View::new_checked(&model).unwrap().ops();
    let memory = Memory {
        model: &model,
        arena: &mut arena,
        picture: &mut [0; 3072],
        scores: &mut [0; 10],
        probabilities: &mut [0; 10],
        times: &mut vec![0; ops],
    };
    let mut network = Network::new(memory, Ticks(u32::MAX - 100_000)).unwrap();
    app(&mut network, line)
}

fn run(input: &[u8], pieces: &[usize], app: App) -> String {
    let mut line = Line::new(input, pieces);
    assert_eq!(run_on(&mut line, app), Ok(()));
    String::from_utf8(line.output).unwrap()
}

fn picture(seed: u8) -> Vec<u8> {
    (0..3072u32).map(|i| ((i * 37) >> 3) as u8 ^ seed).collect()
}

/// The definition's output: bytes stand for themselves, as the model does not say how pixels are normalised.
fn definition(picture: &[u8]) -> Vec<i8> {
    let model = model();
    let view = View::new_checked(&model).unwrap();
    let mut values = vec![picture.iter().map(|b| *b as i8).collect::<Vec<i8>>()];
    for i in 0..view.ops() {
        let op = view.op(i).unwrap();
        let mut y = vec![0; op.output().elements()];
        let shortcut = view.shortcut(i).map_or(&[][..], |s| &values[s]);
        reference::execute(&op, &values[view.source(i).unwrap()], shortcut, &mut y).unwrap();
        values.push(y);
    }
    values.pop().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const PIECES: [&[usize]; 3] = [&[1], &[7, 2, 1, 30], &[4096]];

#[test]
fn classify_answers_every_picture() {
    let header = Picture { width: 32, height: 32, format: Format::Rgb888 }.header();
    let (one, two) = (picture(0), picture(0x5a));
    let small = Picture { width: 31, height: 32, format: Format::Grey8 }.header();
    let wire = [b"noise", &header[..], &one, &small, &header[..], &two, &header[..9]].concat();
    for pieces in PIECES {
        let said = run(&wire, pieces, classify);
        let lines: Vec<&str> = said.split_terminator("\r\n").collect();
        assert_eq!(lines[0], "ready resnet8-cifar 32x32x3");
        assert_eq!(lines.iter().filter(|line| **line == "ready").count(), 3);
        let scores: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("scores ")).collect();
        let classes: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("class ")).collect();
        let errors: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("error ")).collect();
        assert_eq!(errors, ["the picture has 31x32 pixels, the network's input 32x32"]);
        for (i, picture) in [&one, &two].into_iter().enumerate() {
            let want = definition(picture);
            assert_eq!(scores[i], hex(&want.iter().map(|v| *v as u8).collect::<Vec<_>>()));
            let best = (0..10).rev().max_by_key(|c| want[*c]).unwrap();
            assert_eq!(classes[i], format!("{best} "));
        }
        // Every slice of a layer took one tick; together they are less than all the time there was.
        let model = model();
        let ops = View::new_checked(&model).unwrap().ops();
        let layers = lines.iter().filter_map(|line| line.strip_prefix("layer "));
        let layers: Vec<u64> = layers.map(|line| line.split_once(' ').unwrap().1.parse().unwrap()).collect();
        assert!(layers.len() == 2 * ops && layers.iter().all(|cycles| *cycles >= 1000));
        let time = lines.iter().find_map(|line| line.strip_prefix("time ")).unwrap().split_once(' ').unwrap();
        let (cycles, micros): (u64, u64) = (time.0.parse().unwrap(), time.1.parse().unwrap());
        assert!(layers[..ops].iter().sum::<u64>() < cycles && cycles < 1_000_000 && micros == cycles / 2);
    }
}

/// Three decimals of the softmax, as the definition has it.
fn results(picture: &[u8]) -> String {
    let logits = definition(picture);
    let model = model();
    let scale = View::new_checked(&model).unwrap().output().unwrap().scale;
    let mut probabilities = [0; 10];
    Softmax::new(1.0, scale).unwrap().run(&logits, &mut probabilities);
    // To the nearest thousandth; a tie goes up.
    let thousandths = probabilities.map(|p| ((i32::from(p) + 128) * 1000 + 128) / 256);
    let real = thousandths.map(|n| format!("{}.{:03}", n / 1000, n % 1000));
    format!("m-results-[{}]", real.join(","))
}

fn load(picture: &[u8]) -> String {
    let bytes = picture.chunks(31).map(|piece| format!("db {}%", hex(piece)));
    format!("db load {}%{}", picture.len(), bytes.collect::<String>())
}

#[test]
fn mlperf_runs_a_whole_session() {
    let (one, two) = (picture(3), picture(0x77));
    let session =
        format!("%name%\r\nprofile%timestamp%{}infer 2 1%{}infer 1%results%db print 9 1%help%", load(&one), load(&two));
    for pieces in PIECES {
        let said = run(session.as_bytes(), pieces, mlperf);
        let lines: Vec<&str> = said.split_terminator("\r\n").filter(|line| !line.starts_with("m-lap-us-")).collect();
        let mut want = vec!["m-timestamp-mode-performance", "m-init-done", "m-ready", "m-ready"];
        want.extend(["m-name-dut-[residual]", "m-ready", "m-profile-[ULPMark for tinyML Firmware V0.0.1]"]);
        want.extend(["m-model-[ic01]", "m-ready", "m-ready"]);
        let results = [results(&one), results(&two)];
        for (result, count, warm_up) in [(&results[0], 2, 1), (&results[1], 1, 10)] {
            want.extend(["m-[Expecting 3072 bytes]", "m-ready"]);
            want.extend([&["m-ready"; 99][..], &["m-load-done", "m-ready"]].concat());
            let start = if warm_up == 1 { "m-warmup-start-1" } else { "m-warmup-start-10" };
            let infer = if count == 1 { "m-infer-start-1" } else { "m-infer-start-2" };
            want.extend([start, "m-warmup-done", infer, "m-infer-done", result, "m-ready"]);
        }
        let print: Vec<String> = two[1..10].iter().map(|b| format!("-{b:02x}")).collect();
        let print = [format!("m-buffer{}", print[..8].concat()), format!("m-buffer{}", print[8])];
        want.extend([&results[1], "m-ready", &print[0], &print[1], "m-ready"]);
        assert_eq!(lines[..want.len()], want);
        assert!(lines[want.len()].starts_with("name, profile") && lines.len() == want.len() + 2);
        // Time only goes on, and by as much as the inferences took.
        let laps: Vec<u64> = said.lines().filter_map(|line| line.strip_prefix("m-lap-us-")?.parse().ok()).collect();
        assert_eq!(laps.len(), 2 + 2 * 2);
        assert!(laps.is_sorted(), "{laps:?}");
        let (two, one) = (laps[3] - laps[2], laps[5] - laps[4]);
        assert!(one > 10_000 && two == 2 * one - 500 || two == 2 * one, "{one} {two}");
    }
}

#[test]
fn mlperf_refuses_what_makes_no_sense() {
    let long = format!("{}%", "9".repeat(1000));
    let limit = format!("db {}%", "00".repeat(126));
    let over = format!("{}db load 3072%{}", load(&picture(1)), "db 00%".repeat(3));
    let most = format!("db load 3072%{}db {}%", "db 00%".repeat(3070), "00".repeat(3));
    let never = "e-[db load comes first]";
    let hex = "e-[Not hexadecimal]";
    let help = "e-[Unknown command; try help]";
    let count = "e-[infer needs a number of inferences from 1, and may take one to warm up]";
    for (command, want) in [
        (&long[..], "e-[Command too long]"),
        (&limit[..], never),
        ("db 00%", never),
        ("db%", "e-[db needs load, print or bytes in hexadecimal]"),
        ("db load%", "e-[db load needs a number of bytes]"),
        ("db load x%", "e-[db load needs a number of bytes]"),
        ("db load 99999999999%", "e-[db load needs a number of bytes]"),
        ("db load 0%", "e-[The input has 3072 bytes, not 0]"),
        ("db load 3073%", "e-[The input has 3072 bytes, not 3073]"),
        ("db load 3072%db 0%", "e-[A byte has two digits]"),
        ("db load 3072%db 0g%", hex),
        ("db load 3072%db +1%", hex),
        ("db load 3072%db \u{e9}%", hex),
        ("db print x%", "e-[db print takes numbers]"),
        ("infer%", count),
        ("infer 0%", count),
        ("infer 1 x%", count),
        ("infer 1%", "e-[No picture is loaded]"),
        ("db load 3072%infer 1%", "e-[No picture is loaded]"),
        ("results%", "e-[Nothing was inferred]"),
        ("INFER 1%", help),
        ("\u{ff}\u{0}\u{1}%", help),
        (&over[..], "m-ready"),
        (&most[..], "e-[More bytes than db load said]"),
    ] {
        for pieces in PIECES {
            // The session goes on after it.
            let said = run(format!("{command}name%").as_bytes(), pieces, mlperf);
            let lines: Vec<&str> = said.split_terminator("\r\n").collect();
            let end = ["m-ready", "m-name-dut-[residual]", "m-ready"];
            let command = &command[..command.len().min(40)];
            assert!(lines.ends_with(&end), "{command}: {said}");
            let answer = lines[..lines.len() - end.len()].last();
            assert_eq!(answer, Some(&want), "{command}");
        }
    }
    let said = run(b"db print 100 3070%db print 1 9999999%", &[3], mlperf);
    assert!(said.contains("m-buffer-00-00\r\nm-ready\r\nm-ready\r\n"), "{said}");
}

#[test]
fn a_failing_line_ends_the_exchange() {
    let header = Picture { width: 32, height: 32, format: Format::Rgb888 }.header();
    let wire = [&header[..], &picture(0)].concat();
    for room in [0, 5, 40, 300] {
        let mut line = Line { room, ..Line::new(&wire, &[64]) };
        assert_eq!(run_on(&mut line, classify), Err(Error::Line(ErrorKind::BrokenPipe)), "{room}");
        let mut line = Line { room, ..Line::new("help%".repeat(9).as_bytes(), &[64]) };
        assert_eq!(run_on(&mut line, mlperf), Err(Error::Line(ErrorKind::BrokenPipe)), "{room}");
    }
    /// Takes nothing.
    struct Deaf;
    impl ErrorType for Deaf {
        type Error = ErrorKind;
    }
    impl Read for Deaf {
        fn read(&mut self, _: &mut [u8]) -> Result<usize, ErrorKind> {
            Ok(0)
        }
    }
    impl Write for Deaf {
        fn write(&mut self, _: &[u8]) -> Result<usize, ErrorKind> {
            Ok(0)
        }
        fn flush(&mut self) -> Result<(), ErrorKind> {
            Ok(())
        }
    }
    let model = model();
    let mut arena = AlignedBytes::zeroed(arena_bytes::<Fast>(&model).unwrap());
    let memory = Memory {
        model: &model,
        arena: &mut arena,
        picture: &mut [0; 3072],
        scores: &mut [0; 10],
        probabilities: &mut [0; 10],
        times: &mut [],
    };
    let mut network = Network::new(memory, Ticks(0)).unwrap();
    assert_eq!(mlperf(&mut network, &mut Deaf), Err(Error::Full));
    assert!(network.run_picture().is_ok());
}

#[test]
fn watches_outlive_their_clocks() {
    let mut watch = Watch::new(Ticks(u32::MAX - 1500));
    let readings: Vec<u64> = (0..4).map(|_| watch.cycles()).collect();
    assert_eq!(readings, [1000, 2000, 3000, 4000]);
    assert_eq!(watch.micros(3_000_000_001), 1_500_000_000);
    assert_eq!(watch.micros(u64::MAX), 9_223_372_036_854_775_807);
}
