//! 1x1 convolution: a matrix product over pixels, read in place from NHWC. Also the classifier, as a
//! convolution of a 1x1 map.

use super::{Band, ConvKernel, ConvWeights, Epilogue, block_pixels, check_prepack, len_for};
use crate::{
    Error, Name,
    geom::ConvGeom,
    memory::MatMut,
    simd::{Gemm, Isa, Panels, RowMap, gemm},
};

/// See the module's description.
#[derive(Clone, Copy)]
pub struct Pointwise(pub(super) Isa);

impl Pointwise {
    fn panels(&self, g: &ConvGeom) -> Panels {
        Panels::new(self.0, g.input.c, g.c_out)
    }
}

impl ConvKernel<f32> for Pointwise {
    fn name(&self) -> Name {
        let (mr, nr) = Panels::new(self.0, 0, 0).tile();
        Name::new(format_args!("pointwise-f32-{}-{mr}x{nr}", self.0))
    }

    fn supports(&self, g: &ConvGeom) -> bool {
        g.is_valid() && g.kernel == 1 && g.pad == 0
    }

    fn products(&self, g: &ConvGeom) -> u64 {
        g.macs()
    }

    fn packed_len(&self, g: &ConvGeom) -> usize {
        len_for(self, g, || self.panels(g).len())
    }

    fn scratch_len(&self, g: &ConvGeom) -> usize {
        len_for(self, g, || 0)
    }

    fn granularity(&self, g: &ConvGeom) -> (usize, usize) {
        (1, self.panels(g).width())
    }

    fn prepack(&self, g: &ConvGeom, weights: ConvWeights<'_>, packed: &mut [f32]) -> Result<(), Error> {
        check_prepack(self, g, &weights, packed.len())?;
        let c = g.input.c;
        let scale = |o: usize| weights.scale.get(o).copied().unwrap_or(1.0);
        self.panels(g).pack(packed, |o, d| weights.oihw[o * c + d] * scale(o), |o| weights.bias[o]);
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
        _: &mut [f32],
    ) {
        assert!(self.supports(g), "{} cannot compute {g}", self.name());
        let (input, out) = (g.input, g.output());
        let block = block_pixels(input.c, packed.len());
        let product = |a: &[f32], rows: RowMap, y: &mut MatMut<'_, f32>| {
            let (panels, first) = (self.panels(g), band.channels.start);
            let product =
                Gemm { a, rows, taps: &[0], depth: input.c, panels, packed, groups: 1, first, epilogue, block };
            gemm(self.0, &product, y);
        };
        let first = band.rows.start * out.w;

        if g.stride == 1 {
            product(&x[first * input.c..], RowMap::contiguous(input.c), &mut y);
        } else {
            for (image, rows) in band.images(out.h) {
                let map = RowMap {
                    start: (image * input.h + rows.start * g.stride) * input.w * input.c,
                    per_row: out.w,
                    row: g.stride * input.w * input.c,
                    pixel: g.stride * input.c,
                };
                let p = (image * out.h + rows.start) * out.w;
                let cols = y.cols();
                let mut part = y.part(p - first..p - first + rows.len() * out.w, 0..cols);
                product(x, map, &mut part);
            }
        }
    }
}
