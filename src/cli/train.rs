//! `residual train`: from pictures to weights.

mod fine_tune;
mod recipe;

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
    trainer::{Config, Event, Limits, Outcome, Resources, Row, RunFolder, Source, Start, TrainError, Trainer},
};
use serde_json::json;

pub use self::fine_tune::encodings;
use self::{fine_tune::FineTune, recipe::Recipe};
use super::{Interrupted, args, note, progress, wrong_usage};

/// Train a network of the paper, from scratch or for int8
///
/// The recipe is the paper's unless flags say otherwise; they are named as torchvision's. OUT receives metrics.csv (a
/// row an epoch), report.html (curves), TensorBoard events, config.json, model.safetensors (for every other command) and
/// checkpoint. Ctrl-C saves; --resume goes on to the same bits as if the run had never stopped, on any number of threads.
/// What was found in the data set is said before training begins. With --qat trained weights become an int8 network: every
/// step runs it exactly as inference will, and the weights, batch norms and ranges learn to bear its rounding.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual train --arch resnet20-cifar --data-path cifar-10-batches-bin --output-dir out
  residual train --arch resnet20-cifar --data-path cifar-10-batches-bin --epochs 24 --nesterov --lr-scheduler one-cycle \\
      --lr 0.3 --weight-decay 5e-4 --output-dir out
  residual train --arch resnet8-cifar --data-path synthetic --epochs 3 --output-dir out     needs no data
  residual train --arch resnet20-cifar-in1 --input 28 --data-path digits --output-dir out    grey pictures
  residual train --resume out --data-path cifar-10-batches-bin
  residual train --qat --weights out/model.safetensors --data-path cifar-10-batches-bin --epochs 2 --output-dir int8
  residual eval --weights int8/model.rsd --data-path cifar-10-batches-bin")]
pub struct Args {
    /// Architecture
    #[arg(long, alias = "model", value_name = "NAME", required_unless_present_any = ["resume", "weights"], value_parser = args::architecture)]
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
    fine_tune: FineTune,
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
        let weights = self.fine_tune.open(self.arch, self.recipe.train_crop_size)?;
        let mut config = match (&self.resume, &weights, self.arch) {
            (Some(folder), ..) => Trainer::stored_config(folder)?,
            (None, Some(weights), _) => weights.config(&self.recipe),
            (None, None, Some(arch)) => Config::paper(&arch, if arch.stem_kind() == Stem::Cifar { 164 } else { 90 }),
            (None, None, None) => {
                return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, "pass --arch NAME").into());
            }
        };
        if let (Some(arch), None) = (self.arch, &weights) {
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
        if self.resume.is_none() && weights.is_none() {
            config.classes = source.classes().len();
        }
        source.summary(&config).map_err(blame)?.iter().for_each(|line| note(line));
        let longer = self.resume.is_some() && config.epochs > epochs;
        let course = format!("{} epochs instead of {epochs}: {}", config.epochs, course(&config));
        let start = match (&self.resume, &weights) {
            (Some(folder), _) => Start::stored(folder)?,
            (None, Some(weights)) => Some(weights.start(&source, &config, &resources)?),
            (None, None) => None,
        };
        let trainer = match start {
            Some(start) => Trainer::fine_tune(config, start, source, resources, folder),
            None => Trainer::new(config, source, resources, folder),
        };
        let mut trainer = trainer.map_err(blame)?;
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
