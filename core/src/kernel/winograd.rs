//! 3x3 convolution of stride 1 by Winograd's minimal filtering: F(4x4, 3x3) needs a quarter of the
//! multiplications of the direct form, F(2x2, 3x3) four ninths.
//!
//! Strips of tiles are transformed, multiplied at each of the 36 (16) points, and transformed back
//! while they lie in L2. The error bound is in NUMERICS.md.

use super::{Band, ConvKernel, ConvWeights, Epilogue, check_prepack};
use crate::{
    Error, Name,
    arch::{
        self, Gemm, Isa, MatMut, Panels, RowMap, gemm, points,
        winograd::{self, Tile},
    },
    geom::ConvGeom,
};

/// See the module's description.
#[derive(Clone, Copy)]
pub struct Winograd {
    pub(super) isa: Isa,
    pub(super) tile: Tile,
}

/// Elements of transformed tiles a strip may fill: where the weights stay in L2 too, and where they do
/// not and should serve as many tiles as possible.
const STRIP: usize = 160 * 1024;
const LARGE_STRIP: usize = 384 * 1024;
/// Packed weights up to this length share L2 with a strip.
const SMALL: usize = 192 * 1024;

/// The same where channels are few: all of it stays in the caches nearest to the core.
const FEW_STRIP: usize = 40 * 1024;

/// Output channels whose weights are transformed at once.
const LANES: usize = 8;

/// How scratch is divided.
struct Layout {
    /// tile rows computed at once
    rows: usize,
    /// tiles in a row
    cols: usize,
    /// elements between pixels of the padded input, and between its rows
    pixel: usize,
    row: usize,
    /// elements between tiles of transformed inputs, and of products
    v_stride: usize,
    m_stride: usize,
    /// points lie apart, for [`points::products`]
    few: bool,
    input_len: usize,
    v_len: usize,
}

impl Layout {
    fn new(tile: Tile, g: &ConvGeom, packed_len: usize) -> Self {
        let (m, n) = (tile.outputs(), tile.inputs());
        let out = g.output();
        let cols = out.w.div_ceil(m);
        let (pixel, m_stride) = (g.input.c.next_multiple_of(16), g.c_out.next_multiple_of(16));
        // A tile's row would otherwise begin in the same set of L1 as its neighbours'.
        let v_stride = pixel + if pixel.is_multiple_of(128) { 16 } else { 0 };
        let row = (cols * m + 2) * pixel;
        let few = points::few(g.input.c);
        let budget = match packed_len {
            _ if few => FEW_STRIP,
            0..=SMALL => STRIP,
            _ => LARGE_STRIP.max(packed_len / 4),
        };
        let budget = budget / (tile.points() * (v_stride + m_stride));
        let rows = (budget / cols).clamp(1, (64 / cols).max(out.h.div_ceil(m)));
        let mut layout = Layout { rows, cols, pixel, row, v_stride, m_stride, few, input_len: n * row, v_len: 0 };
        layout.v_len = tile.points() * layout.apart(rows * cols).0;
        layout
    }

    /// Elements between points, of inputs and of products, with this many tiles.
    fn apart(&self, tiles: usize) -> (usize, usize) {
        let (v, m) = (tiles * self.v_stride, tiles * self.m_stride);
        if self.few { (points::apart(v), points::apart(m)) } else { (v, m) }
    }

    fn len(&self, tile: Tile) -> usize {
        self.input_len + self.v_len + tile.points() * self.apart(self.rows * self.cols).1
    }
}

impl Winograd {
    /// Which of the two it is.
    pub const fn tile(&self) -> Tile {
        self.tile
    }

    fn panels(&self, g: &ConvGeom) -> Panels {
        Panels::new(self.isa, g.input.c, g.c_out)
    }

    fn layout(&self, g: &ConvGeom) -> Layout {
        Layout::new(self.tile, g, self.packed_len(g))
    }

    /// Copies the inputs of one row of tiles, `first` being its first output row, with zeros around.
    fn fill(&self, g: &ConvGeom, layout: &Layout, image: &[f32], first: usize, strip: &mut [f32]) {
        let (w, c) = (g.input.w, g.input.c);
        for (i, to) in strip.chunks_exact_mut(layout.row).take(self.tile.inputs()).enumerate() {
            let Some(y) = (first + i).checked_sub(1).filter(|&y| y < g.input.h) else {
                to.fill(0.0);
                continue;
            };
            let from = &image[y * w * c..(y + 1) * w * c];
            let (left, rest) = to.split_at_mut(layout.pixel);
            let (middle, right) = rest.split_at_mut(w * layout.pixel);
            left.fill(0.0);
            right.fill(0.0);
            if layout.pixel == c {
                middle.copy_from_slice(from);
            } else {
                for (to, from) in middle.chunks_exact_mut(layout.pixel).zip(from.chunks_exact(c)) {
                    to[..c].copy_from_slice(from);
                    to[c..].fill(0.0);
                }
            }
        }
    }
}

impl ConvKernel<f32> for Winograd {
    fn name(&self) -> Name {
        let (mr, nr) = Panels::new(self.isa, 0, 0).tile();
        let m = self.tile.outputs();
        Name::new(format_args!("winograd{m}-f32-{}-{mr}x{nr}", self.isa))
    }

    fn supports(&self, g: &ConvGeom) -> bool {
        (g.kernel, g.stride, g.pad) == (3, 1, 1)
    }

    fn packed_len(&self, g: &ConvGeom) -> usize {
        g.c_out.next_multiple_of(16) + self.tile.points() * self.panels(g).len()
    }

    fn scratch_len(&self, g: &ConvGeom) -> usize {
        self.layout(g).len(self.tile)
    }

    fn granularity(&self, g: &ConvGeom) -> (usize, usize) {
        (self.tile.outputs(), self.panels(g).width())
    }

    fn prepack(&self, g: &ConvGeom, weights: ConvWeights<'_, f32>, packed: &mut [f32]) -> Result<(), Error> {
        check_prepack(g, &weights, packed.len(), self.packed_len(g))?;
        let (c, panels) = (g.input.c, self.panels(g));
        let (bias, points) = packed.split_at_mut(g.c_out.next_multiple_of(16));
        bias.fill(0.0);
        bias[..g.c_out].copy_from_slice(weights.bias);
        points.fill(0.0);
        let len = panels.len();
        for first in (0..g.c_out).step_by(LANES) {
            let valid = LANES.min(g.c_out - first);
            let scale: [f64; LANES] = core::array::from_fn(|l| {
                if l < valid { f64::from(weights.scale.get(first + l).copied().unwrap_or(1.0)) } else { 0.0 }
            });
            for d in 0..c {
                let mut kernels = [[0.0; LANES]; 9];
                for l in 0..valid {
                    let at = ((first + l) * c + d) * 9;
                    for (k, w) in kernels.iter_mut().zip(&weights.oihw[at..at + 9]) {
                        k[l] = f64::from(*w) * scale[l];
                    }
                }
                self.tile.weights(&kernels, |p, values| {
                    for (l, value) in values[..valid].iter().enumerate() {
                        points[p * len + panels.index(first + l, d)] = *value as f32;
                    }
                });
            }
        }
        Ok(())
    }

    fn run(
        &self,
        g: &ConvGeom,
        x: &[f32],
        packed: &[f32],
        epilogue: Epilogue<'_, f32>,
        band: &Band,
        mut y: MatMut<'_, f32>,
        scratch: &mut [f32],
    ) {
        let (tile, out) = (self.tile, g.output());
        let layout = self.layout(g);
        let panels = self.panels(g);
        let (bias, packed) = packed.split_at(g.c_out.next_multiple_of(16));
        let (strip, rest) = scratch.split_at_mut(layout.input_len);
        let (v, m) = rest.split_at_mut(layout.v_len);
        let channels = band.channels.clone();
        let step = tile.outputs();
        // Rows of tiles of all images in the band: (image, first output row, rows inside the map).
        let tile_rows = || {
            band.images(out.h).flat_map(move |(image, rows)| {
                let end = rows.end;
                rows.step_by(step).map(move |oy| (image, oy, step.min(end - oy)))
            })
        };
        let (mut ahead, mut behind) = (tile_rows(), tile_rows());
        let mut done = 0;
        let total = tile_rows().count();
        for start in (0..total).step_by(layout.rows) {
            let rows = layout.rows.min(total - start);
            let tiles = rows * layout.cols;
            let (v_point, m_point) = layout.apart(tiles);
            for (r, (image, oy, _)) in ahead.by_ref().take(rows).enumerate() {
                let from = &x[image * g.input.elements()..(image + 1) * g.input.elements()];
                self.fill(g, &layout, from, oy, strip);
                let (row, pixel, stride) = (layout.row, layout.pixel, layout.v_stride);
                let (count, first) = (layout.cols, r * layout.cols);
                let (v, point) = (&mut *v, v_point);
                let input =
                    winograd::Input { tile, strip, row, pixel, count, channels: pixel, v, stride, point, first };
                winograd::input(self.isa, input);
            }
            if layout.few {
                let product = points::Products {
                    points: tile.points(),
                    tiles,
                    channels: g.input.c,
                    v,
                    v_point,
                    panels,
                    packed,
                    first: channels.start,
                    cols: channels.len(),
                    m,
                    m_stride: layout.m_stride,
                    m_point,
                };
                points::products(self.isa, product);
            } else {
                let product = Gemm {
                    a: v,
                    rows: RowMap::contiguous(layout.v_stride),
                    taps: &[0],
                    depth: g.input.c,
                    panels,
                    packed,
                    groups: tile.points(),
                    first: channels.start,
                    epilogue: arch::Epilogue { shortcut: None, relu: false },
                    block: tiles,
                };
                let mut products = MatMut::new(m, layout.m_stride);
                gemm(self.isa, &product, &mut products.part(0..tile.points() * tiles, 0..channels.len()));
            }
            for (r, (image, oy, height)) in behind.by_ref().take(rows).enumerate() {
                let at = (image * out.h + oy) * out.w * g.c_out + channels.start;
                let cols = y.cols();
                let mut part = y.part(done..done + height * out.w, 0..cols);
                let output = winograd::Output {
                    tile,
                    m,
                    stride: layout.m_stride,
                    point: m_point,
                    first: r * layout.cols,
                    bias: &bias[channels.start..],
                    shortcut: epilogue.shortcut.map(|s| &s[at..]),
                    relu: epilogue.relu,
                    y: &mut part,
                    width: out.w,
                };
                winograd::output(self.isa, output);
                done += height * out.w;
            }
        }
    }
}
