//! Running a model.

use core::{marker::PhantomData, ops::Range};

use residual_core::{
    quant::{Conv, Op},
    rsd::View,
};

use crate::{
    ARENA_ALIGN, Error,
    arena::{self, Algorithm, Places},
    kernel::{self, direct, direct::Rows, pool, winograd},
    rows::{self, Unit},
};

/// What an engine trades: see [`Fast`] and [`Small`].
pub trait Mode: sealed::Sealed {
    #[doc(hidden)]
    const FAST: bool;
}

/// Fewest instructions: Winograd convolutions in what the arena has to spare.
#[derive(Clone, Copy, Debug)]
pub enum Fast {}

/// Least memory: residual blocks row by row, each block's output in the place of its input.
#[derive(Clone, Copy, Debug)]
pub enum Small {}

/// Output rows of a slice: what they have in common is worth a few.
const ROWS: usize = 16;

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
    Ok(required::<M>(&View::new_checked(model)?))
}

fn required<M: Mode>(view: &View<'_>) -> usize {
    if !M::FAST && rows::is_chain(view) { rows::required(view) } else { arena::required(view, M::FAST) }
}

/// Whether an inference is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Progress {
    /// call [`Engine::step`] again
    Busy,
    /// the output is ready
    Done,
}

/// The network's output: one int8 a class.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
    input: Range<usize>,
    output: Range<usize>,
    /// the op that is next, or the first of the unit
    op: usize,
    current: Option<Current>,
    /// output rows or tile groups of the op that are done
    done: usize,
    /// whether units are computed row by row
    by_rows: bool,
    mode: PhantomData<M>,
}

#[derive(Debug)]
enum Current {
    Op(Places),
    Unit(Unit),
}

impl<'a, M: Mode> Engine<'a, M> {
    /// Checks the model and the arena's size ([`arena_bytes`]) and alignment ([`ARENA_ALIGN`]).
    pub fn new(model: &'a [u8], arena: &'a mut [u8]) -> Result<Self, Error> {
        let view = View::new_checked(model)?;
        let (need, got) = (required::<M>(&view), arena.len());
        if got < need {
            return Err(Error::ArenaTooSmall { need, got });
        }
        let by = arena.as_ptr().addr() % ARENA_ALIGN;
        if by != 0 {
            return Err(Error::ArenaMisaligned { by });
        }
        let defect = Error::Defect { op: 0 };
        let by_rows = !M::FAST && rows::is_chain(&view);
        let (mut input, mut output) = (view.input().ok_or(defect)?.range(), view.output().ok_or(defect)?.range());
        if by_rows {
            input = 0..input.len();
            output = rows::output(&view, got).map_err(|_| defect)?;
        }
        Ok(Engine { view, arena, input, output, op: 0, current: None, done: 0, by_rows, mode: PhantomData })
    }

    /// The model.
    pub fn model(&self) -> &View<'a> {
        &self.view
    }

    /// The op [`Engine::step`] works on next.
    pub fn position(&self) -> usize {
        match &self.current {
            Some(Current::Unit(unit)) if !M::FAST => unit.op(&self.view).unwrap_or(self.op),
            _ => self.op,
        }
    }

    /// The input, to be written before every inference: NHWC, one image, quantized as
    /// [`View::input`] says. Abandons an unfinished inference.
    pub fn input_mut(&mut self) -> &mut [i8] {
        self.op = 0;
        self.current = None;
        self.arena.get_mut(self.input.clone()).map(bytemuck::cast_slice_mut).unwrap_or_default()
    }

    /// Computes everything that is left of an inference.
    pub fn run(&mut self) -> Result<Output<'_>, Error> {
        while self.step()? == Progress::Busy {}
        Ok(self.output())
    }

    /// [`Engine::run`], reporting how long every slice took: its op's index and the difference of two
    /// readings of `clock`, which counts up and may wrap. An op's time is the sum of its slices'.
    pub fn run_timed(
        &mut self,
        mut clock: impl FnMut() -> u32,
        mut report: impl FnMut(usize, u32),
    ) -> Result<Output<'_>, Error> {
        loop {
            self.begin()?;
            let (op, start) = (self.position(), clock());
            let progress = self.step()?;
            report(op, clock().wrapping_sub(start));
            if progress == Progress::Done {
                return Ok(self.output());
            }
        }
    }

    /// The output of a finished inference.
    pub fn output(&self) -> Output<'_> {
        let values = self.arena.get(self.output.clone()).map(bytemuck::cast_slice).unwrap_or_default();
        let (scale, zero_point) = self.view.output().map_or((1.0, 0), |v| (v.scale, v.zero_point));
        Output { values, scale, zero_point }
    }

    /// Places the next op or unit if none is under way.
    fn begin(&mut self) -> Result<(), Error> {
        if self.current.is_some() {
            return Ok(());
        }
        if self.op >= self.view.ops() {
            self.op = 0;
        }
        let defect = Error::Defect { op: self.op };
        let len = self.arena.len();
        self.current = Some(if !M::FAST && self.by_rows {
            let at = if self.op == 0 { 0 } else { self.done };
            Current::Unit(Unit::place(&self.view, self.op, at, len, true).map_err(|_| defect)?)
        } else {
            self.done = 0;
            let place = if cfg!(residual_kernels = "mve") { arena::place_vectors } else { arena::place };
            Current::Op(place(&self.view, self.op, len, M::FAST).map_err(|_| defect)?)
        });
        Ok(())
    }

    /// Computes a bounded slice of an op: a few rows of outputs, or the tiles that fit in the scratch
    /// memory. After [`Progress::Done`] the next call begins another inference.
    pub fn step(&mut self) -> Result<Progress, Error> {
        self.begin()?;
        let defect = Error::Defect { op: self.op };
        let finished = match &mut self.current {
            Some(Current::Unit(unit)) if !M::FAST => {
                let finished = unit.step(&self.view, self.arena).ok_or(defect)?;
                if finished {
                    // The next unit's input.
                    self.done = unit.output.start;
                    self.op = unit.end();
                }
                finished
            }
            Some(Current::Op(places)) => {
                let places = places.clone();
                let finished = self.step_op(&places).ok_or(defect)?;
                self.op += usize::from(finished);
                finished
            }
            _ => return Err(defect),
        };
        if finished {
            self.current = None;
        }
        Ok(if finished && self.op >= self.view.ops() { Progress::Done } else { Progress::Busy })
    }

    /// A slice of an op on whole maps; whether it is finished.
    fn step_op(&mut self, places: &Places) -> Option<bool> {
        let op = self.view.op(self.op)?;
        let slices = match &op {
            Op::Conv(conv) => self.conv(conv, places)?,
            Op::MaxPool(window) => {
                let (input, output) = pair(self.arena, &places.input, &places.output)?;
                let row = window.output.w * window.output.c;
                let output = output.get_mut(self.done * row..)?.get_mut(..row)?;
                pool::max_row(window, &Rows::all(input, window), self.done, output)?;
                window.output.h
            }
            Op::GlobalAveragePool(shape) => {
                let (input, output) = pair(self.arena, &places.input, &places.output)?;
                pool::global_average(*shape, input, output)?;
                1
            }
            Op::Mean(mean) => {
                let (input, output) = pair(self.arena, &places.input, &places.output)?;
                pool::mean(mean, input, output)?;
                1
            }
            _ => return None,
        };
        self.done += match (&op, places.algorithm) {
            (Op::Conv(_), Algorithm::Winograd { groups, .. }) => groups,
            (Op::Conv(_), Algorithm::Direct { .. }) => ROWS,
            _ => 1,
        };
        Some(self.done >= slices)
    }

    /// Computes the next slice of a convolution and returns how many there are.
    fn conv(&mut self, conv: &Conv<'_>, places: &Places) -> Option<usize> {
        if self.done == 0
            && let Some(shortcut) = &places.shortcut
        {
            if *shortcut != places.output {
                let (shortcut, output) = pair(self.arena, shortcut, &places.output)?;
                expand(conv, shortcut, output)?;
            }
            let tables = self.arena.get_mut(places.work.clone())?.get_mut(..kernel::ADD_TABLES)?;
            kernel::fill_tables(conv, bytemuck::try_cast_slice_mut(tables).ok()?);
        }
        let ranges = [places.input.clone(), places.output.clone(), places.work.clone(), places.tiles.clone()];
        let [input, output, work, tiles] = self.arena.get_disjoint_mut(ranges).ok()?;
        let (input, output): (&[i8], &mut [i8]) = (bytemuck::cast_slice(input), bytemuck::cast_slice_mut(output));
        let out = conv.window.output;
        match places.algorithm {
            // Vectors do without it: no code for them.
            Algorithm::Winograd { .. } if cfg!(residual_kernels = "mve") => None,
            Algorithm::Winograd { groups, resident } => {
                let all = winograd::groups(conv);
                let groups = groups.min(all - self.done.min(all));
                winograd::run(conv, input, output, work, tiles, self.done, groups, resident)?;
                Some(all)
            }
            Algorithm::Direct { pixels } => {
                let row = out.w * out.c;
                let end = (self.done + ROWS).min(out.h);
                let output = output.get_mut(self.done * row..)?;
                #[cfg(residual_blocks)]
                if M::FAST {
                    kernel::blocks::run(conv, input, self.done..end, output, work, tiles)?;
                    return Some(out.h);
                }
                let rows = Rows::all(input, &conv.window);
                let pixels = if out.h * out.w > 4 { pixels } else { 4 };
                direct::run(conv, &rows, self.done..end, pixels, output, work, tiles)?;
                Some(out.h)
            }
        }
    }
}

/// Writes the whole shortcut where the sums will be stored.
fn expand(conv: &Conv<'_>, shortcut: &[i8], output: &mut [i8]) -> Option<()> {
    let add = conv.add.as_ref()?;
    let out = conv.window.output;
    let (from, to) = (add.shortcut.w * add.shortcut.c, out.w * out.c);
    for y in 0..out.h {
        let row = shortcut.get(y * add.stride * from..)?.get(..from)?;
        kernel::expand_row(add, row, output.get_mut(y * to..)?.get_mut(..to)?, out.c)?;
    }
    Some(())
}

fn pair<'s>(arena: &'s mut [u8], read: &Range<usize>, write: &Range<usize>) -> Option<(&'s [i8], &'s mut [i8])> {
    let [read, write] = arena.get_disjoint_mut([read.clone(), write.clone()]).ok()?;
    Some((bytemuck::cast_slice(read), bytemuck::cast_slice_mut(write)))
}
