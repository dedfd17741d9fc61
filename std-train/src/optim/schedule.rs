//! The learning rate over time.

/// How the rate changes after the warm-up.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// always the base rate
    Constant,
    /// times `gamma` at each of these steps (the paper's CIFAR schedule: 32k and 48k)
    Steps {
        /// steps
        milestones: Vec<u64>,
        /// factor at each
        gamma: f64,
    },
    /// times `gamma` when the validation loss has not fallen for more than `patience` epochs (the paper's
    /// ImageNet schedule); a fall counts from one part in 10,000, PyTorch's default
    Plateau {
        /// factor
        gamma: f64,
        /// epochs it waits for a fall
        patience: u32,
    },
    /// half a cosine from the base rate down to 0 (Loshchilov & Hutter 2017)
    Cosine,
    /// linearly from 0 up to the base rate at fraction `peak` of all steps, then linearly down to 0
    /// (Smith & Topin 2018)
    OneCycle {
        /// where the rate is highest
        peak: f64,
    },
}

/// What comes before the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Warmup {
    /// nothing
    #[default]
    None,
    /// linearly from 0 over this many steps
    Linear(u64),
    /// `rate` until the training error of an epoch so far, of 100 batches at least, is below `error`: the
    /// paper's rule for 110 layers, 0.01 until 80% (section 4.2)
    UntilError {
        /// rate
        rate: f64,
        /// fraction of wrong pictures
        error: f64,
    },
}

/// The learning rate of every step of a run.
///
/// ```
/// use residual_train::optim::{Pace, Schedule, ScheduleState, Warmup};
///
/// // The paper's course on CIFAR-10: 0.1, a tenth of it from step 32,000 on, a hundredth from 48,000 on.
/// let schedule = Schedule::Steps { milestones: vec![32_000, 48_000], gamma: 0.1 };
/// let pace = Pace { rate: 0.1, schedule, warmup: Warmup::None, total: 64_000 };
/// let state = ScheduleState::default();
/// assert_eq!(pace.rate_at(31_999, &state), 0.1);
/// assert!((pace.rate_at(48_000, &state) - 0.001).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    /// highest rate
    pub rate: f64,
    /// its course
    pub schedule: Schedule,
    /// what comes before
    pub warmup: Warmup,
    /// steps in all
    pub total: u64,
}

/// What a schedule remembers from epoch to epoch. Checkpoints hold all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleState {
    /// lowest validation loss so far
    pub best: f64,
    /// epochs since then
    pub waited: u32,
    /// product of the factors that plateaus have asked for
    pub factor: f64,
    /// whether the warm-up by training error is over
    pub warm: bool,
}

impl Default for ScheduleState {
    fn default() -> Self {
        ScheduleState { best: f64::INFINITY, waited: 0, factor: 1.0, warm: false }
    }
}

/// [`Warmup::UntilError`] believes an error that is the mean over this many batches.
const BELIEVED: u64 = 100;

impl Pace {
    /// The rate of step `step`, the first being 0.
    pub fn rate_at(&self, step: u64, state: &ScheduleState) -> f64 {
        let warmup = match self.warmup {
            Warmup::UntilError { rate, .. } if !state.warm => return rate,
            Warmup::Linear(steps) if step < steps => return self.rate * (step + 1) as f64 / steps as f64,
            Warmup::Linear(steps) => steps,
            _ => 0,
        };
        // A course over the whole run begins behind the warm-up.
        let (done, total) = ((step - warmup) as f64, self.total.saturating_sub(warmup).max(1) as f64);
        self.rate
            * match &self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Steps { milestones, gamma } => {
                    gamma.powi(milestones.iter().filter(|&&m| step >= m).count() as i32)
                }
                Schedule::Plateau { .. } => state.factor,
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * (done / total).min(1.0)).cos()),
                &Schedule::OneCycle { peak } => {
                    let at = ((done + 1.0) / total).min(1.0);
                    if at <= peak { at / peak } else { (1.0 - at) / (1.0 - peak) }
                }
            }
    }

    /// Tells the schedule the training error after `batches` batches of an epoch.
    pub fn after_step(&self, state: &mut ScheduleState, error: f64, batches: u64) {
        if let Warmup::UntilError { error: limit, .. } = self.warmup {
            state.warm |= batches >= BELIEVED && error < limit;
        }
    }

    /// Tells the schedule the validation loss of an epoch.
    pub fn after_epoch(&self, state: &mut ScheduleState, loss: f64) {
        let Schedule::Plateau { gamma, patience } = self.schedule else { return };
        if loss < state.best * (1.0 - 1e-4) {
            (state.best, state.waited) = (loss, 0);
            return;
        }
        state.waited += 1;
        if state.waited > patience {
            (state.factor, state.waited) = (state.factor * gamma, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, Schedule, ScheduleState, Warmup};

    fn pace(schedule: Schedule, warmup: Warmup) -> Pace {
        Pace { rate: 0.1, schedule, warmup, total: 1000 }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn rates_follow_their_formulas() {
        let state = ScheduleState::default();
        let steps = pace(Schedule::Steps { milestones: vec![500, 750], gamma: 0.1 }, Warmup::None);
        let rates = [0, 499, 500, 749, 750, 2000].map(|s| steps.rate_at(s, &state));
        assert!(rates.iter().zip([0.1, 0.1, 0.01, 0.01, 0.001, 0.001]).all(|(a, b)| close(*a, b)), "{rates:?}");
        let cycle = pace(Schedule::OneCycle { peak: 0.25 }, Warmup::None);
        let rates = [124, 249, 624, 999].map(|s| cycle.rate_at(s, &state));
        assert!(rates.iter().zip([0.05, 0.1, 0.05, 0.0]).all(|(a, b)| close(*a, b)), "{rates:?}");
        let cosine = pace(Schedule::Cosine, Warmup::Linear(10));
        let rates = [0, 9, 10, 505, 1000].map(|s| cosine.rate_at(s, &state));
        assert!(rates.iter().zip([0.01, 0.1, 0.1, 0.05, 0.0]).all(|(a, b)| close(*a, b)), "{rates:?}");
    }

    #[test]
    fn plateaus_and_the_warm_up_rule_react_to_losses_and_errors() {
        let plateau = pace(Schedule::Plateau { gamma: 0.1, patience: 1 }, Warmup::None);
        let mut state = ScheduleState::default();
        let mut rates = Vec::new();
        for loss in [2.0, 1.0, 1.0, 1.0, 0.9, 0.9, 0.9] {
            plateau.after_epoch(&mut state, loss);
            rates.push(plateau.rate_at(0, &state));
        }
        let want = [0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001];
        assert!(rates.iter().zip(want).all(|(a, b)| close(*a, b)), "{rates:?}");

        let warm = pace(Schedule::Constant, Warmup::UntilError { rate: 0.01, error: 0.8 });
        let mut state = ScheduleState::default();
        warm.after_step(&mut state, 0.5, 99);
        assert!(close(warm.rate_at(99, &state), 0.01));
        warm.after_step(&mut state, 0.79, 100);
        assert!(close(warm.rate_at(100, &state), 0.1));
        warm.after_step(&mut state, 0.9, 101);
        assert!(close(warm.rate_at(101, &state), 0.1));
    }
}
