//! The loop: steps, epochs, validation, files.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use residual_io::{
    weights::{self, keys},
    write_atomic,
};

use super::{
    CHECKPOINT, Event, Limits, Outcome, Position, Progress, Row, TrainError, Trainer, metrics, report,
    tensorboard::EventFile,
};
use crate::{
    data::{Augmentation, Batches, Loader, Training},
    engine::{self, Loss, StepError},
    layer::softmax::Score,
    parameters::Parameters,
};

impl Trainer {
    /// Trains until all epochs are done, a limit is reached, or `stop` is set. All files are written at the end of
    /// every epoch and when a limit is reached; being stopped within an epoch writes the checkpoint alone.
    ///
    /// # Errors
    /// [`TrainError::Diverged`], a broken picture, a full disk: the last checkpoint stays.
    pub fn run(
        &mut self,
        limits: &Limits,
        stop: &AtomicBool,
        mut observe: impl FnMut(Event<'_>),
    ) -> Result<Outcome, TrainError> {
        if self.is_finished() {
            return Ok(Outcome::Finished);
        }
        self.folder.begin()?;
        let out = self.folder.path().to_path_buf();
        write(&out.join("config.json"), &self.config.json())?;
        let mut events = EventFile::create(&out).map_err(|e| TrainError::io(&out, e))?;
        let limit = limits.max_steps.unwrap_or(u64::MAX);
        let mut saved = Instant::now();
        while self.position.epoch < self.config.epochs {
            let Position { epoch, step, batch, .. } = self.position;
            // An epoch whose row was not written yet is not done.
            if step >= limit && batch < self.train.batches() as u64 {
                return Ok(Outcome::Limited);
            }
            let (begin, from) = (Instant::now(), self.position.score.count);
            let mut loader = self.train.clone();
            let augmentation =
                if self.config.augment { self.source.augmentation(&self.spec) } else { Augmentation::None };
            loader.training = Some(Training { augmentation, seed: self.config.seed, epoch });
            let mut batches = loader.start(self.position.batch as usize)?;
            let mut early = None;
            while (self.position.batch as usize) < loader.batches() && early.is_none() {
                self.step(&loader, &mut batches)?;
                let seconds = begin.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
                self.position.images_per_second = (self.position.score.count - from) as f64 / seconds;
                let (position, total) = (self.position, self.pace.total);
                let Position { rate, images_per_second, .. } = position;
                observe(Event::Step(&Progress { position, total, rate, images_per_second }));
                let point = [("loss/batch", position.score.mean_loss()), ("lr", rate)];
                events.scalars(position.step, &point).map_err(|e| TrainError::io(&out, e))?;
                if stop.load(Ordering::Relaxed) {
                    early = Some(Outcome::Interrupted);
                } else if position.step >= limit {
                    early = Some(Outcome::Limited);
                } else if saved.elapsed() >= limits.save_every {
                    self.save()?;
                    saved = Instant::now();
                }
            }
            drop(batches);
            let whole = self.position.batch as usize == loader.batches();
            if early == Some(Outcome::Interrupted) && !whole {
                // Quickly: somebody waits at the keyboard.
                self.save()?;
                return Ok(Outcome::Interrupted);
            }
            self.check_weights()?;
            let validation = self.validate()?;
            let row = self.row(validation);
            self.rows.push(row);
            if whole {
                self.pace.after_epoch(&mut self.position.schedule, row.val_loss);
                let Position { pictures, step, schedule, .. } = self.position;
                self.position = Position { pictures, epoch: epoch + 1, step, schedule, ..Position::default() };
            }
            // The checkpoint comes last: what a run killed in between has published is published again.
            self.publish(&row, &mut events)?;
            self.save()?;
            saved = Instant::now();
            observe(Event::Epoch(&row));
            if let Some(early) = early {
                let finished = self.position.epoch == self.config.epochs;
                return Ok(if finished { Outcome::Finished } else { early });
            }
        }
        Ok(Outcome::Finished)
    }

    /// The row of the epoch so far.
    fn row(&self, validation: Option<Score>) -> Row {
        let Position { epoch, step, rate, images_per_second, score, .. } = self.position;
        Row {
            epoch: epoch + 1,
            step,
            lr: rate,
            train_loss: score.mean_loss(),
            train_top1: 100.0 * score.top1(),
            val_loss: validation.map_or(f64::NAN, |v| v.mean_loss()),
            val_top1: validation.map_or(f64::NAN, |v| 100.0 * v.top1()),
            images_per_second,
        }
    }

    /// One step of the optimiser: a batch, or several whose gradients are added up.
    fn step(&mut self, loader: &Loader, batches: &mut Batches) -> Result<(), TrainError> {
        let first = self.position.batch as usize;
        let group = first..first.saturating_add(self.config.accumulate).min(loader.batches());
        let count = group.clone().map(|i| loader.size(i)).sum();
        let loss = Loss { smoothing: self.config.label_smoothing, count };
        self.gradients.fill(0.0);
        let mut score = Score::default();
        let step = self.position.step;
        for _ in group.clone() {
            let Some(batch) = batches.next().transpose()? else {
                return Err(TrainError::Data { what: "batches left in the epoch", need: group.len(), got: 0 });
            };
            let Trainer { engine, parameters, gradients, .. } = self;
            let result = engine.step(parameters, &batch, loss, gradients);
            score.add(result.map_err(|source| match source {
                StepError::Core(source) => TrainError::Network(source),
                source => TrainError::Diverged { step, source },
            })?);
        }
        let rate = self.pace.rate_at(step, &self.position.schedule);
        self.optimiser.step(&mut self.parameters, &self.gradients, rate as f32);
        let position = &mut self.position;
        position.step += 1;
        position.rate = rate;
        position.batch = group.end as u64;
        position.score.add(score);
        self.pace.after_step(&mut position.schedule, 1.0 - position.score.top1(), position.batch);
        if let Some(average) =
            self.average.as_mut().filter(|_| position.step.is_multiple_of(self.config.model_ema_steps))
        {
            let keep = self.config.model_ema_decay as f32;
            average.iter_mut().zip(self.parameters.values()).for_each(|(a, v)| *a = keep * *a + (1.0 - keep) * v);
        }
        Ok(())
    }

    /// The weights the run is about: the average, if there is one.
    pub fn result(&self) -> Parameters {
        let mut parameters = self.parameters.clone();
        if let Some(average) = &self.average {
            parameters.values_mut().copy_from_slice(average);
        }
        parameters
    }

    /// Writes the checkpoint.
    ///
    /// # Errors
    /// What the operating system reports; [`TrainError::Weight`] for weights that nothing can go on from.
    pub fn save(&mut self) -> Result<(), TrainError> {
        self.check_weights()?;
        self.folder.begin()?;
        let path = self.folder.path().join(CHECKPOINT);
        // The time an epoch took is kept only while its row is due: otherwise the same step is the same bytes.
        let due = self.position.batch == self.train.batches() as u64;
        let (state, run, position) = self.state();
        let images_per_second = if due { position.images_per_second } else { 0.0 };
        state.save(&path, &run, &Position { images_per_second, ..*position })
    }

    /// A gradient that overflowed shows in a layer's output only at the next step.
    fn check_weights(&self) -> Result<(), TrainError> {
        let parts = [("", self.parameters.values()), ("velocity.", self.optimiser.velocity())];
        for (part, values) in parts {
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                let tensor = self.parameters.owner(at).map_or_else(String::new, |e| format!("{part}{}", e.tensor.name));
                return Err(TrainError::Weight { step: self.position.step, tensor, value: values[at] });
            }
        }
        Ok(())
    }

    /// Writes everything that is for others: weights, metrics, report, events.
    fn publish(&self, row: &Row, events: &mut EventFile) -> Result<(), TrainError> {
        let mut metadata = weights::describe(&self.spec, Some(self.source.classes()));
        metadata.extend(self.train.preprocessing.to_metadata());
        for (key, value) in [
            (keys::RECIPE, serde_json::to_string(&self.config).unwrap_or_default()),
            (keys::DATA, self.source.name().to_owned()),
            (keys::SEED, self.config.seed.to_string()),
            (keys::STEPS, row.step.to_string()),
        ] {
            metadata.insert(key.into(), value);
        }
        if self.validation.is_some() {
            metadata.insert(keys::ACCURACY.into(), format!("{:.2}", row.val_top1));
        }
        let out = self.folder.path();
        if let Some(model) = self.int8_model()? {
            metadata.insert(keys::INT8_ENCODINGS.into(), engine::encodings(&self.result())?.to_json());
            let path = out.join("model.rsd");
            write_atomic(&path, |out| io::Write::write_all(out, &model)).map_err(|e| TrainError::io(&path, e))?;
        }
        weights::save(out.join("model.safetensors"), self.result().tensors(), &metadata)?;
        let path = out.join("metrics.csv");
        metrics::write(&path, &self.rows).map_err(|e| TrainError::io(&path, e))?;
        let path = out.join("report.html");
        let title = format!("{} on {}", self.spec, self.source.name());
        report::write(&path, &title, &self.config.json(), &self.rows).map_err(|e| TrainError::io(&path, e))?;
        let scalars = [
            ("loss/train", row.train_loss),
            ("loss/validation", row.val_loss),
            ("error/train", 100.0 - row.train_top1),
            ("error/validation", 100.0 - row.val_top1),
            ("images_per_second", row.images_per_second),
        ];
        let scalars: Vec<_> = scalars.into_iter().filter(|(_, value)| !value.is_nan()).collect();
        events.scalars(row.step, &scalars).map_err(|e| TrainError::io(out, e))
    }
}

fn write(path: &Path, text: &str) -> Result<(), TrainError> {
    write_atomic(path, |out| io::Write::write_all(out, text.as_bytes())).map_err(|e| TrainError::io(path, e))
}
