//! Forward: a phase for every convolution.

use std::mem::replace;

use residual_core::{
    Isa,
    conv::subsample,
    memory::Buffer,
    resnet::ShortcutSpec,
    simd::{Addend, affine, average_pool, max_pool},
    threads::Executor,
};

use super::{
    Layers, Source, StepError, Tape, image,
    workers::{carve, for_each},
};
use crate::{
    layer::{batch_norm::Statistics, conv::OutputPart},
    parameters::Parameters,
};

struct Part<'a> {
    value: Option<&'a mut [f32]>,
    outputs: [Option<OutputPart<'a>>; 2],
}

impl Layers {
    pub(super) fn forward(
        &self,
        executor: &dyn Executor,
        tape: &mut Tape,
        parameters: &mut Parameters,
        images: &[f32],
        n: usize,
    ) -> Result<(), StepError> {
        let mut phase = |source, convs| self.forward_phase(executor, tape, parameters, images, n, source, convs);
        phase(Source::Images, [Some(0), None])?;
        for (b, block) in self.blocks.iter().enumerate() {
            phase(Source::Value(b), [Some(block.first), block.projection])?;
            for k in block.first + 1..=block.last {
                phase(Source::Normalised(k - 1), [Some(k), None])?;
            }
        }
        phase(Source::Value(self.blocks.len()), [None, None])?;
        let (features, logits) =
            (&tape.features[..n * self.head_input.c], &mut tape.logits[..n * self.linear.geom.c_out]);
        Ok(self.linear.forward(parameters, features, logits)?)
    }

    /// All images through the convolutions that read `source`. A kept map is computed here, by the first
    /// phase that reads it; the last one goes on to be averaged.
    #[allow(clippy::too_many_arguments)] // the state of a step, and which phase
    fn forward_phase(
        &self,
        executor: &dyn Executor,
        tape: &mut Tape,
        parameters: &mut Parameters,
        images: &[f32],
        n: usize,
        source: Source,
        convs: [Option<usize>; 2],
    ) -> Result<(), StepError> {
        let isa = self.isa;
        // What is written leaves the tape, so that the rest of it can be read meanwhile.
        let mut taken = convs.map(|k| {
            k.map(|k| {
                let tape = &mut tape.convs[k];
                (replace(&mut tape.y, Buffer::new(0)), std::mem::take(&mut tape.partials))
            })
        });
        let mut value = match source {
            Source::Value(v) => Some(replace(&mut tape.values[v], Buffer::new(0))),
            _ => None,
        };
        let mut features = std::mem::take(&mut tape.features);
        let mut parts: Vec<Part<'_>> = (0..n).map(|_| Part { value: None, outputs: [None, None] }).collect();
        if let (Source::Value(v), Some(value)) = (source, &mut value) {
            let values = value.as_mut_slice().chunks_exact_mut(self.value_shape(v).elements());
            parts.iter_mut().zip(values).for_each(|(part, value)| part.value = Some(value));
        }
        for (slot, (k, taken)) in convs.iter().zip(&mut taken).enumerate() {
            let (Some(k), Some((y, partials))) = (k, taken) else { continue };
            let g = self.convs[*k].geom();
            let ys = y.as_mut_slice().chunks_exact_mut(g.output().elements());
            for (part, (y, partial)) in parts.iter_mut().zip(ys.zip(partials.chunks_exact_mut(2 * g.c_out))) {
                part.outputs[slot] = Some(OutputPart { y, partial });
            }
        }
        let last = convs == [None, None];
        let parts: Vec<_> = parts.into_iter().zip(features.chunks_exact_mut(self.head_input.c)).collect();
        let rest = &*tape;
        for_each(executor, parts, |i, (part, feature), mut scratch| {
            let x: &[f32] = match source {
                Source::Images => &images[i * self.input.elements()..(i + 1) * self.input.elements()],
                Source::Value(v) => {
                    let Some(value) = part.value.as_deref_mut() else { return };
                    self.value(rest, v, i, value, scratch);
                    value
                }
                Source::Normalised(j) => {
                    let elements = self.convs[j].geom().output().elements();
                    let x = carve(&mut scratch, elements);
                    normalise(
                        isa,
                        image(&rest.convs[j].y, i, elements),
                        &rest.convs[j].statistics,
                        Addend::None,
                        true,
                        x,
                    );
                    x
                }
            };
            if last {
                average_pool(isa, x, feature);
            }
            for (k, output) in convs.iter().zip(&mut part.outputs) {
                if let (Some(k), Some(output)) = (k, output) {
                    self.convs[*k].forward(isa, x, rest.convs[*k].packed.as_slice(), output, scratch);
                }
            }
        });

        tape.features = features;
        if let (Source::Value(v), Some(value)) = (source, value) {
            tape.values[v] = value;
        }
        for (k, taken) in convs.iter().zip(taken) {
            let (Some(k), Some((y, partials))) = (*k, taken) else { continue };
            let conv = &self.convs[k];
            let out = conv.geom().output();
            let first_pixel = |i: usize| &image(&y, i, out.elements())[..out.c];
            let statistics = &mut tape.convs[k].statistics;
            conv.norm.statistics(parameters, &partials[..n * 2 * out.c], first_pixel, out.h * out.w, statistics);
            let finite = statistics.is_finite();
            tape.convs[k].y = y;
            tape.convs[k].partials = partials;
            if !finite {
                return Err(StepError::Output(conv.spec.name));
            }
        }
        Ok(())
    }

    /// Computes kept map `v` of image `i`: `max(0, batch norm + shortcut)`.
    fn value(&self, tape: &Tape, v: usize, i: usize, out: &mut [f32], mut scratch: &mut [f32]) {
        let isa = self.isa;
        let normal = |k: usize| {
            let elements = self.convs[k].geom().output().elements();
            (image(&tape.convs[k].y, i, elements), &tape.convs[k].statistics)
        };
        let Some(b) = v.checked_sub(1) else {
            let (y, statistics) = normal(0);
            let Some(pool) = &self.pool else {
                return normalise(isa, y, statistics, Addend::None, true, out);
            };
            let x = carve(&mut scratch, y.len());
            normalise(isa, y, statistics, Addend::None, true, x);
            return max_pool(isa, &(*pool).into(), x, 0..pool.output().h, out);
        };
        let block = &self.blocks[b];
        let below = || image(&tape.values[b], i, block.input.elements());
        let addend = match block.shortcut {
            ShortcutSpec::None => Addend::None,
            ShortcutSpec::Identity => Addend::Map(below()),
            ShortcutSpec::Pad { stride, before, .. } => {
                subsample(block.input, stride, before, block.output.c, 0.0, below(), 0, out);
                Addend::Output
            }
            ShortcutSpec::Project(_) => {
                let (y, statistics) = normal(block.projection.unwrap_or(block.last));
                normalise(isa, y, statistics, Addend::None, false, out);
                Addend::Output
            }
        };
        let (y, statistics) = normal(block.last);
        normalise(isa, y, statistics, addend, true, out);
    }
}

/// `act(batch norm of y + addend)`.
pub(super) fn normalise(isa: Isa, y: &[f32], s: &Statistics, addend: Addend<'_>, relu: bool, out: &mut [f32]) {
    affine(isa, y, &s.scale, &s.shift, addend, relu, out, s.scale.len());
}
