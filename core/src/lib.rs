//! Deep residual networks (He, Zhang, Ren, Sun, CVPR 2016) without the standard library.
//!
//! A [`resnet::ResNet`] describes a network of the paper; walking it yields every layer with its
//! torchvision name. With feature `alloc` it is folded into a [`graph::Net`], a flat list of ops.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
pub mod conv;
mod elem;
mod error;
pub mod geom;
#[cfg(feature = "alloc")]
pub mod graph;
pub mod logits;
#[cfg(feature = "alloc")]
pub mod memory;
mod name;
#[cfg(feature = "alloc")]
pub mod plan;
pub mod quant;
pub mod resnet;
pub mod rsd;
#[cfg(feature = "alloc")]
pub mod session;
#[cfg(feature = "alloc")]
pub mod simd;
#[cfg(feature = "alloc")]
pub mod testing;
#[cfg(feature = "alloc")]
pub mod threads;
#[cfg(feature = "alloc")]
pub mod weights;

pub use elem::Dtype;
#[cfg(feature = "alloc")]
pub use elem::Elem;
pub use error::Error;
pub use name::Name;
#[cfg(feature = "alloc")]
pub use simd::Isa;
