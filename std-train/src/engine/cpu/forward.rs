//! Forward: a phase for every convolution.

use std::mem::{replace, take};

use residual_core::{
    Isa,
    conv::subsample,
    memory::Buffer,
    resnet::ShortcutSpec,
    simd::{Addend, affine, average_pool, max_pool},
    threads::Executor,
};

use super::layers::{Layers, Tape, image};
use crate::{
    engine::{
        StepError,
        workers::{carve, for_each},
    },
    layer::{batch_norm::Statistics, conv::OutputPart},
    parameters::Parameters,
    topology::Source,
};

/// What a convolution writes: its output, and batch norm's sums.
type Written = (Buffer, Vec<f64>);

/// What a phase writes of one image.
#[derive(Default)]
struct Part<'a> {
    kept: Option<&'a mut [f32]>,
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
        let mut run = |source, convs| self.forward_phase(executor, tape, parameters, images, n, source, convs);
        for phase in self.topology.phases() {
            run(phase.source, phase.convs())?;
        }
        run(Source::Kept(self.topology.last_kept()), [None, None])?;
        let features = &tape.features[..n * self.topology.head().input.c];
        Ok(self.linear.forward(parameters, features, &mut tape.logits[..n * self.linear.geom.c_out])?)
    }

    /// Takes all images through the convolutions that read `source`. A kept map is computed here, by the phase that
    /// reads it; the last phase, which has no convolutions, averages its pixels.
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
        let mut written = convs.map(|k| {
            k.map(|k| {
                let tape = &mut tape.convs[k];
                (replace(&mut tape.y, Buffer::new(0)), take(&mut tape.partials))
            })
        });
        let mut kept = match source {
            Source::Kept(v) => Some((v, replace(&mut tape.kept[v], Buffer::new(0)))),
            Source::Images | Source::Normalised(_) => None,
        };
        let mut features = take(&mut tape.features);
        let parts = self.forward_parts(n, kept.as_mut(), convs, &mut written);
        let parts: Vec<_> = parts.into_iter().zip(features.chunks_exact_mut(self.topology.head().input.c)).collect();
        let rest = &*tape;
        for_each(executor, parts, |i, (part, feature), mut scratch| {
            let Part { kept, outputs } = part;
            let Some(x) = self.input(rest, images, source, i, kept.as_deref_mut(), &mut scratch) else { return };
            if convs == [None, None] {
                average_pool(isa, x, feature);
            }
            for (k, output) in convs.iter().zip(outputs) {
                if let (Some(k), Some(output)) = (k, output) {
                    self.convs[*k].forward(isa, x, rest.convs[*k].packed.as_slice(), output, scratch);
                }
            }
        });

        tape.features = features;
        if let Some((v, map)) = kept {
            tape.kept[v] = map;
        }
        // All goes back on the tape, after a failure, too: the next step writes there.
        let mut result = Ok(());
        for (k, written) in convs.into_iter().zip(written) {
            if let (Some(k), Some(written)) = (k, written) {
                result = result.and(self.end_forward(tape, parameters, n, k, written));
            }
        }
        result
    }

    /// Cuts what a phase writes into images: the kept map of a number, and what `convs` write.
    fn forward_parts<'w>(
        &self,
        n: usize,
        kept: Option<&'w mut (usize, Buffer)>,
        convs: [Option<usize>; 2],
        written: &'w mut [Option<Written>; 2],
    ) -> Vec<Part<'w>> {
        let mut parts: Vec<Part<'_>> = (0..n).map(|_| Part::default()).collect();
        if let Some((v, map)) = kept {
            let maps = map.as_mut_slice().chunks_exact_mut(self.topology.kept_shape(*v).elements());
            parts.iter_mut().zip(maps).for_each(|(part, map)| part.kept = Some(map));
        }
        for (slot, (k, written)) in convs.into_iter().zip(written).enumerate() {
            let (Some(k), Some((y, partials))) = (k, written) else { continue };
            let g = self.convs[k].geom();
            let ys = y.as_mut_slice().chunks_exact_mut(g.output().elements());
            for (part, (y, partial)) in parts.iter_mut().zip(ys.zip(partials.chunks_exact_mut(2 * g.c_out))) {
                part.outputs[slot] = Some(OutputPart { y, partial });
            }
        }
        parts
    }

    /// What a phase reads of image `i`. A kept map is computed first, into `kept`.
    fn input<'x, 's: 'x>(
        &self,
        tape: &'x Tape,
        images: &'x [f32],
        source: Source,
        i: usize,
        kept: Option<&'x mut [f32]>,
        scratch: &mut &'s mut [f32],
    ) -> Option<&'x [f32]> {
        match source {
            Source::Images => {
                let elements = self.topology.input().elements();
                Some(&images[i * elements..(i + 1) * elements])
            }
            Source::Kept(v) => {
                let map = kept?;
                self.kept_map(tape, v, i, map, scratch);
                Some(map)
            }
            Source::Normalised(j) => {
                let below = &tape.convs[j];
                let y = image(&below.y, i, self.convs[j].geom().output().elements());
                let x = carve(scratch, y.len());
                normalise(self.isa, y, &below.statistics, Addend::None, true, x);
                Some(x)
            }
        }
    }

    /// Takes the statistics of what convolution `k` wrote, and puts it back on the tape.
    fn end_forward(
        &self,
        tape: &mut Tape,
        parameters: &mut Parameters,
        n: usize,
        k: usize,
        (y, partials): Written,
    ) -> Result<(), StepError> {
        let (conv, tape) = (&self.convs[k], &mut tape.convs[k]);
        let out = conv.geom().output();
        let first_pixel = |i: usize| &image(&y, i, out.elements())[..out.c];
        let sums = &partials[..n * 2 * out.c];
        conv.norm.statistics(parameters, sums, first_pixel, out.h * out.w, &mut tape.statistics);
        (tape.y, tape.partials) = (y, partials);
        if tape.statistics.is_finite() { Ok(()) } else { Err(StepError::Output(conv.spec.name)) }
    }

    /// Computes kept map `v` of image `i`: `max(0, batch norm + shortcut)`.
    fn kept_map(&self, tape: &Tape, v: usize, i: usize, out: &mut [f32], mut scratch: &mut [f32]) {
        let isa = self.isa;
        let normal = |k: usize| {
            let elements = self.convs[k].geom().output().elements();
            (image(&tape.convs[k].y, i, elements), &tape.convs[k].statistics)
        };
        let Some(b) = v.checked_sub(1) else {
            let (y, statistics) = normal(0);
            let Some(pool) = self.topology.pool() else {
                return normalise(isa, y, statistics, Addend::None, true, out);
            };
            let x = carve(&mut scratch, y.len());
            normalise(isa, y, statistics, Addend::None, true, x);
            return max_pool(isa, &(*pool).into(), x, 0..pool.output().h, out);
        };
        let block = &self.topology.blocks()[b];
        let below = || image(&tape.kept[b], i, block.input.elements());
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
