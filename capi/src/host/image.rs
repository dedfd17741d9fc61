//! Pictures.

use std::{ffi::c_char, sync::Arc};

use residual::Image as Decoded;

use crate::{
    Error, Status, guard,
    host::{registry::Registry, text::path},
    pointer::{fault, out, slice},
};

static IMAGES: Registry<Decoded> = Registry::new();

/// A decoded picture. Opaque.
pub struct Image(());

/// Pixels of a picture, 8 bits each of R, G and B, rows from the top, pixels from the left.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Picture {
    /// the first pixel
    pub pixels: *const u8,
    /// bytes that may be read from there
    pub len: usize,
    /// pixels in a row, 1 to 65535
    pub width: u32,
    /// rows, 1 to 65535
    pub height: u32,
    /// bytes from one row to the next, at least `3 * width`; 0 means `3 * width`
    pub stride: usize,
}

impl Picture {
    /// A copy of the pixels.
    ///
    /// # Safety
    /// Where `pixels` is not NULL, `len` bytes lie there, which nobody writes to meanwhile.
    pub(super) unsafe fn copy(&self) -> Result<Decoded, Error> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { slice(self.pixels, self.len, "pixels")? };
        let (width, height) = (self.width as usize, self.height as usize);
        if ![width, height].iter().all(|side| (1..=Decoded::MAX_SIDE).contains(side)) {
            let text = format!("a picture of {width} x {height} pixels; sides are 1 to {}", Decoded::MAX_SIDE);
            return Err(Error::with(Status::BadPicture, text));
        }
        let row = 3 * width;
        let stride = if self.stride == 0 { row } else { self.stride };
        if stride < row {
            let text = format!("rows of {width} pixels are {row} bytes long, more than the stride of {stride}");
            return Err(Error::with(Status::BadArgument, text));
        }
        let need = (height - 1).checked_mul(stride).and_then(|bytes| bytes.checked_add(row)).unwrap_or(usize::MAX);
        if bytes.len() < need {
            let text = format!("{width} x {height} pixels need {need} bytes, there are {}", bytes.len());
            return Err(Error::with(Status::TooShort, text));
        }
        let mut pixels = Vec::with_capacity(row * height);
        bytes.chunks(stride).take(height).for_each(|line| pixels.extend_from_slice(&line[..row]));
        Ok(Decoded::new(width, height, pixels)?)
    }
}

/// Decodes a JPEG, PNG, BMP or WebP file; its content tells which. Free it with `residual_image_free`.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_image_open(file: *const c_char, image: *mut *mut Image) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let (path, image) = unsafe { (path(file, "file")?, out(image, 1, "image")?) };
        image.write(&[std::ptr::null_mut()]);
        image.write(&[IMAGES.add(Decoded::open(path)?)?]);
        Ok(())
    })
}

/// Decodes a JPEG, PNG, BMP or WebP file that is in memory. Free it with `residual_image_free`.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_image_decode(bytes: *const u8, len: usize, image: *mut *mut Image) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let (bytes, image) = unsafe { (slice(bytes, len, "bytes")?, out(image, 1, "image")?) };
        image.write(&[std::ptr::null_mut()]);
        image.write(&[IMAGES.add(Decoded::decode(bytes)?)?]);
        Ok(())
    })
}

/// The pixels of a decoded picture. They live until it is freed.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_image_picture(image: *const Image, picture: *mut Picture) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let picture = unsafe { out(picture, 1, "picture")? };
        let image: Arc<Decoded> = IMAGES.get(image, "image")?;
        let (pixels, width, height) = (image.pixels(), image.width(), image.height());
        // Sides are at most 65535.
        picture.write(&[Picture {
            pixels: pixels.as_ptr(),
            len: pixels.len(),
            width: width as u32,
            height: height as u32,
            stride: 3 * width,
        }]);
        Ok(())
    })
}

/// Frees a decoded picture; NULL is fine.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_image_free(image: *mut Image) -> Status {
    guard(|| IMAGES.remove(image, "image"))
}

/// `Picture`s come from C and may hold anything but must have a size.
pub(super) fn some(count: usize) -> Result<(), Error> {
    if count == 0 { fault(Status::BadArgument, "count") } else { Ok(()) }
}
