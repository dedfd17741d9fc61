//! Writing model files.

use alloc::{string::String, vec, vec::Vec};

use super::{
    AlignedBytes, FormatError, Preprocessing, VERSION, View,
    layout::{self, field},
    place::{Lifetime, place},
};
use crate::{
    geom::Shape,
    quant::{Conv, Encoding, Mean, Rounding, Window},
};

/// Builds a model op by op. Values are numbered: 0 is the input, and every op returns the number of
/// its result.
///
/// ```
/// use residual_core::{rsd::{Builder, View}, geom::Shape};
/// let mut model = Builder::new(Shape::new(4, 4, 2), 0.1, -3);
/// let mean = model.global_average_pool("pool", 0)?;
/// let bytes = model.finish()?;
/// assert_eq!((mean, View::new_checked(&bytes)?.name(0)), (1, Some("pool")));
/// # Ok::<(), residual_core::rsd::FormatError>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    values: Vec<(Shape, f32, i8)>,
    ops: Vec<[u32; layout::OP / 4]>,
    /// offsets in it are relative until the file is laid out
    data: Vec<u8>,
    names: String,
    architecture: String,
    classes: String,
    preprocessing: Option<Preprocessing>,
}

const TENSORS: [usize; 4] = [field::WEIGHTS, field::BIAS, field::MULT, field::SHIFT];

fn pack(e: Encoding, last: u8) -> u32 {
    u32::from_le_bytes([e.zero_point as u8, e.min as u8, e.max as u8, last])
}

impl Builder {
    /// A network that reads a map of this shape and encoding.
    pub fn new(input: Shape, scale: f32, zero_point: i8) -> Self {
        Builder {
            values: vec![(input, scale, zero_point)],
            ops: Vec::new(),
            data: Vec::new(),
            names: String::new(),
            architecture: String::new(),
            classes: String::new(),
            preprocessing: None,
        }
    }

    fn append(&mut self, bytes: &[u8], align: usize) -> u32 {
        self.data.resize(self.data.len().next_multiple_of(align), 0);
        let offset = self.data.len() as u32;
        self.data.extend_from_slice(bytes);
        offset
    }

    fn push(&mut self, name: &str, record: [u32; layout::OP / 4], value: (Shape, f32, i8)) -> usize {
        self.names.extend(name.chars().map(|c| if c.is_control() { ' ' } else { c }));
        self.names.push('\n');
        self.ops.push(record);
        self.values.push(value);
        self.ops.len()
    }

    pub(super) fn value_of(&self, value: usize) -> Result<(Shape, f32, i8), FormatError> {
        let reason = "it reads a value that does not exist yet";
        self.values.get(value).copied().ok_or(FormatError::Op { index: self.ops.len(), reason })
    }

    fn window(source: usize, kind: u32, window: &Window) -> [u32; layout::OP / 4] {
        let mut record = [0; layout::OP / 4];
        record[field::KIND] = kind;
        record[field::SOURCE] = source as u32;
        record[field::KERNEL] = window.kernel as u32;
        record[field::STRIDE] = window.stride as u32;
        record[field::PAD_TOP] = window.pad_top as u32;
        record[field::PAD_LEFT] = window.pad_left as u32;
        record
    }

    /// A convolution of value `source`. `scale` belongs to its own result; a convolution with an
    /// [`crate::quant::Add`] names the value it adds and the sum's scale in `shortcut`.
    pub fn conv(
        &mut self,
        name: &str,
        source: usize,
        conv: &Conv<'_>,
        scale: f32,
        shortcut: Option<(usize, f32)>,
    ) -> Result<usize, FormatError> {
        let index = self.ops.len();
        let fail = |reason| Err(FormatError::Op { index, reason });
        let (shape, _, zero) = self.value_of(source)?;
        if shape != conv.window.input || zero != conv.input_zero {
            return fail("its input has another shape or zero point than the value it reads");
        }
        if !conv.is_consistent() || conv.add.is_some() != shortcut.is_some() {
            return fail("a tensor's length does not fit its geometry, or the shortcut is half given");
        }
        let mut record = Self::window(source, layout::KIND_CONV, &conv.window);
        record[field::ENCODING] = pack(
            conv.output,
            match conv.rounding {
                Rounding::Twice => layout::ROUNDING_TWICE,
                Rounding::Once => layout::ROUNDING_ONCE,
            },
        );
        record[field::SCALE] = scale.to_bits();
        record[field::WEIGHTS] = self.append(bytemuck::cast_slice(conv.weights), 16);
        for (at, tensor) in [(field::BIAS, conv.bias), (field::MULT, conv.mult)] {
            let bytes: Vec<u8> = tensor.iter().flat_map(|v| v.to_le_bytes()).collect();
            record[at] = self.append(&bytes, 4);
        }
        record[field::SHIFT] = self.append(bytemuck::cast_slice(conv.shift), 1);
        let mut stored = scale;
        if let (Some(add), Some((value, scale))) = (&conv.add, shortcut) {
            let (shape, _, zero) = self.value_of(value)?;
            if shape != add.shortcut || zero != add.shortcut_zero {
                return fail("its shortcut has another shape or zero point than the value it adds");
            }
            record[field::SHORTCUT] = value as u32 + 1;
            record[field::ADD_STRIDE] = add.stride as u32;
            record[field::ADD_BEFORE] = add.before as u32;
            let factors = [add.rescale_conv, add.rescale_shortcut, add.rescale_sum];
            for (i, factor) in factors.iter().enumerate() {
                record[field::ADD_MULT + i] = factor.mult as u32;
                record[field::ADD_SHIFT] |= u32::from(factor.shift as u8) << (8 * i);
            }
            record[field::ADD_ENCODING] = pack(add.output, 0);
            stored = scale;
        }
        Ok(self.push(name, record, (conv.window.output, stored, conv.stored().zero_point)))
    }

    /// Max pool of value `source`.
    pub fn max_pool(&mut self, name: &str, source: usize, window: &Window) -> Result<usize, FormatError> {
        let (_, scale, zero) = self.value_of(source)?;
        let record = Self::window(source, layout::KIND_MAX_POOL, window);
        Ok(self.push(name, record, (window.output, scale, zero)))
    }

    /// Mean of each channel of value `source`.
    pub fn global_average_pool(&mut self, name: &str, source: usize) -> Result<usize, FormatError> {
        let (shape, scale, zero) = self.value_of(source)?;
        let mut record = [0; layout::OP / 4];
        record[field::KIND] = layout::KIND_AVERAGE_POOL;
        record[field::SOURCE] = source as u32;
        Ok(self.push(name, record, (Shape::new(1, 1, shape.c), scale, zero)))
    }

    /// Mean of each channel of value `source`, rescaled to an encoding of its own; `scale` belongs to the result.
    pub fn mean(&mut self, name: &str, source: usize, mean: &Mean, scale: f32) -> Result<usize, FormatError> {
        let (shape, _, zero) = self.value_of(source)?;
        if shape != mean.input || zero != mean.input_zero {
            let reason = "its input has another shape or zero point than the value it reads";
            return Err(FormatError::Op { index: self.ops.len(), reason });
        }
        let mut record = [0; layout::OP / 4];
        record[field::KIND] = layout::KIND_MEAN;
        record[field::SOURCE] = source as u32;
        record[field::MULT] = mean.factor.mult as u32;
        record[field::SHIFT] = i32::from(mean.factor.shift) as u32;
        Ok(self.push(name, record, (Shape::new(1, 1, shape.c), scale, mean.output_zero)))
    }

    /// Notes the architecture's name.
    pub fn architecture(&mut self, name: &str) -> &mut Self {
        self.architecture = name.into();
        self
    }

    /// Notes the class names, in the order of the outputs.
    pub fn classes<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> &mut Self {
        for name in names {
            self.classes.extend(name.chars().map(|c| if c.is_control() { ' ' } else { c }));
            self.classes.push('\n');
        }
        self
    }

    /// Notes how pictures become inputs.
    pub fn preprocessing(&mut self, preprocessing: Preprocessing) -> &mut Self {
        self.preprocessing = Some(preprocessing);
        self
    }

    fn lifetimes(&self) -> Vec<Lifetime> {
        let reads = |op: usize, value: usize| {
            let record = &self.ops[op];
            record[field::SOURCE] as usize == value || record[field::SHORTCUT] as usize == value + 1
        };
        let n = self.ops.len();
        (0..=n)
            .map(|value| {
                let last = (value..n).rev().find(|op| reads(*op, value)).unwrap_or(value);
                let shortcut = value.checked_sub(1).and_then(|op| self.ops[op][field::SHORTCUT].checked_sub(1));
                // What a convolution reads with its window cannot be overwritten pixel by pixel.
                let read = value.checked_sub(1).map(|op| self.ops[op][field::SOURCE] as usize);
                let same = |v: &usize| self.values[*v].0 == self.values[value].0 && read != Some(*v);
                Lifetime {
                    bytes: self.values[value].0.elements(),
                    last_use: if value == n { n } else { last },
                    in_place_of: shortcut.map(|v| v as usize).filter(same),
                }
            })
            .collect()
    }

    /// Places the values, lays out the file and checks it as a reader would.
    pub fn finish(mut self) -> Result<AlignedBytes, FormatError> {
        let (offsets, arena) = place(&self.lifetimes());
        let mut values = Vec::new();
        for ((shape, scale, zero), offset) in self.values.iter().zip(&offsets) {
            let words = [shape.h as u32, shape.w as u32, shape.c as u32, *offset as u32, scale.to_bits()];
            let zero = i32::from(*zero) as u32;
            values.extend(words.into_iter().chain([zero, 0, 0]).flat_map(u32::to_le_bytes));
        }
        let mut sections = vec![(layout::VALUES, values), (layout::OPS, vec![0; self.ops.len() * layout::OP])];
        let texts = [
            (layout::ARCHITECTURE, &self.architecture),
            (layout::CLASSES, &self.classes),
            (layout::LAYERS, &self.names),
        ];
        sections.extend(texts.iter().filter(|(_, t)| !t.is_empty()).map(|(tag, t)| (*tag, t.as_bytes().to_vec())));
        if let Some(p) = self.preprocessing {
            let reals = p.mean.into_iter().chain(p.std).map(f32::to_bits);
            let [rows, columns] = [0, 1].map(|axis| [p.resize[axis], p.crop[axis]]);
            let columns = if rows == columns { &[][..] } else { &columns };
            let words = reals.chain(rows).chain(columns.iter().copied());
            sections.push((layout::PREPROCESSING, words.flat_map(u32::to_le_bytes).collect()));
        }
        sections.push((layout::DATA, core::mem::take(&mut self.data)));

        let mut at = layout::HEADER + sections.len() * layout::SECTION;
        let mut starts = Vec::new();
        for (_, section) in &sections {
            at = at.next_multiple_of(16);
            starts.push(at);
            at += section.len();
        }
        let data_start = starts.last().copied().unwrap_or_default() as u32;
        for record in self.ops.iter_mut().filter(|r| r[field::KIND] == layout::KIND_CONV) {
            TENSORS.iter().for_each(|t| record[*t] += data_start);
        }
        sections[1].1 = self.ops.iter().flatten().flat_map(|w| w.to_le_bytes()).collect();

        let mut file = AlignedBytes::zeroed(at);
        file[..8].copy_from_slice(layout::MAGIC);
        let mut put = |at: usize, word: u32| file[at..at + 4].copy_from_slice(&word.to_le_bytes());
        put(8, VERSION);
        put(12, at as u32);
        put(20, sections.len() as u32);
        put(24, arena as u32);
        for (i, ((tag, section), start)) in sections.iter().zip(&starts).enumerate() {
            let entry = layout::HEADER + i * layout::SECTION;
            put(entry, u32::from_le_bytes(*tag));
            put(entry + 4, *start as u32);
            put(entry + 8, section.len() as u32);
        }
        for ((_, section), start) in sections.iter().zip(&starts) {
            file[*start..start + section.len()].copy_from_slice(section);
        }
        let checksum = layout::checksum(&file[layout::CHECKSUM_AT + 4..]);
        file[layout::CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
        View::new_checked(&file)?;
        Ok(file)
    }
}
