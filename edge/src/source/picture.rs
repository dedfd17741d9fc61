//! What a camera or a wire delivers.

use super::FrameError;

/// How a pixel is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Format {
    /// a byte for each of R, G, B
    Rgb888,
    /// two bytes, 5, 6 and 5 bits, the high byte first as camera chips send it
    Rgb565,
    /// the same, the low byte first as little-endian memory holds it
    Rgb565Le,
    /// one byte, which stands for all channels
    Grey8,
}

impl Format {
    const ALL: [Format; 4] = [Format::Rgb888, Format::Rgb565, Format::Rgb565Le, Format::Grey8];

    /// Bytes of a pixel.
    pub const fn bytes(self) -> usize {
        match self {
            Format::Rgb888 => 3,
            Format::Rgb565 | Format::Rgb565Le => 2,
            Format::Grey8 => 1,
        }
    }
}

/// Size and format of a picture: rows from the top, pixels from the left, no gaps between rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Picture {
    /// pixels of a row
    pub width: u16,
    /// rows
    pub height: u16,
    /// how a pixel is stored
    pub format: Format,
}

/// First bytes of a header.
pub(super) const MAGIC: [u8; 4] = *b"pict";

/// Bytes of a header: see [`Picture::header`].
pub const HEADER_BYTES: usize = 16;

impl Picture {
    /// Bytes of the picture; `None` where an address cannot count them.
    pub const fn bytes(&self) -> Option<usize> {
        let Some(pixels) = (self.width as usize).checked_mul(self.height as usize) else { return None };
        pixels.checked_mul(self.format.bytes())
    }

    /// What precedes a picture on a wire, little-endian:
    ///
    /// | at | |
    /// |---|---|
    /// | 0 | `pict` |
    /// | 4 | width, u16 |
    /// | 6 | height, u16 |
    /// | 8 | format, u8: 0 [`Format::Rgb888`], 1 [`Format::Rgb565`], 2 [`Format::Rgb565Le`], 3 [`Format::Grey8`] |
    /// | 9 | three zeros |
    /// | 12 | bytes of the picture that follows, u32 |
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let number = Format::ALL.iter().position(|f| *f == self.format).unwrap_or_default() as u8;
        let [w0, w1] = self.width.to_le_bytes();
        let [h0, h1] = self.height.to_le_bytes();
        let [l0, l1, l2, l3] = (self.bytes().unwrap_or_default() as u32).to_le_bytes();
        let [m0, m1, m2, m3] = MAGIC;
        [m0, m1, m2, m3, w0, w1, h0, h1, number, 0, 0, 0, l0, l1, l2, l3]
    }

    /// Reads a header's bytes after its first four.
    ///
    /// # Errors
    /// [`FrameError::Format`], and [`FrameError::Length`] if size and length disagree.
    pub fn parse(rest: [u8; HEADER_BYTES - 4]) -> Result<Self, FrameError> {
        let [w0, w1, h0, h1, found, _, _, _, l0, l1, l2, l3] = rest;
        let format = *Format::ALL.get(usize::from(found)).ok_or(FrameError::Format { found })?;
        let (width, height) = (u16::from_le_bytes([w0, w1]), u16::from_le_bytes([h0, h1]));
        let picture = Picture { width, height, format };
        let got = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        match picture.bytes() {
            Some(need) if need == got => Ok(picture),
            need => Err(FrameError::Length { need: need.unwrap_or(usize::MAX), got }),
        }
    }
}
