//! The tensors of a file: shapes, encodings and constant data.

use residual_core::geom::Shape;

use super::{
    ends::ByteEncoding,
    flat::{Table, Vector},
    names,
    schema::{TYPE_INT8, TYPE_INT32, TYPE_INT64, TYPE_UINT8, field, operator},
};
use crate::quantized::Quantization;

/// What is wrong, without the file.
pub(super) type Fault = String;

/// A file's only graph and its buffers.
pub(super) struct Graph<'f> {
    pub tensors: Vector<'f>,
    pub operators: Vector<'f>,
    pub inputs: Vector<'f>,
    pub outputs: Vector<'f>,
    codes: Vector<'f>,
    buffers: Vector<'f>,
}

/// A tensor's table.
pub(super) struct Tensor<'f> {
    table: Table<'f>,
    data: &'f [u8],
    pub name: String,
    pub shape: Vec<i32>,
    pub kind: i8,
}

/// How converters make the whole of a network int8.
const REMEDY: &str = "convert with optimizations = [tf.lite.Optimize.DEFAULT], a representative_dataset and \
    target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]";

impl<'f> Graph<'f> {
    pub fn open(bytes: &'f [u8]) -> Result<Self, Fault> {
        if !super::is_tflite(bytes) {
            return Err("not a TensorFlow Lite file: `TFL3` is missing at byte 4".into());
        }
        let model = Table::root(bytes)?;
        let version = model.u32(field::model::VERSION)?;
        if version != super::schema::VERSION {
            return Err(format!("schema version {version} is not supported, only 3"));
        }
        let graphs = model.vector(field::model::SUBGRAPHS, 4)?;
        if graphs.len() != 1 {
            return Err(format!("it holds {} graphs, only 1 is supported", graphs.len()));
        }
        let graph = graphs.table(0)?;
        Ok(Graph {
            tensors: graph.vector(field::subgraph::TENSORS, 4)?,
            operators: graph.vector(field::subgraph::OPERATORS, 4)?,
            inputs: graph.vector(field::subgraph::INPUTS, 4)?,
            outputs: graph.vector(field::subgraph::OUTPUTS, 4)?,
            codes: model.vector(field::model::OPERATOR_CODES, 4)?,
            buffers: model.vector(field::model::BUFFERS, 4)?,
        })
    }

    /// The operator `table` calls.
    pub fn code(&self, table: &Table<'f>) -> Result<i32, Fault> {
        let code = self.codes.table(table.u32(field::operator::OPCODE)? as usize)?;
        // Codes up to 126 are in the older, one-byte field.
        let old = i32::from(code.i8(field::operator_code::DEPRECATED)?);
        Ok(old.max(code.i32(field::operator_code::BUILTIN, 0)?))
    }

    /// What a message calls the operator `table` calls.
    pub fn operator_name(&self, table: &Table<'f>) -> Result<String, Fault> {
        let code = self.code(table)?;
        if code != operator::CUSTOM {
            return Ok(names::operator(code));
        }
        let custom = self.codes.table(table.u32(field::operator::OPCODE)? as usize)?;
        Ok(format!("CUSTOM `{}`", crate::weights::clean(&custom.text(field::operator_code::CUSTOM)?)))
    }

    pub fn tensor(&self, index: i32) -> Result<Tensor<'f>, Fault> {
        let at = usize::try_from(index).map_err(|_| format!("tensor {index} does not exist"))?;
        if at >= self.tensors.len() {
            return Err(format!("tensor {index} does not exist, there are {}", self.tensors.len()));
        }
        let table = self.tensors.table(at)?;
        let name = crate::weights::clean(&table.text(field::tensor::NAME)?);
        let fault = |what: &str| format!("tensor `{name}`: {what}");
        let buffer = table.u32(field::tensor::BUFFER)? as usize;
        if buffer != 0 && buffer >= self.buffers.len() {
            return Err(fault(&format!("buffer {buffer} does not exist, there are {}", self.buffers.len())));
        }
        let data = match buffer {
            0 => &[],
            _ => self.buffers.table(buffer)?.vector(field::buffer::DATA, 1)?.raw(),
        };
        let shape = table.vector(field::tensor::SHAPE, 4)?;
        if shape.len() > 8 {
            return Err(fault("more than 8 dimensions"));
        }
        Ok(Tensor { kind: table.i8(field::tensor::TYPE)?, shape: shape.i32s()?, table, data, name })
    }
}

impl<'f> Tensor<'f> {
    pub fn fault(&self, what: impl std::fmt::Display) -> Fault {
        format!("tensor `{}`: {what}", self.name)
    }

    /// The map of one image: `[1, h, w, c]`, or `[1, c]`.
    pub fn map(&self) -> Result<Shape, Fault> {
        let side = |v: i32| usize::try_from(v).ok().filter(|v| (1..=1 << 16).contains(v));
        let sides: Option<Vec<usize>> = self.shape.iter().map(|v| side(*v)).collect();
        match sides.as_deref() {
            Some(&[1, h, w, c]) => Ok(Shape::new(h, w, c)),
            Some(&[1, c]) => Ok(Shape::new(1, 1, c)),
            _ => Err(self.fault(format_args!(
                "shape {:?} is not [1, h, w, c] or [1, c]: convert with a fixed batch of 1",
                self.shape
            ))),
        }
    }

    /// What a message calls its type.
    pub fn type_name(&self) -> String {
        names::tensor_type(self.kind)
    }

    /// Scales and zero points; the zero points are as many as the scales.
    fn encoding(&self) -> Result<(Vec<f32>, Vec<i64>, i32), Fault> {
        if self.kind != TYPE_INT8 {
            return Err(self.fault(format_args!("its type is {}, int8 needed: {REMEDY}", self.type_name())));
        }
        self.scales()
    }

    fn scales(&self) -> Result<(Vec<f32>, Vec<i64>, i32), Fault> {
        let table = self.table.table(field::tensor::QUANTIZATION)?.ok_or_else(|| self.fault("it has no scale"))?;
        let scales = table.vector(field::quantization::SCALE, 4)?;
        let zeros = table.vector(field::quantization::ZERO_POINT, 8)?;
        if scales.len() == 0 || zeros.len() != scales.len() {
            return Err(self.fault(format_args!("{} scales and {} zero points", scales.len(), zeros.len())));
        }
        let scales: Vec<f32> = (0..scales.len()).map(|i| scales.f32(i)).collect::<Result<_, _>>()?;
        let zeros = (0..zeros.len()).map(|i| zeros.i64(i)).collect::<Result<_, _>>()?;
        if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(self.fault(format_args!("scale {bad} is not positive and finite")));
        }
        Ok((scales, zeros, table.i32(field::quantization::DIMENSION, 0)?))
    }

    /// The encoding of an activation.
    pub fn activation(&self) -> Result<Quantization, Fault> {
        match self.encoding()? {
            (scales, zeros, _) if scales.len() == 1 => {
                let zero_point = zeros.first().and_then(|z| i8::try_from(*z).ok());
                let zero_point = zero_point.ok_or_else(|| self.fault("its zero point is not in -128..=127"))?;
                Ok(Quantization { scale: scales[0], zero_point })
            }
            (scales, ..) => Err(self.fault(format_args!("{} scales for an activation", scales.len()))),
        }
    }

    /// The encoding of int8 or uint8 at the end of a file.
    pub fn bytes(&self) -> Result<ByteEncoding, Fault> {
        let unsigned = self.kind == TYPE_UINT8;
        if !unsigned {
            return self.activation().map(ByteEncoding::from);
        }
        let (scales, zeros, _) = self.scales()?;
        match (scales.as_slice(), zeros.as_slice()) {
            (&[scale], &[zero @ 0..=255]) => Ok(ByteEncoding { unsigned, scale, zero_point: zero as i32 }),
            _ => Err(self.fault(format_args!(
                "scales {scales:?}, zero points {zeros:?}: one of each, the latter in 0..=255, needed"
            ))),
        }
    }

    /// A constant byte, such as what PADV2 writes.
    pub fn byte(&self) -> Result<i8, Fault> {
        match self.data {
            &[byte] if self.kind == TYPE_INT8 => Ok(byte as i8),
            data => Err(self.fault(format_args!(
                "{} bytes of type {}, 1 constant int8 needed",
                data.len(),
                self.type_name()
            ))),
        }
    }

    /// Weights of `channels` output channels and their scales: one for all, or one for each.
    pub fn weights(&self, channels: usize) -> Result<(Vec<i8>, Vec<f32>), Fault> {
        let (scales, zeros, dimension) = self.encoding()?;
        if scales.len() != 1 && (scales.len() != channels || dimension != 0) {
            let n = scales.len();
            return Err(self.fault(format_args!("{n} scales along dimension {dimension} for {channels} channels")));
        }
        if zeros.iter().any(|z| *z != 0) {
            return Err(self.fault("weights must be symmetric (zero point 0)"));
        }
        let elements = self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?));
        if elements != Some(self.data.len()) {
            return Err(self.fault(format_args!("{} bytes for shape {:?}", self.data.len(), self.shape)));
        }
        Ok((self.data.iter().map(|b| *b as i8).collect(), scales))
    }

    /// Constant integers.
    pub fn integers(&self) -> Result<Vec<i32>, Fault> {
        let wide = match self.kind {
            TYPE_INT32 => false,
            TYPE_INT64 => true,
            _ => return Err(self.fault(format_args!("its type is {}, int32 needed", self.type_name()))),
        };
        if self.data.is_empty() || !self.data.len().is_multiple_of(if wide { 8 } else { 4 }) {
            return Err(self.fault("it must be constant: convert with a fixed batch of 1"));
        }
        if !wide {
            return Ok(self.data.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word)).collect());
        }
        let narrow = |word: &[u8; 8]| i32::try_from(i64::from_le_bytes(*word)).ok();
        let values: Option<Vec<i32>> = self.data.as_chunks().0.iter().map(narrow).collect();
        values.ok_or_else(|| self.fault("a number of it needs more than 32 bits"))
    }
}
