//! Running a plan.

use super::{Executor, Place, Plan, Shortcut, Step, StepKind, arena, check_len};
use crate::{
    Error, Isa,
    arch::{MatMut, Parts, average_pool, max_pool, with_flushed_denormals},
    kernel::{Band, Epilogue, subsample},
};

impl Plan {
    /// Runs the network on `input` (`batch` images, NHWC) and returns `batch` rows of logits, which
    /// lie in the arena.
    ///
    /// Allocates nothing. The result is the same to the bit for any executor and batch; subnormal numbers count as zero.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when a buffer is not of the length the plan says, [`Error::PackedForOtherKernel`] when
    /// `packed` is not what [`Plan::prepack`] made for the same kernels and shapes.
    pub fn execute<'a>(
        &self,
        input: &[f32],
        packed: &[f32],
        arena: &'a mut [f32],
        executor: &impl Executor,
    ) -> Result<&'a [f32], Error> {
        self.execute_with(input, packed, arena, executor, |_, _| {})
    }

    /// Like [`Plan::execute`]; calls `after(step, output)` behind every layer, to time or to look at
    /// them. Layers with large maps run on some images of the batch at a time: several calls, in order.
    ///
    /// # Errors
    /// As for [`Plan::execute`].
    pub fn execute_with<'a>(
        &self,
        input: &[f32],
        packed: &[f32],
        arena: &'a mut [f32],
        executor: &impl Executor,
        mut after: impl FnMut(&Step, &[f32]),
    ) -> Result<&'a [f32], Error> {
        self.execute_editing(input, packed, arena, executor, |step, output| after(step, output))
    }

    /// Like [`Plan::execute_with`], and what `edit` makes of a layer's output is what later layers read.
    ///
    /// # Errors
    /// As for [`Plan::execute`].
    pub fn execute_editing<'a>(
        &self,
        input: &[f32],
        packed: &[f32],
        arena: &'a mut [f32],
        executor: &impl Executor,
        mut edit: impl FnMut(&Step, &mut [f32]),
    ) -> Result<&'a [f32], Error> {
        check_len("input", self.input_len(), input.len())?;
        check_len("packed weight buffer", self.packed_len, packed.len())?;
        self.mark.check(packed)?;
        check_len("arena", self.arena_len, arena.len())?;
        for pass in &self.passes {
            for part in 0..self.options.batch / pass.images {
                for step in &self.steps[pass.steps.clone()] {
                    self.run_step(step, part, input, packed, arena, executor);
                    edit(step, &mut arena[step.output.part(part)]);
                }
            }
        }
        Ok(&arena[self.output.clone()])
    }

    fn run_step(
        &self,
        step: &Step,
        part: usize,
        input: &[f32],
        packed: &[f32],
        arena: &mut [f32],
        executor: &impl Executor,
    ) {
        let isa = self.options.isa;
        if let StepKind::Conv { shortcut: Shortcut::Copied(slot), .. } = &step.kind {
            arena.copy_within(slot.part(part), step.output.part(part).start);
        }
        let (from, outside) = match &step.input {
            Place::Arena(slot) => (slot.part(part), None),
            Place::Input(slot) => (0..0, Some(&input[slot.part(part)])),
        };
        let (y, x) = arena::borrow(arena, step.output.part(part), from);
        let x = outside.unwrap_or(x);
        let parts = Parts::new(MatMut::new(y, step.output_shape.c), &step.rects);
        executor.for_each(step.bands.len(), &|i, scratch: &mut [f32]| {
            let Some(y) = parts.take(i) else { return };
            // For this band only: what the caller does between layers, or the executor between bands, is theirs.
            with_flushed_denormals(|| run_band(isa, step, &step.bands[i], x, packed, y, scratch));
        });
    }
}

fn run_band(
    isa: Isa,
    step: &Step,
    band: &Band,
    x: &[f32],
    packed: &[f32],
    mut y: MatMut<'_, f32>,
    scratch: &mut [f32],
) {
    let out = step.output_shape;
    match &step.kind {
        StepKind::Conv { kernel, geom, packed: range, shortcut, relu } => {
            let epilogue = Epilogue { add: !matches!(shortcut, Shortcut::None), relu: *relu };
            kernel.run(geom, x, &packed[range.clone()], epilogue, band, y, scratch);
        }
        StepKind::MaxPool(geom) => {
            let n = geom.input.elements();
            for_images(band, out.h, out.w, &mut y, |image, rows, y| {
                max_pool(isa, geom, &x[image * n..(image + 1) * n], rows, y)
            });
        }
        &StepKind::Subsample { input, stride, before } => {
            let n = input.elements();
            for_images(band, out.h, out.w, &mut y, |image, rows, y| {
                subsample(input, stride, before, out.c, &x[image * n..(image + 1) * n], rows.start, y);
            });
        }
        StepKind::AveragePool(input) => {
            let n = input.elements();
            for_images(band, out.h, out.w, &mut y, |image, _, y| average_pool(isa, &x[image * n..(image + 1) * n], y));
        }
    }
}

/// Calls `f(image, rows, output)` for each image a band of whole rows touches.
fn for_images(
    band: &Band,
    h: usize,
    w: usize,
    y: &mut MatMut<'_, f32>,
    mut f: impl FnMut(usize, core::ops::Range<usize>, &mut [f32]),
) {
    let mut done = 0;
    for (image, rows) in band.images(h) {
        let pixels = rows.len() * w;
        f(image, rows, y.rows_mut(done..done + pixels));
        done += pixels;
    }
}
