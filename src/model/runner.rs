//! Pictures in, logits out, whatever the network computes in.

use std::sync::Arc;

use residual_core::{
    geom::Shape,
    plan::{Options, Plan, Step},
    quant::Quantization,
    session::{PackedNet, Session},
};
use residual_io::{DataError, Image, Preprocessing};

use super::Model;
use crate::Error;

/// A model planned for a batch and threads, with its weights packed: all that runs of it share. The model, its file and
/// their memory are not needed any more.
pub struct Prepared {
    packed: Arc<PackedNet>,
    preprocessing: Preprocessing,
    int8: Option<Int8>,
}

/// How a network that reads int8 does it.
struct Int8 {
    encoding: Quantization,
    /// of every channel and sample of a picture
    table: Vec<[i8; 256]>,
}

impl Prepared {
    /// Plans `model`; its plans for one instruction set share packed weights ([`Model::packed`]).
    ///
    /// # Errors
    /// As [`Model::packed`] and [`Model::preprocessing`].
    pub fn new(model: &Model, options: &Options) -> Result<Self, Error> {
        let preprocessing = model.preprocessing()?;
        let input = model.input()?;
        if !Image::serves(input.shape.c) {
            return Err(Error::NoPictures { network: model.name(), channels: input.shape.c });
        }
        let int8 = input.quantization.map(|encoding| Int8 { encoding, table: table(&preprocessing, encoding) });
        Ok(Prepared { packed: model.packed(options)?, preprocessing, int8 })
    }

    /// The plan: layers, kernels, memory.
    pub fn plan(&self) -> &Plan {
        self.packed.plan()
    }

    /// Bytes of the packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.packed.packed_bytes()
    }

    /// What happens to a picture first.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Logits of a picture.
    pub fn classes(&self) -> usize {
        self.plan().graph().output().shape.elements()
    }

    /// Pictures that a runner runs at once.
    pub fn batch(&self) -> usize {
        self.plan().options().batch
    }

    /// Elements of an input.
    fn input_len(&self) -> usize {
        self.plan().input().shape.elements()
    }
}

/// The memory and the threads for runs of a model, with a batch of pictures to fill: logits come as real numbers, whatever
/// the network computes in. One thread uses it at a time; others make their own on the same [`Prepared`].
///
/// ```
/// use std::sync::Arc;
/// use residual::{Image, Model, Prepared, Runner, plan::Options, rsd};
///
/// // A made-up int8 network stands in for a trained one.
/// let file = rsd::synthetic(&"resnet8-cifar-w4".parse()?, 1).map_err(|source| residual::Error::Model {
///     file: "made up".into(),
///     source,
/// })?;
/// let given = residual::Given { normalisation: Some((vec![0.5; 3], vec![0.25; 3])), ..Default::default() };
/// let model = Model::from_bytes("made up", file.to_vec(), &given)?;
/// let prepared = Arc::new(Prepared::new(&model, &Options { batch: 2, ..Options::default() })?);
/// let mut runner = Runner::new(Arc::clone(&prepared))?;
/// runner.load(0, &Image::new(40, 30, vec![90; 3600])?)?;
/// runner.load(1, &Image::new(32, 32, vec![10; 3072])?)?;
/// let mut layers = 0;
/// let logits = runner.run_with(2, |_| layers += 1)?;
/// assert_eq!(logits.len(), 2 * prepared.classes());
/// assert!(layers >= prepared.plan().steps().len());
/// # Ok::<(), residual::Error>(())
/// ```
pub struct Runner {
    session: Session,
    prepared: Arc<Prepared>,
    input: Input,
    logits: Vec<f32>,
}

/// A batch.
enum Input {
    F32(Vec<f32>),
    Int8(Vec<i8>),
}

/// The output of a layer for one picture.
pub(crate) struct Feature {
    pub shape: Shape,
    pub values: Vec<f32>,
}

impl Runner {
    /// Memory and threads for one caller.
    ///
    /// # Errors
    /// As [`Session::with_model`].
    pub fn new(prepared: Arc<Prepared>) -> Result<Self, Error> {
        let len = prepared.plan().input_len();
        let input = match prepared.int8 {
            Some(_) => Input::Int8(vec![0; len]),
            None => Input::F32(vec![0.0; len]),
        };
        let session = Session::with_model(Arc::clone(&prepared.packed))?;
        Ok(Runner { session, prepared, input, logits: Vec::new() })
    }

    /// What it shares with others.
    pub fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// The session it runs.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Puts a picture of any size into place `slot` of the batch.
    ///
    /// # Errors
    /// As [`Preprocessing::apply`]; [`DataError::BufferLength`] for a place beyond the batch.
    pub fn load(&mut self, slot: usize, image: &Image) -> Result<(), DataError> {
        let Prepared { preprocessing, int8, .. } = &*self.prepared;
        let len = self.prepared.input_len();
        match (&mut self.input, int8) {
            (Input::Int8(input), Some(Int8 { table, .. })) => {
                let to = place(input, slot, len)?;
                let image = preprocessing.resize_and_crop(image)?;
                let samples = image.samples(preprocessing.channels())?;
                for (c, row) in table.iter().enumerate() {
                    let channel = samples[c..].iter().step_by(table.len());
                    let to = to[c..].iter_mut().step_by(table.len());
                    to.zip(channel).for_each(|(to, v)| *to = row[usize::from(*v)]);
                }
                Ok(())
            }
            (Input::F32(input), _) => preprocessing.apply(image, place(input, slot, len)?),
            (Input::Int8(_), None) => Ok(()),
        }
    }

    /// Puts an input that is normalised already, NHWC, into place `slot` of the batch.
    ///
    /// # Errors
    /// [`DataError::BufferLength`] if it has another length than the network's, or for a place beyond the batch.
    pub fn load_input(&mut self, slot: usize, values: &[f32]) -> Result<(), DataError> {
        let len = self.prepared.input_len();
        if values.len() != len {
            return Err(DataError::BufferLength { what: "a network input", need: len, got: values.len() });
        }
        match (&mut self.input, &self.prepared.int8) {
            (Input::Int8(input), Some(Int8 { encoding, .. })) => {
                place(input, slot, len)?.iter_mut().zip(values).for_each(|(q, v)| *q = encoding.quantize(*v));
            }
            (Input::F32(input), _) => place(input, slot, len)?.copy_from_slice(values),
            (Input::Int8(_), None) => {}
        }
        Ok(())
    }

    /// The logits of the first `count` places of the batch, one row each.
    ///
    /// # Errors
    /// [`CoreError::BufferLength`](residual_core::Error::BufferLength) for none or for more than the batch.
    pub fn run(&mut self, count: usize) -> Result<&[f32], Error> {
        self.run_with(count, |_| {})
    }

    /// Like [`Runner::run`]; calls `after(step)` behind every layer, to time it. Layers with large maps run on some
    /// pictures of the batch at a time: several calls.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn run_with(&mut self, count: usize, mut after: impl FnMut(&Step)) -> Result<&[f32], Error> {
        let len = self.prepared.input_len();
        match &self.input {
            Input::F32(input) => Ok(self.session.run_with(first(input, count, len), |step, _: &[f32]| after(step))?),
            Input::Int8(input) => {
                let output = self.session.run_with(first(input, count, len), |step, _: &[i8]| after(step))?;
                self.logits.clear();
                self.logits.extend(reals(output, self.prepared.plan().graph().output().quantization));
                Ok(&self.logits)
            }
        }
    }

    /// What the layer called `layer` computes for the first `count` places of the batch.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`] with some that there are.
    pub(crate) fn features(&mut self, count: usize, layer: &str) -> Result<Vec<Feature>, Error> {
        let len = self.prepared.input_len();
        let steps = self.session.plan().steps();
        let Some(step) = steps.iter().find(|step| step.name.as_str() == layer) else {
            let layers = steps.iter().map(|step| step.name.to_string()).collect();
            return Err(Error::NoSuchLayer { layer: layer.into(), layers });
        };
        let (index, shape, quantization) = (step.index(), step.output_shape(), step.output().quantization);
        let mut values = Vec::with_capacity(count * shape.elements());
        match &self.input {
            Input::F32(input) => {
                self.session.run_with(first(input, count, len), |step, y: &[f32]| {
                    if step.index() == index {
                        values.extend_from_slice(y);
                    }
                })?;
            }
            Input::Int8(input) => {
                self.session.run_with(first(input, count, len), |step, y: &[i8]| {
                    if step.index() == index {
                        values.extend(reals(y, quantization));
                    }
                })?;
            }
        }
        Ok(values.chunks_exact(shape.elements()).map(|v| Feature { shape, values: v.to_vec() }).collect())
    }
}

/// Place `slot` of a batch of inputs of `len` elements.
fn place<T>(input: &mut [T], slot: usize, len: usize) -> Result<&mut [T], DataError> {
    let beyond = DataError::BufferLength { what: "a network input", need: len, got: 0 };
    input.chunks_exact_mut(len.max(1)).nth(slot).ok_or(beyond)
}

/// The first places of a batch; nothing, which no session runs, where there are fewer.
fn first<T>(input: &[T], count: usize, len: usize) -> &[T] {
    input.get(..count.saturating_mul(len)).unwrap_or_default()
}

/// The real numbers that int8 values stand for.
fn reals(values: &[i8], encoding: Option<Quantization>) -> impl Iterator<Item = f32> {
    values.iter().map(move |q| encoding.map_or(f32::from(*q), |encoding| encoding.dequantize(*q)))
}

/// The int8 of every channel and sample.
fn table(preprocessing: &Preprocessing, input: Quantization) -> Vec<[i8; 256]> {
    preprocessing.table().into_iter().map(|row| row.map(|real| input.quantize(real))).collect()
}

/// Whether logits are numbers; `picture` is what an error calls the picture.
///
/// # Errors
/// [`Error::NotFinite`] for the first that is none.
pub(crate) fn check_finite(logits: &[f32], picture: impl FnOnce() -> String) -> Result<(), Error> {
    match logits.iter().position(|v| !v.is_finite()) {
        Some(class) => Err(Error::NotFinite { picture: picture(), class, value: logits[class] }),
        None => Ok(()),
    }
}
