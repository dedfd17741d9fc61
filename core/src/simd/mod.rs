//! The only place that names CPU features or holds intrinsics.
//!
//! Hot code is written once, generic over the private `Vector`, and instantiated here for each
//! instruction set inside a `#[target_feature]` function: implement `Op`, call `dispatch`.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
#[allow(unsafe_code)]
mod channelwise;
#[allow(unsafe_code)]
mod denormals;
#[allow(unsafe_code)]
mod gemm;
#[cfg(feature = "alloc")]
#[allow(unsafe_code)]
pub(crate) mod int8;
mod isa;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
mod neon;
#[allow(unsafe_code)]
mod peak;
#[allow(unsafe_code)]
pub(crate) mod points;
#[allow(unsafe_code)]
mod pool;
#[allow(unsafe_code)]
mod portable;
#[allow(unsafe_code)]
mod vector;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[allow(unsafe_code)]
mod wasm;
#[allow(unsafe_code)]
mod weight_gradient;
#[allow(unsafe_code)]
pub(crate) mod winograd;
#[allow(unsafe_code)]
pub(crate) mod winograd_gradient;

pub use channelwise::{Addend, Gate, affine, combine, gradient_sums, moments};
pub use denormals::with_flushed_denormals;
pub use gemm::Epilogue;
pub(crate) use gemm::{Gemm, Panels, RowMap, gemm};
#[cfg(feature = "alloc")]
pub use int8::DotIsa;
pub use isa::Isa;
pub use peak::{Arithmetic, burst, read_burst};
pub use pool::{average_pool, max_pool};

pub(crate) use vector::tile_of;
pub(crate) use weight_gradient::{OuterSum, Pixels, SLACK, outer_sum};
pub use winograd::Tile;
