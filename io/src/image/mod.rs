//! 8-bit RGB pictures.

mod decode;
mod grey;
mod jpeg;
mod resize;
pub mod transform;

use crate::DataError;

pub use decode::DecodeLimits;

/// A picture: 8-bit RGB, rows from the top, pixels from the left, channels together (HWC).
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// The most pixels a side may have (that of JPEG). It keeps the fixed-point sums of
    /// [`Image::resize`] inside 32 bits.
    pub const MAX_SIDE: usize = crate::error::MAX_SIDE;

    /// A picture from `height * width * 3` bytes.
    ///
    /// # Errors
    /// [`DataError::PixelLength`] if the length does not fit, or a side is 0 or more than
    /// [`Image::MAX_SIDE`].
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, DataError> {
        let need = width.saturating_mul(height).saturating_mul(3);
        let sides = 1..=Image::MAX_SIDE;
        if need != pixels.len() || !sides.contains(&width) || !sides.contains(&height) {
            return Err(DataError::PixelLength { width, height, need, got: pixels.len() });
        }
        Ok(Image { width, height, pixels })
    }

    /// For callers inside this crate whose size is right by construction.
    pub(super) fn from_parts(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len(), width * height * 3);
        Image { width, height, pixels }
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All bytes, HWC.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All bytes, HWC, without copying them.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The rows from the top, `3 * width` bytes each.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, u8> {
        self.pixels.chunks_exact(3 * self.width)
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} x {})", self.width, self.height)
    }
}
