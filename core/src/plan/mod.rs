//! The three phases: [`Plan::new`] chooses a kernel for every layer and places every buffer,
//! [`Plan::prepack`] reorders the weights once, [`Plan::execute`] runs without allocating.
//!
//! ```
//! use residual_core::{net::{ResNet, fold_batch_norm}, plan::{Options, Serial, Plan}, testing::Generated};
//!
//! let weights = Generated::new("resnet20-cifar".parse()?);
//! let net = fold_batch_norm(weights.spec(), &weights)?;
//! let plan = Plan::new(&net, &Options::default())?;
//! let mut packed = vec![0.0; plan.packed_len()];
//! plan.prepack(&net, &mut packed)?;
//! let mut arena = vec![0.0; plan.arena_len()];
//! let mut scratch = vec![0.0; plan.scratch_len()];
//! let image = vec![0.5; plan.input_len()];
//! let logits = plan.execute(&image, &packed, &mut arena, &Serial::new(&mut scratch))?;
//! assert_eq!(logits.len(), 10);
//! # Ok::<(), residual_core::Error>(())
//! ```

mod arena;
mod bands;
mod choose;
mod execute;
mod executor;
mod lives;
mod mark;
mod packing;
mod passes;
mod select;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::ops::Range;

pub use arena::{Life, place};
pub use executor::{Executor, Serial};
pub use select::fastest;

use choose::Chosen;
use mark::Mark;
use passes::Pass;

use crate::{
    Error, Isa, Name,
    arch::Rect,
    geom::{ConvGeom, PoolGeom, Shape, reach},
    kernel::{Band, Kernel},
    net::{Net, OpKind, ValueId},
};

/// Most threads a plan is made for.
pub const MAX_THREADS: usize = 1 << 16;

/// Most elements of a buffer: those of any number of steps can be counted in bytes.
const MAX_LEN: usize = isize::MAX as usize / 8;
const TOO_LARGE: &str = "its buffers do not fit the address space; ask for a smaller batch or picture";

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// images run at once
    pub batch: usize,
    /// threads that will share the work; results do not depend on it
    pub threads: usize,
    /// instruction set
    pub isa: Isa,
    /// allow Winograd convolutions: fewer operations, larger rounding errors (see NUMERICS.md)
    pub winograd: bool,
}

impl Default for Options {
    /// One image, one thread, the best instruction set, Winograd allowed.
    fn default() -> Self {
        Options { batch: 1, threads: 1, isa: Isa::best(), winograd: true }
    }
}

/// A layer of a plan.
#[derive(Clone)]
pub struct Step {
    /// the layer's torchvision name
    pub name: Name,
    index: usize,
    kind: StepKind,
    input: Place,
    output: Slot,
    bands: Vec<Band>,
    rects: Vec<Rect>,
    output_shape: Shape,
}

#[derive(Clone)]
enum StepKind {
    Conv { kernel: Kernel, geom: ConvGeom, packed: Range<usize>, shortcut: Shortcut, relu: bool },
    MaxPool(PoolGeom),
    Subsample { input: Shape, stride: usize, before: usize },
    AveragePool(Shape),
}

/// What a convolution adds to its result.
#[derive(Clone)]
enum Shortcut {
    None,
    /// it lies where the output goes
    InPlace,
    /// to be copied to where the output goes
    Copied(Slot),
}

/// Where a value is read from.
#[derive(Clone)]
enum Place {
    Input(Slot),
    Arena(Slot),
}

/// Where a value lies. A pass computes it in parts of some images; values that no other pass reads reuse
/// the memory of the part before.
#[derive(Clone)]
struct Slot {
    first: Range<usize>,
    /// from part to part: 0 or the part's length
    stride: usize,
    /// all of it
    len: usize,
}

impl Slot {
    /// Of `images * elements` at `start`, in parts of `part` images.
    fn new(start: usize, elements: usize, images: usize, part: usize) -> Self {
        let part = part * elements;
        let len = images * elements;
        Slot { first: start..start + part, stride: if len > part { part } else { 0 }, len }
    }

    fn part(&self, i: usize) -> Range<usize> {
        self.first.start + i * self.stride..self.first.end + i * self.stride
    }

    fn whole(&self) -> Range<usize> {
        self.first.start..self.first.start + self.len
    }
}

impl Step {
    /// Its place in [`Plan::steps`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The convolution it computes, if it is one.
    pub fn conv(&self) -> Option<&ConvGeom> {
        match &self.kind {
            StepKind::Conv { geom, .. } => Some(geom),
            _ => None,
        }
    }

    /// The kernel or pass chosen for it.
    pub fn kernel_name(&self) -> Name {
        match &self.kind {
            StepKind::Conv { kernel, .. } => kernel.name(),
            StepKind::MaxPool(_) => Name::new("max-pool"),
            StepKind::Subsample { .. } => Name::new("subsample"),
            StepKind::AveragePool(_) => Name::new("average-pool"),
        }
    }

    /// Shape of one image's output.
    pub fn output_shape(&self) -> Shape {
        self.output_shape
    }

    /// Where its output lies in the arena, in elements. It may hold fewer images than the batch: layers with
    /// large maps run on some images at a time.
    pub fn output_range(&self) -> Range<usize> {
        self.output.whole()
    }

    /// Pieces its work is split into.
    pub fn bands(&self) -> usize {
        self.bands.len()
    }

    /// Multiply-adds for one image.
    pub fn macs(&self) -> u64 {
        self.conv().map_or(0, ConvGeom::macs)
    }

    /// Multiply-adds that its kernel does for one image: fewer by Winograd's kind of filtering.
    pub fn products(&self) -> u64 {
        match &self.kind {
            StepKind::Conv { kernel, geom, .. } => kernel.products(geom),
            _ => 0,
        }
    }

    /// Elements of its packed weights.
    pub fn packed_len(&self) -> usize {
        match &self.kind {
            StepKind::Conv { packed, .. } => packed.len(),
            _ => 0,
        }
    }
}

/// How a network will be run: kernels, buffers, and how the work is split.
#[derive(Clone)]
pub struct Plan {
    options: Options,
    steps: Vec<Step>,
    passes: Vec<Pass>,
    input: Shape,
    output: Range<usize>,
    arena_len: usize,
    packed_len: usize,
    mark: Mark,
    scratch_len: usize,
}

impl Plan {
    /// Plans `net`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no kernel fits, [`Error::NoSuchKernel`] where one asked for by
    /// [`Net::prefer`] does not, [`Error::InvalidNetwork`] for a batch of zero or sizes that cannot be counted,
    /// [`Error::Threads`] for zero threads or more than [`MAX_THREADS`].
    pub fn new(net: &Net<'_>, options: &Options) -> Result<Plan, Error> {
        let Options { batch, threads, .. } = *options;
        if batch == 0 {
            return Err(Error::InvalidNetwork { reason: "a batch needs at least 1 image" });
        }
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Error::Threads { asked: threads });
        }
        // Before anything is computed from a shape.
        if let Some(op) = net.ops().iter().find(|op| !op.is_valid()) {
            let reason = "a map is empty or too large, or a window does not fit it";
            return Err(op.conv().map_or(Error::InvalidNetwork { reason }, |geom| Error::Unsupported(*geom)));
        }
        let fits = |len: usize| len <= MAX_LEN;
        if !fits(reach([(batch, net.spec().input().elements())])) {
            return Err(Error::InvalidNetwork { reason: TOO_LARGE });
        }
        let passes = passes::passes(net.ops(), batch, threads);
        let part_of = |step| passes.iter().find(|pass| pass.steps.contains(&step)).map_or(batch, |pass| pass.images);
        // First, for it refuses batches too large to count.
        let (lives, homes) = lives::lives(net, batch, &passes)?;
        let chosen = |(step, op)| Chosen::new(op, part_of(step), options);
        let chosen = net.ops().iter().enumerate().map(chosen).collect::<Result<Vec<_>, _>>()?;
        let (places, arena_len) = place(&lives);
        let slot = |value: ValueId, part: usize| {
            let (shape, i) = (net.values()[value.index()], value.index() - 1);
            let images = lives[homes[i]].len / shape.elements();
            Slot::new(places[homes[i]].start, shape.elements(), images, part)
        };
        let (mut packed_len, mut scratch_len) = (0, 0);
        let mut steps = Vec::with_capacity(net.ops().len());
        for ((index, op), Chosen { kernel, bands: (bands, rects) }) in net.ops().iter().enumerate().zip(chosen) {
            let part = part_of(index);
            let kind = match &op.kind {
                OpKind::Conv { geom, shortcut, relu, .. } => {
                    let kernel = kernel.ok_or(Error::Unsupported(*geom))?;
                    let len = kernel.packed_len(geom);
                    scratch_len = scratch_len.max(kernel.scratch_len(geom));
                    if !fits(reach([(packed_len, 1), (len, 1)])) || !fits(scratch_len) {
                        return Err(Error::InvalidNetwork { reason: TOO_LARGE });
                    }
                    let packed = packed_len..packed_len + len;
                    packed_len = packed.end.next_multiple_of(arena::ALIGN);
                    let shortcut = match shortcut {
                        None => Shortcut::None,
                        Some(value) if homes[value.index() - 1] == homes[index] => Shortcut::InPlace,
                        Some(value) => Shortcut::Copied(slot(*value, part)),
                    };
                    StepKind::Conv { kernel, geom: *geom, packed, shortcut, relu: *relu }
                }
                OpKind::MaxPool(geom) => StepKind::MaxPool(*geom),
                &OpKind::Subsample { input, stride, before, .. } => StepKind::Subsample { input, stride, before },
                OpKind::AveragePool(input) => StepKind::AveragePool(*input),
            };
            let input = if op.input == ValueId::INPUT {
                Place::Input(Slot::new(0, net.spec().input().elements(), batch, part))
            } else {
                Place::Arena(slot(op.input, part))
            };
            let (output, output_shape) = (slot(op.output, part), op.output_shape());
            steps.push(Step { name: op.name, index, kind, input, output, bands, rects, output_shape });
        }
        let output = steps.last().map_or(0..0, |step| step.output.whole());
        let (input, mark, packed_len) = (net.spec().input(), Mark::of(&steps), packed_len + mark::LEN);
        Ok(Plan { options: *options, steps, passes, input, output, arena_len, packed_len, mark, scratch_len })
    }

    /// The names of all kernels that a plan for `options` could use for `geom`, whatever their speed.
    pub fn candidates(geom: &ConvGeom, options: &Options) -> Vec<Name> {
        select::candidates(geom, options.isa, options.winograd).map(|kernel| kernel.name()).collect()
    }

    /// Its layers, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What it was made for.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Elements of the input: `batch` images, NHWC.
    pub fn input_len(&self) -> usize {
        self.options.batch * self.input.elements()
    }

    /// One input image.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// Elements of the output: `batch` rows of logits.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Elements of the arena that all activations share.
    pub fn arena_len(&self) -> usize {
        self.arena_len
    }

    /// Elements of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.packed_len
    }

    /// Elements of scratch each thread needs.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len
    }
}

fn check_len(what: &'static str, need: usize, got: usize) -> Result<(), Error> {
    if need == got { Ok(()) } else { Err(Error::BufferLength { what, need, got }) }
}
