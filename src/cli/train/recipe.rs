//! The flags that decide a run's result.

use residual::trainer::{Config, Holdout};

use super::super::{
    args,
    input::{self, Input},
};

/// What the result depends on. Nothing given is the paper's, or with --resume the run's own.
#[derive(clap::Args)]
#[command(next_help_heading = "Recipe")]
pub struct Recipe {
    /// Passes over the training pictures [default: 164, ImageNet networks 90, --qat 2]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Pictures a step [default: 128, ImageNet networks 256]
    #[arg(long, short = 'b', alias = "batch", value_name = "N", value_parser = args::batch)]
    batch_size: Option<usize>,
    /// Batches whose gradients are added up for a step [default: 1]
    #[arg(long, value_name = "N", value_parser = args::batch)]
    accumulate: Option<usize>,
    /// Highest learning rate [default: 0.1, --qat 0.001]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Momentum [default: 0.9]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Nesterov's momentum
    #[arg(long)]
    nesterov: bool,
    /// Weight decay [default: 1e-4]
    #[arg(long, alias = "wd", value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Weight decay of batch norms [default: as --weight-decay]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    norm_weight_decay: Option<f64>,
    /// Weight decay of the classifier's bias [default: as --weight-decay]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    bias_weight_decay: Option<f64>,
    /// Label smoothing [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    label_smoothing: Option<f64>,
    /// Course of the learning rate: constant, steps, plateau, cosine, one-cycle (up and down on straight lines)
    /// [default: steps, ImageNet networks plateau, --qat cosine]
    #[arg(long, value_name = "NAME")]
    lr_scheduler: Option<String>,
    /// Of steps: after which steps the rate falls, with commas between [default: at 1/2 and 3/4, the paper's]
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    lr_milestones: Option<Vec<u64>>,
    /// Of steps: every how many epochs the rate falls, instead of milestones
    #[arg(long, value_name = "EPOCHS", conflicts_with = "lr_milestones", value_parser = args::at_least_one)]
    lr_step_size: Option<u64>,
    /// Of steps and plateau: what the rate is multiplied by [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr_gamma: Option<f64>,
    /// Of plateau: epochs without improvement to bear [default: 5]
    #[arg(long, value_name = "EPOCHS")]
    lr_patience: Option<u32>,
    /// Of one-cycle: fraction of the run at which the rate is highest [default: 0.25]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr_peak: Option<f64>,
    /// Epochs of linear warm-up [default: 0]
    #[arg(long, value_name = "N")]
    lr_warmup_epochs: Option<u64>,
    /// Rate until the training error is below 80% [default: none; 0.01 for CIFAR networks of 110 layers or more]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr_warmup_rate: Option<f64>,
    /// Validate and keep an exponential moving average of the weights
    #[arg(long)]
    model_ema: bool,
    /// What remains of the average each time [default: 0.999]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    model_ema_decay: Option<f64>,
    /// Every how many steps the average is updated [default: 1]
    #[arg(long, value_name = "N")]
    model_ema_steps: Option<u64>,
    /// Hold training pictures out, of every class alike, and validate on them: a fraction (0.1) or how many (the paper:
    /// 5000)
    #[arg(long, value_name = "FRACTION|N", value_parser = holdout)]
    holdout: Option<Holdout>,
    /// Decides which pictures are held out, whatever --seed is [default: 0]
    #[arg(long, value_name = "N")]
    holdout_seed: Option<u64>,
    /// Train on all training pictures and validate on none
    #[arg(long, conflicts_with = "holdout")]
    no_validation: bool,
    /// End an epoch before a last batch of fewer pictures
    #[arg(long)]
    drop_last: bool,
    /// No random crops, flips and colours
    #[arg(long)]
    no_augment: bool,
    /// Subtract a mean for every pixel, as the paper does, instead of one for every channel; the weights file keeps it.
    /// Such networks cannot be quantized
    #[arg(long)]
    pixel_mean: bool,
    /// The network's input: a side, or rows and columns, also with channels: 28x28x1 trains on grey [default: 32, ImageNet
    /// networks 224]
    #[arg(long, alias = "input", value_name = "SIDE|HxW|HxWxC", value_parser = input::input)]
    pub train_crop_size: Option<Input>,
    /// Forbid Winograd's convolutions, which round more
    #[arg(long)]
    no_winograd: bool,
    /// Every random number follows from it [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Recipe {
    /// Replaces what was given.
    pub fn change(&self, config: &mut Config) {
        macro_rules! take {
            ($($field:ident),*) => {
                $(if let Some(value) = &self.$field {
                    config.$field = value.clone();
                })*
            };
        }
        take!(
            epochs,
            batch_size,
            accumulate,
            lr,
            momentum,
            weight_decay,
            label_smoothing,
            lr_scheduler,
            lr_milestones,
            lr_step_size,
            lr_gamma,
            lr_patience,
            lr_peak,
            lr_warmup_epochs,
            lr_warmup_rate,
            model_ema_decay,
            model_ema_steps,
            holdout,
            holdout_seed,
            seed
        );
        config.norm_weight_decay = self.norm_weight_decay.or(config.norm_weight_decay);
        config.bias_weight_decay = self.bias_weight_decay.or(config.bias_weight_decay);
        config.input = self.train_crop_size.map_or(config.input, |input| input.size);
        config.nesterov |= self.nesterov;
        config.model_ema |= self.model_ema;
        config.augment &= !self.no_augment;
        config.pixel_mean |= self.pixel_mean;
        config.winograd &= !self.no_winograd;
        config.no_validation |= self.no_validation;
        config.drop_last |= self.drop_last;
    }
}

/// `--holdout`.
fn holdout(text: &str) -> Result<Holdout, &'static str> {
    text.parse()
}
