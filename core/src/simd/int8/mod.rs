//! The int8 register tile and the loops around it: every int8 convolution ends here.
//!
//! A lane accumulates one output channel. One step multiplies a *word* of the input (4 bytes, or 2
//! 16-bit integers) with the same word of every lane's weights and adds the products, exactly, in 32
//! bits. Strips of rows are copied into a padded buffer of words first ([`crate::conv::Int8`]), so that the
//! `kernel * words` words that a kernel row reads lie side by side.
//!
//! | kind | word | input | weights |
//! |---|---|---|---|
//! | `avx512-vnni` | 4 bytes | `x + 128`, unsigned; the bias takes back `128 + zero point` times the weights' sum | i8 |
//! | `avx2`, `portable` | 2 i16 | `x - zero point` | i16 |

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;
mod tile;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub(crate) use tile::Tile;

use super::{Isa, isa::Kind};

/// An int8 instruction set this CPU has; a value is the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DotIsa(Dot);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dot {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl DotIsa {
    /// The int8 counterpart of `isa`; AVX-512 without VNNI computes as AVX2.
    pub fn of(isa: Isa) -> Self {
        DotIsa(match isa.kind() {
            Kind::Portable => Dot::Portable,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => Dot::Portable,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Kind::Wasm => Dot::Portable,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => Dot::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if has_vnni() => Dot::Vnni,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if has_avx2() => Dot::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Dot::Portable,
        })
    }

    /// `portable`, `avx2` or `avx512-vnni`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Dot::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Dot::Vnni => "avx512-vnni",
        }
    }

    /// How weights and inputs are laid out for it.
    pub(crate) const fn layout(self) -> Layout {
        const fn of<L: tile::Lanes>() -> Layout {
            Layout {
                lanes: L::LANES,
                per_word: L::PER_WORD,
                panel: L::PANEL * L::LANES,
                rows: L::MAX_ROWS[L::PANEL - 1],
            }
        }
        match self.0 {
            Dot::Portable => of::<portable::Words>(),
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 => of::<avx2::Words>(),
            #[cfg(target_arch = "x86_64")]
            Dot::Vnni => of::<vnni::Words>(),
        }
    }
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_vnni() -> bool {
    std::is_x86_feature_detected!("avx512vnni") && std::is_x86_feature_detected!("avx512f")
}

#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
fn has_vnni() -> bool {
    cfg!(all(target_feature = "avx512vnni", target_feature = "avx512f"))
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
fn has_avx2() -> bool {
    cfg!(target_feature = "avx2")
}

/// The layout of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// 32-bit lanes of a vector
    pub lanes: usize,
    /// products that one lane sums in one step
    pub per_word: usize,
    /// channels of a full panel
    pub panel: usize,
    /// pixels of the largest tile of a full panel
    pub rows: usize,
}

/// Computes the pixels and channels that `tile` names.
///
/// # Panics
/// When a slice does not fit the others.
pub(crate) fn run(isa: DotIsa, tile: Tile<'_>) {
    let layout = isa.layout();
    tile.check(layout);
    // SAFETY: a `DotIsa` exists only for what the CPU has; `check` made sure of the lengths that `Tile` asks for.
    unsafe {
        match isa.0 {
            Dot::Portable => portable::invoke(tile),
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 => avx2::invoke(tile),
            #[cfg(target_arch = "x86_64")]
            Dot::Vnni => vnni::invoke(tile),
        }
    }
}
