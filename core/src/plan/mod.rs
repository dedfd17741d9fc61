//! The three phases: [`Plan::new`] chooses a kernel for every layer and places every buffer,
//! [`Plan::prepack`] reorders the weights once, [`Plan::execute`] runs without allocating.
//!
//! One plan serves every element type: values are places in one arena of bytes, and a step runs on what its values are.
//!
//! ```
//! use residual_core::{memory::Buffer, plan::{Options, Plan}, resnet::fold_batch_norm, testing::Generated, threads::Serial};
//!
//! let weights = Generated::new("resnet20-cifar".parse()?);
//! let net = fold_batch_norm(weights.spec(), &weights)?;
//! let plan = Plan::new(&net, &Options::default())?;
//! let packed = plan.prepack(&net)?;
//! let mut arena = Buffer::new(plan.arena_len());
//! let mut scratch = Buffer::new(plan.scratch_len());
//! let image = vec![0.5f32; plan.input_len()];
//! plan.execute(&image, &packed, &mut arena, &Serial::new(scratch.as_mut_slice()))?;
//! assert_eq!(plan.output::<f32>(&arena, 0)?.len(), 10);
//! # Ok::<(), residual_core::Error>(())
//! ```

mod arena;
mod bands;
mod choose;
mod execute;
mod lifetimes;
mod packing;
mod passes;
mod select;
mod step;
#[cfg(test)]
mod tests;

use alloc::{sync::Arc, vec::Vec};

pub use arena::{Life, place};
pub use packing::Packed;
pub use select::fastest;
pub use step::Step;

use choose::{Chosen, ConvKernelOf};
use lifetimes::Lifetimes;
use packing::Layer;
use passes::Pass;
use step::{Place, Shortcut, Slot, StepKind};

use crate::{
    Error, Isa, Name,
    elem::Elem,
    geom::reach,
    graph::{Graph, Op, OpKind, Value, ValueId},
    memory::Buffer,
};

/// Most threads a plan is made for.
pub const MAX_THREADS: usize = 1 << 16;

/// Most words of a buffer: those of any number of steps can be counted in bytes.
const MAX_LEN: usize = isize::MAX as usize / 8;
const TOO_LARGE: &str = "its buffers do not fit the address space; ask for a smaller batch or picture";

const fn fits(len: usize) -> bool {
    len <= MAX_LEN
}

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

/// How a network will be run: kernels, buffers, and how the work is split.
#[derive(Clone)]
pub struct Plan {
    graph: Arc<Graph>,
    options: Options,
    steps: Vec<Step>,
    passes: Vec<Pass>,
    layers: Vec<Layer>,
    outputs: Vec<Slot>,
    arena_len: usize,
    packed_len: usize,
    scratch_len: usize,
}

impl Plan {
    /// Plans `graph`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no kernel fits, [`Error::NoSuchKernel`] where one asked for by
    /// [`Graph::prefer`] does not, [`Error::InvalidNetwork`] for a batch of zero or sizes that cannot be counted,
    /// [`Error::Threads`] for zero threads or more than [`MAX_THREADS`].
    pub fn new(graph: &Graph, options: &Options) -> Result<Plan, Error> {
        Plan::of(Arc::new(graph.clone()), options)
    }

    /// The same network for another batch, with the same kernels: what was packed for one plan serves the other.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_batch(&self, batch: usize) -> Result<Plan, Error> {
        Plan::of(Arc::clone(&self.graph), &Options { batch, ..self.options })
    }

    /// A plan for weights that are packed already: of the same network, perhaps for other inputs.
    ///
    /// # Errors
    /// As [`Plan::new`]; [`Error::PackedForOtherKernel`] where the weights are another network's or their kernel cannot
    /// compute the new shape.
    pub fn for_packed(graph: &Graph, options: &Options, packed: &Packed) -> Result<Plan, Error> {
        let mut graph = graph.clone();
        let mut layers = packed.layers().iter();
        for op in graph.ops_mut().iter_mut().filter(|op| op.conv().is_some()) {
            op.kernel = layers.next().map(|layer| layer.kernel);
        }
        let plan = Plan::of(Arc::new(graph), options).map_err(|error| match error {
            Error::NoSuchKernel(_) => Error::PackedForOtherKernel,
            other => other,
        })?;
        if plan.layers == packed.layers() { Ok(plan) } else { Err(Error::PackedForOtherKernel) }
    }

    fn of(graph: Arc<Graph>, options: &Options) -> Result<Plan, Error> {
        let Options { batch, threads, .. } = *options;
        if batch == 0 {
            return Err(Error::InvalidNetwork { reason: "a batch needs at least 1 image" });
        }
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Error::Threads { asked: threads });
        }
        // Before anything is computed from a shape.
        if let Some(op) = graph.ops().iter().find(|op| !op.is_valid()) {
            return Err(match op.kind {
                OpKind::Conv { geom, .. } => Error::Unsupported(geom),
                _ => Error::InvalidNetwork { reason: "a map is empty or too large, or a window does not fit it" },
            });
        }
        if !fits(reach([(batch, graph.input().bytes())])) {
            return Err(Error::InvalidNetwork { reason: TOO_LARGE });
        }
        let passes = passes::passes(graph.ops(), batch, threads);
        // First, for it refuses batches too large to count.
        let lifetimes = Lifetimes::new(&graph, batch, &passes)?;
        let (places, arena_len) = place(&lifetimes.lives);
        let placing = Placing { graph: &graph, batch, lifetimes: &lifetimes, places: &places };
        let mut plan = Plan {
            graph: Arc::clone(&graph),
            options: *options,
            steps: Vec::with_capacity(graph.ops().len()),
            outputs: graph.outputs().iter().map(|value| placing.slot(*value, batch)).collect(),
            passes,
            layers: Vec::new(),
            arena_len,
            packed_len: 0,
            scratch_len: 0,
        };
        for (index, op) in graph.ops().iter().enumerate() {
            plan.add_step(index, op, &placing)?;
        }
        Ok(plan)
    }

    fn add_step(&mut self, index: usize, op: &Op, placing: &Placing<'_>) -> Result<(), Error> {
        let part = self.passes.iter().find(|pass| pass.steps.contains(&index)).map_or(1, |pass| pass.images);
        let Chosen { kernel, bands: (bands, rects) } = Chosen::new(op, part, &self.options)?;
        let shortcut = match op.shortcut() {
            None => Shortcut::None,
            Some(value) if placing.shares_home(value, index) => Shortcut::InPlace,
            Some(value) => Shortcut::Copied(placing.place(value, part)),
        };
        if let Some(kernel) = &kernel {
            self.scratch_len = self.scratch_len.max(kernel.scratch_len(op));
            if !fits(reach([(self.packed_len, 1), (kernel.packed_len(op), 1)])) || !fits(self.scratch_len) {
                return Err(Error::InvalidNetwork { reason: TOO_LARGE });
            }
            let layer = Layer::new(kernel, op, self.packed_len);
            self.packed_len = layer.range.end.next_multiple_of(arena::ALIGN);
            self.layers.push(layer);
        }
        let layer = self.layers.len().saturating_sub(1);
        let kind = match (op.kind, kernel) {
            (OpKind::Conv { geom, relu, .. }, Some(ConvKernelOf::F32(kernel))) => {
                StepKind::Conv { kernel, geom, layer, shortcut, relu }
            }
            (OpKind::Int8Conv { window, epilogue, .. }, Some(ConvKernelOf::Int8(kernel))) => {
                StepKind::Int8Conv { kernel, window, layer, shortcut, epilogue }
            }
            (OpKind::MaxPool(window), _) => StepKind::MaxPool(window),
            (OpKind::Subsample { input, stride, before, .. }, _) => StepKind::Subsample { input, stride, before },
            (OpKind::AveragePool(input), _) => StepKind::AveragePool(input),
            (OpKind::Mean(mean), _) => StepKind::Mean(mean),
            (OpKind::Conv { .. } | OpKind::Int8Conv { .. }, _) => return Err(Error::NoSuchKernel(op.name)),
        };
        let packed = self.layers.get(layer).filter(|_| op.conv().is_some()).map_or(0, |layer| layer.range.len());
        self.steps.push(Step {
            name: op.name,
            index,
            kind,
            input: placing.place(op.input, part),
            output: placing.slot(op.output, part),
            value: self.graph.values()[op.output.index()],
            bands,
            rects,
            packed,
        });
        Ok(())
    }

    /// The names of all kernels that a plan for `options` could use for the op, whatever their speed; none if it is no
    /// convolution.
    pub fn candidates(op: &Op, options: &Options) -> Vec<Name> {
        choose::candidates(op, options).map(|kernel| kernel.name()).collect()
    }

    /// What it is a plan of.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Its layers, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What it was made for.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// One input image.
    pub fn input(&self) -> &Value {
        self.graph.input()
    }

    /// Elements of the input: `batch` images, NHWC.
    pub fn input_len(&self) -> usize {
        self.options.batch * self.input().shape.elements()
    }

    /// Elements of the first output: `batch` rows of logits.
    pub fn output_len(&self) -> usize {
        self.options.batch * self.graph.output().shape.elements()
    }

    /// Words (of 4 bytes) of the arena that all activations share.
    pub fn arena_len(&self) -> usize {
        self.arena_len
    }

    /// Words (of 4 bytes) of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.packed_len
    }

    /// Words (of 4 bytes) of scratch each thread needs.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// Output `index` of the run that `arena` was last used for: `batch` images of it, NHWC.
    ///
    /// # Errors
    /// [`Error::InvalidNetwork`] if there is no such output, [`Error::ElementType`] if it is of another type,
    /// [`Error::BufferLength`] for another plan's arena.
    pub fn output<'a, T: Elem>(&self, arena: &'a Buffer, index: usize) -> Result<&'a [T], Error> {
        let missing = Error::InvalidNetwork { reason: "there is no output of this number" };
        let (slot, value) = self.outputs.get(index).zip(self.graph.outputs().get(index)).ok_or(missing)?;
        check_type::<T>("output", &self.graph.values()[value.index()])?;
        let bytes: &[u8] = bytemuck::cast_slice(arena.as_slice());
        let range = slot.whole();
        let (need, got) = (range.end, bytes.len());
        let output = bytes.get(range).ok_or(Error::BufferLength { what: "arena", need, got })?;
        Ok(bytemuck::cast_slice(output))
    }
}

/// Where values lie.
struct Placing<'p> {
    graph: &'p Graph,
    batch: usize,
    lifetimes: &'p Lifetimes,
    places: &'p [core::ops::Range<usize>],
}

impl Placing<'_> {
    /// The place of a value that an op writes.
    fn slot(&self, value: ValueId, part: usize) -> Slot {
        let bytes = self.graph.values()[value.index()].bytes();
        let home = self.lifetimes.homes[value.writer().unwrap_or_default()];
        Slot::new(WORD * self.places[home].start, bytes, self.lifetimes.images[home], part)
    }

    fn place(&self, value: ValueId, part: usize) -> Place {
        match value {
            ValueId::INPUT => Place::Input(Slot::new(0, self.graph.input().bytes(), self.batch, part)),
            value => Place::Arena(self.slot(value, part)),
        }
    }

    /// Does op `index` write where `value` lies?
    fn shares_home(&self, value: ValueId, index: usize) -> bool {
        let homes = &self.lifetimes.homes;
        value.writer().is_some_and(|writer| homes[writer] == homes[index])
    }
}

/// Bytes of a word, the unit of the arena, of packed weights and of scratch.
const WORD: usize = 4;

/// Whether a value's elements are of type `T`.
fn check_type<T: Elem>(what: &'static str, value: &Value) -> Result<(), Error> {
    match value.dtype() {
        need if need == T::DTYPE => Ok(()),
        need => Err(Error::ElementType { what, need, got: T::DTYPE }),
    }
}

fn check_len(what: &'static str, need: usize, got: usize) -> Result<(), Error> {
    if need == got { Ok(()) } else { Err(Error::BufferLength { what, need, got }) }
}
