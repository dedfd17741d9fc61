//! int8 by the definition in [`crate::quant`], byte for byte: direct convolution of any kernel side, stride and padding,
//! and the pools.
//!
//! A strip of input rows is copied into scratch with its padding, as the words that one step of the instruction set
//! multiplies:
//!
//! | products of a word | input | weights |
//! |---|---|---|
//! | 4 bytes | `x + 128`, unsigned; the bias takes back `128 + zero point` times the weights' sum | i8 |
//! | 2 i16 | `x - zero point` | i16 |

use core::{cmp::min, ops::Range};

use super::{Band, ConvKernel, len_for};
use crate::{
    Error, Isa, Name,
    geom::{Shape, Window},
    memory::MatMut,
    quant::{self, Conv, Mean},
    simd::int8::{self, DotIsa, Layout, Tile},
};

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8(DotIsa);

/// Words of a strip: a part of L2.
const STRIP: usize = 128 * 1024 / 4;

/// Where the parts of the packed weights lie: the input's zero point, four rows of numbers per channel, panels.
struct Packed<'p> {
    zero: i32,
    /// bias, multiplier, left shift, right shift
    lanes: [&'p [i32]; 4],
    panels: &'p [i32],
}

impl Int8 {
    /// The kernel for an instruction set.
    pub fn new(isa: Isa) -> Self {
        Int8(DotIsa::of(isa))
    }

    fn layout(&self) -> Layout {
        self.0.layout()
    }

    /// Words of an input pixel.
    fn pixel(&self, g: &Window) -> usize {
        g.input.c.div_ceil(self.layout().per_word)
    }

    /// Output channels rounded up to whole vectors.
    fn channels(&self, g: &Window) -> usize {
        g.output.c.next_multiple_of(self.layout().lanes)
    }

    /// Pixels of a padded input row.
    fn columns(g: &Window) -> usize {
        (g.output.w - 1) * g.stride + g.kernel
    }

    /// Output rows computed from one strip.
    fn strip_rows(&self, g: &Window) -> usize {
        let row = Int8::columns(g) * self.pixel(g);
        let rows = ((STRIP / row).saturating_sub(g.kernel) / g.stride + 1).min(g.output.h);
        // Strips of nearly equal height.
        g.output.h.div_ceil(g.output.h.div_ceil(rows))
    }

    fn parts<'p>(&self, g: &Window, packed: &'p [i32]) -> Packed<'p> {
        let (zero, rest) = packed.split_at(1);
        let (lanes, panels) = rest.split_at(4 * self.channels(g));
        let lane = |i: usize| &lanes[i * self.channels(g)..(i + 1) * self.channels(g)];
        Packed { zero: zero[0], lanes: [lane(0), lane(1), lane(2), lane(3)], panels }
    }

    /// Writes the weights of one output channel into its panel.
    fn pack_channel(&self, g: &Window, o: usize, weights: &[i8], panels: &mut [i32]) {
        let Layout { per_word, panel, .. } = self.layout();
        let (pixel, depth) = (self.pixel(g), g.kernel * g.kernel * self.pixel(g));
        let first = o / panel * panel;
        let width = min(self.channels(g) - first, panel);
        for (tap, weights) in weights.chunks_exact(g.input.c).enumerate() {
            for (w, group) in weights.chunks(per_word).enumerate() {
                panels[first * depth + (tap * pixel + w) * width + o - first] = word(group, per_word);
            }
        }
    }

    /// Copies the input rows that output rows `rows` of one image read.
    fn fill(&self, g: &Window, image: &[i8], rows: &Range<usize>, zero: i32, scratch: &mut [i32]) {
        let row = Int8::columns(g) * self.pixel(g);
        let (line, count) = (g.input.w * g.input.c, (rows.len() - 1) * g.stride + g.kernel);
        for (i, to) in scratch.chunks_exact_mut(row).take(count).enumerate() {
            let from = (rows.start * g.stride + i).checked_sub(g.pad_top).filter(|&y| y < g.input.h);
            let from = from.map(|y| &image[y * line..(y + 1) * line]);
            match self.layout().per_word {
                4 => fill_bytes(g, from, (zero + 128) as u8, bytemuck::cast_slice_mut(to)),
                _ => fill_halves(g, from, zero as i16, bytemuck::cast_slice_mut(to)),
            }
        }
    }
}

impl ConvKernel<i8> for Int8 {
    fn name(&self) -> Name {
        let Layout { rows, panel, .. } = self.layout();
        Name::new(format_args!("direct-int8-{}-{rows}x{panel}", self.0.name()))
    }

    fn supports(&self, g: &Window) -> bool {
        g.is_valid()
    }

    fn products(&self, g: &Window) -> u64 {
        g.macs()
    }

    fn packed_len(&self, g: &Window) -> usize {
        len_for(self, g, || 1 + self.channels(g) * (4 + g.kernel * g.kernel * self.pixel(g)))
    }

    fn scratch_len(&self, g: &Window) -> usize {
        len_for(self, g, || ((self.strip_rows(g) - 1) * g.stride + g.kernel) * Int8::columns(g) * self.pixel(g))
    }

    fn granularity(&self, _: &Window) -> (usize, usize) {
        (1, self.layout().panel)
    }

    fn prepack(&self, g: &Window, conv: Conv<'_>, packed: &mut [i32]) -> Result<(), Error> {
        let (need, got) = (self.packed_len(g), packed.len());
        if need != got {
            return Err(Error::BufferLength { what: "packed weight buffer", need, got });
        }
        if conv.window != *g || !conv.is_consistent() {
            return Err(Error::BufferLength { what: "weight", need: g.weight_len(), got: conv.weights.len() });
        }
        packed.fill(0);
        let zero = i32::from(conv.input_zero);
        let (head, rest) = packed.split_at_mut(1);
        head[0] = zero;
        let channels = self.channels(g);
        let (lanes, panels) = rest.split_at_mut(4 * channels);
        for (o, weights) in conv.weights.chunks_exact(g.taps()).enumerate() {
            self.pack_channel(g, o, weights, panels);
            let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
            let biased = self.layout().per_word == 4;
            let taken_back = if biased { (zero + 128).wrapping_mul(sum) } else { 0 };
            let shift = i32::from(conv.shift[o]);
            let numbers = [conv.bias[o].wrapping_sub(taken_back), conv.mult[o], shift.max(0), (-shift).max(0)];
            numbers.into_iter().enumerate().for_each(|(i, n)| lanes[i * channels + o] = n);
        }
        Ok(())
    }

    fn run(
        &self,
        g: &Window,
        x: &[i8],
        packed: &[i32],
        epilogue: quant::Epilogue,
        band: &Band,
        mut y: MatMut<'_, i8>,
        scratch: &mut [i32],
    ) {
        let Packed { zero, lanes, panels } = self.parts(g, packed);
        let (size, step) = (g.input.elements(), self.strip_rows(g));
        let mut done = 0;
        for (image, rows) in band.images(g.output.h) {
            let image = &x[image * size..(image + 1) * size];
            for first in rows.clone().step_by(step) {
                let strip = first..min(first + step, rows.end);
                self.fill(g, image, &strip, zero, scratch);
                let (pixels, cols) = (strip.len() * g.output.w, y.cols());
                let tile = Tile {
                    kernel: g.kernel,
                    stride: g.stride,
                    pixel: self.pixel(g),
                    columns: Int8::columns(g),
                    width: g.output.w,
                    x: scratch,
                    panels,
                    lanes,
                    epilogue: &epilogue,
                    first: band.channels.start,
                    y: y.part(done..done + pixels, 0..cols),
                    panel: self.layout().panel,
                };
                int8::run(self.0, tile);
                done += pixels;
            }
        }
    }
}

/// Up to `per_word` weights as one word, in the order inputs are copied in.
fn word(weights: &[i8], per_word: usize) -> i32 {
    if per_word == 4 {
        let mut bytes = [0; 4];
        bytes.iter_mut().zip(weights).for_each(|(b, w)| *b = *w as u8);
        i32::from_ne_bytes(bytes)
    } else {
        let mut halves = [0i16; 2];
        halves.iter_mut().zip(weights).for_each(|(h, w)| *h = i16::from(*w));
        bytemuck::cast(halves)
    }
}

/// The pixels of a padded row that lie on the map, and those of the map they show.
fn overlap<'a, T>(g: &Window, row: &'a [i8], to: &'a mut [T], each: usize) -> (&'a mut [T], &'a [i8]) {
    let columns = Int8::columns(g);
    let left = min(g.pad_left, columns);
    let shown = min(g.input.w, columns - left);
    (&mut to[left * each..][..shown * each], &row[..shown * g.input.c])
}

/// A padded row as bytes `x + 128`, `pad` where there is no pixel.
fn fill_bytes(g: &Window, row: Option<&[i8]>, pad: u8, to: &mut [u8]) {
    let Some(row) = row else { return to.fill(pad) };
    let (c, each) = (g.input.c, to.len() / Int8::columns(g));
    if g.pad_left > 0 || Int8::columns(g) > g.input.w {
        to.fill(pad);
    }
    let (to, from) = overlap(g, row, to, each);
    for (to, from) in to.chunks_exact_mut(each).zip(from.chunks_exact(c)) {
        let (head, tail) = to.split_at_mut(c);
        head.iter_mut().zip(from).for_each(|(to, from)| *to = *from as u8 ^ 0x80);
        tail.fill(0);
    }
}

/// A padded row as 16-bit integers `x - zero`, 0 where there is no pixel.
fn fill_halves(g: &Window, row: Option<&[i8]>, zero: i16, to: &mut [i16]) {
    let Some(row) = row else { return to.fill(0) };
    let (c, each) = (g.input.c, to.len() / Int8::columns(g));
    if g.pad_left > 0 || Int8::columns(g) > g.input.w {
        to.fill(0);
    }
    let (to, from) = overlap(g, row, to, each);
    if c == each {
        return to.iter_mut().zip(from).for_each(|(to, from)| *to = i16::from(*from) - zero);
    }
    for (to, from) in to.chunks_exact_mut(each).zip(from.chunks_exact(c)) {
        let (head, tail) = to.split_at_mut(c);
        head.iter_mut().zip(from).for_each(|(to, from)| *to = i16::from(*from) - zero);
        tail.fill(0);
    }
}

/// Output rows `rows` of one image's max pool.
pub(crate) fn max_pool_int8(window: &Window, x: &[i8], rows: Range<usize>, y: &mut [i8]) {
    let Window { input, output, kernel, pad_top, pad_left, .. } = *window;
    for (oy, line) in rows.zip(y.chunks_exact_mut(output.w * output.c)) {
        line.fill(i8::MIN);
        for iy in (0..kernel).filter_map(|ky| window.source(oy, ky, pad_top, input.h)) {
            for (ox, pixel) in line.chunks_exact_mut(output.c).enumerate() {
                for ix in (0..kernel).filter_map(|kx| window.source(ox, kx, pad_left, input.w)) {
                    let source = &x[(iy * input.w + ix) * input.c..][..input.c];
                    pixel.iter_mut().zip(source).for_each(|(y, x)| *y = (*y).max(*x));
                }
            }
        }
    }
}

/// One image's mean over all pixels, rounded half away from zero.
pub(crate) fn average_pool_int8(shape: Shape, x: &[i8], y: &mut [i8]) {
    let pixels = (shape.h * shape.w) as i64;
    add_up(shape.c, x, y, |sum| quant::reference::rounded_mean(sum, pixels) as i8);
}

/// One image's mean over all pixels, rescaled.
pub(crate) fn mean_int8(mean: &Mean, x: &[i8], y: &mut [i8]) {
    let zeros = (mean.input.h * mean.input.w) as i64 * i64::from(mean.input_zero);
    // A map has at most `Mean::MOST_PIXELS`, so the difference fits.
    add_up(mean.input.c, x, y, |sum| mean.encode((sum - zeros) as i32));
}

/// `y[c] = finish(sum x[.., c])`.
fn add_up(channels: usize, x: &[i8], y: &mut [i8], finish: impl Fn(i64) -> i8) {
    const LANES: usize = 64;
    for (first, y) in (0..channels).step_by(LANES).zip(y.chunks_mut(LANES)) {
        let mut sums = [0i64; LANES];
        for pixel in x.chunks_exact(channels) {
            sums.iter_mut().zip(&pixel[first..][..y.len()]).for_each(|(sum, x)| *sum += i64::from(*x));
        }
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = finish(sum));
    }
}
