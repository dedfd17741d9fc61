//! `residual train`: from pictures to weights.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::anyhow;
use clap::error::ErrorKind;
use residual::{
    resnet::{ResNet, Stem},
    trainer::{Config, Event, Holdout, Limits, Outcome, Resources, Row, RunFolder, Source, TrainError, Trainer},
};
use serde_json::json;

use super::{
    Interrupted, args,
    input::{self, Input},
    note, progress, wrong_usage,
};

/// Train a network of the paper from scratch
///
/// The recipe is the paper's unless flags say otherwise; they are named as torchvision's. OUT receives metrics.csv (a
/// row an epoch), report.html (curves), TensorBoard events, config.json, model.safetensors (for every other command) and
/// checkpoint. Ctrl-C saves; --resume goes on to the same bits as if the run had never stopped, on any number of threads.
/// What was found in the data set is said before training begins.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual train --arch resnet20-cifar --data-path cifar-10-batches-bin --output-dir out
  residual train --arch resnet20-cifar --data-path cifar-10-batches-bin --epochs 24 --nesterov --lr-scheduler one-cycle \\
      --lr 0.3 --weight-decay 5e-4 --output-dir out
  residual train --arch resnet8-cifar --data-path synthetic --epochs 3 --output-dir out     needs no data
  residual train --arch resnet20-cifar-in1 --input 28 --data-path digits --output-dir out    grey pictures
  residual train --resume out --data-path cifar-10-batches-bin")]
pub struct Args {
    /// Architecture
    #[arg(long, alias = "model", value_name = "NAME", required_unless_present = "resume", value_parser = args::architecture)]
    arch: Option<ResNet>,
    /// Folder of the data set: CIFAR binary files, or `train` beside `val`, `valid`, `validation` or `test` (the first of
    /// these that is there), each with a folder for every class; or one tree of class folders, with --holdout or
    /// --no-validation. Or `synthetic`: generated pictures
    #[arg(long, value_name = "DIR|synthetic")]
    data_path: PathBuf,
    /// Folder for the results; created [default: that of --resume]
    #[arg(long, value_name = "OUT", required_unless_present = "resume")]
    output_dir: Option<PathBuf>,
    /// Continue the run in this folder, with its settings; more --epochs make it longer
    #[arg(long, value_name = "OUT")]
    resume: Option<PathBuf>,
    /// Replace the run that --output-dir holds; its checkpoint stays as checkpoint.old
    #[arg(long, requires = "output_dir")]
    overwrite: bool,
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    threads: args::Threads,
    /// Threads that prepare pictures [default: as many as --threads]
    #[arg(long, short = 'j', value_name = "N", value_parser = args::threads)]
    workers: Option<usize>,
    /// Keep decoded pictures in memory
    #[arg(long)]
    cache_dataset: bool,
    /// Read every picture once before training begins, and leave out those that cannot be read; --resume needs it again
    #[arg(long)]
    skip_unreadable: bool,
    /// Stop after N steps in all
    #[arg(long, value_name = "N", value_parser = args::at_least_one)]
    max_steps: Option<u64>,
    /// Save a checkpoint at least this often; at the end of every epoch in any case
    #[arg(long, value_name = "S", default_value = "300")]
    save_seconds: u64,
    /// Print the last row of the metrics as one JSON object
    #[arg(long)]
    json: bool,
}

/// What the result depends on. Nothing given is the paper's, or with --resume the run's own.
#[derive(clap::Args)]
#[command(next_help_heading = "Recipe")]
struct Recipe {
    /// Passes over the training pictures [default: 164, ImageNet networks 90]
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Pictures a step [default: 128, ImageNet networks 256]
    #[arg(long, short = 'b', alias = "batch", value_name = "N", value_parser = args::batch)]
    batch_size: Option<usize>,
    /// Batches whose gradients are added up for a step [default: 1]
    #[arg(long, value_name = "N", value_parser = args::batch)]
    accumulate: Option<usize>,
    /// Highest learning rate [default: 0.1]
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
    /// [default: steps, ImageNet networks plateau]
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
    train_crop_size: Option<Input>,
    /// Forbid Winograd's convolutions, which round more
    #[arg(long)]
    no_winograd: bool,
    /// Every random number follows from it [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Recipe {
    /// Replaces what was given.
    fn change(&self, config: &mut Config) {
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

impl Args {
    fn resources(&self) -> anyhow::Result<Resources> {
        let threads = self.threads.get();
        Ok(Resources { threads, workers: self.workers.unwrap_or(threads), isa: residual::isa()? })
    }

    /// Where the results go.
    fn folder(&self) -> &Path {
        self.output_dir.as_deref().or(self.resume.as_deref()).unwrap_or(Path::new("."))
    }

    /// The folder, locked. That of --resume goes on being its run's; any other must be new, or given up.
    fn take_folder(&self) -> anyhow::Result<RunFolder> {
        let out = self.folder();
        let same = |resume: &PathBuf| fs::canonicalize(resume).ok() == fs::canonicalize(out).ok();
        match &self.resume {
            Some(resume) if same(resume) && self.overwrite => {
                let out = out.display();
                Err(wrong_usage(format!(
                    "--resume {out} goes on with the run that --overwrite would replace: pass one"
                )))
            }
            Some(resume) if same(resume) => Ok(RunFolder::resume(out)?),
            _ if self.overwrite => Ok(RunFolder::overwrite(out)?),
            _ => Ok(RunFolder::create(out)?),
        }
    }

    fn trainer(&self) -> anyhow::Result<Trainer> {
        let resources = self.resources()?;
        let mut config = match (&self.resume, self.arch) {
            (Some(folder), _) => Trainer::stored_config(folder)?,
            (None, Some(arch)) => Config::paper(&arch, if arch.stem_kind() == Stem::Cifar { 164 } else { 90 }),
            (None, None) => return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, "pass --arch NAME").into()),
        };
        if let Some(arch) = self.arch {
            config.arch = arch.to_string();
        }
        if let Some(input) = self.recipe.train_crop_size {
            config.arch = input.of(config.arch.parse()?)?.to_string();
        }
        let epochs = config.epochs;
        self.recipe.change(&mut config);
        config.check()?;
        let folder = self.take_folder()?;
        let blame = |error| match error {
            error @ TrainError::Data { .. } => anyhow!("{}: {error}", self.data_path.display()),
            error => or_skip(error),
        };
        // What opening says is about folders and files of many pictures.
        let mut source = match Source::open(&self.data_path, config.input, self.cache_dataset) {
            Err(TrainError::Picture(error)) => return Err(error.into()),
            opened => opened.map_err(blame)?,
        };
        if self.skip_unreadable {
            source = source.without_unreadable(resources.workers).map_err(blame)?;
        }
        if self.resume.is_none() {
            config.classes = source.classes().len();
        }
        source.summary(&config).map_err(blame)?.iter().for_each(|line| note(line));
        let longer = self.resume.is_some() && config.epochs > epochs;
        let course = format!("{} epochs instead of {epochs}: {}", config.epochs, course(&config));
        let mut trainer = Trainer::new(config, source, resources, folder).map_err(blame)?;
        if let Some(folder) = &self.resume {
            trainer.resume(folder)?;
        }
        if longer {
            note(&course);
        }
        if trainer.is_finished() {
            let folder = self.folder().display();
            note(&format!("the run in {folder} is finished ({epochs} epochs): more --epochs make it longer"));
        }
        Ok(trainer)
    }
}

/// Says of an error that a picture caused how to go on without it.
fn or_skip(error: TrainError) -> anyhow::Error {
    match error {
        TrainError::Picture(error) => args::unreadable(&error),
        error => error.into(),
    }
}

/// What becomes of the learning rate of a run that is made longer.
fn course(config: &Config) -> String {
    let name = &config.lr_scheduler;
    match config.stretches() {
        true => format!("the learning rate's course, {name}, is from here on that of the longer run"),
        false => format!("the learning rate's course, {name}, goes on"),
    }
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut trainer = args.trainer()?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        // Who asks twice does not want to wait for the step and the file.
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    let limits = Limits { max_steps: args.max_steps, save_every: Duration::from_secs(args.save_seconds) };
    let bar = progress::steps();
    let mut failed = Ok(());
    let outcome = trainer.run(&limits, &stop, |event| match event {
        Event::Step(now) => {
            bar.set_length(now.total);
            bar.set_position(now.position.step);
            let score = now.position.score;
            bar.set_message(format!(
                "epoch {}, loss {:.3}, {:.1}% right, {:.0} images/s",
                now.position.epoch + 1,
                score.mean_loss(),
                100.0 * score.top1(),
                now.images_per_second
            ));
        }
        Event::Epoch(row) if !args.json => bar.suspend(|| {
            let written = writeln!(out, "{}", line(row)).and_then(|()| out.flush());
            if let (Ok(()), Err(error)) = (&failed, written) {
                failed = Err(error);
                // Nobody reads on: end as if interrupted, with a checkpoint.
                stop.store(true, Ordering::Relaxed);
            }
        }),
        Event::Epoch(_) => {}
    });
    bar.finish_and_clear();
    let outcome = outcome.map_err(or_skip)?;
    failed?;
    if outcome == Outcome::Interrupted {
        let step = trainer.position().step;
        let folder = args.folder().display();
        let text = format!("interrupted at step {step}; the checkpoint is saved: --resume {folder} goes on");
        return Err(Interrupted(text).into());
    }
    if let (true, Some(row)) = (args.json, trainer.rows().last()) {
        let object = json!({
            "epoch": row.epoch,
            "step": row.step,
            "lr": row.lr,
            "train_loss": row.train_loss,
            "train_top1": row.train_top1 / 100.0,
            "val_loss": row.val_loss,
            "val_top1": row.val_top1 / 100.0,
            "images_per_second": row.images_per_second,
        });
        writeln!(out, "{object:#}")?;
    }
    Ok(())
}

/// An epoch, for people, in a line of 80 columns.
pub fn line(row: &Row) -> String {
    let validation = match row.val_loss.is_nan() && row.val_top1.is_nan() {
        true => "no validation".to_owned(),
        false => format!("val loss {:.3} top-1 {:5.2}%", row.val_loss, row.val_top1),
    };
    format!(
        "epoch {:3}  loss {:.3} top-1 {:5.2}%  {validation}  {:.0} img/s",
        row.epoch, row.train_loss, row.train_top1, row.images_per_second
    )
}
