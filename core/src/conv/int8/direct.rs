//! Direct convolution in int8, of any kernel side, stride and padding.
//!
//! A strip of input rows is copied into scratch with its padding, as bytes `x + 128` where the instruction set multiplies
//! words of bytes, else as 16-bit integers `x - zero point`. What a kernel row reads lies side by side then: pixels of any
//! number of channels, cut into words.

use core::{cmp::min, ops::Range};

use super::{Numbers, check_prepack, pack::Panel};
use crate::{
    Error, Isa, Name,
    conv::{Band, ConvKernel, len_for},
    geom::Window,
    memory::MatMut,
    quant::{self, Conv},
    simd::int8::{self, DotIsa, Layout, Tile},
};

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8Direct(pub(super) DotIsa);

/// Bytes of a strip: a part of L2.
const STRIP: usize = 128 * 1024;
/// Bytes of a strip and of its outputs where there are at most so many weights.
const SMALL_STRIP: usize = 64 * 1024;
const SMALL: usize = 128 * 1024;

/// How a strip is laid out.
#[derive(Clone, Copy)]
struct Strip {
    /// pixels of a padded row, and input pixels (and rows) from one to the next
    columns: usize,
    apart: usize,
    /// rows between those of neighbouring outputs
    stride: usize,
    /// bytes of an element and of a row
    size: usize,
    row: usize,
    /// words of a kernel row
    line: usize,
}

impl Int8Direct {
    /// The kernel for an instruction set.
    pub fn new(isa: Isa) -> Self {
        Int8Direct(DotIsa::of(isa))
    }

    fn layout(&self) -> Layout {
        self.0.layout()
    }

    fn strip(&self, g: &Window) -> Strip {
        let per_word = self.layout().per_word;
        // Of pixels that no window reads none is copied.
        let apart = if g.kernel == 1 { g.stride } else { 1 };
        let stride = g.stride / apart;
        let columns = (g.output.w - 1) * stride + g.kernel;
        let size = 4 / per_word;
        let line = (g.kernel * g.input.c).div_ceil(per_word);
        Strip { columns, apart, stride, size, row: columns * g.input.c * size, line }
    }

    /// Output rows computed from one strip.
    fn strip_rows(&self, g: &Window) -> usize {
        let Strip { stride, row, .. } = self.strip(g);
        // Where weights stay in L2, so should the outputs of a strip: panel after panel adds to their lines.
        let rows = if g.weight_len() <= SMALL {
            SMALL_STRIP / (stride * row + g.output.w * g.output.c)
        } else {
            (STRIP / row).saturating_sub(g.kernel) / stride + 1
        };
        let rows = rows.clamp(1, g.output.h);
        // Strips of nearly equal height.
        g.output.h.div_ceil(g.output.h.div_ceil(rows))
    }

    /// Words of a strip: the last word may be read beyond the last element.
    fn strip_len(&self, g: &Window) -> usize {
        let Strip { stride, row, .. } = self.strip(g);
        (((self.strip_rows(g) - 1) * stride + g.kernel) * row).div_ceil(4) + 1
    }

    fn depth(&self, g: &Window) -> usize {
        g.kernel * self.strip(g).line
    }

    fn channels(&self, g: &Window) -> usize {
        g.output.c.next_multiple_of(self.layout().lanes)
    }

    /// Words of all panels.
    fn panels_len(&self, g: &Window) -> usize {
        let (depth, channels, Layout { panel, masked, .. }) = (self.depth(g), self.channels(g), self.layout());
        let panels = g.output.c.div_ceil(panel);
        if masked { panels * Tile::head(depth) + depth * channels } else { depth * channels }
    }

    /// Copies the input rows that output rows `rows` of one image read.
    fn fill(&self, g: &Window, image: &[i8], rows: &Range<usize>, zero: i32, scratch: &mut [i32]) {
        let strip = &self.strip(g);
        let Strip { stride, apart, size, row, .. } = *strip;
        let (line, count) = (g.input.w * g.input.c, (rows.len() - 1) * stride + g.kernel);
        let scratch: &mut [u8] = bytemuck::cast_slice_mut(scratch);
        for (i, to) in scratch.chunks_exact_mut(row).take(count).enumerate() {
            let from = (rows.start * g.stride + i * apart).checked_sub(g.pad_top).filter(|&y| y < g.input.h);
            let from = from.map(|y| &image[y * line..(y + 1) * line]);
            match size {
                1 => fill_row(g, strip, from, (zero + 128) as u8, to, |x| x as u8 ^ 0x80),
                _ => fill_row(g, strip, from, 0, bytemuck::cast_slice_mut(to), |x| i16::from(x) - zero as i16),
            }
        }
    }
}

/// A padded row, `pad` where there is no pixel.
fn fill_row<T: Copy>(g: &Window, strip: &Strip, row: Option<&[i8]>, pad: T, to: &mut [T], element: impl Fn(i8) -> T) {
    let (c, Strip { columns, apart, .. }) = (g.input.c, *strip);
    let Some(row) = row else { return to.fill(pad) };
    let copy = |to: &mut [T], from: &[i8]| to.iter_mut().zip(from).for_each(|(to, from)| *to = element(*from));
    if apart > 1 {
        // 1x1 windows have no padding.
        let pixels = row.chunks_exact(c).step_by(apart);
        return to.chunks_exact_mut(c).zip(pixels).for_each(|(to, from)| copy(to, from));
    }
    let left = min(g.pad_left, columns);
    let shown = min(g.input.w, columns - left);
    let (before, rest) = to.split_at_mut(left * c);
    let (inside, behind) = rest.split_at_mut(shown * c);
    before.fill(pad);
    copy(inside, &row[..shown * c]);
    behind.fill(pad);
}

impl ConvKernel<i8> for Int8Direct {
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
        len_for(self, g, || Numbers::len(self.channels(g)) + self.panels_len(g))
    }

    fn scratch_len(&self, g: &Window) -> usize {
        len_for(self, g, || self.strip_len(g) + if self.layout().masked { 2 * self.depth(g) } else { 0 })
    }

    fn granularity(&self, _: &Window) -> (usize, usize) {
        (1, self.layout().panel)
    }

    fn prepack(&self, g: &Window, conv: Conv<'_>, packed: &mut [i32]) -> Result<(), Error> {
        check_prepack(self, g, &conv, packed.len())?;
        let Layout { panel, masked, per_word, .. } = self.layout();
        let channels = self.channels(g);
        let (bias, mut rest) = Numbers::write(&conv, 1, channels, packed);
        let line = g.kernel * g.input.c;
        for (bias, weights) in bias.chunks_mut(panel).zip(conv.weights.chunks(panel * g.taps())) {
            let panel = Panel { weights, taps: g.taps(), line, width: bias.len(), zero: conv.input_zero.into() };
            let used = match (masked, per_word) {
                (true, _) => panel.pack_masked(bias, rest),
                (false, 4) => panel.pack_bytes(bias, rest),
                _ => panel.pack_halves(rest),
            };
            rest = &mut rest[used..];
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
        let (numbers, panels) = Numbers::read(packed, self.channels(g));
        let (size, rows_at_once, strip) = (g.input.elements(), self.strip_rows(g), self.strip(g));
        let (scratch, places) = scratch[..self.scratch_len(g)].split_at_mut(self.strip_len(g));
        let mut done = 0;
        for (image, rows) in band.images(g.output.h) {
            let image = &x[image * size..(image + 1) * size];
            for first in rows.clone().step_by(rows_at_once) {
                let part = first..min(first + rows_at_once, rows.end);
                self.fill(g, image, &part, numbers.zero, scratch);
                let (pixels, cols) = (part.len() * g.output.w, y.cols());
                let tile = Tile {
                    kernel: g.kernel,
                    line: strip.line,
                    pixel: strip.stride * g.input.c * strip.size,
                    row: strip.row,
                    stride: strip.stride,
                    width: g.output.w,
                    x: bytemuck::cast_slice(scratch),
                    panels,
                    finish: numbers.finish(&epilogue),
                    first: band.channels.start,
                    y: y.part(done..done + pixels, 0..cols),
                    panel: self.layout().panel,
                    places,
                };
                int8::run(self.0, tile);
                done += pixels;
            }
        }
    }
}
