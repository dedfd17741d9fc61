//! Geometry of pictures, with torchvision's rounding.

use super::Image;
use crate::{DataError, Size};

/// The size after the shorter side becomes `side`: the other is `side * long / short`, truncated.
pub fn shorter_side(width: usize, height: usize, side: usize) -> (usize, usize) {
    covering(width, height, Size::square(side))
}

/// Width and height of the smallest picture that covers `size` and has the proportions of one of `width x height`, up to
/// rounding down: one side is that of `size`, the other in proportion.
pub fn covering(width: usize, height: usize, size: Size) -> (usize, usize) {
    // In 128 bits nothing can wrap; a result past usize is past every limit as well.
    let other = |side: usize, long: usize, short: usize| {
        usize::try_from(side as u128 * long as u128 / short.max(1) as u128).unwrap_or(usize::MAX)
    };
    if width as u128 * size.height as u128 <= height as u128 * size.width as u128 {
        (size.width, other(size.width, height, width))
    } else {
        (other(size.height, width, height), size.height)
    }
}

/// Where a centre crop of `crop` pixels begins on an axis of `len`: `(len - crop) / 2`, halves to
/// even. A crop larger than the axis begins before it, at `-floor((crop - len) / 2)`.
pub fn centre_offset(len: usize, crop: usize) -> isize {
    match len.checked_sub(crop) {
        Some(spare) => {
            let half = spare / 2;
            (half + (spare % 2) * (half % 2)) as isize
        }
        None => -(((crop - len) / 2) as isize),
    }
}

impl Image {
    /// This picture with its shorter side at `side` pixels; see [`shorter_side`].
    ///
    /// # Errors
    /// [`DataError::Geometry`] if `side` is 0 or the longer side would pass [`Image::MAX_SIDE`].
    pub fn resize_shorter(&self, side: usize) -> Result<Image, DataError> {
        let (width, height) = shorter_side(self.width(), self.height(), side);
        self.resize(width, height)
    }

    /// The `width x height` pixels from column `x` and row `y` on; black outside the picture.
    ///
    /// # Errors
    /// [`DataError::Geometry`] if a side is 0 or more than [`Image::MAX_SIDE`].
    pub fn crop(&self, x: isize, y: isize, width: usize, height: usize) -> Result<Image, DataError> {
        let sides = 1..=Image::MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(self.refuse("crop", width, height));
        }
        let mut pixels = vec![0; width * height * 3];
        let (columns, to_x) = overlap(x, width, self.width());
        let (rows, to_y) = overlap(y, height, self.height());
        if !columns.is_empty() {
            let from = self.rows().skip(rows.start).take(rows.len());
            for (to, from) in pixels.chunks_exact_mut(width * 3).skip(to_y).zip(from) {
                let from = &from[columns.start * 3..columns.end * 3];
                to[to_x * 3..to_x * 3 + from.len()].copy_from_slice(from);
            }
        }
        Ok(Image::from_parts(width, height, pixels))
    }

    /// The middle `width x height` pixels, black where the picture is smaller; see
    /// [`centre_offset`].
    ///
    /// # Errors
    /// [`DataError::Geometry`] if a side is 0 or more than [`Image::MAX_SIDE`].
    pub fn centre_crop(&self, width: usize, height: usize) -> Result<Image, DataError> {
        self.crop(centre_offset(self.width(), width), centre_offset(self.height(), height), width, height)
    }

    /// Left and right exchanged.
    pub fn flip_horizontal(&self) -> Image {
        let mut pixels = Vec::with_capacity(self.pixels().len());
        for row in self.rows() {
            pixels.extend(row.as_chunks::<3>().0.iter().rev().flatten());
        }
        Image::from_parts(self.width(), self.height(), pixels)
    }

    /// Four corners and the centre, then the same of the flipped picture: top left, top right,
    /// bottom left, bottom right, centre (paper, section 4.1: 10-crop testing).
    ///
    /// # Errors
    /// [`DataError::Geometry`] if `side` is 0 or larger than the picture.
    pub fn ten_crop(&self, side: usize) -> Result<[Image; 10], DataError> {
        let (right, bottom) = match (self.width().checked_sub(side), self.height().checked_sub(side)) {
            (Some(right), Some(bottom)) => (right as isize, bottom as isize),
            _ => return Err(self.refuse("ten-crop", side, side)),
        };
        let flipped = self.flip_horizontal();
        let crop = |image: &Image, x, y| image.crop(x, y, side, side);
        Ok([
            crop(self, 0, 0)?,
            crop(self, right, 0)?,
            crop(self, 0, bottom)?,
            crop(self, right, bottom)?,
            self.centre_crop(side, side)?,
            crop(&flipped, 0, 0)?,
            crop(&flipped, right, 0)?,
            crop(&flipped, 0, bottom)?,
            crop(&flipped, right, bottom)?,
            flipped.centre_crop(side, side)?,
        ])
    }

    fn refuse(&self, what: &'static str, width: usize, height: usize) -> DataError {
        DataError::Geometry { what, from_width: self.width(), from_height: self.height(), width, height }
    }
}

/// The part of an axis of `len` that a window of `size` from `start` on covers, and where in the
/// window it begins.
fn overlap(start: isize, size: usize, len: usize) -> (std::ops::Range<usize>, usize) {
    let skipped = if start < 0 { start.unsigned_abs().min(size) } else { 0 };
    let first = if start < 0 { 0 } else { start.unsigned_abs().min(len) };
    (first..len.min(first.saturating_add(size - skipped)), skipped)
}
