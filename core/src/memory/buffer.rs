//! Memory that begins at a cache line, in large pages where the system has them.

#[cfg(not(all(feature = "std", unix)))]
use alloc::vec::Vec;

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
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        #[cfg(all(feature = "std", unix))]
        if let Some(mapped) = Buffer::mapped(len) {
            return mapped;
        }
        let align = 64;
        let slack = align / size_of::<f32>();
        let data = alloc::vec![0.0f32; len + slack];
        let start = data.as_ptr().align_offset(align).min(slack);
        #[cfg(all(feature = "std", unix))]
        let data = Memory::Heap(data);
        Buffer { data, start, len }
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
