//! int8 residual networks on microcontrollers: no `std`, no allocation, no panics.
//!
//! An [`Engine`] runs a model file (`.rsd`, see [`residual_core::rsd`]) in place from flash with
//! an arena the caller owns. Its outputs equal [`residual_core::quant::reference`] byte for byte.
//!
//! ```
//! use residual_edge::{Engine, Fast, arena_bytes};
//! # let net: residual_core::resnet::ResNet = "resnet8-cifar".parse()?;
//! # let model = residual_core::rsd::synthetic(&net, 1)?;
//! # let mut arena = residual_core::rsd::AlignedBytes::zeroed(arena_bytes::<Fast>(&model)?);
//! let mut engine = Engine::<Fast>::new(&model, &mut arena)?;
//! engine.input_mut().fill(0); // NHWC, one image
//! let class = engine.run()?.argmax();
//! assert!(class < 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! On a microcontroller the size is found when the firmware is built: `build.rs` calls
//! [`arena_bytes`] on the host and writes a constant, so that a model that needs more RAM than the
//! chip has does not link. The size does not depend on the target.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod arch;
mod arena;
mod engine;
mod error;
mod kernel;
mod rows;
pub mod source;

pub use engine::{Engine, Fast, Mode, Output, Progress, Small, arena_bytes};
pub use error::Error;

/// Alignment of an arena's first byte.
pub const ARENA_ALIGN: usize = 16;
