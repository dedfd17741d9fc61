//! Timing training steps.

use std::time::{Duration, Instant};

use residual_core::net::ResNet;

use crate::{
    network::{Loss, Network, Options, StepError},
    parameters::Parameters,
    random::{Purpose, Stream},
};

/// What [`steps`] measured.
#[derive(Clone, Debug)]
pub struct StepTimes {
    /// of every step behind the first, in order
    pub times: Vec<Duration>,
    /// images a step
    pub batch: usize,
}

impl StepTimes {
    /// Images a second at the median step.
    pub fn images_per_second(&self) -> f64 {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).map_or(0.0, |t| self.batch as f64 / t.as_secs_f64())
    }

    /// Images a second at the fastest step: what the machine can do undisturbed.
    pub fn best_images_per_second(&self) -> f64 {
        self.times.iter().min().map_or(0.0, |t| self.batch as f64 / t.as_secs_f64())
    }
}

/// Trains on one random batch for about `duration`, three steps at least, and times the steps: forward,
/// backward and the update of SGD with momentum, as PyTorch is timed.
///
/// # Errors
/// As [`Network::new`] and [`Network::step`].
pub fn steps(spec: ResNet, options: &Options, duration: Duration) -> Result<StepTimes, StepError> {
    let batch = options.batch;
    let mut parameters = Parameters::init(spec, 0);
    let mut network = Network::new(&parameters, options)?;
    let mut random = Stream::new(0, Purpose::Picture, [0, 0]);
    let images: Vec<f32> = (0..batch * spec.input().elements()).map(|_| random.normal() as f32).collect();
    let labels: Vec<u32> = (0..batch).map(|_| random.below(spec.classes()) as u32).collect();
    let mut gradients = vec![0.0f32; parameters.values().len()];
    let mut velocity = gradients.clone();
    let mut times = Vec::new();
    let start = Instant::now();
    for step in 0.. {
        let begin = Instant::now();
        gradients.fill(0.0);
        network.step(&mut parameters, &images, &labels, Loss { smoothing: 0.0, count: batch }, &mut gradients)?;
        for ((v, g), w) in velocity.iter_mut().zip(&gradients).zip(parameters.values_mut()) {
            *v = 0.9 * *v + g;
            *w -= 1e-3 * *v;
        }
        if step > 0 {
            times.push(begin.elapsed());
        }
        if times.len() >= 3 && start.elapsed() >= duration {
            break;
        }
    }
    Ok(StepTimes { times, batch })
}
