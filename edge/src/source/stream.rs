//! Pictures from serial ports, sockets and files.

use core::fmt;

use embedded_io::Read;

use super::{Frame, FrameError, HEADER_BYTES, Picture, Table, picture::MAGIC};
use crate::{Engine, Mode};

/// Why no picture was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReadError<E> {
    /// Reading failed.
    Read(E),
    /// The stream ended before a picture began.
    End,
    /// A picture began that does not fit, or whose end is missing.
    Frame(FrameError),
}

impl<E> From<FrameError> for ReadError<E> {
    fn from(e: FrameError) -> Self {
        ReadError::Frame(e)
    }
}

impl<E: fmt::Display> fmt::Display for ReadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Read(e) => write!(f, "cannot read: {e}"),
            ReadError::End => f.write_str("no picture: the stream has ended"),
            ReadError::Frame(e) => e.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for ReadError<E> {}

/// Bytes asked for at once; they pass through the stack.
const PIECE: usize = 64;

impl Frame<'_> {
    /// Reads the rest of the picture, never a byte more.
    ///
    /// # Errors
    /// [`ReadError::Read`], or [`FrameError::Length`] if the stream ends before.
    pub fn read_from<R: Read>(mut self, reader: &mut R) -> Result<(), ReadError<R::Error>> {
        let mut piece = [0; PIECE];
        while self.missing() > 0 {
            let room = self.missing().min(PIECE);
            let got = reader.read(piece.get_mut(..room).unwrap_or_default()).map_err(ReadError::Read)?;
            if got == 0 {
                break;
            }
            self.push(piece.get(..got).unwrap_or_default())?;
        }
        Ok(self.finish()?)
    }
}

/// Skips bytes until a header ([`Picture::header`]) begins, and reads it: a stream that lost bytes finds its way
/// again at the next picture.
///
/// # Errors
/// [`ReadError::Read`], [`ReadError::End`], or what [`Picture::parse`] says.
pub fn read_header<R: Read>(reader: &mut R) -> Result<Picture, ReadError<R::Error>> {
    let mut byte = || {
        let mut byte = [0];
        match reader.read(&mut byte) {
            Ok(0) => Err(ReadError::End),
            Ok(_) => Ok(byte[0]),
            Err(e) => Err(ReadError::Read(e)),
        }
    };
    let mut last = [0; MAGIC.len()];
    while last != MAGIC {
        last.rotate_left(1);
        let [.., newest] = &mut last;
        *newest = byte()?;
    }
    let mut rest = [0; HEADER_BYTES - MAGIC.len()];
    for to in &mut rest {
        *to = byte()?;
    }
    Ok(Picture::parse(rest)?)
}

/// Reads a header and the picture behind it into the input of `engine`.
///
/// # Errors
/// Those of [`read_header`], [`Frame::new`] and [`Frame::read_from`]. After one the engine's input is not to be used;
/// the next call looks for the next header.
pub fn read_picture<R: Read, M: Mode>(
    reader: &mut R,
    engine: &mut Engine<'_, M>,
    table: &Table,
) -> Result<Picture, ReadError<R::Error>> {
    let picture = read_header(reader)?;
    Frame::new(engine, table, picture)?.read_from(reader)?;
    Ok(picture)
}
