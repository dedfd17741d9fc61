//! The bytes of a weights file: in memory, or in an open file, of which parts are read.

use std::{borrow::Cow, fs::File, io, ops::Range, path::Path};

use rawzip::ReaderAt;
use residual_core::memory::Buffer;

use crate::open_regular;

/// Bytes that are read at a time where they are only looked at. It is a multiple of every element's size.
const BLOCK: usize = 1 << 16;

#[derive(Debug)]
pub(super) enum Source {
    /// a file, and its length when it was opened
    File(File, usize),
    Memory(Vec<u8>),
}

impl Source {
    /// Opens a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open_regular(path)?;
        let len = file.metadata()?.len();
        let len = usize::try_from(len).map_err(|_| io::Error::other(format!("its {len} bytes are too many")))?;
        Ok(Source::File(file, len))
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Source::File(_, len) => *len,
            Source::Memory(bytes) => bytes.len(),
        }
    }

    /// Bytes in memory.
    pub fn lend(&self, range: Range<usize>) -> Option<&[u8]> {
        match self {
            Source::File(..) => None,
            Source::Memory(bytes) => bytes.get(range),
        }
    }

    /// Fills `into` with the bytes from `at` on.
    ///
    /// # Errors
    /// What the system says; the bytes reach beyond the end, as in a file that was cut short since it was opened.
    pub fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            match self.read_at(&mut into[done..], (at + done) as u64)? {
                0 => return Err(self.ended()),
                some => done += some,
            }
        }
        Ok(())
    }

    /// Some bytes, all at once.
    ///
    /// # Errors
    /// As [`Source::read`]; want of memory.
    pub fn part(&self, range: Range<usize>) -> io::Result<Cow<'_, [u8]>> {
        if let Some(bytes) = self.lend(range.clone()) {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(range.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(range.len(), 0);
        self.read(range.start, &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    /// Calls `each` with some bytes, piece by piece; only the last piece may end inside an element.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn scan(&self, range: Range<usize>, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let block = match self {
            Source::File(..) => range.len().min(BLOCK),
            Source::Memory(_) => 0,
        };
        let mut room = Buffer::new(block.div_ceil(size_of::<f32>()));
        let room: &mut [u8] = bytemuck::cast_slice_mut(room.as_mut_slice());
        for at in range.clone().step_by(BLOCK) {
            let block = at..range.end.min(at + BLOCK);
            match self.lend(block.clone()) {
                Some(bytes) => each(bytes),
                None => {
                    let bytes = &mut room[..block.len()];
                    self.read(at, bytes)?;
                    each(bytes);
                }
            }
        }
        Ok(())
    }

    /// Why there are fewer bytes than there were.
    fn ended(&self) -> io::Error {
        let now = match self {
            Source::File(file, _) => file.metadata().map_or(0, |metadata| metadata.len()),
            Source::Memory(bytes) => bytes.len() as u64,
        };
        let had = self.len();
        let reason = format!(
            "the file was cut short while it was open (it had {had} bytes, now {now}); \
             write a new file and rename it over the old one"
        );
        io::Error::new(io::ErrorKind::UnexpectedEof, reason)
    }
}

impl ReaderAt for Source {
    /// As many bytes as there are at once, none behind the end.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Source::File(_, len) if at >= *len as u64 => Ok(0),
            Source::File(file, _) => loop {
                match read_at(file, into, at) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    done => return done,
                }
            },
            Source::Memory(bytes) => bytes.as_slice().read_at(into, at),
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, into, at)
}

#[cfg(windows)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, into, at)
}

/// Where a file has one position for all threads, they read in turn.
#[cfg(not(any(unix, windows)))]
fn read_at(mut file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    use std::{
        io::{Read, Seek, SeekFrom},
        sync::{Mutex, PoisonError},
    };

    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(at))?;
    file.read(into)
}
