//! int8 on vectors: register tiles, exact integer Winograd, and what happens to sums.
//!
//! A lane accumulates one output channel. One step multiplies a *word* of the input (4 bytes, or 2 16-bit integers) with
//! the same word of every lane's weights and adds the products, exactly, in 32 bits. Strips of rows are copied into a
//! padded buffer first ([`crate::conv::Int8Direct`]), so that what a kernel row reads lies side by side.
//!
//! | kind | word | input | weights |
//! |---|---|---|---|
//! | `avx512-vnni` | 4 bytes | `x + 128`, unsigned; the bias takes back `128 + zero point` times the weights' sum | i8 |
//! | `avx2` | 4 bytes | the same; where a pair of products may leave 16 bits, magnitudes multiply `x` or `-x - 1` | i8 |
//! | `portable` | 2 i16 | `x - zero point` | i16 |

#[cfg(target_arch = "x86_64")]
mod avx2;
mod burst;
mod finish;
mod lanes;
mod portable;
mod tile;
#[cfg(target_arch = "x86_64")]
mod vnni;
pub(crate) mod winograd;

pub(crate) use finish::{Affine, Finish, quick::factor};
pub(crate) use tile::Tile;

use super::{Isa, isa::Kind};
use lanes::{Halves, Lanes};

/// Runs a pass over [`Halves`]: where VNNI is, AVX2 is, too.
macro_rules! on_halves {
    ($isa:expr, $pass:expr) => {
        // An arm's SAFETY is the same as the invocation's: a `DotIsa` exists only for what the CPU has.
        match $isa.0 {
            Dot::Portable => portable::Words::invoke($pass),
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 | Dot::Vnni => avx2::Words::invoke($pass),
        }
    };
}

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

    /// Multiply-adds in a cycle: of direct convolutions, and of integer Winograd's 16-bit integers.
    pub(crate) const fn products_per_cycle(self) -> (f64, f64) {
        match self.0 {
            Dot::Portable => (6.0, 6.0),
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 => (26.0, 23.0),
            #[cfg(target_arch = "x86_64")]
            Dot::Vnni => (128.0, 23.0),
        }
    }

    /// The instruction set integer Winograd uses.
    pub(crate) const fn pair_name(self) -> &'static str {
        match self.0 {
            Dot::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 | Dot::Vnni => "avx2",
        }
    }

    /// The layout of integer Winograd.
    pub(crate) const fn pair_layout(self) -> PairLayout {
        const fn of<L: Halves>() -> PairLayout {
            PairLayout { lanes: L::LANES, panel: L::PANEL * L::LANES, rows: L::PAIR_ROWS[L::PANEL - 1] }
        }
        match self.0 {
            Dot::Portable => of::<portable::Words>(),
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 | Dot::Vnni => of::<avx2::Words>(),
        }
    }

    /// How weights and inputs are laid out for it.
    pub(crate) const fn layout(self) -> Layout {
        const fn of<L: Lanes>() -> Layout {
            Layout {
                lanes: L::LANES,
                per_word: L::PER_WORD,
                panel: L::PANEL * L::LANES,
                rows: L::MAX_ROWS[L::PANEL - 1],
                masked: L::MASKED,
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
    std::is_x86_feature_detected!("avx512vnni") && std::is_x86_feature_detected!("avx512f") && has_avx2()
}

#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
fn has_vnni() -> bool {
    cfg!(all(target_feature = "avx512vnni", target_feature = "avx512f")) && has_avx2()
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
}

#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
fn has_avx2() -> bool {
    cfg!(all(target_feature = "avx2", target_feature = "fma"))
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
    /// whether some steps have masks
    pub masked: bool,
}

/// The layout of integer Winograd on one instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairLayout {
    /// 32-bit lanes of a vector
    pub lanes: usize,
    /// channels of a full panel
    pub panel: usize,
    /// tiles of the largest register tile of a full panel
    pub rows: usize,
}

/// Computes the pixels and channels that `tile` names.
///
/// # Panics
/// When a slice does not fit the others.
pub(crate) fn run(isa: DotIsa, tile: Tile<'_>) {
    tile.check(isa.layout());
    // SAFETY: a `DotIsa` exists only for what the CPU has; `check` made sure of the lengths that `Tile` asks for.
    unsafe {
        match isa.0 {
            Dot::Portable => portable::Words::invoke(tile),
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 => avx2::Words::invoke(tile),
            #[cfg(target_arch = "x86_64")]
            Dot::Vnni => vnni::Words::invoke(tile),
        }
    }
}

/// Transforms the weights of a panel at one row of points.
///
/// # Panics
/// When a slice does not fit the others.
pub(crate) fn winograd_weights(isa: DotIsa, pass: winograd::Weights<'_>) {
    pass.check(isa.pair_layout().lanes);
    // SAFETY: `check` made sure of the lengths that the pass asks for.
    unsafe { on_halves!(isa, winograd::OfAnyTile(pass)) }
}

/// Transforms a row of tiles.
///
/// # Panics
/// When a slice does not fit the others.
pub(crate) fn winograd_input(isa: DotIsa, pass: winograd::Input<'_, '_>) {
    pass.check(isa.pair_layout().lanes);
    // SAFETY: `check` made sure of the lengths that the pass asks for.
    unsafe { on_halves!(isa, winograd::OfAnyTile(pass)) }
}

/// Multiplies transformed inputs and weights.
///
/// # Panics
/// When a slice does not fit the others.
pub(crate) fn winograd_products(isa: DotIsa, pass: winograd::Products<'_>) {
    pass.check(isa.pair_layout());
    // SAFETY: `check` made sure of the lengths that the pass asks for.
    unsafe { on_halves!(isa, pass) }
}

/// Transforms a row of tiles back and stores it.
///
/// # Panics
/// When a slice does not fit the others.
pub(crate) fn winograd_output(isa: DotIsa, pass: winograd::Output<'_, '_, '_>) {
    pass.check(isa.pair_layout().lanes);
    // SAFETY: `check` made sure of the lengths that the pass asks for.
    unsafe { on_halves!(isa, winograd::OfAnyTile(pass)) }
}

/// Runs `rounds` rounds of multiply-adds on registers alone, of bytes as direct convolutions multiply them or of 16-bit
/// pairs as integer Winograd does. Returns how many multiply-adds that were.
pub(crate) fn burst(isa: DotIsa, pairs: bool, rounds: u64) -> u64 {
    let mut count = 0;
    // SAFETY: a `DotIsa` exists only for what the CPU has, and these passes touch registers only.
    unsafe {
        match isa.0 {
            _ if pairs => on_halves!(isa, burst::Pairs { rounds, count: &mut count }),
            Dot::Portable => portable::Words::invoke(burst::Words { rounds, count: &mut count }),
            #[cfg(target_arch = "x86_64")]
            Dot::Avx2 => avx2::Words::invoke(burst::Words { rounds, count: &mut count }),
            #[cfg(target_arch = "x86_64")]
            Dot::Vnni => vnni::Words::invoke(burst::Words { rounds, count: &mut count }),
        }
    }
    count
}
