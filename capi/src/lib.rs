//! `residual` for C. The functions and types here are described for their users in `include/residual.h`,
//! which is generated from these comments; docs/c.md starts from a C project.
//!
//! Two faces: the *engine* runs int8 models in memory that the caller owns and needs neither the standard
//! library nor an allocator; feature `host` (default) adds models from files, pictures and threads.
//!
//! Every function checks its pointers for NULL and alignment and its lengths for size before it uses them,
//! and returns a [`Status`]. Handles of the host face are looked up among the living ones and never
//! followed, so a stale or foreign one is an error, not undefined behaviour. Nothing unwinds into C.
//!
//! # Safety
//! What no check can see is the contract of all functions: memory that an argument names is as long as its
//! length says, and nobody writes to it during the call; strings end with a NUL.
#![cfg_attr(not(feature = "host"), no_std)]
#![allow(clippy::missing_safety_doc, reason = "one contract holds for all functions, stated above")]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod engine;
#[cfg(feature = "host")]
mod host;
#[cfg(all(feature = "panic-handler", not(feature = "host")))]
#[allow(unsafe_code)]
mod panic;
#[allow(unsafe_code)]
mod pointer;
#[allow(unsafe_code)]
mod status;

pub use engine::*;
#[cfg(feature = "host")]
pub use host::*;
pub use status::*;

#[cfg(feature = "host")]
pub(crate) use host::error::{Error, guard};

#[cfg(not(feature = "host"))]
pub(crate) use bare::{Error, guard};

/// Errors where there is nobody to tell more than a status to.
#[cfg(not(feature = "host"))]
mod bare {
    use crate::Status;

    pub struct Error {
        pub status: Status,
    }

    impl Error {
        pub fn new(status: Status, _argument: &'static str) -> Self {
            Error { status }
        }
    }

    impl From<residual_edge::Error> for Error {
        fn from(error: residual_edge::Error) -> Self {
            Error { status: crate::engine::status(&error) }
        }
    }

    /// Without the standard library nothing can unwind.
    pub fn guard(body: impl FnOnce() -> Result<(), Error>) -> Status {
        match body() {
            Ok(()) => Status::Ok,
            Err(error) => error.status,
        }
    }
}
