//! The error of pictures, preprocessing and data sets.

use std::{io, path::PathBuf};

/// Why a picture, a preprocessing description or a data set could not be used.
///
/// Most pixels of a side of a picture.
pub(crate) const MAX_SIDE: usize = 65_535;

/// Every message is one line and names the file and the values that disagree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused to read a file or folder.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// the file or folder
        path: PathBuf,
        /// what the operating system said
        source: io::Error,
    },
    /// A picture is damaged or of a kind that is not supported.
    #[error("{picture}: {reason}")]
    Decode {
        /// the file, or what the bytes are called
        picture: String,
        /// what the decoder found
        reason: String,
    },
    /// A picture is larger than the limits it was decoded under.
    #[error(
        "{picture}: {width} x {height} pixels are more than the limit of {max_side} a side and {max_pixels} in all"
    )]
    TooLarge {
        /// the file, or what the bytes are called
        picture: String,
        /// pixels across
        width: u64,
        /// pixels down
        height: u64,
        /// the most pixels a side may have
        max_side: u32,
        /// the most pixels a picture may have
        max_pixels: u64,
    },
    /// A picture's pixels do not have the length its size asks for; lengths in bytes.
    #[error("a {width} x {height} RGB picture needs {need} bytes and sides of 1 to {}, got {got} bytes", MAX_SIDE)]
    PixelLength {
        /// pixels across
        width: usize,
        /// pixels down
        height: usize,
        /// bytes required
        need: usize,
        /// bytes supplied
        got: usize,
    },
    /// A resized or cropped picture would have an unusable size.
    #[error("cannot {what} a {from_width} x {from_height} picture to {width} x {height}")]
    Geometry {
        /// what was asked for: `resize`, `crop`, `ten-crop`
        what: &'static str,
        /// pixels across before
        from_width: usize,
        /// pixels down before
        from_height: usize,
        /// pixels across asked for
        width: usize,
        /// pixels down asked for
        height: usize,
    },
    /// A network that reads no pictures.
    #[error(
        "a network of {channels} input channels reads no pictures, which have 1 (grey) or 3 (RGB): its input can only be \
         given as numbers"
    )]
    Channels {
        /// of the network's input
        channels: usize,
    },
    /// An output buffer has the wrong length, in elements.
    #[error("{what} needs {need} elements, the buffer has {got}")]
    BufferLength {
        /// what was to be written
        what: &'static str,
        /// elements required
        need: usize,
        /// elements supplied
        got: usize,
    },
    /// A preprocessing value cannot be used.
    #[error("preprocessing `{key}` = `{value}`: {reason}")]
    Preprocessing {
        /// the key, as in model metadata
        key: &'static str,
        /// the value found
        value: String,
        /// what is wrong with it
        reason: String,
    },
    /// A folder is missing or is not a folder.
    #[error("{}: no such folder", .0.display())]
    NoFolder(PathBuf),
    /// A folder that should hold one folder for every class holds none.
    #[error("{}: no class folders (expected one folder of pictures for every class, or CIFAR binary files)", .0.display())]
    NoClasses(PathBuf),
    /// A class folder holds no picture.
    #[error("{}: no pictures in this class folder (looked for {extensions}{})", path.display(), but(left_out))]
    EmptyClass {
        /// the class folder
        path: PathBuf,
        /// the file name extensions that count as pictures
        extensions: String,
        /// how many files of which other extensions it holds
        left_out: String,
    },
    /// Classes of a test part that the training part does not have, so they have no label.
    #[error(
        "{}: class{} {class} {} not among the {classes} classes of {}",
        path.display(), if *several { "es" } else { "" }, if *several { "are" } else { "is" }, train.display()
    )]
    UnknownClass {
        /// the test part
        path: PathBuf,
        /// its unknown classes
        class: String,
        /// whether there are several
        several: bool,
        /// the folder that defines the classes
        train: PathBuf,
        /// the number of classes there
        classes: usize,
    },
    /// A folder holds two data sets, and nothing says which is meant.
    #[error("{}: holds both `{first}` and `{second}`; name one of them", path.display())]
    Ambiguous {
        /// the folder
        path: PathBuf,
        /// one candidate
        first: String,
        /// the other
        second: String,
    },
    /// A folder holds a part of a data set beside a class.
    #[error(
        "{}: holds both `{part}`, a part of a data set by its name, and `{class}`, which would be a class; \
         put class folders into `train` and `val`, or parts and classes into folders of their own",
        path.display()
    )]
    Mixed {
        /// the folder
        path: PathBuf,
        /// the part
        part: String,
        /// the class
        class: String,
    },
    /// A class folder holds the parts of a data set.
    #[error(
        "{}: holds both `{first}` and `{second}`, as a data set does and a class does not; if it is one, name it \
         instead of the folder around it",
        path.display()
    )]
    Nested {
        /// the folder that would be a class
        path: PathBuf,
        /// one part
        first: String,
        /// the other
        second: String,
    },
    /// A data set lacks the part that is asked for.
    #[error("{}: holds `{found}`, but no {what} beside it", path.display())]
    NoPart {
        /// the folder
        path: PathBuf,
        /// the names looked for
        what: &'static str,
        /// a part that is there
        found: String,
    },
    /// CIFAR in files for other programs.
    #[error(
        "{}: `{file}` is of CIFAR's version for {version}; this program reads the binary version: \
         {archive} from https://www.cs.toronto.edu/~kriz/cifar.html, unpacked",
        path.display()
    )]
    CifarVersion {
        /// the folder
        path: PathBuf,
        /// the file that tells
        file: &'static str,
        /// `Python` or `Matlab`
        version: &'static str,
        /// the file to download instead
        archive: &'static str,
    },
    /// A CIFAR file is empty or ends inside a record.
    #[error("{}: {len} bytes are not a whole number of records of {record} bytes", path.display())]
    RecordLength {
        /// the file
        path: PathBuf,
        /// its length in bytes
        len: u64,
        /// bytes of one record
        record: usize,
    },
    /// A CIFAR record has a label that no class has.
    #[error("{}: record {record}: {kind} {label} is not below {classes}", path.display())]
    Label {
        /// the file
        path: PathBuf,
        /// the record, counted from 0
        record: usize,
        /// `label`, `fine label` or `coarse label`
        kind: &'static str,
        /// the label found
        label: u8,
        /// the number of classes
        classes: usize,
    },
    /// A file of class names has another number of names than there are classes.
    #[error("{}: {names} class names for {classes} classes", path.display())]
    ClassNames {
        /// the file
        path: PathBuf,
        /// names found
        names: usize,
        /// names required
        classes: usize,
    },
    /// An index past the end of a data set.
    #[error("picture {index} of a data set of {len}")]
    Index {
        /// the index asked for
        index: usize,
        /// the number of pictures
        len: usize,
    },
    /// A thread that prepares pictures could not be started.
    #[error("cannot start {threads} threads for pictures: {source}")]
    Threads {
        /// threads asked for
        threads: usize,
        /// what the operating system said
        source: io::Error,
    },
    /// A thread that prepares pictures ended before its work was done.
    #[error("a thread that prepares pictures ended early")]
    Worker,
}

fn but(left_out: &str) -> String {
    if left_out.is_empty() { String::new() } else { format!("; it holds {left_out}") }
}
