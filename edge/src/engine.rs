//! Running a model.

use core::{marker::PhantomData, ops::Range};

use residual_core::{
    format::{Value, View},
    quant::{Conv, Op},
};

use crate::{
    ARENA_ALIGN, Error,
    arena::{self, Algorithm, Places},
    kernel::{self, direct, pool, winograd},
};

/// What an engine trades: see [`Fast`] and [`Small`].
pub trait Mode: sealed::Sealed {
    #[doc(hidden)]
    const FAST: bool;
}

/// Fewest instructions: Winograd convolutions in what the arena has to spare.
#[derive(Clone, Copy, Debug)]
pub enum Fast {}

/// Least memory: convolutions with little scratch memory.
#[derive(Clone, Copy, Debug)]
pub enum Small {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Fast {}
    impl Sealed for super::Small {}
}

impl Mode for Fast {
    const FAST: bool = true;
}

impl Mode for Small {
    const FAST: bool = false;
}

/// Bytes of arena `model` needs; the same on every target.
pub fn arena_bytes<M: Mode>(model: &[u8]) -> Result<usize, Error> {
    Ok(arena::required(&View::new_checked(model)?, M::FAST))
}

/// Whether an inference is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// call [`Engine::step`] again
    Busy,
    /// the output is ready
    Done,
}

/// The network's output: one int8 a class.
#[derive(Clone, Copy, Debug)]
pub struct Output<'e> {
    /// quantized scores
    pub values: &'e [i8],
    /// real value of one step
    pub scale: f32,
    /// the int8 that means 0.0
    pub zero_point: i8,
}

impl Output<'_> {
    /// The index of the largest value, the first of equals.
    pub fn argmax(&self) -> usize {
        let mut best = (0, i8::MIN);
        for (i, v) in self.values.iter().enumerate() {
            if *v > best.1 {
                best = (i, *v);
            }
        }
        best.0
    }
}

/// A model, its arena and where in an inference it is.
#[derive(Debug)]
pub struct Engine<'a, M: Mode = Fast> {
    view: View<'a>,
    arena: &'a mut [u8],
    input: Value,
    output: Value,
    op: usize,
    places: Option<Places>,
    /// output rows or tile groups of the op that are done
    done: usize,
    mode: PhantomData<M>,
}

impl<'a, M: Mode> Engine<'a, M> {
    /// Checks the model and the arena's size ([`arena_bytes`]) and alignment ([`ARENA_ALIGN`]).
    pub fn new(model: &'a [u8], arena: &'a mut [u8]) -> Result<Self, Error> {
        let view = View::new_checked(model)?;
        let (need, got) = (arena::required(&view, M::FAST), arena.len());
        if got < need {
            return Err(Error::ArenaTooSmall { need, got });
        }
        let by = arena.as_ptr().addr() % ARENA_ALIGN;
        if by != 0 {
            return Err(Error::ArenaMisaligned { by });
        }
        let defect = Error::Defect { op: 0 };
        let (input, output) = (view.input().ok_or(defect)?, view.output().ok_or(defect)?);
        Ok(Engine { view, arena, input, output, op: 0, places: None, done: 0, mode: PhantomData })
    }

    /// The model.
    pub fn model(&self) -> &View<'a> {
        &self.view
    }

    /// The op [`Engine::step`] works on next.
    pub fn position(&self) -> usize {
        self.op
    }

    /// The input, to be written before every inference: NHWC, one image, quantized as
    /// [`View::input`] says. Abandons an unfinished inference.
    pub fn input_mut(&mut self) -> &mut [i8] {
        self.op = 0;
        self.places = None;
        self.arena.get_mut(self.input.range()).map(bytemuck::cast_slice_mut).unwrap_or_default()
    }

    /// Computes everything that is left of an inference.
    pub fn run(&mut self) -> Result<Output<'_>, Error> {
        while self.step()? == Progress::Busy {}
        Ok(self.output())
    }

    /// [`Engine::run`], reporting how long each op took: its index and the difference of two
    /// readings of `clock`, which counts up and may wrap.
    pub fn run_timed(
        &mut self,
        mut clock: impl FnMut() -> u32,
        mut report: impl FnMut(usize, u32),
    ) -> Result<Output<'_>, Error> {
        loop {
            let (op, start) = (self.op, clock());
            let mut progress = self.step()?;
            while progress == Progress::Busy && self.op == op {
                progress = self.step()?;
            }
            report(op, clock().wrapping_sub(start));
            if progress == Progress::Done {
                return Ok(self.output());
            }
        }
    }

    /// The output of a finished inference.
    pub fn output(&self) -> Output<'_> {
        let values = self.arena.get(self.output.range()).map(bytemuck::cast_slice).unwrap_or_default();
        Output { values, scale: self.output.scale, zero_point: self.output.zero_point }
    }

    /// Computes a bounded slice of an op: one row of outputs, or the tiles that fit in the scratch
    /// memory. After [`Progress::Done`] the next call begins another inference.
    pub fn step(&mut self) -> Result<Progress, Error> {
        let defect = Error::Defect { op: self.op };
        let places = match self.places.take() {
            Some(places) => places,
            None => {
                self.done = 0;
                let op = if self.op < self.view.ops() { self.op } else { 0 };
                self.op = op;
                arena::place(&self.view, op, self.arena.len(), M::FAST).map_err(|_| defect)?
            }
        };
        let op = self.view.op(self.op).ok_or(defect)?;
        let slices = match &op {
            Op::Conv(conv) => self.conv(conv, &places).ok_or(defect)?,
            Op::MaxPool(window) => {
                let (input, output) = pair(self.arena, &places.input, &places.output).ok_or(defect)?;
                let row = window.output.w * window.output.c;
                let output = output.get_mut(self.done * row..).and_then(|y| y.get_mut(..row)).ok_or(defect)?;
                pool::max_row(window, input, self.done, output).ok_or(defect)?;
                window.output.h
            }
            Op::GlobalAveragePool(shape) => {
                let (input, output) = pair(self.arena, &places.input, &places.output).ok_or(defect)?;
                pool::global_average(*shape, input, output).ok_or(defect)?;
                1
            }
            _ => return Err(defect),
        };
        self.done += match (&op, places.algorithm) {
            (Op::Conv(_), Algorithm::Winograd { groups }) => groups,
            _ => 1,
        };
        if self.done < slices {
            self.places = Some(places);
            return Ok(Progress::Busy);
        }
        self.op += 1;
        Ok(if self.op < self.view.ops() { Progress::Busy } else { Progress::Done })
    }

    /// Computes the next slice of a convolution and returns how many there are.
    fn conv(&mut self, conv: &Conv<'_>, places: &Places) -> Option<usize> {
        if self.done == 0
            && let Some(shortcut) = &places.shortcut
        {
            if *shortcut != places.output {
                let (shortcut, output) = pair(self.arena, shortcut, &places.output)?;
                kernel::expand_shortcut(conv, shortcut, output)?;
            }
            let tables = self.arena.get_mut(places.work.clone())?.get_mut(..kernel::ADD_TABLES)?;
            kernel::fill_tables(conv, bytemuck::try_cast_slice_mut(tables).ok()?);
        }
        let ranges = [places.input.clone(), places.output.clone(), places.work.clone(), places.tiles.clone()];
        let [input, output, work, tiles] = self.arena.get_disjoint_mut(ranges).ok()?;
        let (input, output): (&[i8], &mut [i8]) = (bytemuck::cast_slice(input), bytemuck::cast_slice_mut(output));
        let out = conv.window.output;
        match places.algorithm {
            Algorithm::Winograd { groups } => {
                let all = winograd::groups(conv);
                let groups = groups.min(all - self.done.min(all));
                winograd::run(conv, input, output, work, tiles, self.done, groups)?;
                Some(all)
            }
            Algorithm::Direct { pixels } => {
                let rows = direct::Rows { data: input, first: 0, len: conv.window.input.w * conv.window.input.c };
                let row = out.w * out.c;
                let output = output.get_mut(self.done * row..)?.get_mut(..row)?;
                direct::run(conv, &rows, self.done, pixels, output, work, tiles)?;
                Some(out.h)
            }
        }
    }
}

fn pair<'s>(arena: &'s mut [u8], read: &Range<usize>, write: &Range<usize>) -> Option<(&'s [i8], &'s mut [i8])> {
    let [read, write] = arena.get_disjoint_mut([read.clone(), write.clone()]).ok()?;
    Some((bytemuck::cast_slice(read), bytemuck::cast_slice_mut(write)))
}
