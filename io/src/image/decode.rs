//! Picture files to [`Image`]s.

use std::{
    any::Any,
    io::{self, Cursor, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::{Image, jpeg};
use crate::{DataError, read_regular};

/// Longest picture file, in bytes: 128 megapixels do not need more.
const MAX_FILE: u64 = 512 << 20;

/// How large a picture may be before it is refused.
///
/// A file of a few bytes can announce a picture of gigabytes. The size is checked before any
/// pixel memory is reserved; decoding then takes at most `max_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// most pixels on a side
    pub max_side: u32,
    /// most pixels in all
    pub max_pixels: u64,
    /// most bytes that decoding may take: the samples as the file has them, what the decoder keeps beside them, and
    /// the RGB picture
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// Sides up to 32,767, 128 megapixels and 512 MiB: above any common camera. 16-bit pictures with transparency,
    /// the most expensive, may have 64 megapixels.
    fn default() -> Self {
        DecodeLimits { max_side: 32_767, max_pixels: 128 << 20, max_bytes: 512 << 20 }
    }
}

impl Image {
    /// Reads a JPEG, PNG, BMP or WebP file; see [`Image::decode`].
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::Decode`] or [`DataError::TooLarge`], naming the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let bytes = read_regular(path, MAX_FILE).map_err(|source| DataError::Io { path: path.into(), source })?;
        Image::decode_with(&bytes, &path.display().to_string(), DecodeLimits::default())
    }

    /// Reads a picture to the end of `from`, a pipe for example; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn read(from: impl Read, name: &str) -> Result<Self, DataError> {
        let mut bytes = Vec::new();
        let read = from.take(MAX_FILE + 1).read_to_end(&mut bytes);
        let read = read.and_then(|_| match bytes.len() as u64 > MAX_FILE {
            true => Err(io::Error::other(format!("more than {MAX_FILE} bytes are no picture"))),
            false => Ok(()),
        });
        read.map_err(|source| DataError::Io { path: name.into(), source })?;
        Image::decode_with(&bytes, name, DecodeLimits::default())
    }

    /// Decodes JPEG, PNG, BMP or WebP, told apart by content.
    ///
    /// Any colour type becomes 8-bit RGB: grey is repeated, transparency is dropped (not blended),
    /// 16-bit samples keep their high byte, CMYK is converted. EXIF orientation is applied; an
    /// animation gives its first frame. Incomplete files are errors, never half-grey pictures.
    ///
    /// JPEGs may be sequential or progressive, of 8 bits a sample, grey, colour or CMYK. Refused are arithmetic
    /// coding, sequential files with their components in separate scans, colour sampled finer than luma and other
    /// unusual sampling factors: no decoder written in Rust gives the right pixels for all of them.
    ///
    /// # Errors
    /// [`DataError::Decode`], or [`DataError::TooLarge`] under the default [`DecodeLimits`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DataError> {
        Image::decode_with(bytes, "picture", DecodeLimits::default())
    }

    /// [`Image::decode`] under given limits; `name` is what errors call the picture.
    ///
    /// # Errors
    /// [`DataError::Decode`] or [`DataError::TooLarge`].
    pub fn decode_with(bytes: &[u8], name: &str, limits: DecodeLimits) -> Result<Self, DataError> {
        guarded(name, || decode(bytes, name, limits))
    }
}

/// A panic in a decoder as an error: it must not end a run over many pictures. A program built with
/// `panic = "abort"` still ends; so the command `residual` is not built that way.
fn guarded(name: &str, decode: impl FnOnce() -> Result<Image, DataError>) -> Result<Image, DataError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let reason = format!("the decoder failed: {}", one_line(message(&*panic)));
        Err(DataError::Decode { picture: name.into(), reason })
    })
}

fn decode(bytes: &[u8], name: &str, limits: DecodeLimits) -> Result<Image, DataError> {
    let refuse = |reason: String| DataError::Decode { picture: name.into(), reason };
    let failed = |e: ImageError| refuse(one_line(&e.to_string()));

    let format = supported_format(bytes).map_err(&refuse)?;
    let working = check(bytes, format).map_err(&refuse)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Sides are checked below, with the values in the message. PNG needs the memory limit
    // before its header is read.
    let mut lib_limits = Limits::no_limits();
    lib_limits.max_alloc = Some(limits.max_bytes.saturating_add(1 << 20));
    reader.limits(lib_limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;

    let (width, height) = decoder.dimensions();
    let max_side = limits.max_side.min(Image::MAX_SIDE as u32);
    let pixels = u64::from(width) * u64::from(height);
    if width > max_side || height > max_side || pixels > limits.max_pixels {
        return Err(DataError::TooLarge {
            picture: name.into(),
            width: width.into(),
            height: height.into(),
            max_side,
            max_pixels: limits.max_pixels,
        });
    }
    if width == 0 || height == 0 {
        return Err(refuse(format!("a picture of {width} x {height} pixels")));
    }
    // A damaged EXIF block is no reason to refuse a sound picture.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let color = decoder.color_type();
    let held = decoder.total_bytes();
    // Samples of less than 3 bytes a pixel become RGB in memory of its own, others where they lie.
    let rgb = if held < 3 * pixels { 3 * pixels } else { 0 };
    let need = held + rgb + working.bytes(pixels);
    if need > limits.max_bytes {
        let most = limits.max_bytes;
        return Err(refuse(format!(
            "{width} x {height} pixels need {need} bytes to decode, more than the limit of {most}"
        )));
    }
    let len = usize::try_from(held).map_err(|_| refuse("too large for this machine".into()))?;
    let mut raw = zeros(len).map_err(&refuse)?;
    decoder.read_image(&mut raw).map_err(failed)?;

    let rgb = to_rgb8(raw, color).map_err(&refuse)?;
    let rgb = RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| refuse(format!("the decoder did not fill {width} x {height} pixels")))?;
    let mut picture = DynamicImage::ImageRgb8(rgb);
    picture.apply_orientation(orientation);
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    Image::new(w, h, picture.into_rgb8().into_raw())
}

/// What a decoder keeps beside its output.
enum Working {
    Nothing,
    /// this many bytes a pixel
    PerPixel(u64),
    /// this many bytes
    Bytes(u64),
}

impl Working {
    fn bytes(&self, pixels: u64) -> u64 {
        match *self {
            Working::Nothing => 0,
            Working::PerPixel(bytes) => bytes * pixels,
            Working::Bytes(bytes) => bytes,
        }
    }
}

/// What the decoders do not check for themselves.
fn check(bytes: &[u8], format: ImageFormat) -> Result<Working, String> {
    match format {
        ImageFormat::Jpeg => {
            let header = jpeg::Header::read(bytes)?;
            header.check(bytes)?;
            return Ok(Working::Bytes(header.working_bytes()));
        }
        // A whole picture of 4 bytes a pixel.
        ImageFormat::WebP => check_webp_chunks(bytes).map(|()| Working::PerPixel(4)),
        ImageFormat::Png => check_png_palette(bytes).map(|()| Working::Nothing),
        _ => Ok(Working::Nothing),
    }
    .map_err(str::to_owned)
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().copied().unwrap_or("without a reason"),
    }
}

/// That many zeros, if there is memory for them.
fn zeros(len: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| format!("there is no memory for {len} bytes of pixels"))?;
    bytes.resize(len, 0);
    Ok(bytes)
}

fn supported_format(bytes: &[u8]) -> Result<ImageFormat, String> {
    use ImageFormat::{Bmp, Jpeg, Png, WebP};
    match image::guess_format(bytes) {
        Ok(f @ (Jpeg | Png | Bmp | WebP)) => Ok(f),
        Ok(f) => Err(format!("{f:?} is not supported (only JPEG, PNG, BMP and WebP)")),
        Err(_) if bytes.is_empty() => Err("the file is empty".into()),
        Err(_) => Err("not a picture (looked for JPEG, PNG, BMP and WebP)".into()),
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether every chunk lies inside the file: the decoder reserves memory for the length a chunk
/// announces.
fn check_webp_chunks(bytes: &[u8]) -> Result<(), &'static str> {
    const TRUNCATED: &str = "truncated WebP: a chunk is longer than the file";
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let end = word(4).and_then(|n| n.checked_add(8)).filter(|&end| end <= bytes.len()).ok_or(TRUNCATED)?;
    let mut at = 12;
    while at + 8 <= end {
        // Chunks are padded to even lengths; some writers forget the last one's padding.
        let len = word(at + 4).ok_or(TRUNCATED)?;
        let next = len.checked_add(at + 8).filter(|&next| next <= bytes.len()).ok_or(TRUNCATED)?;
        at = next + len % 2;
    }
    Ok(())
}

/// Whether every palette of a PNG is a row of RGB triples: the decoder panics on a broken triple.
fn check_png_palette(bytes: &[u8]) -> Result<(), &'static str> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((&len, body)) = rest.split_first_chunk()
        && let Some(kind) = body.first_chunk::<4>()
    {
        let len = u32::from_be_bytes(len) as usize;
        if kind == b"PLTE" && !len.is_multiple_of(3) {
            return Err("damaged PNG: its palette is not a whole number of colours");
        }
        // Kind and checksum stand around the data. What is longer than the file, the decoder refuses.
        rest = len.checked_add(8).and_then(|len| body.get(len..)).unwrap_or_default();
    }
    Ok(())
}

/// Raw decoder output to RGB. Samples of 3 bytes and more a pixel are converted where they lie.
fn to_rgb8(mut raw: Vec<u8>, color: ColorType) -> Result<Vec<u8>, String> {
    // 16-bit samples are in native byte order.
    let high = if cfg!(target_endian = "big") { 0 } else { 1 };
    // Bytes of a pixel, and where in it red, green and blue lie.
    let (step, at) = match color {
        ColorType::Rgb8 => return Ok(raw),
        ColorType::L8 => (1, [0; 3]),
        ColorType::La8 => (2, [0; 3]),
        ColorType::L16 => (2, [high; 3]),
        ColorType::La16 => (4, [high; 3]),
        ColorType::Rgba8 => (4, [0, 1, 2]),
        ColorType::Rgb16 => (6, [high, 2 + high, 4 + high]),
        ColorType::Rgba16 => (8, [high, 2 + high, 4 + high]),
        _ => return Err(format!("colour type {color:?} is not supported")),
    };
    let pixels = raw.len() / step;
    if step < 3 {
        let mut rgb = zeros(3 * pixels)?;
        for (rgb, p) in rgb.chunks_exact_mut(3).zip(raw.chunks_exact(step)) {
            rgb.copy_from_slice(&at.map(|at| p[at]));
        }
        return Ok(rgb);
    }
    for i in 0..pixels {
        let p = at.map(|at| raw[i * step + at]);
        raw[3 * i..3 * i + 3].copy_from_slice(&p);
    }
    raw.truncate(3 * pixels);
    // A decoded data set may be kept.
    raw.shrink_to_fit();
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_decoder_is_an_error() {
        let (index, empty) = (7, Vec::<u8>::new());
        let error = guarded("a.jpg", || Image::new(1, 1, vec![empty[index]])).unwrap_err().to_string();
        assert_eq!(error, "a.jpg: the decoder failed: index out of bounds: the len is 0 but the index is 7");
        let error = guarded("a.jpg", || panic!("odd\nstate")).unwrap_err().to_string();
        assert_eq!(error, "a.jpg: the decoder failed: odd state");
    }
}
