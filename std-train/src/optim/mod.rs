//! How parameters follow their gradients: [`Sgd`], and the learning rate over time: [`Schedule`].

mod schedule;
mod sgd;

pub use schedule::{Pace, Schedule, ScheduleState, Warmup};
pub use sgd::{Decay, Sgd};
