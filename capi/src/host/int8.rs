//! int8 models on a host: the engine of the firmware, with memory of its own.

use std::{sync::Arc, time::Instant};

use residual_core::rsd::AlignedBytes;
use residual_edge::{Engine as Inner, Fast, arena_bytes, source::quantize};
use self_cell::{MutBorrow, self_cell};

use crate::Error;

type Borrowing<'a> = Inner<'a, Fast>;

struct Memory {
    model: Arc<AlignedBytes>,
    arena: MutBorrow<AlignedBytes>,
}

self_cell!(
    struct Cell {
        owner: Memory,
        #[not_covariant]
        dependent: Borrowing,
    }
);

/// An engine, its model and its arena.
pub struct Int8(Cell);

impl Int8 {
    /// Checks the model.
    pub fn new(model: Arc<AlignedBytes>) -> Result<Self, Error> {
        let arena = MutBorrow::new(AlignedBytes::zeroed(arena_bytes::<Fast>(&model)?));
        let memory = Memory { model, arena };
        Ok(Int8(Cell::try_new(memory, |memory| Inner::new(&memory.model, memory.arena.borrow_mut()))?))
    }

    /// One image: quantizes `input` (NHWC), adds each layer's time in nanoseconds to `times`, appends the
    /// real values of the outputs to `logits`.
    pub fn run(&mut self, input: &[f32], times: &mut [u64], logits: &mut Vec<f32>) -> Result<(), Error> {
        self.0.with_dependent_mut(|_, engine| {
            let encoding = engine.model().input();
            if let Some(value) = encoding {
                for (q, real) in engine.input_mut().iter_mut().zip(input) {
                    *q = quantize(*real, value.scale, value.zero_point);
                }
            }
            let mut last = Instant::now();
            let report = |op: usize, _| {
                let now = Instant::now();
                if let Some(time) = times.get_mut(op) {
                    *time += (now - last).as_nanos() as u64;
                }
                last = now;
            };
            let output = engine.run_timed(|| 0, report)?;
            let zero = i32::from(output.zero_point);
            logits.extend(output.values.iter().map(|q| (i32::from(*q) - zero) as f32 * output.scale));
            Ok(())
        })
    }
}
