//! How long training steps take.

use std::{
    fs,
    time::{Duration, Instant},
};

use residual_core::resnet::ResNet;

use crate::{
    engine::{CpuEngine, Loss, Options, StepError},
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

/// Training from random weights on one random batch, step by step: forward, backward and the update of SGD with momentum,
/// as PyTorch is timed.
pub struct Steps {
    parameters: Parameters,
    engine: CpuEngine,
    images: Vec<f32>,
    labels: Vec<u32>,
    gradients: Vec<f32>,
    velocity: Vec<f32>,
}

impl Steps {
    /// # Errors
    /// As [`CpuEngine::new`].
    pub fn new(spec: ResNet, options: &Options) -> Result<Self, StepError> {
        let batch = options.batch;
        let parameters = Parameters::init(spec, 0);
        let engine = CpuEngine::new(&parameters, options)?;
        let mut random = Stream::new(0, Purpose::Picture, [0, 0]);
        let images = (0..batch * spec.input().elements()).map(|_| random.normal() as f32).collect();
        let labels = (0..batch).map(|_| random.below(spec.classes()) as u32).collect();
        let gradients = vec![0.0; parameters.values().len()];
        Ok(Steps { velocity: gradients.clone(), parameters, engine, images, labels, gradients })
    }

    /// Takes a step; how long that took.
    ///
    /// # Errors
    /// As [`CpuEngine::step`].
    pub fn step(&mut self) -> Result<Duration, StepError> {
        let Steps { parameters, engine, images, labels, gradients, velocity } = self;
        let begin = Instant::now();
        gradients.fill(0.0);
        engine.step(parameters, images, labels, Loss { smoothing: 0.0, count: labels.len() }, gradients)?;
        for ((v, g), w) in velocity.iter_mut().zip(&*gradients).zip(parameters.values_mut()) {
            *v = 0.9 * *v + g;
            *w -= 1e-3 * *v;
        }
        Ok(begin.elapsed())
    }
}

/// Takes [`Steps`] for about `duration`, three at least behind the first, and times them.
///
/// # Errors
/// As [`Steps::new`] and [`Steps::step`].
pub fn steps(spec: ResNet, options: &Options, duration: Duration) -> Result<StepTimes, StepError> {
    let start = Instant::now();
    let mut steps = Steps::new(spec, options)?;
    steps.step()?;
    let mut times = Vec::new();
    while times.len() < 3 || start.elapsed() < duration {
        times.push(steps.step()?);
    }
    Ok(StepTimes { times, batch: options.batch })
}

/// The most memory this process ever had resident, where the system tells (Linux).
pub fn peak_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
