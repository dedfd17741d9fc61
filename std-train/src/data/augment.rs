//! Random changes of training pictures.

use super::{DataError, Image, Size, transform::covering};
use crate::random::Stream;

/// What happens to a training picture before it is normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Augmentation {
    /// nothing: pictures must have the network's size
    None,
    /// the mirror image half of the time, after a random crop of the picture with `pad` black pixels on each
    /// side (paper, section 4.2)
    PadCrop {
        /// black pixels on each side
        pad: usize,
    },
    /// a random scale, a random crop, its mirror image half of the time, and a random shift
    /// along the principal components of ImageNet's colours (paper, section 3.4)
    ScaleCrop {
        /// range that the crop's shorter side is scaled into, both ends included; the picture becomes as small as it can
        /// while it covers the scaled crop
        shorter: (usize, usize),
        /// rows and columns of the crop
        crop: Size,
        /// standard deviation of the colour shift, 0.1 in the paper
        colour: f64,
    },
}

/// Principal components of ImageNet's RGB values and the square roots of their eigenvalues, for pixels in
/// `[0, 1]` (Krizhevsky, Sutskever & Hinton 2012, section 4.1; the numbers in general use).
const COMPONENTS: [([f64; 3], f64); 3] =
    [([-0.5675, -0.5808, -0.5836], 0.2175), ([0.7192, -0.0045, -0.6948], 0.0188), ([0.4009, -0.8140, 0.4203], 0.0045)];

impl Augmentation {
    /// The paper's for ImageNet: a shorter side of 256 to 480, crop 224.
    pub fn imagenet(crop: impl Into<Size>) -> Self {
        let crop = crop.into();
        let shorter = |side: usize| crop.scaled((side, 224)).shorter();
        Augmentation::ScaleCrop { shorter: (shorter(256), shorter(480)), crop, colour: 0.1 }
    }

    /// The changed picture, and what to add to its red, green and blue, less their means, before division by their
    /// deviations.
    ///
    /// # Errors
    /// [`DataError::Geometry`] when the picture cannot be resized or cropped.
    pub fn apply(&self, image: Image, random: &mut Stream) -> Result<(Image, [f32; 3]), DataError> {
        let (image, shift) = match *self {
            Augmentation::None => return Ok((image, [0.0; 3])),
            Augmentation::PadCrop { pad } => {
                let [x, y] = offsets(pad, random);
                (image.crop(x, y, image.width(), image.height())?, [0.0; 3])
            }
            Augmentation::ScaleCrop { shorter: (low, high), crop, colour } => {
                let side = low + random.below((high + 1).saturating_sub(low));
                let least = crop.scaled((side, crop.shorter()));
                let (width, height) = covering(image.width(), image.height(), least);
                let x = random.below((width + 1).saturating_sub(crop.width));
                let y = random.below((height + 1).saturating_sub(crop.height));
                // Only what the crop keeps is computed.
                let image = image.resize_window((width, height), x..x + crop.width, y..y + crop.height)?;
                let mut shift = [0.0; 3];
                for (direction, deviation) in COMPONENTS {
                    let amount = random.normal() * colour * deviation;
                    shift.iter_mut().zip(direction).for_each(|(s, d)| *s += amount * d);
                }
                (image, shift.map(|s| s as f32))
            }
        };
        Ok((if mirrored(random) { image.flip_horizontal() } else { image }, shift))
    }
}

/// A random crop of a normalised picture of `size` (NHWC, any channels) with `pad` zeros on each side, mirrored half of
/// the time: the order of the paper's section 4.2, in which pixels that have means of their own must lose them before
/// they move. The same random numbers give the same crop as [`Augmentation::PadCrop`].
pub(super) fn pad_crop(pad: usize, from: &[f32], size: Size, random: &mut Stream, to: &mut [f32]) {
    let [dx, dy] = offsets(pad, random);
    let mirrored = mirrored(random);
    let Size { height, width } = size;
    let channels = (from.len() / (height * width).max(1)).max(1);
    for (i, to) in to.chunks_exact_mut(channels).enumerate() {
        let (x, y) = (i % width, i / width);
        let x = if mirrored { width - 1 - x } else { x };
        let inside = |at: usize, by: isize, side: usize| at.checked_add_signed(by).filter(|&at| at < side);
        match inside(x, dx, width).zip(inside(y, dy, height)) {
            Some((x, y)) => to.copy_from_slice(&from[(y * width + x) * channels..][..channels]),
            None => to.fill(0.0),
        }
    }
}

/// How far a crop moves.
fn offsets(pad: usize, random: &mut Stream) -> [isize; 2] {
    [(); 2].map(|()| random.below(2 * pad + 1) as isize - pad as isize)
}

fn mirrored(random: &mut Stream) -> bool {
    random.bits() >> 63 == 1
}

#[cfg(test)]
mod tests {
    use super::{Augmentation, Image, Size};
    use crate::random::{Purpose, Stream};

    #[test]
    fn crops_move_by_at_most_the_padding_and_mirror_half_of_the_time() {
        // Pixel (x, y) holds (x + 1, y + 1, 0), so that a crop's origin can be read off.
        let pixels = (0..8 * 8).flat_map(|i| [i % 8 + 1, i / 8 + 1, 0]).collect();
        let image = Image::new(8, 8, pixels).unwrap();
        let (mut seen, mut mirrored) = (std::collections::BTreeSet::new(), 0);
        for i in 0..2000 {
            let mut random = Stream::new(1, Purpose::Augment, [0, i]);
            let (out, _) = Augmentation::PadCrop { pad: 2 }.apply(image.clone(), &mut random).unwrap();
            let at = |x: usize, y: usize| &out.pixels()[(y * 8 + x) * 3..][..2];
            let centre = at(4, 4);
            let flipped = at(5, 4)[0] < centre[0];
            mirrored += usize::from(flipped);
            let x = i32::from(centre[0]) - 1 - if flipped { 3 } else { 4 };
            let y = i32::from(centre[1]) - 1 - 4;
            assert!(x.abs() <= 2 && y.abs() <= 2);
            seen.insert((x, y));
        }
        assert_eq!(seen.len(), 25);
        assert!((900..1100).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn normalised_pictures_move_as_pictures_do() {
        let image = Image::new(5, 4, (1..=60).collect()).unwrap();
        let size = Size { height: 4, width: 5 };
        for (i, channels) in (0..50).flat_map(|i| [(i, 1), (i, 3)]) {
            let values = |image: &Image| -> Vec<f32> {
                image.samples(channels).unwrap().iter().map(|&v| f32::from(v)).collect()
            };
            let random = || Stream::new(1, Purpose::Augment, [0, i]);
            let (want, _) = Augmentation::PadCrop { pad: 2 }.apply(image.clone(), &mut random()).unwrap();
            let mut out = vec![f32::NAN; 20 * channels];
            super::pad_crop(2, &values(&image), size, &mut random(), &mut out);
            assert_eq!(out, values(&want), "{i}, {channels} channels");
        }
    }

    #[test]
    fn scaled_crops_have_the_networks_size() {
        let image = Image::new(50, 40, vec![100; 50 * 40 * 3]).unwrap();
        let mut shifts = Vec::new();
        for i in 0..20 {
            let mut random = Stream::new(1, Purpose::Augment, [0, i]);
            let (out, shift) = Augmentation::imagenet(32).apply(image.clone(), &mut random).unwrap();
            assert_eq!((out.width(), out.height()), (32, 32));
            shifts.push(shift[0]);
            let wide = Augmentation::imagenet(Size { height: 16, width: 40 });
            let (out, _) = wide.apply(image.clone(), &mut random).unwrap();
            assert_eq!((out.width(), out.height()), (40, 16));
        }
        assert!(shifts.windows(2).all(|s| s[0] != s[1]) && shifts.iter().all(|s| s.abs() < 0.1));
    }
}
