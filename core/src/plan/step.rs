//! A layer of a plan.

use alloc::vec::Vec;
use core::ops::Range;

use super::choose::ConvKernelOf;
use crate::{
    Name,
    conv::{Band, Int8, Kernel},
    geom::{ConvGeom, Shape, Window},
    graph::Value,
    memory::Rect,
    quant,
    simd::Arithmetic,
};

/// A layer of a plan.
#[derive(Clone)]
pub struct Step {
    /// the layer's torchvision name
    pub name: Name,
    pub(super) index: usize,
    pub(super) kind: StepKind,
    pub(super) input: Place,
    pub(super) output: Slot,
    pub(super) value: Value,
    pub(super) bands: Vec<Band>,
    pub(super) rects: Vec<Rect>,
    pub(super) packed: usize,
}

#[derive(Clone)]
pub(super) enum StepKind {
    Conv { kernel: Kernel, geom: ConvGeom, layer: usize, shortcut: Shortcut, relu: bool },
    Int8Conv { kernel: Int8, window: Window, layer: usize, shortcut: Shortcut, epilogue: quant::Epilogue },
    MaxPool(Window),
    Subsample { input: Shape, stride: usize, before: usize },
    AveragePool(Shape),
    Mean(quant::Mean),
}

/// What a convolution adds to its result.
#[derive(Clone)]
pub(super) enum Shortcut {
    None,
    /// it lies where the output goes
    InPlace,
    /// to be copied to where the output goes
    Copied(Place),
}

/// Where a value is read from.
#[derive(Clone)]
pub(super) enum Place {
    Input(Slot),
    Arena(Slot),
}

/// Where a value lies, in bytes. A pass computes it in parts of some images; values that no other pass reads reuse
/// the memory of the part before.
#[derive(Clone)]
pub(super) struct Slot {
    first: Range<usize>,
    /// from part to part: 0 or the part's length
    stride: usize,
    /// all of it
    len: usize,
}

impl Slot {
    /// Of `images` images of `bytes` each at `start`, in parts of `part` images.
    pub(super) fn new(start: usize, bytes: usize, images: usize, part: usize) -> Self {
        let part = part * bytes;
        let len = images * bytes;
        Slot { first: start..start + part, stride: if len > part { part } else { 0 }, len }
    }

    pub(super) fn part(&self, i: usize) -> Range<usize> {
        self.first.start + i * self.stride..self.first.end + i * self.stride
    }

    pub(super) fn whole(&self) -> Range<usize> {
        self.first.start..self.first.start + self.len
    }
}

impl Step {
    /// Its place in [`super::Plan::steps`], and that of its op in [`crate::graph::Graph::ops`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The window of the convolution it computes, if it is one.
    pub fn conv(&self) -> Option<Window> {
        match self.kind {
            StepKind::Conv { geom, .. } => Some(geom.into()),
            StepKind::Int8Conv { window, .. } => Some(window),
            _ => None,
        }
    }

    pub(super) fn conv_kernel(&self) -> Option<ConvKernelOf> {
        match self.kind {
            StepKind::Conv { kernel, .. } => Some(ConvKernelOf::F32(kernel)),
            StepKind::Int8Conv { kernel, .. } => Some(ConvKernelOf::Int8(kernel)),
            _ => None,
        }
    }

    /// The kernel or pass chosen for it.
    pub fn kernel_name(&self) -> Name {
        match &self.kind {
            StepKind::Conv { kernel, .. } => kernel.name(),
            StepKind::Int8Conv { kernel, .. } => kernel.name(),
            StepKind::MaxPool(_) => Name::new("max-pool"),
            StepKind::Subsample { .. } => Name::new("subsample"),
            StepKind::AveragePool(_) => Name::new("average-pool"),
            StepKind::Mean(_) => Name::new("mean"),
        }
    }

    /// One image's output.
    pub fn output(&self) -> &Value {
        &self.value
    }

    /// Shape of one image's output.
    pub fn output_shape(&self) -> Shape {
        self.value.shape
    }

    /// Where its output lies in the arena, in bytes. It may hold fewer images than the batch: layers with
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
        self.conv().map_or(0, |window| window.macs())
    }

    /// Multiply-adds that its kernel does for one image: fewer by Winograd's kind of filtering.
    pub fn products(&self) -> u64 {
        match &self.kind {
            StepKind::Conv { kernel, geom, .. } => kernel.products(geom),
            StepKind::Int8Conv { kernel, window, .. } => kernel.products(window),
            _ => 0,
        }
    }

    /// What its kernel multiplies; `None` for a pass without multiply-adds.
    pub fn arithmetic(&self) -> Option<Arithmetic> {
        match &self.kind {
            StepKind::Conv { .. } => Some(Arithmetic::F32),
            StepKind::Int8Conv { kernel: Int8::Direct(_), .. } => Some(Arithmetic::Int8),
            StepKind::Int8Conv { kernel: Int8::Winograd(_), .. } => Some(Arithmetic::Int16),
            _ => None,
        }
    }

    /// Words (of 4 bytes) of its packed weights.
    pub fn packed_len(&self) -> usize {
        self.packed
    }
}
