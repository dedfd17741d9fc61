//! A checked window on a model's bytes.

use super::{ALIGN, FormatError, VERSION, layout::*};
use crate::{
    geom::Shape,
    quant::{Add, Conv, Encoding, Mean, Op, Requant, Rounding, Window},
};

/// A feature map the network computes: its shape, encoding and place in the arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// rows, columns, channels
    pub shape: Shape,
    /// bytes from the start of the arena
    pub offset: usize,
    /// real value of one step
    pub scale: f32,
    /// the int8 that means 0.0
    pub zero_point: i8,
}

impl Value {
    /// Its bytes in the arena.
    pub fn range(&self) -> core::ops::Range<usize> {
        self.offset..self.offset + self.shape.elements()
    }
}

/// How a picture becomes the network's input: `(pixel / 255 - mean) / std`, then quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    /// per channel, of pixels in 0..=1; an input of one channel has the first
    pub mean: [f32; 3],
    /// per channel, as `mean`
    pub std: [f32; 3],
    /// rows and columns that the picture covers after resizing, of a square the shorter side; 0: not resized
    pub resize: [u32; 2],
    /// rows and columns that are kept of its centre; 0: everything
    pub crop: [u32; 2],
}

/// A model file whose every field has been checked.
#[derive(Clone, Copy, Debug)]
pub struct View<'m> {
    bytes: &'m [u8],
    pub(super) ops: &'m [u8],
    pub(super) values: &'m [u8],
    pub(super) arena: usize,
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    bytes.get(index.checked_mul(4)?..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn size(bytes: &[u8], index: usize) -> Option<usize> {
    word(bytes, index).and_then(|w| usize::try_from(w).ok())
}

impl<'m> View<'m> {
    /// Checks everything in `bytes`, which must start at a multiple of [`ALIGN`].
    pub fn new_checked(bytes: &'m [u8]) -> Result<Self, FormatError> {
        let view = Self::open(bytes)?;
        let stored = word(bytes, CHECKSUM_AT / 4).unwrap_or_default();
        let computed = checksum(bytes.get(CHECKSUM_AT + 4..).unwrap_or_default());
        if stored != computed {
            return Err(FormatError::Checksum { stored, computed });
        }
        view.check()?;
        Ok(view)
    }

    fn open(bytes: &'m [u8]) -> Result<Self, FormatError> {
        if cfg!(target_endian = "big") {
            return Err(FormatError::BigEndian);
        }
        let (need, got) = (HEADER, bytes.len());
        let header = bytes.get(..HEADER).ok_or(FormatError::Length { need, got })?;
        if header.get(..8) != Some(MAGIC) {
            return Err(FormatError::Magic);
        }
        let field = |i| size(header, i).unwrap_or_default();
        let version = field(2) as u32;
        if version != VERSION {
            return Err(FormatError::Version { found: version });
        }
        let need = field(3);
        if need != got {
            return Err(FormatError::Length { need, got });
        }
        let by = bytes.as_ptr().addr() % ALIGN;
        if by != 0 {
            return Err(FormatError::Misaligned { by });
        }
        let mut view = View { bytes, ops: &[], values: &[], arena: field(6) };
        view.ops = view.section(OPS)?.ok_or(FormatError::Section { tag: OPS, reason: "missing" })?;
        view.values = view.section(VALUES)?.ok_or(FormatError::Section { tag: VALUES, reason: "missing" })?;
        if view.ops.is_empty() || !view.ops.len().is_multiple_of(OP) || view.ops() > 1 << 14 {
            return Err(FormatError::Section { tag: OPS, reason: "must hold 1 to 16384 records of 96 bytes" });
        }
        if view.values.len() != (view.ops() + 1) * VALUE {
            return Err(FormatError::Section { tag: VALUES, reason: "must hold one record of 32 bytes more than ops" });
        }
        for tag in [ARCHITECTURE, CLASSES, LAYERS] {
            if view.section(tag)?.is_some_and(|text| core::str::from_utf8(text).is_err()) {
                return Err(FormatError::Section { tag, reason: "not UTF-8" });
            }
        }
        if view.section(PREPROCESSING)?.is_some_and(|s| ![32, 40].contains(&s.len())) {
            return Err(FormatError::Section { tag: PREPROCESSING, reason: "must hold 32 or 40 bytes" });
        }
        Ok(view)
    }

    /// The section called `tag`, if there is one.
    fn section(&self, tag: [u8; 4]) -> Result<Option<&'m [u8]>, FormatError> {
        let count = size(self.bytes, 5).unwrap_or_default();
        let table = count
            .checked_mul(SECTION)
            .and_then(|len| self.bytes.get(HEADER..)?.get(..len))
            .ok_or(FormatError::Section { tag, reason: "the section table is longer than the file" })?;
        let Some(entry) = table.chunks_exact(SECTION).find(|e| e.starts_with(&tag)) else { return Ok(None) };
        let (offset, len) = (size(entry, 1).unwrap_or_default(), size(entry, 2).unwrap_or_default());
        let section = self.bytes.get(offset..).and_then(|rest| rest.get(..len));
        match section {
            Some(section) if offset.is_multiple_of(16) => Ok(Some(section)),
            _ => Err(FormatError::Section { tag, reason: "misaligned or outside the file" }),
        }
    }

    fn text(&self, tag: [u8; 4]) -> Option<&'m str> {
        core::str::from_utf8(self.section(tag).ok()??).ok()
    }

    /// Number of ops.
    pub fn ops(&self) -> usize {
        self.ops.len() / OP
    }

    /// Length of the file.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes the values need.
    pub fn arena_bytes(&self) -> usize {
        self.arena
    }

    /// Value `index`: 0 is the input, `i + 1` the result of op `i`.
    pub fn value(&self, index: usize) -> Option<Value> {
        let record = self.values.get(index.checked_mul(VALUE)?..)?.get(..VALUE)?;
        Some(Value {
            shape: Shape::new(size(record, 0)?, size(record, 1)?, size(record, 2)?),
            offset: size(record, 3)?,
            scale: f32::from_bits(word(record, 4)?),
            zero_point: word(record, 5)? as i8,
        })
    }

    /// The network's input.
    pub fn input(&self) -> Option<Value> {
        self.value(0)
    }

    /// The network's output.
    pub fn output(&self) -> Option<Value> {
        self.value(self.ops())
    }

    fn record(&self, index: usize) -> Option<&'m [u8]> {
        self.ops.get(index.checked_mul(OP)?..)?.get(..OP)
    }

    /// The value op `index` reads.
    pub fn source(&self, index: usize) -> Option<usize> {
        size(self.record(index)?, field::SOURCE)
    }

    /// The value op `index` adds.
    pub fn shortcut(&self, index: usize) -> Option<usize> {
        size(self.record(index)?, field::SHORTCUT)?.checked_sub(1)
    }

    /// The last op that reads value `index`; the output is needed after every op.
    pub fn last_use(&self, index: usize) -> usize {
        let reads = |op: &usize| self.source(*op) == Some(index) || self.shortcut(*op) == Some(index);
        if index >= self.ops() { self.ops() } else { (index..self.ops()).rev().find(reads).unwrap_or(index) }
    }

    /// Scale of a convolution's result before its shortcut is added.
    pub fn conv_scale(&self, index: usize) -> Option<f32> {
        word(self.record(index)?, field::SCALE).map(f32::from_bits)
    }

    fn tensor(&self, offset: usize, len: usize) -> Option<&'m [u8]> {
        self.bytes.get(offset..)?.get(..len)
    }

    fn words(&self, offset: usize, len: usize) -> Option<&'m [i32]> {
        bytemuck::try_cast_slice(self.tensor(offset, len.checked_mul(4)?)?).ok()
    }

    /// Op `index`.
    pub fn op(&self, index: usize) -> Option<Op<'m>> {
        let record = self.record(index)?;
        let get = |i| size(record, i);
        let bytes = |i| word(record, i).map(u32::to_le_bytes);
        let encoding = |i| {
            bytes(i).map(|[zero_point, min, max, _]| Encoding {
                zero_point: zero_point as i8,
                min: min as i8,
                max: max as i8,
            })
        };
        let source = self.value(get(field::SOURCE)?)?;
        let window = Window {
            input: source.shape,
            output: self.value(index + 1)?.shape,
            kernel: get(field::KERNEL)?,
            stride: get(field::STRIDE)?,
            pad_top: get(field::PAD_TOP)?,
            pad_left: get(field::PAD_LEFT)?,
        };
        match word(record, field::KIND)? {
            KIND_MAX_POOL => return Some(Op::MaxPool(window)),
            KIND_AVERAGE_POOL => return Some(Op::GlobalAveragePool(source.shape)),
            KIND_MEAN => {
                let factor = Requant {
                    mult: word(record, field::MULT)? as i32,
                    shift: i8::try_from(word(record, field::SHIFT)? as i32).ok()?,
                };
                let output_zero = self.value(index + 1)?.zero_point;
                return Some(Op::Mean(Mean {
                    input: source.shape,
                    input_zero: source.zero_point,
                    factor,
                    output_zero,
                }));
            }
            KIND_CONV => {}
            _ => return None,
        }
        // A view is checked once with these bounds; afterwards the products cannot overflow.
        if !window.is_valid() {
            return None;
        }
        let add = match self.shortcut(index) {
            None => None,
            Some(shortcut) => {
                let value = self.value(shortcut)?;
                let shifts = bytes(field::ADD_SHIFT)?;
                let factor = |i: usize| {
                    Some(Requant { mult: word(record, field::ADD_MULT + i)? as i32, shift: *shifts.get(i)? as i8 })
                };
                Some(Add {
                    shortcut: value.shape,
                    stride: get(field::ADD_STRIDE)?,
                    before: get(field::ADD_BEFORE)?,
                    shortcut_zero: value.zero_point,
                    rescale_conv: factor(0)?,
                    rescale_shortcut: factor(1)?,
                    rescale_sum: factor(2)?,
                    output: encoding(field::ADD_ENCODING)?,
                })
            }
        };
        let c = window.output.c;
        Some(Op::Conv(Conv {
            window,
            input_zero: source.zero_point,
            weights: bytemuck::cast_slice(self.tensor(get(field::WEIGHTS)?, window.weight_len())?),
            bias: self.words(get(field::BIAS)?, c)?,
            mult: self.words(get(field::MULT)?, c)?,
            shift: bytemuck::cast_slice(self.tensor(get(field::SHIFT)?, c)?),
            rounding: rounding(bytes(field::ENCODING)?)?,
            output: encoding(field::ENCODING)?,
            add,
        }))
    }

    /// The architecture's name, such as `resnet20-cifar`.
    pub fn architecture(&self) -> Option<&'m str> {
        self.text(ARCHITECTURE)
    }

    /// Class names, in the order of the outputs.
    pub fn classes(&self) -> impl Iterator<Item = &'m str> {
        lines(self.text(CLASSES).unwrap_or_default())
    }

    /// The name of op `index`.
    pub fn name(&self, index: usize) -> Option<&'m str> {
        lines(self.text(LAYERS)?).nth(index)
    }

    /// How pictures become inputs.
    pub fn preprocessing(&self) -> Option<Preprocessing> {
        let record = self.section(PREPROCESSING).ok()??;
        let real = |i| word(record, i).map(f32::from_bits);
        let sides = |at| {
            let rows = word(record, at)?;
            // A record without columns is of squares.
            Some([rows, word(record, at + 2).unwrap_or(rows)])
        };
        Some(Preprocessing {
            mean: [real(0)?, real(1)?, real(2)?],
            std: [real(3)?, real(4)?, real(5)?],
            resize: sides(6)?,
            crop: sides(7)?,
        })
    }
}

fn rounding([.., byte]: [u8; 4]) -> Option<Rounding> {
    match byte {
        ROUNDING_TWICE => Some(Rounding::Twice),
        ROUNDING_ONCE => Some(Rounding::Once),
        _ => None,
    }
}

/// As [`str::lines`], which can panic as far as a linker knows.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_terminator(['\n'])
}
