//! Memory that begins at a cache line, in large pages where the system has them.

use alloc::vec::Vec;

use crate::Error;

/// Zeroed f32 elements that begin at a multiple of 64 bytes, so that no vector straddles two cache
/// lines.
///
/// Large buffers ask for huge pages: a network's weights span many more 4 KB pages than the
/// processor's translation cache holds.
#[derive(Debug)]
pub struct Buffer {
    #[cfg(all(feature = "std", unix))]
    data: Memory,
    #[cfg(not(all(feature = "std", unix)))]
    data: Vec<f32>,
    start: usize,
    len: usize,
}

#[cfg(all(feature = "std", unix))]
#[derive(Debug)]
enum Memory {
    Heap(Vec<f32>),
    Map(memmap2::MmapMut),
}

impl Buffer {
    /// `len` zeros, for lengths that are known to be small: [`Buffer::try_new`] is for all others.
    ///
    /// # Panics
    /// When there is too little memory.
    pub fn new(len: usize) -> Self {
        Buffer::try_new(len).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is too little memory.
    pub fn try_new(len: usize) -> Result<Self, Error> {
        #[cfg(all(feature = "std", unix))]
        if let Some(mapped) = Buffer::mapped(len) {
            return Ok(mapped);
        }
        let align = 64;
        let slack = align / size_of::<f32>();
        let none = Error::OutOfMemory { bytes: len.saturating_mul(size_of::<f32>()) };
        let whole = len.checked_add(slack).ok_or(none)?;
        let mut data = Vec::new();
        data.try_reserve_exact(whole).map_err(|_| none)?;
        data.resize(whole, 0.0f32);
        let start = data.as_ptr().align_offset(align).min(slack);
        #[cfg(all(feature = "std", unix))]
        let data = Memory::Heap(data);
        Ok(Buffer { data, start, len })
    }

    #[cfg(all(feature = "std", unix))]
    fn mapped(len: usize) -> Option<Self> {
        const HUGE: usize = 2 << 20;
        let bytes = len.checked_mul(size_of::<f32>()).filter(|&bytes| bytes >= HUGE / 2)?;
        let map = memmap2::MmapMut::map_anon(bytes.checked_add(HUGE)?).ok()?;
        // A kernel without huge pages declines; ordinary pages work too.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let start = map.as_ptr().align_offset(HUGE).min(HUGE) / size_of::<f32>();
        Some(Buffer { data: Memory::Map(map), start, len })
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        #[cfg(all(feature = "std", unix))]
        let data = match &self.data {
            Memory::Heap(data) => data.as_slice(),
            Memory::Map(map) => bytemuck::cast_slice(map),
        };
        #[cfg(not(all(feature = "std", unix)))]
        let data = self.data.as_slice();
        &data[self.start..self.start + self.len]
    }

    /// The elements.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        #[cfg(all(feature = "std", unix))]
        let data = match &mut self.data {
            Memory::Heap(data) => data.as_mut_slice(),
            Memory::Map(map) => bytemuck::cast_slice_mut(map),
        };
        #[cfg(not(all(feature = "std", unix)))]
        let data = self.data.as_mut_slice();
        &mut data[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;
    use crate::Error;

    #[test]
    fn memory_that_nobody_has_is_refused_by_its_size() {
        // Small machines may have an eighth of what they can count.
        let much = if usize::BITS < 64 { usize::MAX / 2 } else { isize::MAX as usize / 8 };
        for len in [usize::MAX, usize::MAX / 4, much] {
            let bytes = len.saturating_mul(4);
            assert_eq!(Buffer::try_new(len).map(|b| b.as_slice().len()), Err(Error::OutOfMemory { bytes }));
        }
    }

    #[test]
    fn buffers_are_aligned_zeroed_and_of_the_length_asked_for() {
        for len in [0, 1, 1000, 1 << 18, (1 << 20) + 3] {
            let mut buffer = Buffer::new(len);
            assert_eq!(buffer.as_slice().len(), len);
            assert!(buffer.as_slice().iter().all(|&v| v == 0.0));
            assert_eq!(buffer.as_mut_slice().as_ptr() as usize % 64, 0);
        }
    }
}
