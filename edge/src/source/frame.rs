//! A picture on its way into an engine.

use super::{Format, FrameError, Picture, Table};
use crate::{Engine, Mode};

/// An engine's input while a picture arrives.
#[derive(Debug)]
pub struct Frame<'a> {
    input: &'a mut [i8],
    table: &'a Table,
    channels: usize,
    format: Format,
    columns: Axis,
    rows: Axis,
    /// bytes of the picture, and how many of them came
    need: usize,
    got: usize,
    /// where the next kept pixel goes
    at: usize,
    /// the channel that comes next, or the pixel's first byte
    channel: usize,
    first: Option<u8>,
}

impl<'a> Frame<'a> {
    /// Begins an input of `engine`; an inference under way is abandoned.
    ///
    /// # Errors
    /// [`FrameError::TooSmall`], [`FrameError::Channels`].
    pub fn new<M: Mode>(engine: &'a mut Engine<'_, M>, table: &'a Table, picture: Picture) -> Result<Self, FrameError> {
        let shape = engine.model().input().ok_or(FrameError::NoPreprocessing)?.shape;
        if shape.c != 3 && picture.format != Format::Grey8 {
            return Err(FrameError::Channels { need: shape.c, got: 3 });
        }
        let (width, height) = (usize::from(picture.width), usize::from(picture.height));
        // Both sides are thinned alike; a checked model's are not 0.
        let step = (width / shape.w.max(1)).min(height / shape.h.max(1));
        let need = picture.bytes().filter(|_| step > 0);
        let need = need.ok_or(FrameError::TooSmall { need: [shape.w, shape.h], got: [width, height] })?;
        Ok(Frame {
            input: engine.input_mut(),
            table,
            channels: shape.c,
            format: picture.format,
            columns: Axis::centred(width, shape.w, step),
            rows: Axis::centred(height, shape.h, step),
            need,
            got: 0,
            at: 0,
            channel: 0,
            first: None,
        })
    }

    /// Bytes that have not come yet.
    pub fn missing(&self) -> usize {
        self.need - self.got
    }

    /// The next bytes of the picture, as many as there are.
    ///
    /// # Errors
    /// [`FrameError::Length`] if they are more than are missing; nothing is taken then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if bytes.len() > self.missing() {
            return Err(FrameError::Length { need: self.need, got: self.got.saturating_add(bytes.len()) });
        }
        self.got += bytes.len();
        for byte in bytes {
            match self.format {
                Format::Rgb888 => {
                    self.put(self.channel, *byte);
                    self.channel += 1;
                    if self.channel == self.channels {
                        self.channel = 0;
                        self.advance();
                    }
                }
                Format::Grey8 => {
                    for channel in 0..self.channels {
                        self.put(channel, *byte);
                    }
                    self.advance();
                }
                Format::Rgb565 | Format::Rgb565Le => match self.first.take() {
                    None => self.first = Some(*byte),
                    Some(first) if self.format == Format::Rgb565 => self.packed([first, *byte]),
                    Some(first) => self.packed([*byte, first]),
                },
            }
        }
        Ok(())
    }

    /// The input is complete: run the engine.
    ///
    /// # Errors
    /// [`FrameError::Length`] if bytes are missing.
    pub fn finish(self) -> Result<(), FrameError> {
        if self.missing() > 0 { Err(FrameError::Length { need: self.need, got: self.got }) } else { Ok(()) }
    }

    /// A pixel of 5, 6 and 5 bits, its high byte first. Its samples become the nearest of 8 bits: `255 v / 31` and
    /// `255 v / 63`, rounded, for every `v`.
    fn packed(&mut self, bytes: [u8; 2]) {
        let word = u32::from(u16::from_be_bytes(bytes));
        let (red, green, blue) = (word >> 11, word >> 5 & 63, word & 31);
        for (channel, v) in
            [(red * 527 + 23) >> 6, (green * 259 + 33) >> 6, (blue * 527 + 23) >> 6].into_iter().enumerate()
        {
            self.put(channel, v as u8);
        }
        self.advance();
    }

    fn put(&mut self, channel: usize, v: u8) {
        if self.columns.kept()
            && self.rows.kept()
            && let Some(to) = self.input.get_mut(self.at + channel)
        {
            *to = self.table.get(channel, v);
        }
    }

    /// To the next pixel.
    fn advance(&mut self) {
        if self.columns.kept() && self.rows.kept() {
            self.at += self.channels;
        }
        if self.columns.advance() {
            self.rows.advance();
        }
    }
}

/// A side of a picture: where on it the next pixel lies, and which are kept.
#[derive(Clone, Copy, Debug)]
struct Axis {
    len: usize,
    /// the first that is kept, the first behind those in the middle, and the distance of those kept
    first: usize,
    end: usize,
    step: usize,
    at: usize,
    next: usize,
}

impl Axis {
    /// The middle `want * step` of `len` pixels, of every `step` the middle one. Odd remainders go to the side that
    /// the host's centre crop gives them to.
    fn centred(len: usize, want: usize, step: usize) -> Self {
        let spare = len.saturating_sub(want * step);
        let half = spare / 2;
        let start = half + (spare % 2) * (half % 2);
        let first = start + step.saturating_sub(1) / 2;
        Axis { len, first, end: start + want * step, step, at: 0, next: first }
    }

    fn kept(&self) -> bool {
        self.at == self.next && self.at < self.end
    }

    /// To the next pixel; whether that is the first again.
    fn advance(&mut self) -> bool {
        if self.at == self.next {
            self.next += self.step;
        }
        self.at += 1;
        let around = self.at == self.len;
        if around {
            (self.at, self.next) = (0, self.first);
        }
        around
    }
}
