//! [`Sgd`] changes parameters by their gradients; [`Pace`] says by how much at each step, as a [`Schedule`] asks.

mod schedule;
mod sgd;

pub use schedule::{Pace, Schedule, ScheduleState, Warmup};
pub use sgd::{Decay, Sgd};
