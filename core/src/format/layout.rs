//! Where everything is in the file; see the table in the module's documentation.

/// First bytes of a file.
pub(super) const MAGIC: &[u8; 8] = b"residual";
pub(super) const HEADER: usize = 32;
pub(super) const SECTION: usize = 16;
pub(super) const VALUE: usize = 32;
pub(super) const OP: usize = 96;
/// The checksum covers everything after it.
pub(super) const CHECKSUM_AT: usize = 16;

pub(super) const OPS: [u8; 4] = *b"OPS ";
pub(super) const VALUES: [u8; 4] = *b"VALS";
#[cfg(feature = "alloc")]
pub(super) const DATA: [u8; 4] = *b"DATA";
pub(super) const ARCHITECTURE: [u8; 4] = *b"ARCH";
pub(super) const CLASSES: [u8; 4] = *b"CLAS";
pub(super) const LAYERS: [u8; 4] = *b"LAYR";
pub(super) const PREPROCESSING: [u8; 4] = *b"PREP";

/// CRC-32 as in zip and PNG.
pub(super) const CHECKSUM: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Fields of an op record, as indices of 32-bit words.
pub(super) mod field {
    pub const KIND: usize = 0;
    pub const SOURCE: usize = 1;
    pub const KERNEL: usize = 2;
    pub const STRIDE: usize = 3;
    pub const PAD_TOP: usize = 4;
    pub const PAD_LEFT: usize = 5;
    /// zero point, min and max of the convolution's result and how its sums round, one byte each
    pub const ENCODING: usize = 6;
    /// f32: scale of the convolution's result
    pub const SCALE: usize = 7;
    pub const WEIGHTS: usize = 8;
    pub const BIAS: usize = 9;
    pub const MULT: usize = 10;
    pub const SHIFT: usize = 11;
    /// the value that is added, plus 1; 0 for none
    pub const SHORTCUT: usize = 12;
    pub const ADD_STRIDE: usize = 13;
    pub const ADD_BEFORE: usize = 14;
    /// three multipliers: convolution, shortcut, sum
    pub const ADD_MULT: usize = 15;
    /// their shifts, one byte each
    pub const ADD_SHIFT: usize = 18;
    /// zero point, min and max of the sum, one byte each
    pub const ADD_ENCODING: usize = 19;
}

pub(super) const ROUNDING_TWICE: u8 = 0;
pub(super) const ROUNDING_ONCE: u8 = 1;

pub(super) const KIND_CONV: u32 = 0;
pub(super) const KIND_MAX_POOL: u32 = 1;
pub(super) const KIND_AVERAGE_POOL: u32 = 2;
