//! Pictures from streams and cameras against a plain reference, and everything that can go wrong on the way.

use std::{collections::VecDeque, convert::Infallible};

use embedded_hal::{delay::DelayNs, spi};
use residual_core::{
    geom::Shape,
    rsd::{AlignedBytes, Builder, Preprocessing},
};
use residual_edge::{
    Engine, Fast, arena_bytes,
    source::{
        CaptureError, FifoCamera, Format, Frame, FrameError, Picture, ReadError, Registers, Table, quantize_pixel,
        read_header, read_picture,
    },
};

const FORMATS: [Format; 4] = [Format::Rgb888, Format::Rgb565, Format::Rgb565Le, Format::Grey8];
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];
const SCALE: f32 = 0.0186;
const ZERO: i8 = -14;

/// A network whose input is all that matters.
fn model(h: usize, w: usize) -> AlignedBytes {
    let mut model = Builder::new(Shape::new(h, w, 3), SCALE, ZERO);
    model.preprocessing(Preprocessing { mean: MEAN, std: STD, resize: [0; 2], crop: [0; 2] });
    model.global_average_pool("pool", 0).unwrap();
    model.finish().unwrap()
}

/// Calls `f` with an engine and the model's table.
fn with_engine<T>(h: usize, w: usize, f: impl FnOnce(&mut Engine<'_, Fast>, &Table) -> T) -> T {
    let model = model(h, w);
    let mut arena = AlignedBytes::zeroed(arena_bytes::<Fast>(&model).unwrap());
    let mut engine = Engine::<Fast>::new(&model, &mut arena).unwrap();
    let table = Table::new(engine.model()).unwrap();
    f(&mut engine, &table)
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x1234_5678u32;
    let draw = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 9) as u8
    };
    (0..len).map(draw).collect()
}

fn picture(width: u16, height: u16, format: Format) -> (Picture, Vec<u8>) {
    let picture = Picture { width, height, format };
    (picture, noise(picture.bytes().unwrap()))
}

/// Python's rounding of a half, as torchvision's centre crop has it.
fn half_to_even(n: usize) -> usize {
    (n as f64 / 2.0).round_ties_even() as usize
}

/// The whole picture first, then what the network sees of it, in float.
fn reference(picture: &Picture, bytes: &[u8], h: usize, w: usize) -> Vec<i8> {
    let pixel = |p: &[u8]| match picture.format {
        Format::Rgb888 => [p[0], p[1], p[2]],
        Format::Grey8 => [p[0]; 3],
        _ => {
            let word = if picture.format == Format::Rgb565 {
                u16::from_be_bytes([p[0], p[1]])
            } else {
                u16::from_le_bytes([p[0], p[1]])
            };
            let widen = |v: u16, most: u16| (f64::from(v) * 255.0 / f64::from(most)).round() as u8;
            [widen(word >> 11, 31), widen(word >> 5 & 63, 63), widen(word & 31, 31)]
        }
    };
    let pixels: Vec<[u8; 3]> = bytes.chunks_exact(picture.format.bytes()).map(pixel).collect();
    let (width, height) = (usize::from(picture.width), usize::from(picture.height));
    let step = (width / w).min(height / h);
    let (left, top) = (half_to_even(width - w * step), half_to_even(height - h * step));
    let mut input = Vec::new();
    for y in 0..h {
        for x in 0..w {
            let (row, column) = (top + y * step + (step - 1) / 2, left + x * step + (step - 1) / 2);
            for (c, v) in pixels[row * width + column].into_iter().enumerate() {
                let real = (f32::from(v) / 255.0 - MEAN[c]) / STD[c];
                let steps = (f64::from(real) / f64::from(SCALE)).round() + f64::from(ZERO);
                input.push(steps.clamp(-128.0, 127.0) as i8);
            }
        }
    }
    input
}

/// Delivers `bytes` in pieces of the sizes of `pieces`, in turn; fails where it is told to.
struct Dribble {
    bytes: VecDeque<u8>,
    pieces: Vec<usize>,
    turn: usize,
    fail_at: Option<usize>,
}

impl Dribble {
    fn new(bytes: impl IntoIterator<Item = u8>, pieces: &[usize]) -> Self {
        Dribble { bytes: bytes.into_iter().collect(), pieces: pieces.to_vec(), turn: 0, fail_at: None }
    }
}

impl embedded_io::ErrorType for Dribble {
    type Error = embedded_io::ErrorKind;
}

impl embedded_io::Read for Dribble {
    fn read(&mut self, to: &mut [u8]) -> Result<usize, Self::Error> {
        self.turn += 1;
        if self.fail_at.is_some_and(|at| self.turn > at) {
            return Err(embedded_io::ErrorKind::TimedOut);
        }
        let len = self.pieces[self.turn % self.pieces.len()].min(to.len()).min(self.bytes.len());
        to[..len].iter_mut().for_each(|b| *b = self.bytes.pop_front().unwrap());
        Ok(len)
    }
}

const SIZES: [(u16, u16, usize, usize); 8] = [
    (32, 32, 32, 32),
    (33, 35, 32, 32),
    (7, 5, 5, 3),
    (31, 17, 5, 3),
    (160, 120, 32, 32),
    (97, 64, 32, 32),
    (9, 100, 9, 7),
    (1, 1, 1, 1),
];

#[test]
fn streams_give_the_references_bytes() {
    for (width, height, h, w) in SIZES {
        for format in FORMATS {
            let (picture, bytes) = picture(width, height, format);
            let want = reference(&picture, &bytes, h, w);
            for pieces in [&[1][..], &[3, 1, 7, 2], &[64], &[1000, 5]] {
                // Garbage before, the next picture's header behind.
                let wire = b"noise pi pict".iter().copied().take(12).chain(picture.header());
                let wire = wire.chain(bytes.iter().copied()).chain(picture.header());
                let mut wire = Dribble::new(wire, pieces);
                with_engine(h, w, |engine, table| {
                    assert_eq!(read_picture(&mut wire, engine, table), Ok(picture));
                    assert!(engine.input_mut() == want, "{picture:?} for {w}x{h}");
                    assert_eq!(read_header(&mut wire), Ok(picture), "a byte too many was read");
                    assert_eq!(read_header(&mut wire), Err(ReadError::End));
                });
            }
        }
    }
}

#[test]
fn streams_say_what_is_wrong() {
    let (good, bytes) = picture(10, 8, Format::Rgb888);
    let send = |wire: Vec<u8>, fail_at: Option<usize>| {
        let mut wire = Dribble { fail_at, ..Dribble::new(wire, &[5]) };
        with_engine(8, 8, |engine, table| read_picture(&mut wire, engine, table))
    };
    let framed = |header: [u8; 16]| [&header[..], &bytes].concat();
    let header = good.header();
    assert_eq!(send(framed(header), None), Ok(good));
    assert_eq!(send(vec![], None), Err(ReadError::End));
    assert_eq!(send(header[..9].to_vec(), None), Err(ReadError::End));
    let cut = framed(header)[..16 + 239].to_vec();
    assert_eq!(send(cut, None), Err(FrameError::Length { need: 240, got: 239 }.into()));
    for at in [0, 3, 12, 17, 40] {
        assert_eq!(send(framed(header), Some(at)), Err(ReadError::Read(embedded_io::ErrorKind::TimedOut)));
    }
    let with = |at: usize, value: u8| {
        let mut header = header;
        header[at] = value;
        send(framed(header), None)
    };
    assert_eq!(with(8, 4), Err(FrameError::Format { found: 4 }.into()));
    assert_eq!(with(8, 1), Err(FrameError::Length { need: 160, got: 240 }.into()));
    assert_eq!(with(4, 7), Err(FrameError::Length { need: 168, got: 240 }.into()));
    assert_eq!(with(15, 1), Err(FrameError::Length { need: 240, got: (1 << 24) + 240 }.into()));
    let small = Picture { width: 7, height: 9, format: Format::Grey8 };
    let refused = FrameError::TooSmall { need: [8, 8], got: [7, 9] };
    assert_eq!(send(small.header().to_vec(), None), Err(refused.into()));
    let none = Picture { width: 0, height: 0, format: Format::Rgb565 };
    assert!(matches!(send(none.header().to_vec(), None), Err(ReadError::Frame(FrameError::TooSmall { .. }))));
    let text = ReadError::<embedded_io::ErrorKind>::Frame(refused).to_string();
    assert_eq!(text, "the picture has 7x9 pixels, the network's input 8x8");
}

#[test]
fn a_frame_counts_its_bytes() {
    let (picture, bytes) = picture(5, 4, Format::Rgb565);
    with_engine(4, 4, |engine, table| {
        let mut frame = Frame::new(engine, table, picture).unwrap();
        frame.push(&bytes[..39]).unwrap();
        assert_eq!(frame.push(&[0, 0]), Err(FrameError::Length { need: 40, got: 41 }));
        assert_eq!(frame.missing(), 1);
        assert_eq!(frame.finish(), Err(FrameError::Length { need: 40, got: 39 }));
        let mut frame = Frame::new(engine, table, picture).unwrap();
        bytes.chunks(7).for_each(|piece| frame.push(piece).unwrap());
        assert_eq!(frame.finish(), Ok(()));
        assert_eq!(engine.input_mut(), reference(&picture, &bytes, 4, 4));
    });
}

#[test]
fn tables_need_the_channels_of_pictures_and_a_preprocessing() {
    let table = |shape, scale, zero_point| {
        let mut model = Builder::new(shape, scale, zero_point);
        model.global_average_pool("pool", 0).unwrap();
        let model = model.finish().unwrap();
        Table::new(&residual_core::rsd::View::new_checked(&model).unwrap())
    };
    let square = Shape::new(4, 4, 3);
    assert_eq!(table(square, 0.5, -128), Err(FrameError::NoPreprocessing));
    assert_eq!(table(Shape::new(4, 4, 2), 1.0, -128), Err(FrameError::Channels { need: 2, got: 3 }));
    let pixels = table(square, 1.0, -128).unwrap();
    assert!((0..=255).all(|v| i32::from(pixels.get(1, v)) == i32::from(v) - 128));
    assert!((0..=255).all(|v| Table::raw().get(2, v) == v as i8));
}

/// What a broken bus says.
#[derive(Debug, PartialEq)]
struct Broken;

impl spi::Error for Broken {
    fn kind(&self) -> spi::ErrorKind {
        spi::ErrorKind::Other
    }
}

/// A camera: registers, and a memory that is full after some looks at the status.
struct Chip {
    held: u8,
    memory: Vec<u8>,
    read: usize,
    looks: u32,
    started: bool,
    /// transactions until the bus breaks
    fuse: usize,
}

impl Chip {
    fn new(memory: &[u8]) -> Self {
        Chip { held: 0, memory: memory.to_vec(), read: 0, looks: 3, started: false, fuse: usize::MAX }
    }

    fn register(&mut self, address: u8) -> u8 {
        let [low, middle, high, _] = (self.memory.len() as u32).to_le_bytes();
        match address {
            0x00 => self.held,
            0x41 => {
                self.looks = self.looks.saturating_sub(1);
                if self.started && self.looks == 0 { 0x08 } else { 0x01 }
            }
            0x42 => low,
            0x43 => middle,
            // Bits beyond the size mean something else.
            0x44 => high | 0x80,
            _ => panic!("read of register {address:#x}"),
        }
    }
}

impl spi::ErrorType for Chip {
    type Error = Broken;
}

impl spi::SpiDevice for Chip {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), Broken> {
        self.fuse = self.fuse.checked_sub(1).ok_or(Broken)?;
        match operations {
            [spi::Operation::Write([0x80, value])] => self.held = *value,
            [spi::Operation::Write([0x84, 0x01])] => (self.read, self.started) = (0, false),
            [spi::Operation::Write([0x84, 0x02])] => self.started = true,
            [spi::Operation::Write([0x3c]), spi::Operation::Read(to)] => {
                to.copy_from_slice(&self.memory[self.read..][..to.len()]);
                self.read += to.len();
            }
            [spi::Operation::Write([address]), spi::Operation::Read(to)] if to.len() == 1 => {
                to[0] = self.register(*address);
            }
            other => panic!("unknown transaction {other:?}"),
        }
        Ok(())
    }
}

/// Counts milliseconds.
#[derive(Default)]
struct Wait(u32);

impl DelayNs for Wait {
    fn delay_ns(&mut self, ns: u32) {
        self.0 += ns / 1_000_000;
    }
}

type Capture = Result<(), CaptureError<Broken>>;

fn capture(chip: Chip, registers: Registers, picture: Picture, h: usize, w: usize) -> (Capture, Vec<i8>, u32) {
    let mut wait = Wait::default();
    with_engine(h, w, |engine, table| {
        let result = FifoCamera::new(chip, registers).and_then(|mut camera| {
            let frame = Frame::new(engine, table, picture).unwrap();
            camera.capture(frame, &mut wait, 20)
        });
        (result, engine.input_mut().to_vec(), wait.0)
    })
}

#[test]
fn cameras_give_the_references_bytes() {
    for (width, height, h, w) in SIZES {
        for format in FORMATS {
            let (picture, bytes) = picture(width, height, format);
            let want = reference(&picture, &bytes, h, w);
            let (result, input, waited) = capture(Chip::new(&bytes), Registers::ARDUCHIP, picture, h, w);
            assert_eq!((result, waited), (Ok(()), 2), "{picture:?} for {w}x{h}");
            assert!(input == want, "{picture:?} for {w}x{h}");
            // A byte before, more than a picture behind.
            let memory = [&[9][..], &bytes, &[7; 8]].concat();
            let registers = Registers { lead: 1, ..Registers::ARDUCHIP };
            let (result, input, _) = capture(Chip::new(&memory), registers, picture, h, w);
            assert_eq!(result, Ok(()), "{picture:?} for {w}x{h}");
            assert!(input == want, "{picture:?} for {w}x{h}");
        }
    }
}

#[test]
fn cameras_say_what_is_wrong() {
    let (picture, bytes) = picture(20, 11, Format::Rgb565);
    let run = |chip| capture(chip, Registers::ARDUCHIP, picture, 8, 8).0;
    assert_eq!(run(Chip::new(&bytes)), Ok(()));
    let short = Err(FrameError::Length { need: 440, got: 439 }.into());
    assert_eq!(run(Chip::new(&bytes[..439])), short);
    let never = Chip { looks: u32::MAX, ..Chip::new(&bytes) };
    assert_eq!(run(never), Err(CaptureError::Timeout { ms: 20 }));
    // A bus that breaks at any transaction of the 2 * 2 + 2 + 3 + 3 + 4 there are.
    for fuse in 0..16 {
        assert_eq!(run(Chip { fuse, ..Chip::new(&bytes) }), Err(CaptureError::Bus(Broken)), "{fuse}");
    }
    assert_eq!(run(Chip { fuse: 16, ..Chip::new(&bytes) }), Ok(()));

    /// A bus without a camera reads ones.
    #[derive(Debug)]
    struct Nothing;
    impl spi::ErrorType for Nothing {
        type Error = Infallible;
    }
    impl spi::SpiDevice for Nothing {
        fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), Infallible> {
            for operation in operations {
                if let spi::Operation::Read(to) = operation {
                    to.fill(0xff);
                }
            }
            Ok(())
        }
    }
    let nothing = FifoCamera::new(Nothing, Registers::ARDUCHIP).unwrap_err();
    assert_eq!(nothing, CaptureError::NoCamera { wrote: 0x55, read: 0xff });
    assert_eq!(nothing.to_string(), "no camera answers: wrote 85, read 255");
}

#[test]
fn a_network_of_one_channel_takes_grey() {
    let mut model = Builder::new(Shape::new(3, 5, 1), SCALE, ZERO);
    model.preprocessing(Preprocessing { mean: [0.4; 3], std: [0.3; 3], resize: [3, 5], crop: [3, 5] });
    model.global_average_pool("pool", 0).unwrap();
    let model = model.finish().unwrap();
    let mut arena = AlignedBytes::zeroed(arena_bytes::<Fast>(&model).unwrap());
    let mut engine = Engine::<Fast>::new(&model, &mut arena).unwrap();
    let table = Table::new(engine.model()).unwrap();
    let (picture, bytes) = picture(5, 3, Format::Grey8);
    let mut frame = Frame::new(&mut engine, &table, picture).unwrap();
    frame.push(&bytes).unwrap();
    frame.finish().unwrap();
    let want: Vec<i8> = bytes.iter().map(|&v| quantize_pixel(v, 0.4, 0.3, SCALE, ZERO)).collect();
    assert_eq!(engine.input_mut(), want);
    let colour = Picture { format: Format::Rgb888, ..picture };
    let refused = Frame::new(&mut engine, &table, colour).map(|_| ()).unwrap_err();
    assert_eq!(refused, FrameError::Channels { need: 1, got: 3 });
}
