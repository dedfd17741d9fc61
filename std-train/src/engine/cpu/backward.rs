//! Backward: a phase for every convolution, from the last to the first.
//!
//! Behind every phase two things are known of the map below: its gradient behind ReLU's backward, and the
//! sums that batch norm's backward needs, so that the next phase begins with one multiply-add pass.

use std::{
    mem::{replace, swap, take},
    ops::Range,
};

use residual_core::{
    Error,
    memory::Buffer,
    resnet::ShortcutSpec,
    simd::{Addend, Gate, combine, gradient_sums},
    threads::Executor,
};

use super::{
    Layers, Source, Tape,
    forward::normalise,
    image, tasks,
    weight_part::{WeightPart, Work},
    workers::{carve, for_each, padded},
};
use crate::{
    layer::{
        conv::Conv,
        pool::{average_pool_backward, max_pool_backward},
        shortcut::subsample_backward,
    },
    parameters::Parameters,
};

/// Output channels of one task of a weight gradient in a pass of its own: enough that a vector of the
/// input is used several times while it is in the cache.
pub(super) fn wide_rows(conv: &Conv) -> usize {
    conv.geom().c_out.min(32)
}

/// A convolution's part of a phase.
struct Job {
    /// which
    k: usize,
    /// the projection of the block it begins
    projection: Option<usize>,
    /// its input
    source: Source,
    /// what its input's gradient begins with: the block's shortcut
    shortcut: Option<usize>,
    /// its output's gradient is the one of a kept map, not of one inside a block
    outer: bool,
}

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
        let n = images.len() / self.input.elements();
        let c = self.head_input.c;
        let mut d_features = vec![0.0; n * c];
        self.linear.backward(parameters, &tape.features[..n * c], d_logits, gradients, &mut d_features)?;
        let last = self.blocks.len();
        self.map_phase(executor, tape, n, self.producers(last), |tape, i, d, sums, _| {
            let d = &mut d[..self.head_input.elements()];
            average_pool_backward(&d_features[i * c..(i + 1) * c], d);
            self.finish(tape, Source::Value(last), i, d, sums);
        });
        swap(&mut tape.gradient, &mut tape.inner);
        self.coefficients(tape, parameters, n, self.producers(last), gradients);

        for (b, block) in self.blocks.iter().enumerate().rev() {
            for k in (block.first..=block.last).rev() {
                let first = k == block.first;
                let job = Job {
                    k,
                    projection: block.projection.filter(|_| first),
                    source: if first { Source::Value(b) } else { Source::Normalised(k - 1) },
                    shortcut: first.then_some(b),
                    outer: k == block.last,
                };
                self.backward_phase(executor, tape, images, n, &job, gradients);
                self.coefficients(tape, parameters, n, self.below(&job), gradients);
            }
            swap(&mut tape.gradient, &mut tape.inner);
        }

        if let Some(pool) = &self.pool {
            let stem = self.convs[0].geom().output().elements();
            let gradient = replace(&mut tape.gradient, Buffer::new(0));
            self.map_phase(executor, tape, n, [Some(0), None], |tape, i, d, [sums, _], mut scratch| {
                let (y, statistics) = (image(&tape.convs[0].y, i, stem), &tape.convs[0].statistics);
                let x = carve(&mut scratch, stem);
                normalise(self.isa, y, statistics, Addend::None, true, x);
                let pooled = pool.output().elements();
                let dy = &gradient.as_slice()[i * self.slot..][..pooled];
                let d = &mut d[..stem];
                max_pool_backward(pool, x, image(&tape.values[0], i, pooled), dy, d);
                sums.fill(0.0);
                let (sum, product) = sums.split_at_mut(sums.len() / 2);
                gradient_sums(self.isa, d, Gate::Open, y, &statistics.rstd, &statistics.offset, sum, product);
            });
            tape.gradient = gradient;
            self.coefficients(tape, parameters, n, [Some(0), None], gradients);
        }
        let outer = self.pool.is_none();
        let job = Job { k: 0, projection: None, source: Source::Images, shortcut: None, outer };
        self.backward_phase(executor, tape, images, n, &job, gradients);
        Ok(())
    }

    /// The convolutions whose sums a phase leaves behind.
    fn below(&self, job: &Job) -> [Option<usize>; 2] {
        match job.source {
            Source::Images => [None, None],
            Source::Value(v) => self.producers(v),
            Source::Normalised(j) => [Some(j), None],
        }
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
        let (mut gate, producers) = match source {
            Source::Images => return,
            Source::Value(v) => (Gate::Map(image(&tape.values[v], i, d.len())), self.producers(v)),
            Source::Normalised(j) => {
                let statistics = &tape.convs[j].statistics;
                (Gate::Affine(&statistics.scale, &statistics.shift), [Some(j), None])
            }
        };
        for (k, sums) in producers.into_iter().zip(sums) {
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

    fn backward_phase(
        &self,
        executor: &dyn Executor,
        tape: &mut Tape,
        images: &[f32],
        n: usize,
        job: &Job,
        gradients: &mut [f32],
    ) {
        let (per_task, tasks) = tasks(n);
        let below = self.below(job);
        let mut inner = replace(&mut tape.inner, Buffer::new(0));
        let mut sums = below.map(|k| k.map_or(Vec::new(), |k| take(&mut tape.convs[k].partials)));
        let mut partials = [0, 1].map(|p| replace(&mut tape.partials[p], Buffer::new(0)));
        let mut wide = [0, 1].map(|p| {
            let (dy, strips) = &mut tape.wide[p];
            (replace(dy, Buffer::new(0)), replace(strips, Buffer::new(0)))
        });
        let convs = [Some(job.k), job.projection];

        {
            let mut chunks = chunks_of_sums(&mut sums, self.sum_lens(below), per_task);
            let mut weights = [Vec::new(), Vec::new()];
            for (((k, partial), (dy, strips)), parts) in
                convs.iter().zip(&mut partials).zip(&mut wide).zip(&mut weights)
            {
                let conv = k.map(|k| &self.convs[k]);
                *parts = match conv {
                    None => (0..tasks).map(|_| WeightPart::None).collect(),
                    Some(conv) if conv.by_channels() => {
                        let (strip_len, dy_len) = conv.gradient.wide_lens();
                        let dy = dy.as_mut_slice().chunks_mut(per_task * dy_len);
                        let strips = strips.as_mut_slice().chunks_mut(per_task * strip_len);
                        dy.zip(strips).map(|(dy, strips)| WeightPart::Later(dy, strips)).collect()
                    }
                    Some(conv) => {
                        partial.as_mut_slice().chunks_exact_mut(conv.weight.len()).map(WeightPart::Partial).collect()
                    }
                };
            }
            let [main, projected] = weights;
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
            for_each(executor, parts, |_, part, scratch| self.backward_task(rest, images, job, part, scratch));
        }

        for (p, k) in convs.into_iter().enumerate() {
            let Some(conv) = k.map(|k| &self.convs[k]) else { continue };
            let gradient = &mut gradients[conv.weight.clone()];
            let (row, c_out) = (conv.weight.len() / conv.geom().c_out, conv.geom().c_out);
            if conv.by_channels() {
                let rows = wide_rows(conv);
                let (dy, strips) = &wide[p];
                let (strip_len, dy_len) = conv.gradient.wide_lens();
                let (dy, strips) = (&dy.as_slice()[..n * dy_len], &strips.as_slice()[..n * strip_len]);
                for_each(executor, gradient.chunks_mut(rows * row).collect(), |t, gradient, scratch| {
                    let channels = t * rows..((t + 1) * rows).min(c_out);
                    let (dw, scratch) = scratch.split_at_mut(padded(gradient.len()));
                    let dw = &mut dw[..gradient.len()];
                    conv.gradient.sum_wide(strips, dy, n, channels.clone(), scratch, dw);
                    conv.reduce(dw, dw.len(), 0..channels.len(), gradient);
                });
            } else {
                let rows = c_out.min(8);
                let partials = &partials[p].as_slice()[..tasks * conv.weight.len()];
                for_each(executor, gradient.chunks_mut(rows * row).collect(), |t, gradient, _| {
                    conv.reduce(partials, conv.weight.len(), t * rows..((t + 1) * rows).min(c_out), gradient);
                });
            }
        }
        tape.inner = inner;
        put_back(tape, below, sums);
        tape.partials = partials;
        tape.wide = wide;
    }

    /// The backward pass of one convolution (and a projection beside it) for a task's images.
    fn backward_task<'s>(
        &self,
        tape: &Tape,
        images: &[f32],
        job: &Job,
        part: &'s mut Part<'_>,
        mut scratch: &'s mut [f32],
    ) {
        let conv = &self.convs[job.k];
        let per_task = part.images.len();
        let at_once = conv.images_at_once(per_task);
        let (first, lens) = (part.images.start, self.sum_lens(self.below(job)));
        let [main, projected] = &mut part.weights;
        let mut main = Work::new(conv, main, at_once, &mut scratch);
        let projection = job.projection.map(|p| (p, &self.convs[p]));
        let mut projected = projection.map(|(_, conv)| Work::new(conv, projected, at_once, &mut scratch));
        let input = conv.geom().input.elements();

        for group in (0..per_task).step_by(at_once) {
            let group = group..(group + at_once).min(per_task);
            for t in group.clone() {
                let i = first + t;
                let d = &mut part.inner[t * self.slot..(t + 1) * self.slot];
                let outer = &tape.gradient.as_slice()[i * self.slot..(i + 1) * self.slot];
                let dy = main.dy(t, &group);
                let from = if job.outer { &outer[..dy.len()] } else { &d[..dy.len()] };
                self.batch_norm_backward(tape, job.k, i, from, dy);
                self.fill(tape, images, job.source, i, conv, main.strip(t, &group));
                if let (Some((p, conv)), Some(work)) = (projection, &mut projected) {
                    let dy = work.dy(t, &group);
                    self.batch_norm_backward(tape, p, i, &outer[..dy.len()], dy);
                    self.fill(tape, images, job.source, i, conv, work.strip(t, &group));
                }
                let Some(data) = &conv.data else { continue };
                let dx = &mut d[..input];
                let shortcut = job.shortcut.map(|b| &self.blocks[b]).filter(|b| b.shortcut != ShortcutSpec::None);
                if let Some(block) = shortcut {
                    let outer = &outer[..block.output.elements()];
                    match block.shortcut {
                        ShortcutSpec::None => {}
                        ShortcutSpec::Identity => dx.copy_from_slice(outer),
                        ShortcutSpec::Pad { stride, before, .. } => {
                            subsample_backward(block.input, stride, before, block.output.c, outer, dx);
                        }
                        ShortcutSpec::Project(_) => {
                            let (Some((p, conv)), Some(work)) = (projection, &mut projected) else { continue };
                            let Some(data) = &conv.data else { continue };
                            let (dy, packed) = (work.dy(t, &group), tape.convs[p].packed_data.as_slice());
                            data.run(dy, packed, false, dx, &mut scratch[..data.scratch_len()]);
                        }
                    }
                }
                let packed = tape.convs[job.k].packed_data.as_slice();
                let scratch = &mut scratch[..data.scratch_len()];
                data.run(main.dy(t, &group), packed, shortcut.is_some(), dx, scratch);
                let mut sums = part.sums.each_mut().into_iter().zip(lens).map(|(s, n)| &mut s[t * n..(t + 1) * n]);
                let mut sums = [(); 2].map(|()| sums.next().unwrap_or_default());
                self.finish(tape, job.source, i, &mut d[..input], &mut sums);
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

    fn batch_norm_backward(&self, tape: &Tape, k: usize, i: usize, g: &[f32], dy: &mut [f32]) {
        let [a, b, c] = &tape.convs[k].coefficients;
        combine(self.isa, g, image(&tape.convs[k].y, i, dy.len()), [a, b, c], dy);
    }

    /// A convolution's input as the weight gradient reads it.
    fn fill(&self, tape: &Tape, images: &[f32], source: Source, i: usize, conv: &Conv, strip: &mut [f32]) {
        let elements = conv.geom().input.elements();
        match source {
            Source::Images => conv.gradient.fill(&images[i * elements..(i + 1) * elements], strip),
            Source::Value(v) => conv.gradient.fill(image(&tape.values[v], i, elements), strip),
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
