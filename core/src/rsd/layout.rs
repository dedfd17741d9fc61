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
#[cfg(feature = "alloc")]
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = remainders();
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize])
}

#[cfg(not(feature = "alloc"))]
pub(super) use checksum_by_halves as checksum;

/// [`checksum`] with a table of 64 bytes instead of 1 KB, at a third of the speed: for microcontrollers, which
/// check one model at start-up.
#[cfg(any(test, not(feature = "alloc")))]
pub(super) fn checksum_by_halves(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = remainders();
    let step = |crc: u32| (crc >> 4) ^ TABLE[(crc & 15) as usize];
    !bytes.iter().fold(!0, |crc, byte| step(step(crc ^ u32::from(*byte))))
}

/// The remainders of all numbers of as many bits as count to `N`.
const fn remainders<const N: usize>() -> [u32; N] {
    let mut table = [0; N];
    let mut i = 0;
    while i < N {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < N.ilog2() {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

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
    /// of a convolution where its multipliers are, of a mean its only one
    pub const MULT: usize = 10;
    /// as the multipliers
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
pub(super) const KIND_MEAN: u32 = 3;
