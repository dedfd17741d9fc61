//! Pictures in, logits out, whatever the network computes in.

use std::sync::Arc;

use residual_core::{
    geom::Shape,
    quant::Quantization,
    session::{PackedNet, Session},
};
use residual_io::{DataError, Image, Preprocessing};

use super::Model;
use crate::Error;

/// A session with a batch of pictures to fill, and its logits as real numbers.
pub(crate) struct Runner {
    session: Session,
    ends: Arc<Ends>,
    input: Input,
    logits: Vec<f32>,
}

/// What is the same for all sessions of a model.
struct Ends {
    preprocessing: Preprocessing,
    /// the int8 of every channel and sample of a picture, for networks that read int8
    table: Option<[[i8; 256]; 3]>,
    /// the encoding of the logits, if they are int8
    output: Option<Quantization>,
    classes: usize,
}

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
    pub(crate) fn new(model: &Model, packed: Arc<PackedNet>) -> Result<Self, Error> {
        let preprocessing = model.preprocessing()?;
        let table = match model.input()?.quantization {
            Some(input) => Some(table(&preprocessing, input)?),
            None => None,
        };
        let output = packed.plan().graph().output();
        let ends = Ends { preprocessing, table, output: output.quantization, classes: output.shape.elements() };
        Runner::on(packed, Arc::new(ends))
    }

    fn on(packed: Arc<PackedNet>, ends: Arc<Ends>) -> Result<Self, Error> {
        let len = packed.plan().input_len();
        let input = match ends.table {
            Some(_) => Input::Int8(vec![0; len]),
            None => Input::F32(vec![0.0; len]),
        };
        Ok(Runner { session: Session::with_model(packed)?, ends, input, logits: Vec::new() })
    }

    /// Another one on the same weights.
    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        Runner::on(Arc::clone(self.session.model()), Arc::clone(&self.ends))
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn preprocessing(&self) -> &Preprocessing {
        &self.ends.preprocessing
    }

    /// Pictures it runs at once.
    pub(crate) fn batch(&self) -> usize {
        self.session.plan().options().batch
    }

    pub(crate) fn classes(&self) -> usize {
        self.ends.classes
    }

    fn input_len(&self) -> usize {
        self.session.plan().input().shape.elements()
    }

    /// Puts a picture into place `slot` of the batch.
    pub(crate) fn load(&mut self, slot: usize, image: &Image) -> Result<(), DataError> {
        let len = self.input_len();
        let Ends { preprocessing, table, .. } = &*self.ends;
        match (&mut self.input, table) {
            (Input::Int8(input), Some(table)) => {
                let image = preprocessing.resize_and_crop(image)?;
                let (from, _) = image.pixels().as_chunks::<3>();
                let (to, _) = input[slot * len..][..len].as_chunks_mut::<3>();
                for (to, from) in to.iter_mut().zip(from) {
                    *to = std::array::from_fn(|c| table[c][usize::from(from[c])]);
                }
                Ok(())
            }
            (Input::F32(input), _) => preprocessing.apply(image, &mut input[slot * len..][..len]),
            (Input::Int8(_), None) => Ok(()),
        }
    }

    /// The logits of the first `count` places of the batch, one row each.
    pub(crate) fn run(&mut self, count: usize) -> Result<&[f32], Error> {
        let len = count * self.input_len();
        match &self.input {
            Input::F32(input) => Ok(self.session.run(&input[..len])?),
            Input::Int8(input) => {
                let output = self.session.run(&input[..len])?;
                self.logits.clear();
                let real = |q: &i8| self.ends.output.map_or(f32::from(*q), |encoding| encoding.dequantize(*q));
                self.logits.extend(output.iter().map(real));
                Ok(&self.logits)
            }
        }
    }

    /// What the layer called `layer` computes for the first `count` places of the batch.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`] with some that there are.
    pub(crate) fn features(&mut self, count: usize, layer: &str) -> Result<Vec<Feature>, Error> {
        let len = count * self.input_len();
        let steps = self.session.plan().steps();
        let Some(step) = steps.iter().find(|step| step.name.as_str() == layer) else {
            let layers = steps.iter().map(|step| step.name.to_string()).collect();
            return Err(Error::NoSuchLayer { layer: layer.into(), layers });
        };
        let (index, shape, quantization) = (step.index(), step.output_shape(), step.output().quantization);
        let mut values = Vec::with_capacity(count * shape.elements());
        match &self.input {
            Input::F32(input) => {
                self.session.run_with(&input[..len], |step, y: &[f32]| {
                    if step.index() == index {
                        values.extend_from_slice(y);
                    }
                })?;
            }
            Input::Int8(input) => {
                self.session.run_with(&input[..len], |step, y: &[i8]| {
                    if step.index() == index {
                        let real = |q: &i8| quantization.map_or(f32::from(*q), |encoding| encoding.dequantize(*q));
                        values.extend(y.iter().map(real));
                    }
                })?;
            }
        }
        Ok(values.chunks_exact(shape.elements()).map(|v| Feature { shape, values: v.to_vec() }).collect())
    }
}

/// The int8 of every channel and sample.
fn table(preprocessing: &Preprocessing, input: Quantization) -> Result<[[i8; 256]; 3], Error> {
    let grey = Image::new(256, 1, (0..768).map(|i| (i / 3) as u8).collect())?;
    let mut real = vec![0.0; 768];
    preprocessing.normalise(&grey, &mut real)?;
    Ok(std::array::from_fn(|c| std::array::from_fn(|v| input.quantize(real[3 * v + c]))))
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
