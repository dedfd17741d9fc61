//! Memory that begins at a cache line.

use alloc::vec::Vec;

/// Zeroed f32 elements that begin at a multiple of 64 bytes, so that no vector straddles two cache lines.
#[derive(Debug)]
pub struct Buffer {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

const LINE: usize = 64;

impl Buffer {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let data = alloc::vec![0.0; len + LINE / size_of::<f32>()];
        let start = data.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
        Buffer { data, start, len }
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }

    /// The elements.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }
}
