//! The only place that names CPU features or holds intrinsics.
//!
//! Hot code is written once, generic over the private [`Vector`], and instantiated here for each
//! instruction set inside a `#[target_feature]` function: implement [`Op`], call [`dispatch`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod gemm;
mod isa;
mod pool;
mod portable;
mod vector;
mod view;

pub(crate) use gemm::{Epilogue, Gemm, Panels, RowMap, gemm};
pub use isa::Isa;
pub(crate) use pool::{average_pool, max_pool};
pub(crate) use vector::{Op, Vector, dispatch};
pub use view::{MatMut, Parts, Rect};
