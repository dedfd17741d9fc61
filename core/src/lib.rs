//! Deep residual networks (He, Zhang, Ren, Sun, CVPR 2016) without the standard library.
//!
//! A [`net::ResNet`] describes a network of the paper; walking it yields every layer with its
//! torchvision name. With feature `alloc` it is folded into a [`net::Net`], a flat list of ops.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
pub mod arch;
#[cfg(feature = "alloc")]
pub mod elem;
mod error;
pub mod format;
pub mod geom;
#[cfg(feature = "alloc")]
pub mod kernel;
pub mod logits;
mod name;
pub mod net;
#[cfg(feature = "alloc")]
pub mod plan;
pub mod quant;
#[cfg(feature = "alloc")]
pub mod session;
#[cfg(feature = "alloc")]
pub mod testing;
pub mod weights;

#[cfg(feature = "alloc")]
pub use arch::Isa;
pub use error::Error;
pub use name::Name;
