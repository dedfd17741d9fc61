//! Running a plan.

use core::ops::Range;

use super::{
    Packed, Plan, arena, check_len, check_type,
    step::{Place, Shortcut, Step, StepKind},
};
use crate::{
    Error, Isa,
    conv::{Band, ConvElem, Epilogue, average_pool_int8, max_pool_int8, mean_int8, subsample},
    elem::{Dtype, Elem},
    memory::{Buffer, MatMut, Parts},
    simd::{average_pool, max_pool, with_flushed_denormals},
    threads::Executor,
};

impl Plan {
    /// Runs the network on `input` (`batch` images, NHWC). The outputs lie in the arena: [`Plan::output`].
    ///
    /// Allocates nothing. The result is the same to the bit for any executor and batch; subnormal numbers count as zero.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when the input is not of the length the plan says or the arena is shorter, [`Error::ElementType`] when the
    /// network's input has other elements, [`Error::PackedForOtherKernel`].
    pub fn execute<T: Elem>(
        &self,
        input: &[T],
        packed: &Packed,
        arena: &mut Buffer,
        executor: &impl Executor,
    ) -> Result<(), Error> {
        self.execute_with(input, packed, arena, executor, |_, _: &[T]| {})
    }

    /// Like [`Plan::execute`]; calls `after(step, output)` behind every layer, to time or to look at
    /// them. Layers with large maps run on some images of the batch at a time: several calls, in order.
    ///
    /// # Errors
    /// As for [`Plan::execute`].
    pub fn execute_with<T: Elem>(
        &self,
        input: &[T],
        packed: &Packed,
        arena: &mut Buffer,
        executor: &impl Executor,
        mut after: impl FnMut(&Step, &[T]),
    ) -> Result<(), Error> {
        self.execute_editing(input, packed, arena, executor, |step, output: &mut [T]| after(step, output))
    }

    /// Like [`Plan::execute_with`], and what `edit` makes of a layer's output is what later layers read.
    ///
    /// # Errors
    /// As for [`Plan::execute`].
    pub fn execute_editing<T: Elem>(
        &self,
        input: &[T],
        packed: &Packed,
        arena: &mut Buffer,
        executor: &impl Executor,
        mut edit: impl FnMut(&Step, &mut [T]),
    ) -> Result<(), Error> {
        check_type::<T>("input", self.input())?;
        check_len("input", self.input_len(), input.len())?;
        let got = arena.as_slice().len();
        if got < self.arena_len {
            return Err(Error::BufferLength { what: "arena", need: self.arena_len, got });
        }
        if packed.layers() != self.layers {
            return Err(Error::PackedForOtherKernel);
        }
        let input: &[u8] = bytemuck::cast_slice(input);
        let arena: &mut [u8] = bytemuck::cast_slice_mut(arena.as_mut_slice());
        for pass in &self.passes {
            for part in 0..self.options.batch / pass.images {
                for step in &self.steps[pass.steps.clone()] {
                    match step.value.dtype() {
                        Dtype::F32 => self.run_step::<f32>(step, part, input, packed, arena, executor),
                        Dtype::I8 => self.run_step::<i8>(step, part, input, packed, arena, executor),
                    }
                    if step.value.dtype() == T::DTYPE {
                        edit(step, bytemuck::cast_slice_mut(&mut arena[step.output.part(part)]));
                    }
                }
            }
        }
        Ok(())
    }

    fn run_step<T: RunBand>(
        &self,
        step: &Step,
        part: usize,
        input: &[u8],
        packed: &Packed,
        arena: &mut [u8],
        executor: &impl Executor,
    ) {
        let output = step.output.part(part);
        match &step.kind {
            StepKind::Conv { shortcut: Shortcut::Copied(place), .. }
            | StepKind::Int8Conv { shortcut: Shortcut::Copied(place), .. } => match place {
                Place::Arena(slot) => arena.copy_within(slot.part(part), output.start),
                Place::Input(slot) => arena[output.clone()].copy_from_slice(&input[slot.part(part)]),
            },
            _ => {}
        }
        let (from, outside) = match &step.input {
            Place::Arena(slot) => (slot.part(part), None),
            Place::Input(slot) => (0..0, Some(&input[slot.part(part)])),
        };
        let (y, x) = arena::borrow(arena, output, from);
        let (y, x): (&mut [T], &[T]) = (bytemuck::cast_slice_mut(y), bytemuck::cast_slice(outside.unwrap_or(x)));
        let packed: &[T::Word] = match step.kind {
            StepKind::Conv { layer, .. } | StepKind::Int8Conv { layer, .. } => {
                bytemuck::cast_slice(&packed.words()[self.layers[layer].range.clone()])
            }
            _ => &[],
        };
        let parts = Parts::new(MatMut::new(y, step.value.shape.c), &step.rects);
        executor.for_each(step.bands.len(), &|i, scratch: &mut [f32]| {
            let Some(y) = parts.take(i) else { return };
            let scratch = bytemuck::cast_slice_mut(scratch);
            // For this band only: what the caller does between layers, or the executor between bands, is theirs.
            with_flushed_denormals(|| T::run_band(self.options.isa, step, &step.bands[i], x, packed, y, scratch));
        });
    }
}

/// What a step does with one band of elements of this type.
trait RunBand: ConvElem {
    #[allow(clippy::too_many_arguments)] // as for the kernels it calls
    fn run_band(
        isa: Isa,
        step: &Step,
        band: &Band,
        x: &[Self],
        packed: &[Self::Word],
        y: MatMut<'_, Self>,
        scratch: &mut [Self::Word],
    );
}

impl RunBand for f32 {
    fn run_band(
        isa: Isa,
        step: &Step,
        band: &Band,
        x: &[f32],
        packed: &[f32],
        mut y: MatMut<'_, f32>,
        scratch: &mut [f32],
    ) {
        let out = step.value.shape;
        let image = |n: usize, i: usize| &x[i * n..(i + 1) * n];
        match &step.kind {
            StepKind::Conv { kernel, geom, shortcut, relu, .. } => {
                let epilogue = Epilogue { add: !matches!(shortcut, Shortcut::None), relu: *relu };
                kernel.run(geom, x, packed, epilogue, band, y, scratch);
            }
            StepKind::MaxPool(window) => {
                let n = window.input.elements();
                for_images(band, out.h, out.w, &mut y, |i, rows, y| max_pool(isa, window, image(n, i), rows, y));
            }
            &StepKind::Subsample { input, stride, before } => {
                let n = input.elements();
                for_images(band, out.h, out.w, &mut y, |i, rows, y| {
                    subsample(input, stride, before, out.c, 0.0, image(n, i), rows.start, y);
                });
            }
            StepKind::AveragePool(input) => {
                let n = input.elements();
                for_images(band, out.h, out.w, &mut y, |i, _, y| average_pool(isa, image(n, i), y));
            }
            StepKind::Int8Conv { .. } | StepKind::Mean(_) => {}
        }
    }
}

impl RunBand for i8 {
    fn run_band(
        _: Isa,
        step: &Step,
        band: &Band,
        x: &[i8],
        packed: &[i32],
        mut y: MatMut<'_, i8>,
        scratch: &mut [i32],
    ) {
        let out = step.value.shape;
        let image = |n: usize, i: usize| &x[i * n..(i + 1) * n];
        match &step.kind {
            StepKind::Int8Conv { kernel, window, epilogue, .. } => {
                kernel.run(window, x, packed, *epilogue, band, y, scratch);
            }
            StepKind::MaxPool(window) => {
                let n = window.input.elements();
                for_images(band, out.h, out.w, &mut y, |i, rows, y| max_pool_int8(window, image(n, i), rows, y));
            }
            &StepKind::Subsample { input, stride, before } => {
                let zero = step.value.quantization.map_or(0, |q| q.zero_point);
                let n = input.elements();
                for_images(band, out.h, out.w, &mut y, |i, rows, y| {
                    subsample(input, stride, before, out.c, zero, image(n, i), rows.start, y);
                });
            }
            StepKind::AveragePool(input) => {
                let n = input.elements();
                for_images(band, out.h, out.w, &mut y, |i, _, y| average_pool_int8(*input, image(n, i), y));
            }
            StepKind::Mean(mean) => {
                let n = mean.input.elements();
                for_images(band, out.h, out.w, &mut y, |i, _, y| mean_int8(mean, image(n, i), y));
            }
            StepKind::Conv { .. } => {}
        }
    }
}

/// Calls `f(image, rows, output)` for each image a band of whole rows touches.
fn for_images<T>(
    band: &Band,
    h: usize,
    w: usize,
    y: &mut MatMut<'_, T>,
    mut f: impl FnMut(usize, Range<usize>, &mut [T]),
) {
    let mut done = 0;
    for (image, rows) in band.images(h) {
        let pixels = rows.len() * w;
        f(image, rows, y.rows_mut(done..done + pixels));
        done += pixels;
    }
}
