//! Training steps, by an engine: today the CPU's.

mod cpu;

pub use self::cpu::{Loss, Network, Options, StepError};
