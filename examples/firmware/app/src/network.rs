//! A network ready to run, and what its last inference showed.

use residual_edge::{Engine, Error, Output, source::Table};

use crate::{Clock, Memory, Watch};

/// What the engine trades.
#[cfg(not(feature = "small"))]
pub type Mode = residual_edge::Fast;
/// What the engine trades.
#[cfg(feature = "small")]
pub type Mode = residual_edge::Small;

/// A model in its memory.
#[derive(Debug)]
pub struct Network<'a, C> {
    /// the engine, for pictures to be read into
    pub engine: Engine<'a, Mode>,
    /// how samples become inputs
    pub table: Table,
    /// time since the start
    pub watch: Watch<C>,
    /// room for a picture of the input's size
    pub picture: &'a mut [u8],
    /// the output of the last inference
    pub scores: &'a mut [i8],
    /// room for the softmax of it
    pub probabilities: &'a mut [i8],
    /// cycles of its layers
    pub times: &'a mut [u32],
}

impl<'a, C: Clock> Network<'a, C> {
    /// Checks the model. One that does not say how pixels become inputs takes bytes as the int8 they are.
    pub fn new(memory: Memory<'a>, clock: C) -> Result<Self, Error> {
        let Memory { model, arena, picture, scores, probabilities, times } = memory;
        let engine = Engine::new(model, arena)?;
        let table = Table::new(engine.model()).unwrap_or(Table::raw());
        Ok(Network { engine, table, watch: Watch::new(clock), picture, scores, probabilities, times })
    }

    /// Runs the network on its input, notes scores and times, and returns the class and its cycles.
    pub fn run(&mut self) -> Result<(usize, u64), Error> {
        self.times.fill(0);
        let start = self.watch.cycles();
        let (watch, times) = (&mut self.watch, &mut *self.times);
        let output = self.engine.run_timed(
            || watch.cycles() as u32,
            |op, cycles| {
                if let Some(time) = times.get_mut(op) {
                    *time = time.saturating_add(cycles);
                }
            },
        )?;
        for (score, value) in self.scores.iter_mut().zip(output.values) {
            *score = *value;
        }
        let class = output.argmax();
        let cycles = self.watch.cycles().wrapping_sub(start);
        #[cfg(feature = "defmt")]
        self.log(class, cycles);
        Ok((class, cycles))
    }

    /// Runs the network on `picture`, a byte for every number of the input.
    pub fn run_picture(&mut self) -> Result<(usize, u64), Error> {
        for (i, (to, from)) in self.engine.input_mut().iter_mut().zip(self.picture.iter()).enumerate() {
            *to = self.table.get(i % 3, *from);
        }
        self.run()
    }

    /// The last inference's output and its encoding.
    pub fn output(&self) -> Output<'_> {
        Output { values: self.scores, ..self.engine.output() }
    }

    /// A class's name, empty where the model has none.
    pub fn class_name(&self, class: usize) -> &'a str {
        self.engine.model().classes().nth(class).unwrap_or_default()
    }

    #[cfg(feature = "defmt")]
    fn log(&self, class: usize, cycles: u64) {
        for (op, cycles) in self.times.iter().enumerate() {
            defmt::debug!("{=str}: {} cycles", self.engine.model().name(op).unwrap_or("layer"), cycles);
        }
        let micros = self.watch.micros(cycles);
        defmt::info!("class {} {=str}, {} cycles, {} us", class, self.class_name(class), cycles, micros);
    }
}
