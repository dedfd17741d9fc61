//! Direct convolution of any kernel side and stride: 3x3, and the 7x7 stem.
//!
//! A strip of input rows is copied into scratch with its zero padding; after that every output pixel
//! reads at the same offsets, and the register tile needs no edge cases. The copy costs one load and
//! one store an element, against `kernel * kernel * c_out` multiply-adds.

use super::{Band, ConvKernel, ConvWeights, Epilogue, block_pixels, check_prepack, len_for};
use crate::{
    Error, Name,
    geom::ConvGeom,
    memory::MatMut,
    simd::{Gemm, Isa, Panels, RowMap, gemm},
};

/// See the module's description.
#[derive(Clone, Copy)]
pub struct Direct(pub(super) Isa);

/// Largest kernel side.
const MAX_SIDE: usize = 11;

/// Scratch a strip may fill, in elements: a fraction of L2; a larger one where weights do not stay in L2 and
/// every strip reads them again.
const STRIP: usize = 192 * 1024 / 4;
const LARGE_STRIP: usize = 640 * 1024 / 4;
/// Weights up to this many elements share L2 with a strip.
const SMALL: usize = 512 * 1024 / 4;

/// The scratch copy of a strip of input rows.
struct Strip {
    /// output rows computed from one strip
    rows: usize,
    /// elements between rows
    row: usize,
}

impl Strip {
    fn new(g: &ConvGeom) -> Self {
        let row = (g.input.w + 2 * g.pad) * g.input.c;
        let budget = if g.weight_len() <= SMALL { STRIP } else { LARGE_STRIP };
        let rows = (budget / row).saturating_sub(g.kernel) / g.stride + 1;
        // Strips of nearly equal height.
        let strips = g.output().h.div_ceil(rows).max(1);
        Strip { rows: g.output().h.div_ceil(strips).max(1), row }
    }

    fn input_rows(&self, g: &ConvGeom, rows: usize) -> usize {
        (rows - 1) * g.stride + g.kernel
    }

    /// Copies the input rows that output rows `first..first + rows` of one image read.
    fn fill(&self, g: &ConvGeom, image: &[f32], first: usize, rows: usize, scratch: &mut [f32]) {
        let (w, c, pad) = (g.input.w, g.input.c, g.pad);
        for (i, to) in scratch.chunks_exact_mut(self.row).take(self.input_rows(g, rows)).enumerate() {
            let from = (first * g.stride + i).checked_sub(pad).filter(|&y| y < g.input.h);
            let Some(y) = from else {
                to.fill(0.0);
                continue;
            };
            let (left, rest) = to.split_at_mut(pad * c);
            let (middle, right) = rest.split_at_mut(w * c);
            left.fill(0.0);
            right.fill(0.0);
            middle.copy_from_slice(&image[y * w * c..(y + 1) * w * c]);
        }
    }

    /// Offsets a pixel's products begin at, one for each kernel row: a row's pixels lie side by side.
    fn taps(&self) -> [usize; MAX_SIDE] {
        core::array::from_fn(|r| r * self.row)
    }
}

impl Direct {
    fn panels(&self, g: &ConvGeom) -> Panels {
        Panels::new(self.0, g.kernel * g.kernel * g.input.c, g.c_out)
    }
}

impl ConvKernel<f32> for Direct {
    fn name(&self) -> Name {
        let (mr, nr) = Panels::new(self.0, 0, 0).tile();
        Name::new(format_args!("direct-f32-{}-{mr}x{nr}", self.0))
    }

    fn supports(&self, g: &ConvGeom) -> bool {
        g.is_valid() && g.kernel <= MAX_SIDE && g.pad < g.kernel
    }

    fn products(&self, g: &ConvGeom) -> u64 {
        g.macs()
    }

    fn packed_len(&self, g: &ConvGeom) -> usize {
        len_for(self, g, || self.panels(g).len())
    }

    fn scratch_len(&self, g: &ConvGeom) -> usize {
        len_for(self, g, || {
            let strip = Strip::new(g);
            strip.input_rows(g, strip.rows) * strip.row
        })
    }

    fn granularity(&self, g: &ConvGeom) -> (usize, usize) {
        (1, self.panels(g).width())
    }

    fn prepack(&self, g: &ConvGeom, weights: ConvWeights<'_>, packed: &mut [f32]) -> Result<(), Error> {
        check_prepack(self, g, &weights, packed.len())?;
        let (c, taps) = (g.input.c, g.kernel * g.kernel);
        let scale = |o: usize| weights.scale.get(o).copied().unwrap_or(1.0);
        // Depth runs over kernel rows, kernel columns and channels: the order of the scratch copy.
        let weight = |o: usize, d: usize| weights.oihw[(o * c + d % c) * taps + d / c] * scale(o);
        self.panels(g).pack(packed, weight, |o| weights.bias[o]);
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
        let out = g.output();
        let strip = Strip::new(g);
        let taps = strip.taps();
        let block = block_pixels(g.input.c, packed.len());
        let mut done = 0;
        for (image, rows) in band.images(out.h) {
            let from = &x[image * g.input.elements()..(image + 1) * g.input.elements()];
            for oy in rows.clone().step_by(strip.rows) {
                let n = strip.rows.min(rows.end - oy);
                strip.fill(g, from, oy, n, scratch);
                let map = RowMap { start: 0, per_row: out.w, row: g.stride * strip.row, pixel: g.stride * g.input.c };
                let product = Gemm {
                    a: scratch,
                    rows: map,
                    taps: &taps[..g.kernel],
                    depth: g.kernel * g.input.c,
                    panels: self.panels(g),
                    packed,
                    groups: 1,
                    first: band.channels.start,
                    epilogue,
                    block,
                };
                let cols = y.cols();
                gemm(self.0, &product, &mut y.part(done..done + n * out.w, 0..cols));
                done += n * out.w;
            }
        }
    }
}
