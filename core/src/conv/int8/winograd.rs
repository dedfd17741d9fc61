//! 3x3 convolution of stride 1 by exact integer Winograd: a quarter of the multiplications of the direct form, or four
//! ninths, of 16-bit integers.
//!
//! Rows of tiles are transformed; then for one panel of output channels after the other weights are transformed, inputs
//! multiplied with them and products transformed back, so that all of it stays in the nearest caches.

use core::{cmp::min, ops::Range};

use super::{Numbers, check_prepack};
use crate::{
    Error, Isa, Name,
    conv::{
        Band, ConvKernel, len_for,
        tiles::{TileRow, rows_at_once, strips},
    },
    geom::{Window, reach},
    memory::MatMut,
    quant::{self, Conv},
    simd::{
        Tile,
        int8::{self, DotIsa, PairLayout, winograd},
        points,
        winograd::Filter,
    },
};

/// See the module's description.
#[derive(Clone, Copy)]
pub struct Int8Winograd {
    isa: DotIsa,
    tile: Tile,
}

/// Words of transformed inputs a strip may fill: of L2's size, as one row of points after the other is read.
const STRIP: usize = 96 * 1024;

/// How scratch is divided.
#[derive(Clone, Copy)]
struct Layout {
    /// tile rows computed at once
    rows: usize,
    /// tiles in a row
    cols: usize,
    /// words between tiles of transformed inputs
    stride: usize,
    v_len: usize,
    /// transformed weights of a panel at a row of points
    u_len: usize,
    m_len: usize,
    /// sums of parts of the depth
    sums_len: usize,
}

impl Int8Winograd {
    /// F(2x2) or F(4x4) for an instruction set.
    pub fn new(isa: Isa, tile: Tile) -> Self {
        Int8Winograd { isa: DotIsa::of(isa), tile }
    }

    /// Which of the two it is.
    pub const fn tile(&self) -> Tile {
        self.tile
    }

    /// How often all weights are transformed for one image.
    pub fn strips(&self, g: &Window) -> usize {
        g.output.h.div_ceil(self.tile.outputs()).div_ceil(self.layout(g).rows)
    }

    /// Tiles that cover the output.
    pub fn tiles(&self, g: &Window) -> usize {
        Filter::Stride1(self.tile).tiles(g.output)
    }

    /// Words of all weights when they are transformed.
    pub(crate) fn transformed_len(&self, g: &Window) -> usize {
        reach([(self.tile.points() * self.channels(g), Int8Winograd::pairs(g))])
    }

    /// Pairs of input channels.
    fn pairs(g: &Window) -> usize {
        g.input.c.div_ceil(2)
    }

    fn channels(&self, g: &Window) -> usize {
        g.output.c.next_multiple_of(self.isa.pair_layout().lanes)
    }

    /// Words between points with this many tiles, of inputs and of products.
    fn apart(&self, tiles: usize, stride: usize) -> (usize, usize) {
        (points::apart(tiles * stride), points::apart(tiles * self.isa.pair_layout().panel))
    }

    fn layout(&self, g: &Window) -> Layout {
        let (m, points, PairLayout { lanes, panel, .. }) =
            (self.tile.outputs(), self.tile.points(), self.isa.pair_layout());
        let cols = g.output.w.div_ceil(m);
        let stride = Int8Winograd::pairs(g).next_multiple_of(lanes);
        let rows = rows_at_once(STRIP / (points * stride) / cols, g.output.h.div_ceil(m), cols);
        let (v, products) = self.apart(rows * cols, stride);
        Layout {
            rows,
            cols,
            stride,
            v_len: points * v,
            u_len: self.tile.inputs() * Int8Winograd::pairs(g) * panel,
            m_len: points * products,
            sums_len: rows * cols * m * m * panel,
        }
    }

    /// Whether sums over all channels can be recovered, or into how many parts the channels are divided so that they can.
    fn parts(&self, g: &Window, conv: &Conv<'_>) -> usize {
        // Of `s Y` 32 bits are known, and `s` has 6 (2) factors of two.
        let most = 1i64 << if self.tile == Tile::Four { 25 } else { 29 };
        // Inputs less their zero point, from the least, which is not positive, to the largest, which is not negative.
        let (low, high) = (-128 - i64::from(conv.input_zero), 127 - i64::from(conv.input_zero));
        let fits = |parts: usize| {
            conv.weights.chunks_exact(g.taps()).all(|weights| {
                (0..parts).all(|part| {
                    let range = part_of(Int8Winograd::pairs(g), parts, part);
                    let channels = 2 * range.start..min(2 * range.end, g.input.c);
                    let of_part = weights.chunks_exact(g.input.c).flat_map(|tap| &tap[channels.clone()]);
                    let (positive, negative) = of_part.fold((0i64, 0i64), |(positive, negative), &w| {
                        (positive + i64::from(w.max(0)), negative + i64::from(w.min(0)))
                    });
                    let (least, largest) = (positive * low + negative * high, positive * high + negative * low);
                    -most <= least && largest < most
                })
            })
        };
        // A single pair always fits.
        (1..Int8Winograd::pairs(g)).find(|&parts| fits(parts)).unwrap_or(Int8Winograd::pairs(g))
    }

    /// Transforms the inputs of a strip.
    #[allow(clippy::too_many_arguments)] // a strip, where it is read from and where it goes
    fn transform(
        &self,
        g: &Window,
        x: &[i8],
        zero: i32,
        layout: &Layout,
        strip: impl Iterator<Item = TileRow>,
        point: usize,
        v: &mut [i32],
    ) {
        let line = g.input.w * g.input.c;
        for (r, TileRow { image, oy, .. }) in strip.enumerate() {
            let image = &x[image * g.input.elements()..(image + 1) * g.input.elements()];
            let row = |i: usize| {
                let y = (oy + i).checked_sub(g.pad_top).filter(|&y| y < g.input.h)?;
                (i < self.tile.inputs()).then(|| &image[y * line..(y + 1) * line])
            };
            let input = winograd::Input {
                tile: self.tile,
                rows: core::array::from_fn(row),
                width: g.input.w,
                pad: g.pad_left,
                channels: g.input.c,
                zero: zero as i8,
                count: layout.cols,
                v,
                stride: layout.stride,
                point,
                first: r * layout.cols,
            };
            int8::winograd_input(self.isa, input);
        }
    }
}

/// Part `i` of `n` things in `parts` parts.
fn part_of(n: usize, parts: usize, i: usize) -> Range<usize> {
    n * i / parts..n * (i + 1) / parts
}

impl ConvKernel<i8> for Int8Winograd {
    fn name(&self) -> Name {
        let PairLayout { rows, panel, .. } = self.isa.pair_layout();
        Name::new(format_args!("winograd{}-int8-{}-{rows}x{panel}", self.tile.outputs(), self.isa.pair_name()))
    }

    fn supports(&self, g: &Window) -> bool {
        g.is_valid() && (g.kernel, g.stride) == (3, 1)
    }

    fn products(&self, g: &Window) -> u64 {
        (self.tiles(g) * self.tile.points()) as u64 * (g.input.c * g.output.c) as u64
    }

    fn packed_len(&self, g: &Window) -> usize {
        len_for(self, g, || {
            let channels = self.channels(g);
            Numbers::len(channels).saturating_add(winograd::Weights::taps_len(channels, Int8Winograd::pairs(g)) / 4)
        })
    }

    fn scratch_len(&self, g: &Window) -> usize {
        len_for(self, g, || {
            let Layout { v_len, u_len, m_len, sums_len, .. } = self.layout(g);
            v_len + u_len + m_len + sums_len
        })
    }

    fn granularity(&self, _: &Window) -> (usize, usize) {
        (self.tile.outputs(), self.isa.pair_layout().panel)
    }

    fn prepack(&self, g: &Window, conv: Conv<'_>, packed: &mut [i32]) -> Result<(), Error> {
        check_prepack(self, g, &conv, packed.len())?;
        let (pairs, channels, PairLayout { lanes, panel, .. }) =
            (Int8Winograd::pairs(g), self.channels(g), self.isa.pair_layout());
        let (_, taps) = Numbers::write(&conv, self.parts(g, &conv), channels, packed);
        let taps: &mut [i8] = bytemuck::cast_slice_mut(taps);
        taps.fill(0);
        for (o, weights) in conv.weights.chunks_exact(g.taps()).enumerate() {
            let (first, width) = (o / panel * panel, min(panel, channels - o / panel * panel));
            let (vector, lane) = ((o - first) / lanes, o % lanes);
            let panel = &mut taps[winograd::Weights::taps_len(first, pairs)..];
            for (tap, weights) in weights.chunks_exact(g.input.c).enumerate() {
                let at = (9 * vector + tap) * lanes + lane;
                for (to, pair) in panel.chunks_exact_mut(18 * width).zip(weights.chunks(2)) {
                    to[2 * at..][..pair.len()].copy_from_slice(pair);
                }
            }
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
        assert!(self.supports(g), "{} cannot compute {g}", self.name());
        let (numbers, taps) = Numbers::read(packed, self.channels(g));
        let (layout, depth, panel) = (self.layout(g), Int8Winograd::pairs(g), self.isa.pair_layout().panel);
        let (v, rest) = scratch.split_at_mut(layout.v_len);
        let (u, rest) = rest.split_at_mut(layout.u_len);
        let (m, sums) = rest.split_at_mut(layout.m_len);
        for (strip, count) in strips(band, g.output.h, self.tile.outputs(), layout.rows) {
            let tiles = count * layout.cols;
            let (v_point, m_point) = self.apart(tiles, layout.stride);
            self.transform(g, x, numbers.zero, &layout, strip.clone(), v_point, v);
            for first in band.channels.clone().step_by(panel) {
                let width = min(panel, self.channels(g) - first);
                let taps_len = |width| winograd::Weights::taps_len(width, depth);
                let taps = &bytemuck::cast_slice(taps)[taps_len(first)..][..taps_len(width)];
                for part in 0..numbers.parts {
                    let pairs = part_of(depth, numbers.parts, part);
                    let inputs = Inputs { v: &*v, point: v_point, stride: layout.stride, tiles };
                    self.multiply(&inputs, &Taps { taps, width, depth, pairs }, u, m, m_point);
                    for (r, TileRow { image, oy, height }) in strip.clone().enumerate() {
                        let pixels = (image * g.output.h + oy - band.rows.start) * g.output.w;
                        let column = first - band.channels.start;
                        let columns = column..min(column + width, band.channels.len());
                        let output = winograd::Output {
                            tile: self.tile,
                            m,
                            point: m_point,
                            width,
                            first: r * layout.cols,
                            finish: numbers.finish(&epilogue),
                            channel: first,
                            parts: sums_of(numbers.parts, part, sums, r, layout.sums_len / layout.rows),
                            y: &mut y.part(pixels..pixels + height * g.output.w, columns),
                            columns: g.output.w,
                        };
                        int8::winograd_output(self.isa, output);
                    }
                }
            }
        }
    }
}

/// A strip's transformed inputs.
struct Inputs<'v> {
    v: &'v [i32],
    /// words between points and between tiles
    point: usize,
    stride: usize,
    tiles: usize,
}

/// A panel's weights.
struct Taps<'p> {
    taps: &'p [i8],
    width: usize,
    depth: usize,
    /// the pairs of input channels that are summed
    pairs: Range<usize>,
}

impl Int8Winograd {
    /// Products at all points. Weights are transformed here, at a row of points after the other: transformed, they are four to
    /// eight times as many bytes, which would come from memory.
    fn multiply(&self, inputs: &Inputs<'_>, panel: &Taps<'_>, u: &mut [i32], m: &mut [i32], m_point: usize) {
        let (points, Taps { taps, width, depth, pairs }) = (self.tile.inputs(), panel);
        let (width, depth) = (*width, *depth);
        for row in 0..points {
            let weights = winograd::Weights { tile: self.tile, row, taps, width, depth, pairs: pairs.clone(), u };
            int8::winograd_weights(self.isa, weights);
            let products = winograd::Products {
                points,
                tiles: inputs.tiles,
                v: &inputs.v[row * points * inputs.point..],
                v_point: inputs.point,
                v_stride: inputs.stride,
                begin: pairs.start,
                pairs: pairs.len(),
                u,
                depth,
                width,
                m: &mut m[row * points * m_point..],
                m_point,
            };
            int8::winograd_products(self.isa, products);
        }
    }
}

/// The sums of tile row `r` where there are several parts.
fn sums_of(parts: usize, part: usize, sums: &mut [i32], r: usize, len: usize) -> Option<(&mut [i32], winograd::Part)> {
    let which = match part {
        _ if parts == 1 => return None,
        0 => winograd::Part::First,
        _ if part + 1 == parts => winograd::Part::Last,
        _ => winograd::Part::Middle,
    };
    Some((&mut sums[r * len..(r + 1) * len], which))
}
