//! 3x3 convolution of stride 1 by Winograd's minimal filtering: F(4x4, 3x3) needs a quarter of the
//! multiplications of the direct form, F(2x2, 3x3) four ninths.
//!
//! Strips of tiles are transformed, multiplied by all weights at one of the 36 (16) points after the other, and
//! transformed back while they lie in L2. The error bound is in NUMERICS.md.

use core::{cmp::min, ops::Range};

use super::{
    Band, ConvKernel, ConvWeights, Epilogue, check_prepack, len_for,
    tiles::{self, LARGE_STRIP, TileRow, apart, bias_len, input_rows, pack_bias, rows_at_once, strips},
};
use crate::{
    Error, Name,
    geom::{ConvGeom, reach},
    memory::MatMut,
    simd::{
        Gemm, Isa, Panels, RowMap, gemm, points,
        winograd::{self, Filter, Products, Tile},
    },
};

/// See the module's description.
#[derive(Clone, Copy)]
pub struct Winograd {
    pub(super) isa: Isa,
    pub(super) tile: Tile,
}

/// Elements of transformed tiles a strip may fill where the weights stay in L2 too.
const STRIP: usize = 160 * 1024;
/// Packed weights up to this length share L2 with a strip.
const SMALL: usize = 192 * 1024;
/// The same where channels are few: near L1.
const FEW_STRIP: usize = 40 * 1024;
/// No panel is wider.
const MAX_WIDTH: usize = 64;

/// How scratch is divided.
#[derive(Clone, Copy)]
struct Layout {
    /// tile rows computed at once
    rows: usize,
    /// tiles in a row
    cols: usize,
    /// elements between tiles of transformed inputs
    v_stride: usize,
    /// elements between products of neighbouring tiles
    m_stride: usize,
    /// products by [`points::products`]
    few: bool,
    /// a row of zeros
    zeros_len: usize,
    v_len: usize,
    m_len: usize,
}

impl Layout {
    /// Elements between points, of inputs and of products, with this many tiles.
    fn apart(&self, tiles: usize) -> (usize, usize) {
        let (v, m) = (tiles * self.v_stride, tiles * self.m_stride);
        if self.few { (points::apart(v), points::apart(m)) } else { (v, m) }
    }

    fn len(&self) -> usize {
        self.zeros_len + self.v_len + self.m_len
    }
}

impl Winograd {
    /// Which of the two it is.
    pub const fn tile(&self) -> Tile {
        self.tile
    }

    /// Those of one point.
    fn panels(&self, g: &ConvGeom) -> Panels {
        Panels::new(self.isa, g.input.c, g.c_out)
    }

    fn layout(&self, g: &ConvGeom) -> Layout {
        let (m, points) = (self.tile.outputs(), self.tile.points());
        let out = g.output();
        let cols = out.w.div_ceil(m);
        let few = points::few(g.input.c);
        let (v_stride, m_stride) = (apart(g.input.c), apart(g.c_out));
        let budget = match self.packed_len(g) {
            _ if few => FEW_STRIP,
            0..=SMALL => STRIP,
            _ => LARGE_STRIP,
        };
        let rows = rows_at_once(budget / (points * (v_stride + m_stride)) / cols, out.h.div_ceil(m), cols);
        let (zeros_len, v_len, m_len) = (g.input.w * g.input.c, 0, 0);
        let layout = Layout { rows, cols, v_stride, m_stride, few, zeros_len, v_len, m_len };
        let (v, m) = layout.apart(rows * cols);
        Layout { v_len: points * v, m_len: points * m, ..layout }
    }

    /// `m = sum over channels of v * weights` at every point of a strip's tiles, for some of the output channels.
    #[allow(clippy::too_many_arguments)] // three matrices and what they are of
    fn multiply(
        &self,
        g: &ConvGeom,
        layout: &Layout,
        v: &[f32],
        packed: &[f32],
        outputs: Range<usize>,
        tiles: usize,
        m: &mut [f32],
    ) {
        let (v_point, m_point) = layout.apart(tiles);
        let Layout { v_stride, m_stride, few, .. } = *layout;
        let packed = &packed[bias_len(g)..];
        let (points, channels, panels) = (self.tile.points(), g.input.c, self.panels(g));
        if few {
            let products =
                points::Products { points, tiles, channels, v, v_point, panels, packed, outputs, m, m_stride, m_point };
            return points::products(self.isa, products);
        }
        let product = Gemm {
            a: v,
            rows: RowMap { start: 0, per_row: tiles, row: v_point, pixel: v_stride },
            taps: &[0],
            depth: channels,
            panels,
            packed,
            groups: points,
            first: outputs.start,
            epilogue: Epilogue::default(),
            block: tiles,
        };
        gemm(self.isa, &product, &mut MatMut::new(m, m_stride).part(0..points * tiles, 0..outputs.len()));
    }
}

impl ConvKernel<f32> for Winograd {
    fn name(&self) -> Name {
        let (mr, nr) = Panels::new(self.isa, 0, 0).tile();
        let m = self.tile.outputs();
        Name::new(format_args!("winograd{m}-f32-{}-{mr}x{nr}", self.isa))
    }

    fn supports(&self, g: &ConvGeom) -> bool {
        g.is_valid() && (g.kernel, g.stride, g.pad) == (3, 1, 1)
    }

    fn products(&self, g: &ConvGeom) -> u64 {
        tiles::products(Filter::Stride1(self.tile), g)
    }

    fn packed_len(&self, g: &ConvGeom) -> usize {
        len_for(self, g, || reach([(bias_len(g), 1), (self.tile.points(), self.panels(g).len())]))
    }

    fn scratch_len(&self, g: &ConvGeom) -> usize {
        len_for(self, g, || self.layout(g).len())
    }

    fn granularity(&self, g: &ConvGeom) -> (usize, usize) {
        (self.tile.outputs(), self.panels(g).width())
    }

    fn prepack(&self, g: &ConvGeom, weights: ConvWeights<'_>, packed: &mut [f32]) -> Result<(), Error> {
        check_prepack(self, g, &weights, packed.len())?;
        let (c, tile) = (g.input.c, self.tile);
        let packed = pack_bias(g, weights.bias, packed);
        let scale = |o: usize| weights.scale.get(o).copied().unwrap_or(1.0);
        let (step, point) = (self.panels(g).width(), self.panels(g).len());
        for first in (0..g.c_out).step_by(step) {
            let valid = min(step, g.c_out - first);
            let (width, u) = (Panels::new(self.isa, 0, valid).len(), &mut packed[first * (c + 1)..]);
            let raw_row = |d: usize, raw: &mut [f32]| {
                for o in 0..valid {
                    let kernel = &weights.oihw[((first + o) * c + d) * 9..][..9];
                    kernel.iter().enumerate().for_each(|(k, w)| raw[k * width + o] = w * scale(first + o));
                }
            };
            let mut raw = [0.0; 9 * MAX_WIDTH];
            let raw = &mut raw[..9 * width];
            for d in 0..c {
                raw_row(d, raw);
                let u = &mut u[..];
                winograd::weights(self.isa, winograd::Weights { tile, raw, width, u, point, depth: c, first: d });
            }
        }
        Ok(())
    }

    fn run(
        &self,
        g: &ConvGeom,
        x: &[f32],
        packed: &[f32],
        epilogue: Epilogue,
        band: &Band,
        mut y: MatMut<'_, f32>,
        scratch: &mut [f32],
    ) {
        assert!(self.supports(g), "{} cannot compute {g}", self.name());
        let (layout, out, outputs) = (self.layout(g), g.output(), band.channels.clone());
        let (zeros, rest) = scratch.split_at_mut(layout.zeros_len);
        zeros.fill(0.0);
        let (v, rest) = rest.split_at_mut(layout.v_len);
        let m = &mut rest[..layout.m_len];
        for (strip, count) in strips(band, out.h, self.tile.outputs(), layout.rows) {
            let tiles = count * layout.cols;
            let (v_point, m_point) = layout.apart(tiles);
            for (r, TileRow { image, oy, .. }) in strip.clone().enumerate() {
                let image = &x[image * g.input.elements()..(image + 1) * g.input.elements()];
                let input = winograd::Input {
                    tile: self.tile,
                    rows: input_rows(g, image, oy, zeros),
                    width: g.input.w,
                    pad: g.pad,
                    channels: g.input.c,
                    count: layout.cols,
                    v,
                    stride: layout.v_stride,
                    point: v_point,
                    first: r * layout.cols,
                };
                winograd::input(self.isa, input);
            }
            self.multiply(g, &layout, v, packed, outputs.clone(), tiles, m);
            let products = Products {
                filter: Filter::Stride1(self.tile),
                m,
                stride: layout.m_stride,
                point: m_point,
                bias: &packed[outputs.start..],
                epilogue,
            };
            tiles::store(self.isa, products, strip, out, band, &mut y);
        }
    }
}
