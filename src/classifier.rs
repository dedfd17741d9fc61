//! From a weights file to the most probable classes of a picture.

use std::{path::Path, sync::Arc};

use residual_core::{
    geom::Shape,
    logits::{softmax, top_k},
    plan::Options,
    resnet::ResNet,
    session::Session,
};
use residual_io::{Image, Preprocessing, Size};

use crate::{Error, Given, Model, Prepared, Runner, model::check_finite};

/// A class and how probable it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// the output's number
    pub class: usize,
    /// its name, or the number where names are not known
    pub name: String,
    /// by softmax over all outputs
    pub probability: f32,
}

/// A network ready to classify pictures, in f32 or int8. The weights file is closed; the packed weights are shared by all
/// classifiers that are made from one [`Model`] or from each other ([`Classifier::try_clone`]), for use on other threads.
///
/// ```no_run
/// use residual::{Classifier, Image};
///
/// let mut classifier = Classifier::builder()
///     .arch("resnet20-cifar-Ac".parse()?)
///     .normalisation([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
///     .threads(2)
///     .open("resnet20.th")?;
/// let best = &classifier.classify(&Image::open("photo.jpg")?, 1)?[0];
/// println!("{} ({:.1}%)", best.name, 100.0 * best.probability);
/// # Ok::<(), residual::Error>(())
/// ```
pub struct Classifier {
    runner: Runner,
    names: Arc<[String]>,
}

/// What a layer computes for one picture, as real numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// rows, columns and channels of the layer's output
    pub shape: Shape,
    /// its elements, channels of a pixel side by side
    pub values: Vec<f32>,
}

impl Classifier {
    /// From a file of any kind that says everything about itself, on all threads.
    ///
    /// # Errors
    /// As [`Model::open`]; [`Error::Isa`] for a bad `RESIDUAL_ISA`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Classifier::builder().open(path)
    }

    /// To say more than the file does, or how to run.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The `k` most probable classes of a picture of any size, best first.
    ///
    /// # Errors
    /// [`Error::Data`] when the picture cannot be brought to the network's size, [`Error::NotFinite`] when the logits
    /// are no numbers.
    pub fn classify(&mut self, image: &Image, k: usize) -> Result<Vec<Prediction>, Error> {
        Ok(self.classify_batch(std::slice::from_ref(image), k)?.pop().unwrap_or_default())
    }

    /// [`Classifier::classify`] for several pictures, [`Builder::batch`] of them at once.
    ///
    /// # Errors
    /// As [`Classifier::classify`], for the first picture that fails.
    pub fn classify_batch(&mut self, images: &[Image], k: usize) -> Result<Vec<Vec<Prediction>>, Error> {
        let names = Arc::clone(&self.names);
        let mut predictions = Vec::with_capacity(images.len());
        self.each_logits(images, |logits| {
            let probabilities = softmax(logits);
            let predict = |class: usize| Prediction {
                class,
                name: names.get(class).cloned().unwrap_or_default(),
                probability: probabilities[class],
            };
            predictions.push(top_k(logits, k).into_iter().map(predict).collect());
        })?;
        Ok(predictions)
    }

    /// The logits of several pictures, one row each.
    ///
    /// # Errors
    /// As [`Classifier::classify`], for the first picture that fails.
    pub fn logits(&mut self, images: &[Image]) -> Result<Vec<Vec<f32>>, Error> {
        let mut rows = Vec::with_capacity(images.len());
        self.each_logits(images, |row| rows.push(row.to_vec()))?;
        Ok(rows)
    }

    /// Class names in the order of the outputs; numbers where names are not known.
    pub fn class_names(&self) -> &[String] {
        &self.names
    }

    /// What the layer called `layer` computes for several pictures; [`Session::plan`] names the layers.
    ///
    /// # Errors
    /// As [`Classifier::classify`]; [`Error::NoSuchLayer`].
    pub fn features(&mut self, images: &[Image], layer: &str) -> Result<Vec<Features>, Error> {
        let mut all = Vec::with_capacity(images.len());
        for images in images.chunks(self.runner.prepared().batch()) {
            for (slot, image) in images.iter().enumerate() {
                self.runner.load(slot, image)?;
            }
            let features = self.runner.features(images.len(), layer)?;
            all.extend(features.into_iter().map(|f| Features { shape: f.shape, values: f.values }));
        }
        Ok(all)
    }

    /// Another classifier on the same packed weights, for another thread.
    ///
    /// # Errors
    /// [`Error::Network`] when its memory or its helper threads cannot be had.
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(Classifier { runner: Runner::new(Arc::clone(self.runner.prepared()))?, names: Arc::clone(&self.names) })
    }

    /// What happens to a picture first.
    pub fn preprocessing(&self) -> &Preprocessing {
        self.runner.prepared().preprocessing()
    }

    /// The planned network.
    pub fn session(&self) -> &Session {
        self.runner.session()
    }

    /// Calls `row` with the logits of every picture, in order.
    fn each_logits(&mut self, images: &[Image], mut row: impl FnMut(&[f32])) -> Result<(), Error> {
        let classes = self.runner.prepared().classes();
        for images in images.chunks(self.runner.prepared().batch()) {
            for (slot, image) in images.iter().enumerate() {
                self.runner.load(slot, image)?;
            }
            for (i, logits) in self.runner.run(images.len())?.chunks_exact(classes).enumerate() {
                check_finite(logits, || format!("picture {} of its batch", i + 1))?;
                row(logits);
            }
        }
        Ok(())
    }
}

/// How a [`Classifier`] is made.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    given: Given,
    threads: Option<usize>,
    batch: Option<usize>,
}

impl Builder {
    /// The network, for a file whose metadata does not name it.
    pub fn arch(mut self, arch: ResNet) -> Self {
        self.given.arch = Some(arch);
        self
    }

    /// Mean and standard deviation of every input channel, of pixels in `[0, 1]`: R, G, B, or grey alone.
    pub fn normalisation(mut self, mean: impl Into<Vec<f32>>, std: impl Into<Vec<f32>>) -> Self {
        self.given.normalisation = Some((mean.into(), std.into()));
        self
    }

    /// Rows and columns of the input, where they are not what the file says or the network's usual ones.
    pub fn input(mut self, size: impl Into<Size>) -> Self {
        self.given.input = Some(size.into());
        self
    }

    /// Class names in the order of the outputs.
    pub fn class_names(mut self, names: Vec<String>) -> Self {
        self.given.class_names = Some(names);
        self
    }

    /// Threads that share the layers of a picture (feature `parallel`; all available unless said). Results do not
    /// depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Pictures run at once by [`Classifier::classify_batch`] (1 unless said). Results do not depend on it.
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = Some(batch);
        self
    }

    /// Opens a file of any kind.
    ///
    /// # Errors
    /// As [`Model::open`]; [`Error::Network`] for zero threads or a batch of zero; [`Error::Isa`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Classifier, Error> {
        self.build(&Model::open_with(path, &self.given)?)
    }

    /// From a model that is open already; only threads and batch of the builder count.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn build(&self, model: &Model) -> Result<Classifier, Error> {
        let options = Options {
            batch: self.batch.unwrap_or(1),
            threads: self.threads.unwrap_or_else(crate::available_threads),
            isa: crate::isa()?,
            ..Options::default()
        };
        let runner = Runner::new(Arc::new(Prepared::new(model, &options)?))?;
        let names = (0..model.classes()).map(|class| model.class_name(class)).collect();
        Ok(Classifier { runner, names })
    }
}
