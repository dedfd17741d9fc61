//! A tensor of an open file.

use std::{error::Error, fmt, path::PathBuf, sync::Arc};

use residual_core::{
    Name,
    weights::{Elements, Stored, Tensor},
};

use super::{ImportError, error::clean, place::Place, source::Source};

/// A file that tensors are read from.
#[derive(Debug)]
pub(super) struct Open {
    /// the path it was opened by, or the name it was given
    pub path: PathBuf,
    pub source: Source,
}

impl Open {
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

pub(super) struct Entry {
    name: String,
    place: Place,
    file: Arc<Open>,
}

impl Entry {
    pub fn new(name: String, place: Place, file: Arc<Open>) -> Self {
        Entry { name, place, file }
    }

    pub fn shape(&self) -> &[usize] {
        &self.place.shape
    }

    /// Its elements are lent where that can be; else they stay where they are.
    pub fn tensor(&self) -> Tensor<'_> {
        let data = self.place.lend(&self.file.source).map_or(Elements::Stored(self), Elements::Memory);
        Tensor { shape: self.shape(), data }
    }

    /// The index and the value of the first element that is not finite, or negative in a variance.
    pub fn first_unusable(&self, room: &mut Vec<f32>) -> Result<Option<(usize, f32)>, ImportError> {
        let variance = self.name.ends_with("running_var");
        self.place.first_unusable(&self.file.source, variance, room).map_err(|reason| self.fault(reason))
    }

    /// Why it cannot be read, if it cannot.
    pub fn trial(&self) -> Result<(), ImportError> {
        let mut room = vec![0.0; self.place.len()];
        self.place.read(&self.file.source, &mut room).map_err(|reason| self.fault(reason))
    }

    fn fault(&self, reason: String) -> ImportError {
        ImportError::Tensor { file: self.file.name(), tensor: clean(&self.name), reason }
    }
}

impl Stored for Entry {
    fn name(&self) -> Name {
        Name::new(&self.name)
    }

    fn elements(&self) -> usize {
        self.place.len()
    }

    fn read(&self, into: &mut [f32]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.place.read(&self.file.source, into).map_err(|reason| self.fault(reason))?)
    }
}

/// The file is left out: it may hold all bytes.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).field("place", &self.place).finish_non_exhaustive()
    }
}
