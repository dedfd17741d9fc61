//! One task's share of a convolution's weight gradient.

use std::{mem::replace, ops::Range};

use super::workers::carve;
use crate::layer::conv::Conv;

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
