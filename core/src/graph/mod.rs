//! What runs: a flat list of ops on numbered values.
//!
//! A [`Graph`] says what is computed and holds no weights, so that plans are made from it alone. A [`Net`] is a graph
//! with the tensors of its convolutions, which stay where they are. A [`Builder`] makes nets of any ops, with
//! several outputs if need be:
//!
//! ```
//! use residual_core::{
//!     geom::{ConvGeom, Shape},
//!     graph::{Builder, FoldedConv, ValueId},
//!     plan::Options,
//!     session::Session,
//! };
//!
//! let geom = ConvGeom { input: Shape::new(5, 7, 1), c_out: 2, kernel: 3, stride: 1, pad: 1 };
//! let tensors = || FoldedConv::new(&[0.1; 18], vec![0.0, 1.0]);
//! let mut net = Builder::new(geom.input);
//! let first = net.conv("first", ValueId::INPUT, geom, tensors(), None, true)?;
//! let pooled = net.average_pool("pooled", first)?;
//! let net = net.finish(&[first, pooled])?;
//! let mut session = Session::new(&net, &Options::default())?;
//! assert_eq!(session.run(&[1.0f32; 35])?.len(), 5 * 7 * 2);
//! assert_eq!(session.output::<f32>(1)?.len(), 2);
//! # Ok::<(), residual_core::Error>(())
//! ```

mod builder;
mod net;
mod ops;
#[cfg(test)]
mod tests;

pub use builder::Builder;
pub(crate) use net::Tensors;
pub use net::{FoldedConv, Net};
pub use ops::{Graph, Op, OpKind, Value, ValueId};
