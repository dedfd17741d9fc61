//! From a camera's or a wire's bytes to an engine's input.
//!
//! A [`Frame`] takes a picture's bytes in pieces of any size, as they arrive, and writes what the network sees
//! straight into the engine's input: the middle of the picture, every `n`th pixel where the picture is several times
//! larger, each sample through a [`Table`]. There is no buffer of a whole picture, no float and no allocation.
//!
//! A picture that has the size which the model's preprocessing crops to gives the bytes which the host computes. A
//! larger one is thinned out, not filtered as on the host.
//!
//! Feature `embedded-io` reads pictures from serial ports and sockets (`read_picture`), feature `embedded-hal` from
//! cameras with a picture memory on SPI (`FifoCamera`).
//!
//! ```
//! use residual_edge::{Engine, Fast, arena_bytes, source::{Format, Frame, Picture, Table}};
//! # use residual_core::{rsd::{AlignedBytes, Builder}, geom::Shape};
//! # let mut model = Builder::new(Shape::new(32, 32, 3), 1.0, -128);
//! # model.global_average_pool("pool", 0)?;
//! # let model = model.finish()?;
//! # let mut arena = AlignedBytes::zeroed(arena_bytes::<Fast>(&model)?);
//! let mut engine = Engine::<Fast>::new(&model, &mut arena)?;
//! let table = Table::new(engine.model())?; // once: it computes in float
//! let picture = Picture { width: 160, height: 120, format: Format::Rgb565 };
//! let mut frame = Frame::new(&mut engine, &table, picture)?;
//! while frame.missing() > 0 {
//!     frame.push(&[0; 64])?; // from the camera
//! }
//! frame.finish()?;
//! let class = engine.run()?.argmax();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
#[cfg(feature = "embedded-hal")]
mod fifo;
mod frame;
mod picture;
#[cfg(feature = "embedded-io")]
mod stream;
mod table;

pub use error::FrameError;
#[cfg(feature = "embedded-hal")]
pub use fifo::{CaptureError, FifoCamera, Registers};
pub use frame::Frame;
pub use picture::{Format, HEADER_BYTES, Picture};
#[cfg(feature = "embedded-io")]
pub use stream::{ReadError, read_header, read_picture};
pub use table::{Table, quantize, quantize_pixel};
