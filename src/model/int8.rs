//! An int8 model file, ready for pictures.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use residual_core::{
    Isa,
    geom::Shape,
    plan::Options,
    quant::Softmax,
    rsd::{AlignedBytes, View},
    session::Session,
};
use residual_io::{
    ImportError, Size, open_regular,
    preprocessing::{Interpolation, Preprocessing},
    quantized::Quantization,
    read_regular,
    tflite::{self, End, Numbers},
};

use crate::{Error, Given};

/// First bytes of a model file.
const MAGIC: &[u8] = b"residual";
/// Longest file of an int8 network, in bytes: the 152-layer one takes 60 MB.
const MAX_FILE: u64 = 512 << 20;

/// An int8 network from a model file (`.rsd`) or a TensorFlow Lite file, with everything needed to classify
/// pictures with it.
#[derive(Debug)]
pub struct QuantizedModel {
    path: PathBuf,
    model: AlignedBytes,
    softmax: Option<Softmax>,
    /// what inputs and outputs of the file are
    ends: [End; 2],
    given: Given,
    class_names: Option<Vec<String>>,
}

impl QuantizedModel {
    /// Whether a file is an int8 model, by its first bytes; `false` where it cannot be read.
    pub fn is_one(path: impl AsRef<Path>) -> bool {
        let mut start = [0; 8];
        let read = open_regular(path.as_ref()).and_then(|mut file| file.read_exact(&mut start));
        read.is_ok() && QuantizedModel::begins(&start)
    }

    /// Whether bytes are an int8 model's first ones.
    pub(super) fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC) || tflite::is_tflite(bytes)
    }

    /// Opens and checks a file.
    ///
    /// # Errors
    /// [`Error::Import`] if it cannot be read, [`Error::Model`] or [`Error::Tflite`] if it is damaged or holds a
    /// network this library cannot run, [`Error::ClassNames`].
    pub fn open(path: impl AsRef<Path>, given: &Given) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let io = |source| ImportError::Io { file: file.clone(), source };
        QuantizedModel::from_bytes(path, &read_regular(path, MAX_FILE).map_err(io)?, given)
    }

    /// A model that is in memory; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`QuantizedModel::open`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: &[u8], given: &Given) -> Result<Self, Error> {
        let path = name.into();
        let file = path.display().to_string();
        let fault = |source| Error::Model { file: file.clone(), source };
        let (model, softmax, ends) = if tflite::is_tflite(bytes) {
            let mut imported = tflite::import(&file, bytes)?;
            // Such files hold neither.
            imported.network.classes = given.class_names.clone().unwrap_or_default();
            imported.network.preprocessing = given
                .normalisation
                .clone()
                .map(|(mean, std)| plain(imported.network.input.into(), mean, std).to_flat());
            (imported.network.to_model().map_err(fault)?, imported.softmax, [imported.input, imported.output])
        } else {
            (AlignedBytes::from(bytes), None, [End::Int8, End::Int8])
        };
        let view = View::new_checked(&model).map_err(fault)?;
        let classes = view.output().map_or(0, |v| v.shape.elements());
        if let (Some(asked), Some(found)) = (given.arch, view.architecture())
            && found != asked.to_string()
            && !found.is_empty()
        {
            return Err(Error::Unfit { file, reason: format!("holds {found}, but {asked} was asked for") });
        }
        let shape = view.input().map(|input| input.shape);
        if let (Some(asked), Some(found)) = (given.input, shape.map(Size::from))
            && asked != found
        {
            let reason =
                format!("its input has {found} pixels, but {asked} were asked for, and int8 files have one size");
            return Err(Error::Unfit { file, reason });
        }
        let stored: Vec<String> = view.classes().map(str::to_owned).collect();
        let class_names = given.class_names.clone().or(Some(stored).filter(|names| !names.is_empty()));
        if let Some(names) = class_names.as_ref().filter(|names| names.len() != classes) {
            return Err(Error::ClassNames { names: names.len(), classes });
        }
        Ok(QuantizedModel { path, model, softmax, ends, given: given.clone(), class_names })
    }

    /// The checked model.
    ///
    /// # Errors
    /// None in practice: the file was checked when it was opened.
    pub fn view(&self) -> Result<View<'_>, Error> {
        View::new_checked(&self.model).map_err(|source| Error::Model { file: self.path.display().to_string(), source })
    }

    /// The bytes of the model as a model file.
    pub fn bytes(&self) -> &[u8] {
        &self.model
    }

    /// The softmax at the end of a TensorFlow Lite file.
    pub fn softmax(&self) -> Option<&Softmax> {
        self.softmax.as_ref()
    }

    /// What to call the network: its architecture, or the file's name.
    pub fn name(&self) -> String {
        let stored = self.view().ok().and_then(|v| v.architecture().map(str::to_owned)).filter(|a| !a.is_empty());
        stored.unwrap_or_else(|| self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Class names in the order of the outputs, if they are known.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// The name of a class, or its number.
    pub fn class_name(&self, class: usize) -> String {
        self.class_names.as_ref().and_then(|names| names.get(class)).map_or_else(|| class.to_string(), String::clone)
    }

    /// Outputs.
    pub fn classes(&self) -> usize {
        self.view().ok().and_then(|v| v.output()).map_or(0, |v| v.shape.elements())
    }

    /// The encoding of the outputs.
    pub fn output_encoding(&self) -> Quantization {
        let output = self.view().ok().and_then(|v| v.output());
        output.map_or(Quantization { scale: 1.0, zero_point: 0 }, |v| Quantization {
            scale: v.scale,
            zero_point: v.zero_point,
        })
    }

    /// What the file's inputs and outputs are; the network between them computes with int8.
    pub fn ends(&self) -> &[End; 2] {
        &self.ends
    }

    /// Raw inputs of the file's own type (NHWC, one after the other, real numbers little-endian) to raw outputs of its
    /// type: what LiteRT gives for them.
    ///
    /// # Errors
    /// [`Error::Unfit`] if `bytes` is not a whole number of inputs, or one is not finite.
    pub fn run_file(&self, bytes: &[u8], isa: Isa) -> Result<Vec<Numbers>, Error> {
        let [input, output] = &self.ends;
        let unfit = |reason| Error::Unfit { file: self.path.display().to_string(), reason };
        let (shape, kind) = (self.input()?.0, input.type_name());
        let len = shape.elements() * input.width();
        if bytes.is_empty() || !bytes.len().is_multiple_of(len) {
            return Err(unfit(format!("its inputs are {shape} of {kind}, {len} bytes each, got {}", bytes.len())));
        }
        let values = input.to_int8(bytes);
        let values = values.map_err(|index| unfit(format!("number {index} of its inputs is not finite")))?;
        Ok(self.run_raw(&values, isa)?.iter().map(|values| output.to_numbers(values)).collect())
    }

    /// Raw int8 inputs (NHWC, one after the other) to raw int8 outputs: of the softmax where the file ends in one.
    ///
    /// # Errors
    /// [`Error::Unfit`] if `input` is not a whole number of inputs.
    pub fn run_raw(&self, input: &[i8], isa: Isa) -> Result<Vec<Vec<i8>>, Error> {
        let mut session = Session::new(&self.view()?.net()?, &Options { isa, ..Options::default() })?;
        let len = self.input()?.0.elements();
        if input.is_empty() || !input.len().is_multiple_of(len) {
            let reason = format!("its inputs have {len} bytes each, got {}", input.len());
            return Err(Error::Unfit { file: self.path.display().to_string(), reason });
        }
        let run = |image: &[i8]| -> Result<Vec<i8>, Error> {
            let logits: &[i8] = session.run(image)?;
            let mut output = logits.to_vec();
            if let Some(softmax) = &self.softmax {
                softmax.run(logits, &mut output);
            }
            Ok(output)
        };
        input.chunks_exact(len).map(run).collect()
    }

    /// Shape and encoding of the input.
    ///
    /// # Errors
    /// As [`QuantizedModel::view`].
    pub fn input(&self) -> Result<(Shape, Quantization), Error> {
        let input = self.view()?.input();
        let unfit = || Error::Unfit { file: self.path.display().to_string(), reason: "it has no input".into() };
        let input = input.ok_or_else(unfit)?;
        Ok((input.shape, Quantization { scale: input.scale, zero_point: input.zero_point }))
    }

    /// What happens to a picture first: what the caller gives, what the file says, and nothing for a network whose
    /// input are the pixels themselves (scale 1, zero point -128).
    ///
    /// # Errors
    /// [`Error::NoNormalisation`] where nobody says, [`Error::NoPictures`] if the input has other channels than pictures;
    /// [`Error::Preprocessing`] for unusable values, [`Error::Unfit`] if they are for inputs of another size.
    pub fn preprocessing(&self) -> Result<Preprocessing, Error> {
        let file = || self.path.display().to_string();
        let (shape, encoding) = self.input()?;
        let channels = shape.c;
        if !residual_io::Image::serves(channels) {
            return Err(Error::NoPictures { network: self.name(), channels });
        }
        let stored = self.view()?.preprocessing().map(|p| Preprocessing::from_flat(&p, channels));
        let size = Size::from(shape);
        let plain = |mean, std| plain(size, mean, std);
        let raw = (encoding.scale - 1.0).abs() < 1e-6 && encoding.zero_point == -128;
        let preprocessing = match (self.given.normalisation.clone(), stored) {
            (Some((mean, std)), Some(stored)) => Preprocessing { mean, std, ..stored },
            (Some((mean, std)), None) => plain(mean, std),
            (None, Some(stored)) => stored,
            (None, None) if raw => plain(vec![0.0; channels], vec![1.0 / 255.0; channels]),
            (None, None) => return Err(Error::NoNormalisation { file: file(), network: self.name() }),
        };
        let preprocessing = Preprocessing { crop: preprocessing.crop.or(Some(size)), ..preprocessing };
        let refuse = |source| Error::Preprocessing { file: file(), source };
        preprocessing.check().and_then(|()| preprocessing.check_channels(channels)).map_err(refuse)?;
        if let Some(crop) = preprocessing.crop.filter(|crop| *crop != size) {
            return Err(Error::Unfit {
                file: file(),
                reason: format!("its pictures are cropped to {crop}, its input is {shape}"),
            });
        }
        Ok(preprocessing)
    }
}

/// For pictures that are resized to the input.
fn plain(size: Size, mean: Vec<f32>, std: Vec<f32>) -> Preprocessing {
    let interpolation = Interpolation::default();
    Preprocessing { resize: Some(size), crop: Some(size), mean, std, mean_picture: None, interpolation }
}
