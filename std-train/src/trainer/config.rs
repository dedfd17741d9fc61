//! What a run is: everything its result depends on, and what it does not.

use residual_core::resnet::{ResNet, Stem};
use serde::{Deserialize, Serialize};

use super::{Holdout, TrainError};
use crate::{
    data::Size,
    optim::{Decay, Pace, Schedule, Warmup},
};

/// A run's configuration. Its JSON lies beside the results and inside checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// architecture
    pub arch: String,
    /// classes
    pub classes: usize,
    /// rows and columns of the input: a number of pixels for a square, else as text, `160x224`
    #[serde(alias = "side", with = "size")]
    pub input: Size,
    /// passes over the training pictures
    pub epochs: u64,
    /// pictures a forward and backward pass
    pub batch_size: usize,
    /// batches whose gradients are added up for one step
    pub accumulate: usize,
    /// highest learning rate
    pub lr: f64,
    /// what remains of the velocity
    pub momentum: f64,
    /// Nesterov's momentum
    pub nesterov: bool,
    /// strength of weight decay
    pub weight_decay: f64,
    /// of batch norms, if not the same
    pub norm_weight_decay: Option<f64>,
    /// of the classifier's bias, if not the same
    pub bias_weight_decay: Option<f64>,
    /// label smoothing
    pub label_smoothing: f64,
    /// `constant`, `steps`, `plateau`, `cosine` or `one-cycle`
    pub lr_scheduler: String,
    /// of `steps`: at which, of all steps
    pub lr_milestones: Vec<u64>,
    /// of `steps` without milestones: every how many epochs; 0 for the paper's two milestones
    pub lr_step_size: u64,
    /// of `steps` and `plateau`: factor
    pub lr_gamma: f64,
    /// of `plateau`: epochs to bear
    pub lr_patience: u32,
    /// of `one-cycle`: where the rate is highest, as a fraction
    pub lr_peak: f64,
    /// epochs of linear warm-up
    pub lr_warmup_epochs: u64,
    /// the paper's rule for 110 layers: this rate until the training error is below 80%; 0 for none
    pub lr_warmup_rate: f64,
    /// whether an exponential moving average of the weights is what is validated and kept
    pub model_ema: bool,
    /// what remains of the average each time
    pub model_ema_decay: f64,
    /// every how many steps
    pub model_ema_steps: u64,
    /// training pictures held out for validation; 0 validates on the data set's own pictures for it
    pub holdout: Holdout,
    /// decides which, whatever the run's own seed: runs that differ by that are comparable
    #[serde(default)]
    pub holdout_seed: u64,
    /// nothing is validated
    #[serde(default)]
    pub no_validation: bool,
    /// an epoch ends before a last batch of fewer pictures
    #[serde(default)]
    pub drop_last: bool,
    /// random changes of the pictures
    pub augment: bool,
    /// a mean for every pixel is subtracted, as in the paper, and not one for every channel
    #[serde(default)]
    pub pixel_mean: bool,
    /// Winograd's convolutions
    pub winograd: bool,
    /// the int8 network of trained weights is fine-tuned
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub qat: bool,
    /// every random number follows from it
    pub seed: u64,
}

/// A rate divided this often is zero.
const MOST_MILESTONES: u64 = 1000;

impl Config {
    /// The paper's recipe for `spec` (sections 3.4 and 4.2), for `epochs` epochs, but for the means: a mean for every
    /// channel serves other programs and microcontrollers, too.
    pub fn paper(spec: &ResNet, epochs: u64) -> Self {
        let cifar = spec.stem_kind() == Stem::Cifar;
        Config {
            arch: spec.to_string(),
            classes: spec.classes(),
            input: spec.input().into(),
            epochs,
            batch_size: if cifar { 128 } else { 256 },
            accumulate: 1,
            lr: 0.1,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 1e-4,
            norm_weight_decay: None,
            bias_weight_decay: None,
            label_smoothing: 0.0,
            lr_scheduler: if cifar { "steps" } else { "plateau" }.into(),
            lr_milestones: Vec::new(),
            lr_step_size: 0,
            lr_gamma: 0.1,
            lr_patience: 5,
            lr_peak: 0.25,
            lr_warmup_epochs: 0,
            lr_warmup_rate: if cifar && spec.depth() >= 110 { 0.01 } else { 0.0 },
            model_ema: false,
            model_ema_decay: 0.999,
            model_ema_steps: 1,
            holdout: Holdout::None,
            holdout_seed: 0,
            no_validation: false,
            drop_last: false,
            augment: true,
            pixel_mean: false,
            winograd: true,
            qat: false,
            seed: 0,
        }
    }

    /// Quantization-aware fine-tuning of trained weights: a hundredth of the paper's learning rate, which falls along a
    /// cosine.
    pub fn fine_tuning(spec: &ResNet, epochs: u64) -> Self {
        let paper = Config::paper(spec, epochs);
        Config { lr: 0.001, lr_scheduler: "cosine".into(), lr_warmup_rate: 0.0, qat: true, ..paper }
    }

    /// Its network.
    ///
    /// # Errors
    /// A name or size that is none.
    pub fn spec(&self) -> Result<ResNet, TrainError> {
        let spec: ResNet = self.arch.parse()?;
        Ok(spec.with_classes(self.classes)?.with_input(self.input.height, self.input.width)?)
    }

    /// The course of the learning rate over a run of `steps_per_epoch` steps an epoch. Without milestones,
    /// `steps` has the paper's at the same fractions of the run: 32k and 48k of 64k.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a schedule that is none.
    pub fn pace(&self, steps_per_epoch: u64) -> Result<Pace, TrainError> {
        let total = steps_per_epoch.saturating_mul(self.epochs);
        let gamma = self.lr_gamma;
        let schedule = match self.lr_scheduler.as_str() {
            "constant" => Schedule::Constant,
            "steps" => {
                let milestones = match (&self.lr_milestones[..], self.lr_step_size) {
                    ([], 0) => vec![total / 2, total / 4 * 3 + total % 4 * 3 / 4],
                    ([], epochs) => {
                        // Later ones are never reached.
                        let times = (self.epochs / epochs).min(MOST_MILESTONES);
                        (1..=times).map(|i| i.saturating_mul(epochs).saturating_mul(steps_per_epoch)).collect()
                    }
                    (milestones, _) => milestones.to_vec(),
                };
                Schedule::Steps { milestones, gamma }
            }
            "plateau" => Schedule::Plateau { gamma, patience: self.lr_patience },
            "cosine" => Schedule::Cosine,
            "one-cycle" => Schedule::OneCycle { peak: self.lr_peak },
            other => {
                let reason = "is none of constant, steps, plateau, cosine and one-cycle";
                return Err(TrainError::Setting { name: "lr_scheduler", value: other.into(), reason });
            }
        };
        let warmup = match (self.lr_warmup_epochs, self.lr_warmup_rate) {
            (0, 0.0) => Warmup::None,
            (0, rate) => Warmup::UntilError { rate, error: 0.8 },
            (epochs, _) => Warmup::Linear(epochs.saturating_mul(steps_per_epoch)),
        };
        Ok(Pace { rate: self.lr, schedule, warmup, total })
    }

    /// Weight decay of every kind of parameter.
    pub fn decay(&self) -> Decay {
        let or = |own: Option<f64>| own.unwrap_or(self.weight_decay) as f32;
        Decay { weight: self.weight_decay as f32, norm: or(self.norm_weight_decay), bias: or(self.bias_weight_decay) }
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`TrainError::Setting`] naming the first that is out of its range.
    pub fn check(&self) -> Result<(), TrainError> {
        let number = |name, value: f64, allowed: bool, reason| {
            if allowed { Ok(()) } else { Err(TrainError::Setting { name, value: value.to_string(), reason }) }
        };
        let fraction = |name, v: f64| number(name, v, (0.0..1.0).contains(&v), "must be at least 0 and below 1");
        // What overflows f32 would be infinite in the optimiser.
        let small = |v: f64| (v as f32).is_finite();
        let positive = |name, v: f64| number(name, v, small(v) && v > 0.0, "must be a positive number");
        let not_negative = |name, v: f64| number(name, v, small(v) && v >= 0.0, "must be a number not below 0");
        positive("lr", self.lr)?;
        fraction("momentum", self.momentum)?;
        not_negative("weight_decay", self.weight_decay)?;
        not_negative("norm_weight_decay", self.norm_weight_decay.unwrap_or(0.0))?;
        not_negative("bias_weight_decay", self.bias_weight_decay.unwrap_or(0.0))?;
        fraction("label_smoothing", self.label_smoothing)?;
        positive("lr_gamma", self.lr_gamma)?;
        let inside = self.lr_peak > 0.0 && self.lr_peak < 1.0;
        number("lr_peak", self.lr_peak, inside, "must lie between 0 and 1")?;
        not_negative("lr_warmup_rate", self.lr_warmup_rate)?;
        fraction("model_ema_decay", self.model_ema_decay)?;
        for (name, value) in [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size as u64),
            ("accumulate", self.accumulate as u64),
            ("model_ema_steps", self.model_ema_steps),
        ] {
            number(name, value as f64, value > 0, "must be at least 1")?;
        }
        let setting = |name, value: &str, reason| Err(TrainError::Setting { name, value: value.into(), reason });
        if self.no_validation && self.lr_scheduler == "plateau" {
            return setting("lr-scheduler", "plateau", "needs validation pictures, and --no-validation allows none");
        }
        if self.qat && self.pixel_mean {
            return setting(
                "pixel_mean",
                "true",
                "is a mean for every pixel, and int8 files hold means of channels only",
            );
        }
        if self.no_validation && self.holdout != Holdout::None {
            let value = f64::from(self.holdout).to_string();
            return setting("holdout", &value, "holds validation pictures out, and --no-validation allows none");
        }
        Ok(())
    }

    /// Whether the course of the learning rate stretches with the number of epochs; otherwise a run of more epochs
    /// begins as one of fewer does.
    pub fn stretches(&self) -> bool {
        match self.lr_scheduler.as_str() {
            "cosine" | "one-cycle" => true,
            "steps" => self.lr_milestones.is_empty() && self.lr_step_size == 0,
            _ => false,
        }
    }

    /// The first setting of two runs that differs: `(name, here, there)`.
    pub fn difference(&self, other: &Config) -> Option<(String, String, String)> {
        let object = |c: &Config| match serde_json::to_value(c) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => serde_json::Map::new(),
        };
        let (here, there) = (object(self), object(other));
        // What is left out is at its default.
        let of = |object: &serde_json::Map<_, serde_json::Value>, name: &str| {
            object.get(name).map_or_else(|| "false".into(), ToString::to_string)
        };
        let mut names = here.keys().chain(there.keys().filter(|name| !here.contains_key(*name)));
        let differs = names.find(|name| here.get(*name) != there.get(*name))?;
        Some((differs.clone(), of(&here, differs), of(&there, differs)))
    }

    /// As indented JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// A size in JSON.
mod size {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::data::Size;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Json {
        Side(usize),
        Sides(String),
    }

    pub fn serialize<S: Serializer>(size: &Size, to: S) -> Result<S::Ok, S::Error> {
        match size.height == size.width {
            true => Json::Side(size.height),
            false => Json::Sides(size.to_string()),
        }
        .serialize(to)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Size, D::Error> {
        match Json::deserialize(from)? {
            Json::Side(side) => Ok(Size::square(side)),
            Json::Sides(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Decay, Schedule, Size, Warmup};

    fn paper(arch: &str) -> Config {
        Config::paper(&arch.parse().unwrap(), 160)
    }

    #[test]
    fn the_papers_recipe_has_its_numbers() {
        let pace = paper("resnet110-cifar").pace(400).unwrap();
        assert_eq!((pace.rate, pace.total), (0.1, 64_000));
        assert_eq!(pace.schedule, Schedule::Steps { milestones: vec![32_000, 48_000], gamma: 0.1 });
        assert_eq!(pace.warmup, Warmup::UntilError { rate: 0.01, error: 0.8 });
        assert_eq!(paper("resnet56-cifar").pace(400).unwrap().warmup, Warmup::None);
        let imagenet = paper("resnet50");
        assert_eq!((imagenet.batch_size, imagenet.decay()), (256, Decay::all(1e-4)));
        assert!(matches!(imagenet.pace(1).unwrap().schedule, Schedule::Plateau { .. }));
    }

    #[test]
    fn steps_follow_the_flags() {
        let mut config = paper("resnet20-cifar");
        (config.epochs, config.lr_step_size) = (7, 3);
        let milestones = |c: &Config| match c.pace(10).unwrap().schedule {
            Schedule::Steps { milestones, .. } => milestones,
            other => panic!("{other:?}"),
        };
        assert_eq!(milestones(&config), [30, 60]);
        config.lr_milestones = vec![5];
        assert_eq!(milestones(&config), [5]);
        config.lr_warmup_epochs = 2;
        assert_eq!(config.pace(10).unwrap().warmup, Warmup::Linear(20));
        (config.epochs, config.lr_milestones, config.lr_step_size) = (u64::MAX, vec![], 1);
        assert_eq!(milestones(&config).len(), 1000);
    }

    #[test]
    fn json_round_trips_and_differences_are_named() {
        let config = Config { norm_weight_decay: Some(0.0), ..paper("resnet20-cifar") };
        let again: Config = serde_json::from_str(&config.json()).unwrap();
        assert_eq!((&again, config.difference(&again)), (&config, None));
        // Checkpoints of before inputs could be rectangles.
        let before = config.json().replace("\"input\"", "\"side\"");
        assert_eq!(serde_json::from_str::<Config>(&before).unwrap(), config);
        let wide = Config { input: Size { height: 24, width: 40 }, ..config.clone() };
        assert!(wide.json().contains("\"input\": \"24x40\""));
        assert_eq!(serde_json::from_str::<Config>(&wide.json()).unwrap(), wide);
        assert!(!config.json().contains("qat"));
        let tuned = Config { qat: true, ..config.clone() };
        assert_eq!(serde_json::from_str::<Config>(&tuned.json()).unwrap(), tuned);
        for (here, there, says) in [(&config, &tuned, ["false", "true"]), (&tuned, &config, ["true", "false"])] {
            let [a, b] = says.map(str::to_owned);
            assert_eq!(here.difference(there), Some(("qat".into(), a, b)));
        }
        let other = Config { batch_size: 64, ..again };
        let difference = config.difference(&other).unwrap();
        assert_eq!(difference, ("batch_size".into(), "128".into(), "64".into()));
    }
}
