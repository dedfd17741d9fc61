//! The flat model file `.rsd`: an int8 network, read in place from flash or a mapped file.
//!
//! Little-endian throughout. Every section begins at a multiple of 16 bytes.
//!
//! | at | header, 32 bytes |
//! |---|---|
//! | 0 | `residual` |
//! | 8 | version, u32 |
//! | 12 | file length, u32 |
//! | 16 | CRC-32 of everything from byte 20 on |
//! | 20 | number of sections, u32 |
//! | 24 | arena bytes, u32: the values' placement below fits in it |
//! | 28 | 0 |
//!
//! The section table follows: tag (4 letters), offset, length, 0. Unknown tags are skipped.
//!
//! | tag | content |
//! |---|---|
//! | `VALS` | 32 bytes a value: h, w, c, arena offset, scale (f32), zero point (i32), two zeros. Value 0 is the input, value `i + 1` the result of op `i`, the last one the output |
//! | `OPS ` | 96 bytes an op: kind (0 convolution, 1 max pool, 2 global average pool, 3 mean with an encoding of its own), source value, kernel, stride, padding above, padding left, encoding and rounding (0 twice, 1 once), scale, four tensor offsets (weights OHWI, bias, multipliers, shifts; of a mean the last two are its multiplier and shift themselves), shortcut value + 1, its stride and zero channels before, three multipliers, their shifts, encoding, zeros |
//! | `DATA` | the tensors; offsets count from the start of the file |
//! | `PREP` | mean and standard deviation (3 f32 each, of pixels in 0..=1; one channel has the first), then u32: rows to resize to, rows of the crop (0: not resized, not cropped), and unless both are squares the columns of both |
//! | `ARCH` `CLAS` `LAYR` | UTF-8: the architecture's name; class names, op names, one a line |
//!
//! [`View::new_checked`] proves every offset, size and parameter once, and that no op overwrites a
//! value that is still needed; after that nothing can fail.

mod check;
mod error;
mod layout;
mod sound;
mod view;

#[cfg(feature = "alloc")]
mod aligned;
#[cfg(feature = "alloc")]
mod net;
#[cfg(feature = "alloc")]
mod place;
#[cfg(feature = "alloc")]
mod synthetic;
#[cfg(feature = "alloc")]
mod writer;

#[cfg(feature = "alloc")]
pub use aligned::AlignedBytes;
pub use error::FormatError;
#[cfg(feature = "alloc")]
pub use synthetic::synthetic;
pub use view::{Preprocessing, Value, View};
#[cfg(feature = "alloc")]
pub use writer::Builder;

/// Version of the format this library writes and reads.
pub const VERSION: u32 = 1;

/// Alignment a model's first byte needs.
pub const ALIGN: usize = 4;

#[cfg(all(test, feature = "alloc"))]
mod tests;
