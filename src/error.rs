//! The one error type of this crate.

use residual_core::Isa;
use residual_io::{DataError, ImportError};

/// Why a picture could not be classified. Every message is one line that names what is to blame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The weights file could not be read, or does not fit the network.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A picture or a data set could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network could not be folded, planned or run.
    #[error(transparent)]
    Network(#[from] residual_core::Error),
    /// The preprocessing in a weights file cannot be used.
    #[error("{file}: {source}")]
    Preprocessing {
        /// the weights file
        file: String,
        /// what is wrong
        source: DataError,
    },
    /// Neither the file nor the caller says how pictures are normalised, and there is no convention.
    #[error("{file} does not say how pictures are normalised for {network}: mean and standard deviation are needed")]
    NoNormalisation {
        /// the file
        file: String,
        /// its network
        network: String,
    },
    /// A data set has another number of classes than the network, and they are to be matched by number.
    #[error("{data}: {found} classes, {network} has {classes}: they cannot be matched by number")]
    Classes {
        /// where the data set is
        data: String,
        /// its classes
        found: usize,
        /// the network
        network: String,
        /// its outputs
        classes: usize,
    },
    /// The network knows no class of a data set's name.
    #[error(
        "{data}: {unknown} of {found} classes not known to {network}, the first `{class}`; the nearest of the network's \
         {classes} is `{nearest}`"
    )]
    UnknownClass {
        /// where the data set is
        data: String,
        /// the first class that the network does not know
        class: String,
        /// how many these are
        unknown: usize,
        /// all classes of the data set
        found: usize,
        /// the network
        network: String,
        /// its classes
        classes: usize,
        /// the one whose name is nearest to `class`
        nearest: String,
    },
    /// Another number of names than classes.
    #[error("{names} class names for a network of {classes} classes")]
    ClassNames {
        /// names given
        names: usize,
        /// outputs of the network
        classes: usize,
    },
    /// Not one picture of a data set could be read.
    #[error("none of the {pictures} pictures could be read; the first: {first}")]
    AllUnreadable {
        /// pictures tried
        pictures: usize,
        /// what was wrong with the first
        first: DataError,
    },
    /// The network computed something that is no number for a picture.
    #[error(
        "the network's output {class} for {picture} is {value}: its weights are damaged, or its mean and standard \
         deviation are not theirs"
    )]
    NotFinite {
        /// which picture
        picture: String,
        /// the output
        class: usize,
        /// NaN or an infinity
        value: f32,
    },
    /// `RESIDUAL_ISA` names an instruction set that does not exist or that this CPU lacks.
    #[error("RESIDUAL_ISA={asked}: no such instruction set here; this CPU has {}", offered())]
    Isa {
        /// the name asked for
        asked: String,
    },
    /// An int8 model file cannot be used.
    #[error("{file}: {source}")]
    Model {
        /// the file
        file: String,
        /// what is wrong
        source: residual_core::rsd::FormatError,
    },
    /// A TensorFlow Lite file cannot be used.
    #[error(transparent)]
    Tflite(#[from] residual_io::tflite::TfliteError),
    /// An int8 model cannot be used for pictures as it is.
    #[error("{file}: {reason}")]
    Unfit {
        /// the file
        file: String,
        /// what is missing or does not fit
        reason: String,
    },
    /// The network reads no pictures.
    #[error(
        "{network} has {channels} input channels, and pictures have 1 (grey) or 3 (RGB): its input can only be given as \
         numbers, to a session"
    )]
    NoPictures {
        /// the network
        network: String,
        /// channels of its input
        channels: usize,
    },
    /// The network has no layer of this name.
    #[error("there is no layer `{layer}`; there are {}", residual_io::listed(layers))]
    NoSuchLayer {
        /// the name asked for
        layer: String,
        /// all names
        layers: Vec<String>,
    },
    /// A thread could not be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// threads asked for
        threads: usize,
        /// what the operating system said
        source: std::io::Error,
    },
}

fn offered() -> String {
    Isa::available().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}
