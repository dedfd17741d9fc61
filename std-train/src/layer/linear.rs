//! The classifier: a 1x1 convolution of a 1x1 map, with a bias and without batch norm.
//!
//! ```text
//! forward    y = w x + b
//! backward   dx = w^T dy          dw = sum over images of dy x^T          db = sum over images of dy
//! ```

use std::ops::Range;

use residual_core::{
    Error, Isa, Name,
    conv::{Band, ConvWeights, DataGradient, Epilogue, Kernel, WeightGradient},
    geom::{ConvGeom, Shape},
    memory::{Buffer, MatMut},
    plan::fastest,
    resnet::HeadSpec,
};

use crate::parameters::Parameters;

pub(crate) struct Linear {
    pub geom: ConvGeom,
    weight: Range<usize>,
    bias: Range<usize>,
    forward: Kernel,
    data: DataGradient,
    gradient: WeightGradient,
}

impl Linear {
    pub(crate) fn new(spec: &HeadSpec, parameters: &Parameters, isa: Isa) -> Result<Self, Error> {
        let input = Shape::new(1, 1, spec.input.c);
        let geom = ConvGeom { input, c_out: spec.classes, kernel: 1, stride: 1, pad: 0 };
        let [weight, bias] = spec.tensors();
        let range = |name: Name| parameters.entry(&name).map(|e| e.range.clone()).ok_or(Error::MissingTensor(name));
        Ok(Linear {
            geom,
            weight: range(weight.name)?,
            bias: range(bias.name)?,
            forward: fastest(&geom, isa, false)?,
            data: DataGradient::new(isa, geom, |g| fastest(g, isa, false))?,
            gradient: WeightGradient::new(isa, geom, false).ok_or(Error::Unsupported(geom))?,
        })
    }

    /// Logits of all images.
    pub(crate) fn forward(&self, parameters: &Parameters, x: &[f32], logits: &mut [f32]) -> Result<(), Error> {
        let (g, kernel) = (&self.geom, &self.forward);
        let values = parameters.values();
        let mut packed = Buffer::new(kernel.packed_len(g));
        let weights = ConvWeights { oihw: &values[self.weight.clone()], scale: &[], bias: &values[self.bias.clone()] };
        kernel.prepack(g, weights, packed.as_mut_slice())?;
        let mut scratch = Buffer::new(kernel.scratch_len(g));
        let band = Band::whole(g, x.len() / g.input.c);
        let y = MatMut::new(logits, g.c_out);
        kernel.run(g, x, packed.as_slice(), Epilogue::default(), &band, y, scratch.as_mut_slice());
        Ok(())
    }

    /// Adds the parameters' gradients and computes `dx` of all images.
    pub(crate) fn backward(
        &self,
        parameters: &Parameters,
        x: &[f32],
        dy: &[f32],
        gradients: &mut [f32],
        dx: &mut [f32],
    ) -> Result<(), Error> {
        let (inputs, classes) = (self.geom.input.c, self.geom.c_out);
        for dy in dy.chunks_exact(classes) {
            gradients[self.bias.clone()].iter_mut().zip(dy).for_each(|(db, dy)| *db += dy);
        }
        let images = x.len() / inputs;
        let strip = self.gradient.strip_len();
        let mut strips = Buffer::new(images * strip);
        for (strip, x) in strips.as_mut_slice().chunks_exact_mut(strip).zip(x.chunks_exact(inputs)) {
            self.gradient.fill(x, strip);
        }
        let dw = &mut gradients[self.weight.clone()];
        self.gradient.accumulate(strips.as_slice(), dy, images, 0..classes, dw, &mut []);

        let mut packed = Buffer::new(self.data.packed_len());
        let mut scratch = Buffer::new(self.data.scratch_len());
        let weights = &parameters.values()[self.weight.clone()];
        self.data.prepack(weights, packed.as_mut_slice(), scratch.as_mut_slice())?;
        for (dy, dx) in dy.chunks_exact(classes).zip(dx.chunks_exact_mut(inputs)) {
            self.data.run(dy, packed.as_slice(), false, dx, scratch.as_mut_slice());
        }
        Ok(())
    }
}
