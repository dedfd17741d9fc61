//! The weight gradient of a convolution, in one share a task.

use std::{mem::replace, ops::Range};

use residual_core::{Error, memory::Buffer, threads::Executor};

use crate::{
    engine::workers::{carve, for_each, padded},
    layer::conv::Conv,
};

/// Output channels of one task of a weight gradient in a pass of its own: enough that a vector of the
/// input is used several times while it is in the cache.
pub(super) fn wide_rows(conv: &Conv) -> usize {
    conv.geom().c_out.min(32)
}

/// Room for the weight gradient of one convolution at a time.
pub(super) struct WeightBuffers {
    /// a sum per task
    sums: Buffer,
    /// output gradients and strips of all images, or their transforms, of layers with many weights
    dys: Buffer,
    strips: Buffer,
}

impl WeightBuffers {
    /// Room enough for each of `convs`.
    pub(super) fn try_new<'c>(
        convs: impl Iterator<Item = &'c Conv> + Clone,
        batch: usize,
        tasks: usize,
    ) -> Result<Self, Error> {
        let size = |by_channels: bool, len: &dyn Fn(&Conv) -> usize| {
            let convs = convs.clone().filter(|conv| conv.by_channels() == by_channels);
            Buffer::try_new(convs.map(len).max().unwrap_or(0))
        };
        Ok(WeightBuffers {
            sums: size(false, &|conv| tasks * conv.weight.len())?,
            dys: size(true, &|conv| batch.saturating_mul(conv.gradient.wide_lens().1))?,
            strips: size(true, &|conv| batch.saturating_mul(conv.gradient.wide_lens().0))?,
        })
    }

    /// What stands in their place while a phase writes them.
    pub(super) fn none() -> Self {
        WeightBuffers { sums: Buffer::new(0), dys: Buffer::new(0), strips: Buffer::new(0) }
    }

    /// A part for each of the tasks, of `per_task` images.
    pub(super) fn parts(&mut self, conv: Option<&Conv>, per_task: usize, tasks: usize) -> Vec<WeightPart<'_>> {
        match conv {
            None => (0..tasks).map(|_| WeightPart::None).collect(),
            Some(conv) if conv.by_channels() => {
                let (strip_len, dy_len) = conv.gradient.wide_lens();
                let dys = self.dys.as_mut_slice().chunks_mut(per_task * dy_len);
                let strips = self.strips.as_mut_slice().chunks_mut(per_task * strip_len);
                dys.zip(strips).map(|(dys, strips)| WeightPart::Later(dys, strips)).collect()
            }
            Some(conv) => {
                self.sums.as_mut_slice().chunks_exact_mut(conv.weight.len()).map(WeightPart::Partial).collect()
            }
        }
    }

    /// Adds what the `tasks` parts of `n` images hold to `gradient`.
    pub(super) fn reduce(&self, executor: &dyn Executor, conv: &Conv, n: usize, tasks: usize, gradient: &mut [f32]) {
        let (row, c_out) = (conv.weight.len() / conv.geom().c_out, conv.geom().c_out);
        if conv.by_channels() {
            let rows = wide_rows(conv);
            let (strip_len, dy_len) = conv.gradient.wide_lens();
            let (dys, strips) = (&self.dys.as_slice()[..n * dy_len], &self.strips.as_slice()[..n * strip_len]);
            for_each(executor, gradient.chunks_mut(rows * row).collect(), |t, gradient, scratch| {
                let channels = t * rows..((t + 1) * rows).min(c_out);
                let (dw, scratch) = scratch.split_at_mut(padded(gradient.len()));
                let dw = &mut dw[..gradient.len()];
                conv.gradient.sum_wide(strips, dys, n, channels.clone(), scratch, dw);
                conv.reduce(dw, dw.len(), 0..channels.len(), gradient);
            });
        } else {
            let rows = c_out.min(8);
            let sums = &self.sums.as_slice()[..tasks * conv.weight.len()];
            for_each(executor, gradient.chunks_mut(rows * row).collect(), |t, gradient, _| {
                conv.reduce(sums, conv.weight.len(), t * rows..((t + 1) * rows).min(c_out), gradient);
            });
        }
    }
}

/// Where a weight gradient goes.
pub(super) enum WeightPart<'a> {
    None,
    /// a sum of this task's own
    Partial(&'a mut [f32]),
    /// nowhere yet: output gradients and strips of this task's images, or their transforms
    Later(&'a mut [f32], &'a mut [f32]),
}

/// A convolution's output gradients and strips of some images, and what becomes of them.
pub(super) struct Work<'a, 's> {
    conv: &'a Conv,
    dys: &'s mut [f32],
    strips: &'s mut [f32],
    sum: Option<&'s mut [f32]>,
    /// where the sum goes in the end, if not where it is
    result: Option<&'s mut [f32]>,
    /// where transforms of all images go
    transforms: Option<(&'s mut [f32], &'s mut [f32])>,
}

impl<'a, 's> Work<'a, 's> {
    pub(super) fn new(
        conv: &'a Conv,
        part: &'s mut WeightPart<'_>,
        at_once: usize,
        scratch: &mut &'s mut [f32],
    ) -> Self {
        let mut work = Work { conv, dys: &mut [], strips: &mut [], sum: None, result: None, transforms: None };
        let winograd = conv.gradient.is_winograd();
        match replace(part, WeightPart::None) {
            WeightPart::None => return work,
            WeightPart::Later(dys, strips) if !winograd => {
                (work.dys, work.strips) = (dys, strips);
                return work;
            }
            WeightPart::Later(dys, strips) => work.transforms = Some((strips, dys)),
            WeightPart::Partial(partial) if winograd => work.result = Some(partial),
            WeightPart::Partial(partial) => work.sum = Some(partial),
        }
        work.dys = carve(scratch, at_once * conv.geom().output().elements());
        work.strips = carve(scratch, at_once * conv.gradient.strip_len());
        if work.result.is_some() {
            work.sum = Some(carve(scratch, conv.gradient.sum_len()));
        }
        if let Some(sum) = &mut work.sum {
            sum.fill(0.0);
        }
        work
    }

    /// Where image `t` of the task lies: by itself where all are kept, else by its place in the group.
    fn place(&self, t: usize, group: &Range<usize>) -> usize {
        if self.sum.is_some() || self.transforms.is_some() { t - group.start } else { t }
    }

    pub(super) fn dy(&mut self, t: usize, group: &Range<usize>) -> &mut [f32] {
        let (at, n) = (self.place(t, group), self.conv.geom().output().elements());
        &mut self.dys[at * n..(at + 1) * n]
    }

    pub(super) fn strip(&mut self, t: usize, group: &Range<usize>) -> &mut [f32] {
        let (at, n) = (self.place(t, group), self.conv.gradient.strip_len());
        &mut self.strips[at * n..(at + 1) * n]
    }

    pub(super) fn accumulate(&mut self, group: &Range<usize>, scratch: &mut [f32]) {
        let (n, conv) = (group.len(), self.conv);
        let (dy_len, strip_len) = (conv.geom().output().elements(), conv.gradient.strip_len());
        if let Some((x_parts, dy_parts)) = &mut self.transforms {
            let (x_len, part_len) = conv.gradient.wide_lens();
            let parts = x_parts.chunks_exact_mut(x_len).zip(dy_parts.chunks_exact_mut(part_len)).skip(group.start);
            let images = self.strips.chunks_exact(strip_len).zip(self.dys.chunks_exact(dy_len)).take(n);
            for ((x_part, dy_part), (strip, dy)) in parts.zip(images) {
                conv.gradient.transform(strip, dy, x_part, dy_part, scratch);
            }
        }
        let Some(sum) = &mut self.sum else { return };
        let (dys, strips) = (&self.dys[..n * dy_len], &self.strips[..n * strip_len]);
        conv.gradient.accumulate(strips, dys, n, 0..conv.geom().c_out, sum, scratch);
    }

    pub(super) fn finish(&mut self) {
        if let (Some(sum), Some(result)) = (&self.sum, &mut self.result) {
            self.conv.gradient.finish(sum, result);
        }
    }
}
