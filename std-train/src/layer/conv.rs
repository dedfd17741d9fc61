//! A convolution followed by batch norm.
//!
//! ```text
//! forward    y = conv(x, w); batch norm's sums are taken while y is in the cache
//! backward   dx = conv(dy, w turned and transposed)         dw[tap] = sum over pixels of dy * x[+ tap]
//! ```

use std::ops::Range;

use residual_core::{
    Error, Isa,
    conv::{Band, ConvWeights, DataGradient, Epilogue, Kernel, WeightGradient},
    geom::ConvGeom,
    memory::{Buffer, MatMut},
    plan::fastest,
    resnet::ConvSpec,
};

use super::batch_norm::{BatchNorm, Statistics, image_moments};
use crate::parameters::{Entry, Parameters};

/// Weights above this many elements are not summed per task but in one pass over all images.
const MANY_WEIGHTS: usize = 128 * 1024;

/// Pixels a weight gradient should sum over at a time, so that reading and writing it costs little.
const PIXELS_AT_ONCE: usize = 256;

/// Its kernels, and where its tensors lie among the parameters.
pub(crate) struct Conv {
    pub spec: ConvSpec,
    pub weight: Range<usize>,
    pub norm: BatchNorm,
    forward: Kernel,
    /// none where nobody asks for the gradient of what it reads
    pub data: Option<DataGradient>,
    pub gradient: WeightGradient,
}

/// What one batch leaves behind: outputs, sums, and packed weights.
pub(crate) struct ConvTape {
    /// before batch norm
    pub y: Buffer,
    /// two sums a channel and image, of the pass at hand
    pub partials: Vec<f64>,
    pub statistics: Statistics,
    /// of the backward pass
    pub coefficients: [Vec<f32>; 3],
    /// packed weights of both directions
    pub packed: Buffer,
    pub packed_data: Buffer,
}

impl Conv {
    /// With `data`, it computes the gradient of what it reads, too.
    pub(crate) fn new(
        spec: ConvSpec,
        parameters: &Parameters,
        isa: Isa,
        winograd: bool,
        data: bool,
    ) -> Result<Self, Error> {
        let geom = spec.geom;
        let unsupported = Error::Unsupported(geom);
        let [weight, gamma, beta, mean, var] = spec.tensors().map(|t| parameters.entry(&t.name).map(range));
        let missing = Error::MissingTensor(spec.bn);
        let (Some(weight), Some(gamma), Some(beta), Some(mean), Some(var)) = (weight, gamma, beta, mean, var) else {
            return Err(missing);
        };
        let gradient = WeightGradient::new(isa, geom, winograd).ok_or(unsupported)?;
        Ok(Conv {
            spec,
            weight,
            norm: BatchNorm { gamma, beta, mean, var },
            forward: fastest(&geom, isa, winograd)?,
            data: data.then(|| DataGradient::new(isa, geom, |g| fastest(g, isa, winograd))).transpose()?,
            gradient,
        })
    }

    pub(crate) fn geom(&self) -> &ConvGeom {
        &self.spec.geom
    }

    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn tape(&self, batch: usize) -> Result<ConvTape, Error> {
        Ok(ConvTape {
            y: Buffer::try_new(batch.saturating_mul(self.geom().output().elements()))?,
            partials: vec![0.0; batch * 2 * self.geom().c_out],
            statistics: Statistics::default(),
            coefficients: Default::default(),
            packed: Buffer::try_new(self.forward.packed_len(self.geom()))?,
            packed_data: Buffer::try_new(self.data.map_or(0, |d| d.packed_len()))?,
        })
    }

    /// Scratch elements of any of the kernels.
    pub(crate) fn scratch_len(&self) -> usize {
        let data = self.data.map_or(0, |d| d.scratch_len()).max(self.gradient.scratch_len());
        data.max(self.forward.scratch_len(self.geom())).max(self.geom().c_out)
    }

    /// Packs the weights for both directions.
    pub(crate) fn pack(&self, parameters: &Parameters, tape: &mut ConvTape, scratch: &mut [f32]) -> Result<(), Error> {
        let oihw = &parameters.values()[self.weight.clone()];
        let bias = &mut scratch[..self.geom().c_out];
        bias.fill(0.0);
        let weights = ConvWeights { oihw, scale: &[], bias };
        self.forward.prepack(self.geom(), weights, tape.packed.as_mut_slice())?;
        match &self.data {
            Some(data) => data.prepack(oihw, tape.packed_data.as_mut_slice(), &mut scratch[..data.scratch_len()]),
            None => Ok(()),
        }
    }

    /// One image's output and its sums.
    pub(crate) fn forward(&self, isa: Isa, x: &[f32], packed: &[f32], part: &mut OutputPart<'_>, scratch: &mut [f32]) {
        let g = self.geom();
        let scratch = &mut scratch[..self.forward.scratch_len(g)];
        self.forward.run(g, x, packed, Epilogue::default(), &Band::whole(g, 1), MatMut::new(part.y, g.c_out), scratch);
        image_moments(isa, part.y, part.partial);
    }

    /// Images whose weight gradient is summed in one call.
    pub(crate) fn images_at_once(&self, per_task: usize) -> usize {
        let out = self.geom().output();
        PIXELS_AT_ONCE.div_ceil(out.h * out.w).clamp(1, per_task.max(1))
    }

    /// Whether the weight gradient is computed in a pass of its own, split by output channels.
    pub(crate) fn by_channels(&self) -> bool {
        self.weight.len() > MANY_WEIGHTS
    }

    /// Adds rows `rows` (in the order kernel row, column, input channel) of all `partials`, which are `len`
    /// elements each, to `gradient`, the same channels in OIHW order.
    pub(crate) fn reduce(&self, partials: &[f32], len: usize, rows: Range<usize>, gradient: &mut [f32]) {
        let (c, area) = (self.geom().input.c, self.geom().kernel * self.geom().kernel);
        let row = c * area;
        let mut sum = vec![0.0f32; row];
        for (o, to) in rows.zip(gradient.chunks_exact_mut(row)) {
            sum.fill(0.0);
            for partial in partials.chunks_exact(len) {
                sum.iter_mut().zip(&partial[o * row..(o + 1) * row]).for_each(|(s, v)| *s += v);
            }
            for (i, plane) in to.chunks_exact_mut(area).enumerate() {
                plane.iter_mut().enumerate().for_each(|(tap, to)| *to += sum[tap * c + i]);
            }
        }
    }
}

/// Where one image's output goes.
pub(crate) struct OutputPart<'a> {
    pub y: &'a mut [f32],
    pub partial: &'a mut [f64],
}

fn range(entry: &Entry) -> Range<usize> {
    entry.range.clone()
}
