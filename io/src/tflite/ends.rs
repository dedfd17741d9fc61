//! What a file takes and gives where the network in it computes with int8.

use std::fmt;

use residual_core::quant::Requant;

use crate::quantized::Quantization;

/// One end of a file: the type of its input or output, and how that becomes the network's int8 or comes from it.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// the network's own int8
    Int8,
    /// real numbers of 4 bytes
    Float32(Quantization),
    /// bytes of another encoding
    Bytes(Box<Rescaled>),
}

/// Bytes that a QUANTIZE operator turns into others.
#[derive(Clone, Debug, PartialEq)]
pub struct Rescaled {
    /// whether the file's bytes are uint8, not int8
    pub unsigned: bool,
    /// real value of one step of the file's bytes
    pub scale: f32,
    /// the byte of the file that means 0.0
    pub zero_point: i32,
    /// what every byte becomes
    table: [u8; 256],
}

/// The encoding of bytes of either sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ByteEncoding {
    pub unsigned: bool,
    pub scale: f32,
    pub zero_point: i32,
}

impl From<Quantization> for ByteEncoding {
    fn from(q: Quantization) -> Self {
        ByteEncoding { unsigned: false, scale: q.scale, zero_point: q.zero_point.into() }
    }
}

impl ByteEncoding {
    fn number(self, byte: u8) -> i32 {
        if self.unsigned { byte.into() } else { (byte as i8).into() }
    }

    fn byte(self, number: i32) -> u8 {
        if self.unsigned { number.clamp(0, 255) as u8 } else { number.clamp(-128, 127) as u8 }
    }
}

impl End {
    /// The end at which a QUANTIZE operator turns `from` into `to`; `file` is the encoding that the file shows. `None`
    /// for scales without a usable quotient.
    pub(super) fn rescaled(from: ByteEncoding, to: ByteEncoding, file: ByteEncoding) -> Option<End> {
        let factor = Requant::from_scale(f64::from(from.scale) / f64::from(to.scale))?;
        let table = std::array::from_fn(|byte| {
            let number = from.number(byte as u8) - from.zero_point;
            to.byte(factor.rescale(number).saturating_add(to.zero_point))
        });
        let ByteEncoding { unsigned, scale, zero_point } = file;
        Some(End::Bytes(Box::new(Rescaled { unsigned, scale, zero_point, table })))
    }

    /// Bytes of one element.
    pub fn width(&self) -> usize {
        if matches!(self, End::Float32(_)) { 4 } else { 1 }
    }

    /// The type's name: `int8`, `uint8` or `float32`.
    pub fn type_name(&self) -> &'static str {
        match self {
            End::Float32(_) => "float32",
            End::Bytes(bytes) if bytes.unsigned => "uint8",
            End::Int8 | End::Bytes(_) => "int8",
        }
    }

    /// An input as the network reads it: LiteRT's QUANTIZE. Real numbers are little-endian; what is left of an element
    /// at the end is dropped.
    ///
    /// # Errors
    /// The index of the first real number that is not finite.
    pub fn to_int8(&self, bytes: &[u8]) -> Result<Vec<i8>, usize> {
        match self {
            End::Int8 => Ok(bytes.iter().map(|b| *b as i8).collect()),
            End::Bytes(rescaled) => Ok(bytes.iter().map(|b| rescaled.table[usize::from(*b)] as i8).collect()),
            End::Float32(Quantization { scale, zero_point }) => {
                let quantize = |(index, word): (usize, &[u8; 4])| {
                    let real = f32::from_le_bytes(*word);
                    // Divided and rounded in f32, as LiteRT does.
                    let steps = (real / scale).round() as i32;
                    let value = steps.saturating_add(i32::from(*zero_point)).clamp(-128, 127) as i8;
                    if real.is_finite() { Ok(value) } else { Err(index) }
                };
                bytes.as_chunks::<4>().0.iter().enumerate().map(quantize).collect()
            }
        }
    }

    /// The network's output as the file gives it: LiteRT's DEQUANTIZE or QUANTIZE.
    pub fn to_numbers(&self, values: &[i8]) -> Numbers {
        match self {
            End::Int8 => Numbers::Int8(values.to_vec()),
            End::Float32(encoding) => Numbers::Float32(values.iter().map(|v| encoding.dequantize(*v)).collect()),
            End::Bytes(rescaled) => {
                let bytes = values.iter().map(|v| rescaled.table[usize::from(*v as u8)]);
                match rescaled.unsigned {
                    true => Numbers::Uint8(bytes.collect()),
                    false => Numbers::Int8(bytes.map(|b| b as i8).collect()),
                }
            }
        }
    }
}

/// Outputs in the file's type. Displayed as numbers with spaces between them.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// int8
    Int8(Vec<i8>),
    /// uint8
    Uint8(Vec<u8>),
    /// real numbers
    Float32(Vec<f32>),
}

impl Numbers {
    /// The bytes LiteRT holds for them, little-endian.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match self {
            Numbers::Int8(values) => values.iter().map(|v| *v as u8).collect(),
            Numbers::Uint8(values) => values.clone(),
            Numbers::Float32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn join<T: ToString>(values: &[T]) -> String {
            values.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
        }
        f.write_str(&match self {
            Numbers::Int8(values) => join(values),
            Numbers::Uint8(values) => join(values),
            Numbers::Float32(values) => join(values),
        })
    }
}
