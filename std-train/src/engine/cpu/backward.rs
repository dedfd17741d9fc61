//! Backward: a phase for every convolution, from the last to the first.
//!
//! Behind every phase two things are known of the map that it read: its gradient behind ReLU's backward, and the sums
//! that batch norm's backward needs. So the next phase begins with one multiply-add pass.

use std::{
    mem::{replace, swap, take},
    ops::Range,
};

use residual_core::{
    Error,
    geom::PoolGeom,
    memory::Buffer,
    resnet::ShortcutSpec,
    simd::{Addend, Gate, combine, gradient_sums},
    threads::Executor,
};

use super::{
    forward::normalise,
    layers::{Layers, Tape, image},
    weight_part::{WeightBuffers, WeightPart, Work},
};
use crate::{
    engine::{
        tasks,
        workers::{carve, for_each},
    },
    layer::{
        conv::Conv,
        pool::{average_pool_backward, max_pool_backward},
        shortcut::subsample_backward,
    },
    parameters::Parameters,
    topology::{Block, Phase, Source},
};

/// One task's images and what it writes.
struct Part<'a> {
    images: Range<usize>,
    inner: &'a mut [f32],
    /// batch norm sums of the convolutions below
    sums: [&'a mut [f64]; 2],
    /// of the convolution and the projection
    weights: [WeightPart<'a>; 2],
}

impl Layers {
    pub(super) fn backward(
        &self,
        executor: &dyn Executor,
        tape: &mut Tape,
        parameters: &Parameters,
        images: &[f32],
        d_logits: &[f32],
        gradients: &mut [f32],
    ) -> Result<(), Error> {
        let topology = &self.topology;
        let n = images.len() / topology.input().elements();
        let map = topology.head().input;
        let mut d_features = vec![0.0; n * map.c];
        self.linear.backward(parameters, &tape.features[..n * map.c], d_logits, gradients, &mut d_features)?;
        let last = Source::Kept(topology.last_kept());
        self.map_phase(executor, tape, n, topology.producers(last), |tape, i, d, sums, _| {
            let d = &mut d[..map.elements()];
            average_pool_backward(&d_features[i * map.c..(i + 1) * map.c], d);
            self.finish(tape, last, i, d, sums);
        });
        swap(&mut tape.gradient, &mut tape.inner);
        self.coefficients(tape, parameters, n, topology.producers(last), gradients);

        for phase in topology.phases().iter().rev() {
            if let (Source::Images, Some(pool)) = (phase.source, topology.pool()) {
                self.pool_backward(executor, tape, n, pool);
                self.coefficients(tape, parameters, n, [Some(phase.conv), None], gradients);
            }
            self.backward_phase(executor, tape, images, n, phase, gradients);
            self.coefficients(tape, parameters, n, topology.producers(phase.source), gradients);
            if phase.begins.is_some() {
                swap(&mut tape.gradient, &mut tape.inner);
            }
        }
        Ok(())
    }

    /// The gradient of what the stem's max pool read, and its sums.
    fn pool_backward(&self, executor: &dyn Executor, tape: &mut Tape, n: usize, pool: &PoolGeom) {
        let stem = self.convs[0].geom().output().elements();
        let gradient = replace(&mut tape.gradient, Buffer::new(0));
        self.map_phase(executor, tape, n, [Some(0), None], |tape, i, d, [sums, _], mut scratch| {
            let (y, statistics) = (image(&tape.convs[0].y, i, stem), &tape.convs[0].statistics);
            let x = carve(&mut scratch, stem);
            normalise(self.isa, y, statistics, Addend::None, true, x);
            let pooled = pool.output().elements();
            let dy = &gradient.as_slice()[i * self.slot..][..pooled];
            let d = &mut d[..stem];
            max_pool_backward(pool, x, image(&tape.kept[0], i, pooled), dy, d);
            sums.fill(0.0);
            let (sum, product) = sums.split_at_mut(sums.len() / 2);
            gradient_sums(self.isa, d, Gate::Open, y, &statistics.rstd, &statistics.offset, sum, product);
        });
        tape.gradient = gradient;
    }

    /// Ends the backward pass of these convolutions' batch norms, but for the map itself.
    fn coefficients(
        &self,
        tape: &mut Tape,
        parameters: &Parameters,
        n: usize,
        convs: [Option<usize>; 2],
        gradients: &mut [f32],
    ) {
        for k in convs.into_iter().flatten() {
            let (conv, tape) = (&self.convs[k], &mut tape.convs[k]);
            let partials = &tape.partials[..n * 2 * conv.geom().c_out];
            tape.coefficients = conv.norm.backward(parameters, &tape.statistics, partials, gradients);
        }
    }

    /// ReLU's backward of the map `source`, in place, and the sums of the batch norms it comes from. A map
    /// behind a max pool comes from none: there the pool's backward looks at the signs itself.
    fn finish(&self, tape: &Tape, source: Source, i: usize, d: &mut [f32], sums: &mut [&mut [f64]; 2]) {
        let mut gate = match source {
            Source::Images => return,
            Source::Kept(v) => Gate::Map(image(&tape.kept[v], i, d.len())),
            Source::Normalised(j) => Gate::Affine(&tape.convs[j].statistics.scale, &tape.convs[j].statistics.shift),
        };
        for (k, sums) in self.topology.producers(source).into_iter().zip(sums) {
            let Some(k) = k else { continue };
            let (y, s) = (image(&tape.convs[k].y, i, d.len()), &tape.convs[k].statistics);
            sums.fill(0.0);
            let (sum, product) = sums.split_at_mut(sums.len() / 2);
            gradient_sums(self.isa, d, gate, y, &s.rstd, &s.offset, sum, product);
            gate = Gate::Open;
        }
    }

    /// Calls `f(tape, image, its part of the inner gradient, sums, scratch)` for every image.
    fn map_phase(
        &self,
        executor: &dyn Executor,
        tape: &mut Tape,
        n: usize,
        convs: [Option<usize>; 2],
        f: impl Fn(&Tape, usize, &mut [f32], &mut [&mut [f64]; 2], &mut [f32]) + Sync,
    ) {
        let mut inner = replace(&mut tape.inner, Buffer::new(0));
        let mut sums = convs.map(|k| k.map_or(Vec::new(), |k| take(&mut tape.convs[k].partials)));
        let mut chunks = chunks_of_sums(&mut sums, self.sum_lens(convs), 1);
        let inners = inner.as_mut_slice().chunks_exact_mut(self.slot).take(n);
        let parts: Vec<_> = inners.map(|inner| (inner, [next(&mut chunks[0]), next(&mut chunks[1])])).collect();
        let rest = &*tape;
        for_each(executor, parts, |i, (inner, sums), scratch| f(rest, i, inner, sums, scratch));
        tape.inner = inner;
        put_back(tape, convs, sums);
    }

    fn sum_lens(&self, convs: [Option<usize>; 2]) -> [usize; 2] {
        convs.map(|k| k.map_or(0, |k| 2 * self.convs[k].geom().c_out))
    }

    /// Takes all images back through a phase: the gradients of its weights and of the map that it read.
    fn backward_phase(
        &self,
        executor: &dyn Executor,
        tape: &mut Tape,
        images: &[f32],
        n: usize,
        phase: &Phase,
        gradients: &mut [f32],
    ) {
        let (per_task, tasks) = tasks(n);
        let below = self.topology.producers(phase.source);
        let convs = phase.convs().map(|k| k.map(|k| &self.convs[k]));
        // What is written leaves the tape, so that the rest of it can be read meanwhile.
        let mut inner = replace(&mut tape.inner, Buffer::new(0));
        let mut sums = below.map(|k| k.map_or(Vec::new(), |k| take(&mut tape.convs[k].partials)));
        let mut weights = tape.weights.each_mut().map(|buffers| replace(buffers, WeightBuffers::none()));

        let mut chunks = chunks_of_sums(&mut sums, self.sum_lens(below), per_task);
        let [main, projected] = &mut weights;
        let (main, projected) = (main.parts(convs[0], per_task, tasks), projected.parts(convs[1], per_task, tasks));
        let inners = inner.as_mut_slice().chunks_mut(per_task * self.slot);
        let parts: Vec<Part<'_>> = (0..tasks)
            .zip(inners.zip(main.into_iter().zip(projected)))
            .map(|(t, (inner, (main, projected)))| Part {
                images: t * per_task..((t + 1) * per_task).min(n),
                inner,
                sums: [next(&mut chunks[0]), next(&mut chunks[1])],
                weights: [main, projected],
            })
            .collect();
        let rest = &*tape;
        for_each(executor, parts, |_, part, scratch| self.backward_task(rest, images, phase, part, scratch));

        for (conv, buffers) in convs.into_iter().zip(&weights) {
            if let Some(conv) = conv {
                buffers.reduce(executor, conv, n, tasks, &mut gradients[conv.weight.clone()]);
            }
        }
        tape.inner = inner;
        put_back(tape, below, sums);
        tape.weights = weights;
    }

    /// One task's images of a phase.
    fn backward_task<'s>(
        &self,
        tape: &Tape,
        images: &[f32],
        phase: &Phase,
        part: &'s mut Part<'_>,
        mut scratch: &'s mut [f32],
    ) {
        let conv = &self.convs[phase.conv];
        let per_task = part.images.len();
        let at_once = conv.images_at_once(per_task);
        let (first, lens) = (part.images.start, self.sum_lens(self.topology.producers(phase.source)));
        let [main, projected] = &mut part.weights;
        let mut main = Work::new(conv, main, at_once, &mut scratch);
        let projection = phase.projection.map(|p| (p, &self.convs[p]));
        let mut projected = projection.map(|(_, conv)| Work::new(conv, projected, at_once, &mut scratch));
        let block = phase.begins.map(|b| &self.topology.blocks()[b]);
        let block = block.filter(|block| block.shortcut != ShortcutSpec::None);
        let input = conv.geom().input.elements();

        for group in (0..per_task).step_by(at_once) {
            let group = group..(group + at_once).min(per_task);
            for t in group.clone() {
                let i = first + t;
                let d = &mut part.inner[t * self.slot..(t + 1) * self.slot];
                let outer = &tape.gradient.as_slice()[i * self.slot..(i + 1) * self.slot];
                let dy = main.dy(t, &group);
                let from = if phase.ends { &outer[..dy.len()] } else { &d[..dy.len()] };
                self.batch_norm_backward(tape, phase.conv, i, from, dy);
                self.fill(tape, images, phase.source, i, conv, main.strip(t, &group));
                if let (Some((p, conv)), Some(work)) = (projection, &mut projected) {
                    let dy = work.dy(t, &group);
                    self.batch_norm_backward(tape, p, i, &outer[..dy.len()], dy);
                    self.fill(tape, images, phase.source, i, conv, work.strip(t, &group));
                }
                let Some(data) = &conv.data else { continue };
                let dx = &mut d[..input];
                if let Some(block) = block {
                    let projected = projected.as_mut().map(|work| &*work.dy(t, &group)).unwrap_or_default();
                    self.shortcut_backward(tape, block, &outer[..block.output.elements()], projected, dx, scratch);
                }
                let packed = tape.convs[phase.conv].packed_data.as_slice();
                let scratch = &mut scratch[..data.scratch_len()];
                data.run(main.dy(t, &group), packed, block.is_some(), dx, scratch);
                let mut sums = part.sums.each_mut().into_iter().zip(lens).map(|(s, n)| &mut s[t * n..(t + 1) * n]);
                let mut sums = [(); 2].map(|()| sums.next().unwrap_or_default());
                self.finish(tape, phase.source, i, &mut d[..input], &mut sums);
            }
            main.accumulate(&group, scratch);
            if let Some(work) = &mut projected {
                work.accumulate(&group, scratch);
            }
        }
        main.finish();
        if let Some(work) = &mut projected {
            work.finish();
        }
    }

    /// What a block's shortcut passes back to the block's input, into `dx`: of `outer`, or of `projected`, which lies
    /// before the projection's batch norm.
    fn shortcut_backward(
        &self,
        tape: &Tape,
        block: &Block,
        outer: &[f32],
        projected: &[f32],
        dx: &mut [f32],
        scratch: &mut [f32],
    ) {
        match block.shortcut {
            ShortcutSpec::None => {}
            ShortcutSpec::Identity => dx.copy_from_slice(outer),
            ShortcutSpec::Pad { stride, before, .. } => {
                subsample_backward(block.input, stride, before, block.output.c, outer, dx);
            }
            ShortcutSpec::Project(_) => {
                let Some(p) = block.projection else { return };
                let Some(data) = &self.convs[p].data else { return };
                let packed = tape.convs[p].packed_data.as_slice();
                data.run(projected, packed, false, dx, &mut scratch[..data.scratch_len()]);
            }
        }
    }

    fn batch_norm_backward(&self, tape: &Tape, k: usize, i: usize, g: &[f32], dy: &mut [f32]) {
        let [a, b, c] = &tape.convs[k].coefficients;
        combine(self.isa, g, image(&tape.convs[k].y, i, dy.len()), [a, b, c], dy);
    }

    /// A convolution's input as the weight gradient reads it.
    fn fill(&self, tape: &Tape, images: &[f32], source: Source, i: usize, conv: &Conv, strip: &mut [f32]) {
        let elements = conv.geom().input.elements();
        match source {
            Source::Images => conv.gradient.fill(&images[i * elements..(i + 1) * elements], strip),
            Source::Kept(v) => conv.gradient.fill(image(&tape.kept[v], i, elements), strip),
            Source::Normalised(j) => {
                let below = &tape.convs[j];
                let (scale, shift) = (&below.statistics.scale, &below.statistics.shift);
                conv.gradient.fill_normalised(image(&below.y, i, elements), scale, shift, strip);
            }
        }
    }
}

/// The sums of two convolutions in chunks of `per_task` images.
fn chunks_of_sums<'v>(
    sums: &'v mut [Vec<f64>; 2],
    lens: [usize; 2],
    per_task: usize,
) -> [std::slice::ChunksMut<'v, f64>; 2] {
    let mut lens = lens.into_iter();
    sums.each_mut().map(|sums| sums.chunks_mut((lens.next().unwrap_or(0) * per_task).max(1)))
}

fn next<'v>(chunks: &mut std::slice::ChunksMut<'v, f64>) -> &'v mut [f64] {
    chunks.next().unwrap_or_default()
}

fn put_back(tape: &mut Tape, convs: [Option<usize>; 2], sums: [Vec<f64>; 2]) {
    for (k, sums) in convs.into_iter().zip(sums) {
        if let Some(k) = k {
            tape.convs[k].partials = sums;
        }
    }
}
