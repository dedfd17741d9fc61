//! 3x3 convolution of stride 2 by minimal filtering, with 25 products instead of 36: see
//! [`simd::winograd::strided`](crate::simd::winograd::strided). The error bound is in NUMERICS.md.

use core::{array, cmp::min};

use super::{
    Band, ConvKernel, ConvWeights, Epilogue, check_prepack, len_for,
    tiles::{self, LARGE_STRIP, TileRow, apart, bias_len, input_rows, pack_bias, rows_at_once, strips},
};
use crate::{
    Error, Name,
    geom::ConvGeom,
    memory::MatMut,
    simd::{
        Gemm, Isa, Panels, RowMap, gemm,
        winograd::{
            Filter, Products,
            strided::{self, POINTS, Place},
        },
    },
};

/// See the module's description.
#[derive(Clone, Copy)]
pub struct WinogradStrided(pub(super) Isa);

/// Output rows and columns of a tile.
const TILE: usize = Filter::Stride2.outputs();

/// How scratch is divided: a row of zeros, the transformed tiles of every point, the products of every point.
struct Layout {
    /// tile rows computed at once
    rows: usize,
    /// tiles in a row
    cols: usize,
    /// elements between tiles
    v_strides: [usize; POINTS],
    m_stride: usize,
    zeros_len: usize,
}

impl Layout {
    fn new(g: &ConvGeom) -> Self {
        let (out, m_stride) = (g.output(), apart(g.c_out));
        let cols = out.w.div_ceil(TILE);
        let v_strides = array::from_fn(|point| apart(strided::parts(point) * g.input.c));
        let tile = v_strides.iter().sum::<usize>() + POINTS * m_stride;
        let rows = rows_at_once(LARGE_STRIP / tile / cols, out.h.div_ceil(TILE), cols);
        Layout { rows, cols, v_strides, m_stride, zeros_len: g.input.w * g.input.c }
    }

    fn v_len(&self) -> usize {
        self.rows * self.cols * self.v_strides.iter().sum::<usize>()
    }

    fn m_len(&self) -> usize {
        self.rows * self.cols * POINTS * self.m_stride
    }

    /// Where the points of this many tiles lie.
    fn places(&self, tiles: usize) -> [Place; POINTS] {
        let mut start = 0;
        self.v_strides.map(|stride| {
            let place = Place { start, stride };
            start += tiles * stride;
            place
        })
    }
}

impl WinogradStrided {
    fn panels(&self, g: &ConvGeom, point: usize) -> Panels {
        Panels::new(self.0, strided::parts(point) * g.input.c, g.c_out)
    }
}

impl ConvKernel<f32> for WinogradStrided {
    fn name(&self) -> Name {
        let (mr, nr) = Panels::new(self.0, 0, 0).tile();
        Name::new(format_args!("winograd2s2-f32-{}-{mr}x{nr}", self.0))
    }

    fn supports(&self, g: &ConvGeom) -> bool {
        // Channels of one part end where a vector does.
        g.is_valid() && (g.kernel, g.stride, g.pad) == (3, 2, 1) && g.input.c.is_multiple_of(16)
    }

    fn products(&self, g: &ConvGeom) -> u64 {
        tiles::products(Filter::Stride2, g)
    }

    fn packed_len(&self, g: &ConvGeom) -> usize {
        len_for(self, g, || {
            let panels = (0..POINTS).map(|point| self.panels(g, point).len());
            panels.fold(bias_len(g), usize::saturating_add)
        })
    }

    fn scratch_len(&self, g: &ConvGeom) -> usize {
        len_for(self, g, || {
            let layout = Layout::new(g);
            layout.zeros_len + layout.v_len() + layout.m_len()
        })
    }

    fn granularity(&self, g: &ConvGeom) -> (usize, usize) {
        (TILE, self.panels(g, 0).width())
    }

    fn prepack(&self, g: &ConvGeom, weights: ConvWeights<'_>, packed: &mut [f32]) -> Result<(), Error> {
        check_prepack(self, g, &weights, packed.len())?;
        let c = g.input.c;
        let packed = pack_bias(g, weights.bias, packed);
        packed.fill(0.0);
        let step = self.panels(g, 0).width();
        let mut starts = [0; POINTS];
        for point in 1..POINTS {
            starts[point] = starts[point - 1] + self.panels(g, point - 1).len();
        }
        let (kernels, _) = weights.oihw.as_chunks::<9>();
        for (o, kernels) in kernels.chunks_exact(c).enumerate() {
            let (first, scale) = (o / step * step, weights.scale.get(o).copied().unwrap_or(1.0));
            let width = Panels::new(self.0, 0, min(step, g.c_out - first)).len();
            for (d, kernel) in kernels.iter().enumerate() {
                let kernel = kernel.map(|w| w * scale);
                strided::weights(&kernel, |point, part, w| {
                    // Each panel begins with a row of biases, here zeros.
                    let (depth, row) = (strided::parts(point) * c, 1 + part * c + d);
                    packed[starts[point] + first * (depth + 1) + row * width + o - first] = w;
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
        epilogue: Epilogue,
        band: &Band,
        mut y: MatMut<'_, f32>,
        scratch: &mut [f32],
    ) {
        assert!(self.supports(g), "{} cannot compute {g}", self.name());
        let (layout, out, outputs) = (Layout::new(g), g.output(), band.channels.clone());
        let (bias, packed) = packed.split_at(bias_len(g));
        let (zeros, rest) = scratch.split_at_mut(layout.zeros_len);
        zeros.fill(0.0);
        let (v, m) = rest.split_at_mut(layout.v_len());
        for (strip, count) in strips(band, out.h, TILE, layout.rows) {
            let tiles = count * layout.cols;
            let places = layout.places(tiles);
            for (r, TileRow { image, oy, .. }) in strip.clone().enumerate() {
                let image = &x[image * g.input.elements()..(image + 1) * g.input.elements()];
                let input = strided::Input {
                    rows: input_rows(g, image, g.stride * oy, zeros),
                    width: g.input.w,
                    pad: g.pad,
                    channels: g.input.c,
                    count: layout.cols,
                    v,
                    places,
                    first: r * layout.cols,
                };
                strided::input(self.0, input);
            }
            let mut packed = packed;
            for (point, (Place { start, stride }, m)) in
                places.iter().zip(m.chunks_exact_mut(tiles * layout.m_stride)).enumerate()
            {
                let panels = self.panels(g, point);
                let product = Gemm {
                    a: &v[*start..],
                    rows: RowMap::contiguous(*stride),
                    taps: &[0],
                    depth: strided::parts(point) * g.input.c,
                    panels,
                    packed,
                    groups: 1,
                    first: outputs.start,
                    epilogue: Epilogue::default(),
                    block: tiles,
                };
                gemm(self.0, &product, &mut MatMut::new(m, layout.m_stride).part(0..tiles, 0..outputs.len()));
                packed = &packed[panels.len()..];
            }
            let products = Products {
                filter: Filter::Stride2,
                m,
                stride: layout.m_stride,
                point: tiles * layout.m_stride,
                bias: &bias[outputs.start..],
                epilogue,
            };
            tiles::store(self.0, products, strip, out, band, &mut y);
        }
    }
}
