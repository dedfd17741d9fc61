//! What packed weights carry, to be told from those of another plan.

use super::{Step, StepKind, arena::ALIGN};
use crate::{Error, geom::ConvGeom};

/// Elements of the mark, behind the weights.
pub(super) const LEN: usize = ALIGN;

/// A hash of all kernels, of the shapes they compute and of where their weights lie, as four numbers below 2^16: f32
/// values that any copy keeps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark([f32; 4]);

impl Mark {
    pub(super) fn of(steps: &[Step]) -> Self {
        const CRC: crc::Crc<u64> = crc::Crc::<u64>::new(&crc::CRC_64_XZ);
        let mut digest = CRC.digest();
        for step in steps {
            if let StepKind::Conv { kernel, geom, packed, .. } = &step.kind {
                let ConvGeom { input, c_out, kernel: side, stride, pad } = *geom;
                digest.update(kernel.name().as_str().as_bytes());
                for number in [input.h, input.w, input.c, c_out, side, stride, pad, packed.start, packed.end] {
                    digest.update(&(number as u64).to_le_bytes());
                }
            }
        }
        let hash = digest.finalize();
        Mark(core::array::from_fn(|i| f32::from((hash >> (16 * i)) as u16)))
    }

    /// Writes it behind packed weights.
    pub(super) fn write(&self, packed: &mut [f32]) {
        if let Some(tail) = packed.last_chunk_mut::<LEN>() {
            tail.fill(0.0);
            tail[..4].copy_from_slice(&self.0);
        }
    }

    /// # Errors
    /// [`Error::PackedForOtherKernel`] when another mark, or none, is behind these packed weights.
    pub(super) fn check(&self, packed: &[f32]) -> Result<(), Error> {
        match packed.last_chunk::<LEN>() {
            Some(tail) if tail[..4] == self.0 => Ok(()),
            _ => Err(Error::PackedForOtherKernel),
        }
    }
}
