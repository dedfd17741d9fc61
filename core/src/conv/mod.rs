//! Convolution algorithms behind one trait, and the passes that are none.
//!
//! A kernel sees one [`Band`] of the output at a time. Bands are disjoint, so threads split the
//! work from outside and kernels know none.

mod direct;
mod elementwise;
mod gradients;
mod int8;
mod pointwise;
pub mod reference;
#[cfg(test)]
mod tests;
mod tiles;
mod winograd;
mod winograd_strided;

use core::ops::{Deref, Range};

pub use crate::simd::Epilogue;
pub use direct::Direct;
pub use elementwise::subsample;
pub use gradients::{DataGradient, WeightGradient};
pub use int8::{Int8, Int8Direct, Int8Winograd};
pub(crate) use int8::{average_pool_int8, max_pool_int8, mean_int8};
pub use pointwise::Pointwise;
pub use winograd::Winograd;
pub use winograd_strided::WinogradStrided;

use crate::{
    Error, Name,
    elem::Elem,
    geom::{ConvGeom, Window},
    memory::MatMut,
    quant,
    simd::{Isa, Tile},
};

/// Weights of an f32 convolution with batch norm folded in: `w[o] = scale[o] * oihw[o]`.
#[derive(Clone, Copy, Debug)]
pub struct ConvWeights<'w> {
    /// `c_out * c_in * kernel * kernel` elements, OIHW
    pub oihw: &'w [f32],
    /// per output channel; empty means 1
    pub scale: &'w [f32],
    /// per output channel
    pub bias: &'w [f32],
}

/// What the convolutions of an element type are described by.
pub trait ConvElem: Elem {
    /// a convolution's shape
    type Geometry: Copy + Send + Sync;
    /// a convolution's tensors as they come
    type Weights<'w>: Copy;
    /// 32 bits of packed weights or scratch
    type Word: bytemuck::Pod + Send + Sync;
    /// what happens to sums before they are stored
    type Epilogue: Copy;
}

impl ConvElem for f32 {
    type Geometry = ConvGeom;
    type Weights<'w> = ConvWeights<'w>;
    type Word = f32;
    type Epilogue = Epilogue;
}

impl ConvElem for i8 {
    type Geometry = Window;
    type Weights<'w> = quant::Conv<'w>;
    type Word = i32;
    type Epilogue = quant::Epilogue;
}

/// A part of a convolution's output over a whole batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// output rows, counted through all images: row `r` of image `i` is `i * h_out + r`
    pub rows: Range<usize>,
    /// output channels
    pub channels: Range<usize>,
}

impl Band {
    /// Everything.
    pub fn whole(g: &ConvGeom, batch: usize) -> Self {
        Band { rows: 0..batch * g.output().h, channels: 0..g.c_out }
    }

    /// The rows of each image the band touches: `(image, rows within it)`.
    pub(crate) fn images(&self, h_out: usize) -> impl Iterator<Item = (usize, Range<usize>)> + Clone + use<> {
        let Range { start, end } = self.rows;
        (start / h_out..end.div_ceil(h_out)).map(move |image| {
            let first = image * h_out;
            (image, start.saturating_sub(first)..(end - first).min(h_out))
        })
    }
}

/// One convolution algorithm for one element type and one instruction set.
pub trait ConvKernel<T: ConvElem>: Sync {
    /// `{algo}-{dtype}-{isa}-{MR}x{NR}`, stored in plans and benchmark names.
    fn name(&self) -> Name;
    /// Can this kernel compute `g`? Never when `g` is not valid.
    fn supports(&self, g: &T::Geometry) -> bool;
    /// Multiply-adds it does for one image, which may be fewer than the definition has.
    fn products(&self, g: &T::Geometry) -> u64;
    /// Words of the packed weights; `usize::MAX` for a geometry it does not support.
    fn packed_len(&self, g: &T::Geometry) -> usize;
    /// Scratch words needed per concurrent band; `usize::MAX` for a geometry it does not support.
    fn scratch_len(&self, g: &T::Geometry) -> usize;
    /// Of a geometry it supports: bands begin at multiples of this many rows of an image, and of this many channels.
    fn granularity(&self, g: &T::Geometry) -> (usize, usize);
    /// Reorders weights into this kernel's private layout.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when a slice does not fit `g`, [`Error::Unsupported`] when the kernel does not support it.
    fn prepack(&self, g: &T::Geometry, weights: T::Weights<'_>, packed: &mut [T::Word]) -> Result<(), Error>;
    /// Computes one band. `x` is the whole batch, NHWC; `y` is the band's pixels by its channels, and holds
    /// their shortcut where `epilogue` says so.
    ///
    /// # Panics
    /// When it does not support `g`, or a slice does not fit `g` and `band`: a plan's always do.
    #[allow(clippy::too_many_arguments)] // each is a different thing, and planning fills them in once
    fn run(
        &self,
        g: &T::Geometry,
        x: &[T],
        packed: &[T::Word],
        epilogue: T::Epilogue,
        band: &Band,
        y: MatMut<'_, T>,
        scratch: &mut [T::Word],
    );
}

/// An f32 kernel for one instruction set.
#[derive(Clone, Copy)]
pub enum Kernel {
    /// 1x1
    Pointwise(Pointwise),
    /// any side and stride
    Direct(Direct),
    /// 3x3, stride 1
    Winograd(Winograd),
    /// 3x3, stride 2
    WinogradStrided(WinogradStrided),
}

impl Kernel {
    /// The kernels of `isa`, those that round least first.
    pub const fn all(isa: Isa) -> [Kernel; 5] {
        [
            Kernel::Pointwise(Pointwise(isa)),
            Kernel::Direct(Direct(isa)),
            Kernel::WinogradStrided(WinogradStrided(isa)),
            Kernel::Winograd(Winograd { isa, tile: Tile::Four }),
            Kernel::Winograd(Winograd { isa, tile: Tile::Two }),
        ]
    }

    /// Does it save multiplications by filters of Winograd's kind, at the price of their rounding?
    pub const fn is_winograd(&self) -> bool {
        matches!(self, Kernel::Winograd(_) | Kernel::WinogradStrided(_))
    }
}

impl Deref for Kernel {
    type Target = dyn ConvKernel<f32>;

    fn deref(&self) -> &Self::Target {
        match self {
            Kernel::Pointwise(kernel) => kernel,
            Kernel::Direct(kernel) => kernel,
            Kernel::Winograd(kernel) => kernel,
            Kernel::WinogradStrided(kernel) => kernel,
        }
    }
}

/// The length of what `kernel` needs for `g`, if it supports it.
fn len_for<T: ConvElem>(kernel: &impl ConvKernel<T>, g: &T::Geometry, len: impl FnOnce() -> usize) -> usize {
    if kernel.supports(g) { len() } else { usize::MAX }
}

/// Checks what every `prepack` depends on: the geometry and the lengths of the slices.
fn check_prepack(kernel: &impl ConvKernel<f32>, g: &ConvGeom, w: &ConvWeights<'_>, packed: usize) -> Result<(), Error> {
    if !kernel.supports(g) {
        return Err(Error::Unsupported(*g));
    }
    let need = kernel.packed_len(g);
    let scale = if w.scale.is_empty() { g.c_out } else { w.scale.len() };
    for (what, need, got) in [
        ("weight", g.weight_len(), w.oihw.len()),
        ("scale", g.c_out, scale),
        ("bias", g.c_out, w.bias.len()),
        ("packed weight buffer", need, packed),
    ] {
        if need != got {
            return Err(Error::BufferLength { what, need, got });
        }
    }
    Ok(())
}

/// Pixels all panels should pass over before the next ones are read: a quarter of L1 where the weights
/// stay in L2, and a good part of L2 where they do not, so that they are read from beyond it seldom.
fn block_pixels(c_in: usize, packed_len: usize) -> usize {
    const L1: usize = 48 * 1024 / 4;
    const L2: usize = 400 * 1024 / 4;
    let budget = if packed_len <= 512 * 1024 / 4 { L1 } else { L2 };
    (budget / c_in.max(1)).max(56)
}
