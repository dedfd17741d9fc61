//! Running an int8 model on the host, at speed.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::ops::Range;

use super::{Conv, Mean, Op, Window, reference};
use crate::{
    Error, Isa,
    geom::Shape,
    rsd::View,
    simd::int8::{DotIsa, Output, Packed, Sum},
};

/// A model packed for an instruction set. Immutable: share it between threads.
///
/// Whatever the instruction set, every value has the bytes that [`mod@reference`] gives.
#[derive(Debug)]
pub struct Model {
    isa: DotIsa,
    steps: Vec<Step>,
    input: Range<usize>,
    arena: usize,
    words: usize,
    shortcut: usize,
}

#[derive(Debug)]
struct Step {
    kind: Kind,
    source: Range<usize>,
    output: Range<usize>,
}

#[derive(Debug)]
enum Kind {
    Conv { packed: Box<Packed>, output: Output, shortcut: Shortcut },
    MaxPool(Window),
    GlobalAveragePool(Shape),
    Mean(Mean),
}

#[derive(Debug)]
enum Shortcut {
    None,
    /// the output takes its place
    InPlace,
    /// as large as the output
    Plain(Range<usize>),
    /// brought to the output's shape first
    Padded {
        from: Range<usize>,
        map: Shape,
        stride: usize,
        before: usize,
        zero: i8,
        output: Shape,
    },
}

impl Model {
    /// Packs the model in `view` for `isa`.
    ///
    /// # Errors
    /// [`Error::InvalidNetwork`] for an op this library does not know.
    pub fn new(view: &View<'_>, isa: Isa) -> Result<Self, Error> {
        let isa = DotIsa::of(isa);
        let unknown = Error::InvalidNetwork { reason: "an op of the model is not known here" };
        let range = |value: usize| view.value(value).map(|v| v.range()).ok_or(unknown);
        let (mut words, mut padded, mut arena) = (0, 0, range(0)?.end);
        let mut steps = Vec::with_capacity(view.ops());
        for index in 0..view.ops() {
            let source = range(view.source(index).ok_or(unknown)?)?;
            let output = range(index + 1)?;
            arena = arena.max(output.end);
            let kind = match view.op(index).ok_or(unknown)? {
                Op::Conv(conv) => {
                    let from = view.shortcut(index).map(range).transpose()?;
                    let shortcut = shortcut(&conv, from, &output);
                    if let Shortcut::Padded { output, .. } = &shortcut {
                        padded = padded.max(output.elements());
                    }
                    let packed = Box::new(Packed::new(isa, &conv));
                    words = words.max(packed.scratch_len());
                    let sum = conv.add.map(|add| Sum {
                        shortcut_zero: add.shortcut_zero,
                        conv: add.rescale_conv.into(),
                        shortcut: add.rescale_shortcut.into(),
                        sum: add.rescale_sum.into(),
                        output: add.output,
                    });
                    Kind::Conv {
                        packed,
                        output: Output { rounding: conv.rounding, encoding: conv.output, sum },
                        shortcut,
                    }
                }
                Op::MaxPool(window) => Kind::MaxPool(window),
                Op::GlobalAveragePool(shape) => Kind::GlobalAveragePool(shape),
                Op::Mean(mean) => Kind::Mean(mean),
            };
            steps.push(Step { kind, source, output });
        }
        Ok(Model { isa, steps, input: range(0)?, arena, words, shortcut: padded })
    }

    /// The kernels it runs on.
    pub fn isa(&self) -> DotIsa {
        self.isa
    }

    /// Bytes of the input, NHWC.
    pub fn input_len(&self) -> usize {
        self.input.len()
    }
}

fn shortcut(conv: &Conv<'_>, from: Option<Range<usize>>, output: &Range<usize>) -> Shortcut {
    let (Some(add), Some(from)) = (conv.add, from) else { return Shortcut::None };
    if add.shortcut != conv.window.output || add.stride != 1 || add.before != 0 {
        let (map, stride, before) = (add.shortcut, add.stride, add.before);
        return Shortcut::Padded { from, map, stride, before, zero: add.shortcut_zero, output: conv.window.output };
    }
    if from == *output { Shortcut::InPlace } else { Shortcut::Plain(from) }
}

/// The memory one run needs.
///
/// ```
/// use residual_core::{Isa, rsd::{View, synthetic}, quant::Session};
///
/// let bytes = synthetic(&"resnet8-cifar".parse()?, 1)?;
/// let mut session = Session::new(&View::new_checked(&bytes)?, Isa::best())?;
/// let logits = session.run(&[0; 32 * 32 * 3])?;
/// assert_eq!(logits.len(), 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    arena: Vec<i8>,
    words: Vec<i32>,
    shortcut: Vec<i8>,
    sums: Vec<i32>,
}

impl Session {
    /// Packs the model in `view` and allocates.
    ///
    /// # Errors
    /// As [`Model::new`] and [`Session::with_model`].
    pub fn new(view: &View<'_>, isa: Isa) -> Result<Self, Error> {
        Session::with_model(Arc::new(Model::new(view, isa)?))
    }

    /// A session on a shared model.
    ///
    /// # Errors
    /// [`Error::InvalidNetwork`] when there is too little memory.
    pub fn with_model(model: Arc<Model>) -> Result<Self, Error> {
        Ok(Session {
            arena: zeros(model.arena)?,
            words: zeros(model.words)?,
            shortcut: zeros(model.shortcut)?,
            sums: Vec::new(),
            model,
        })
    }

    /// Runs one image (NHWC) and returns the output.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when `image` has another length than the input.
    pub fn run(&mut self, image: &[i8]) -> Result<&[i8], Error> {
        self.run_with(image, |_, _| {})
    }

    /// Like [`Session::run`]; calls `after(op, its result)` behind every op.
    ///
    /// # Errors
    /// As for [`Session::run`].
    pub fn run_with(&mut self, image: &[i8], mut after: impl FnMut(usize, &[i8])) -> Result<&[i8], Error> {
        let Session { model, arena, words, shortcut, sums } = self;
        if image.len() != model.input_len() {
            return Err(Error::BufferLength { what: "input", need: model.input_len(), got: image.len() });
        }
        arena[model.input.clone()].copy_from_slice(image);
        for (index, step) in model.steps.iter().enumerate() {
            step.run(arena, words, shortcut, sums)?;
            after(index, &arena[step.output.clone()]);
        }
        Ok(model.steps.last().map_or(&[], |step| &arena[step.output.clone()]))
    }
}

impl Step {
    fn run(&self, arena: &mut [i8], words: &mut [i32], padded: &mut [i8], sums: &mut Vec<i32>) -> Result<(), Error> {
        let overlap = Error::InvalidNetwork { reason: "an op's values overlap" };
        let other = match &self.kind {
            Kind::Conv { shortcut: Shortcut::Plain(from) | Shortcut::Padded { from, .. }, .. }
                if *from != self.source =>
            {
                from.clone()
            }
            _ => 0..0,
        };
        let ranges = [self.source.clone(), self.output.clone(), other.clone()];
        let [x, y, s] = arena.get_disjoint_mut(ranges).map_err(|_| overlap)?;
        let s: &[i8] = if other.is_empty() { x } else { s };
        match &self.kind {
            Kind::Conv { packed, output, shortcut } => {
                let added = match shortcut {
                    Shortcut::None | Shortcut::InPlace => None,
                    Shortcut::Plain(_) => Some(s),
                    Shortcut::Padded { map, stride, before, zero, output, .. } => {
                        let padded = &mut padded[..output.elements()];
                        padded.fill(*zero);
                        for (p, pixel) in padded.chunks_exact_mut(output.c).enumerate() {
                            let at = (p / output.w * stride * map.w + p % output.w * stride) * map.c;
                            pixel[*before..][..map.c].copy_from_slice(&s[at..][..map.c]);
                        }
                        Some(&*padded)
                    }
                };
                packed.run(x, words, output, added, y);
                Ok(())
            }
            Kind::MaxPool(window) => reference::max_pool(window, x, y),
            Kind::GlobalAveragePool(shape) => {
                // At most 2^28 pixels of 128 each: `View` keeps maps below 2^30 elements, but sums could
                // still pass 31 bits, so large maps take the plain way.
                if shape.h * shape.w >= 1 << 23 {
                    return reference::global_average_pool(*shape, x, y);
                }
                add_up(x, shape.c, sums);
                let pixels = (shape.h * shape.w) as i64;
                y.iter_mut().zip(sums).for_each(|(y, s)| *y = reference::rounded_mean(i64::from(*s), pixels) as i8);
                Ok(())
            }
            Kind::Mean(mean) => {
                add_up(x, mean.input.c, sums);
                let zeros = (mean.input.h * mean.input.w) as i32 * i32::from(mean.input_zero);
                y.iter_mut().zip(sums).for_each(|(y, s)| *y = mean.encode(*s - zeros));
                Ok(())
            }
        }
    }
}

/// The sum of each of `channels` over all pixels of `x`, of which there are at most 2^23.
fn add_up(x: &[i8], channels: usize, sums: &mut Vec<i32>) {
    sums.clear();
    sums.resize(channels, 0);
    for pixel in x.chunks_exact(channels) {
        sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += i32::from(*x));
    }
}

fn zeros<T: Copy + Default>(len: usize) -> Result<Vec<T>, Error> {
    let mut zeros = Vec::new();
    let reserved = zeros.try_reserve_exact(len);
    reserved.map_err(|_| Error::InvalidNetwork { reason: "its maps do not fit into memory" })?;
    zeros.resize(len, T::default());
    Ok(zeros)
}
