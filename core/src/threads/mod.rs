//! Who runs the bands of a layer: the calling thread alone, or a team of threads.

mod executor;
#[cfg(feature = "parallel")]
#[allow(unsafe_code)]
mod team;

pub use executor::{Executor, Serial};
#[cfg(feature = "parallel")]
pub use team::Team;
