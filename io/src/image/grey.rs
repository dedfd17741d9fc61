//! What networks of one and of three input channels read of a picture.

use std::borrow::Cow;

use super::Image;
use crate::DataError;

impl Image {
    /// Whether a network of `channels` input channels can read pictures: grey or RGB. Others read numbers only.
    pub const fn serves(channels: usize) -> bool {
        matches!(channels, 1 | 3)
    }

    /// The picture in grey, a byte a pixel: ITU-R 601's luma, with the integers of Pillow's `convert("L")`.
    pub fn to_grey(&self) -> Vec<u8> {
        // Fractions of 65536; they sum to it, so that what is grey already stays as it is.
        let luma = |&[r, g, b]: &[u8; 3]| {
            let sum = u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471;
            ((sum + 0x8000) >> 16) as u8
        };
        self.pixels().as_chunks::<3>().0.iter().map(luma).collect()
    }

    /// What a network of `channels` input channels reads of the picture, HWC: its pixels for 3, [`Image::to_grey`] for 1.
    ///
    /// # Errors
    /// [`DataError::Channels`] for any other number.
    pub fn samples(&self, channels: usize) -> Result<Cow<'_, [u8]>, DataError> {
        match channels {
            3 => Ok(Cow::Borrowed(self.pixels())),
            1 => Ok(Cow::Owned(self.to_grey())),
            _ => Err(DataError::Channels { channels }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Image;

    #[test]
    fn grey_is_pillows() {
        // Image.frombytes("RGB", (n, 1), pixels).convert("L") of Pillow.
        let pixels = [
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
            [1, 1, 0],
            [0, 1, 1],
            [254, 255, 255],
            [128, 127, 126],
            [177, 159, 46],
            [95, 52, 5],
            [143, 162, 32],
            [46, 232, 40],
            [70, 219, 44],
            [241, 80, 13],
            [246, 103, 206],
            [165, 58, 80],
            [15, 222, 50],
        ];
        let want = [76, 150, 29, 1, 1, 255, 127, 152, 59, 141, 154, 154, 121, 157, 93, 141];
        assert_eq!(Image::new(want.len(), 1, pixels.concat()).unwrap().to_grey(), want);
        let grey: Vec<u8> = (0..=255).collect();
        let repeated = grey.iter().flat_map(|&v| [v; 3]).collect();
        assert_eq!(Image::new(256, 1, repeated).unwrap().to_grey(), grey);
    }

    #[test]
    fn pictures_have_one_or_three_channels() {
        let image = Image::new(1, 1, vec![255, 0, 0]).unwrap();
        assert_eq!((&*image.samples(3).unwrap(), &*image.samples(1).unwrap()), (&[255, 0, 0][..], &[76][..]));
        let error = image.samples(5).unwrap_err().to_string();
        assert!(error.contains("5 input channels"), "{error}");
    }
}
