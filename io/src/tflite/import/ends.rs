//! QUANTIZE and DEQUANTIZE at a file's ends.

use std::collections::BTreeMap;

use super::{
    super::{
        End,
        ends::ByteEncoding,
        schema::{TYPE_FLOAT32, TYPE_INT8, TYPE_UINT8, field, operator},
        tensor::{Fault, Graph, Tensor},
    },
    Reader, Source, inputs,
};
use crate::quantized::Kind;

/// The tensor the network begins with, what the file's input becomes it by, and the operator that does so.
pub(super) fn input(
    graph: &Graph<'_>,
    readers: &BTreeMap<i32, (usize, usize)>,
) -> Result<(i32, End, Option<usize>), Fault> {
    let index = graph.inputs.i32(0)?;
    let tensor = graph.tensor(index)?;
    if let Some(&(1, reader)) = readers.get(&index)
        && reader < graph.operators.len()
    {
        let op = graph.operators.table(reader)?;
        let outputs = op.vector(field::operator::OUTPUTS, 4)?;
        if graph.code(&op)? == operator::QUANTIZE && inputs(&op)?.len() == 1 && outputs.len() == 1 {
            let output = graph.tensor(outputs.i32(0)?)?;
            if output.map()? != tensor.map()? {
                return Err(output.fault(format_args!("{:?} quantized to {:?}", tensor.shape, output.shape)));
            }
            let end = match tensor.kind {
                TYPE_FLOAT32 => End::Float32(output.activation()?),
                _ => rescaled(&tensor, &output, tensor.bytes()?)?,
            };
            return Ok((outputs.i32(0)?, end, Some(reader)));
        }
    }
    match tensor.kind {
        TYPE_INT8 => Ok((index, End::Int8, None)),
        _ => Err(tensor.activation().err().unwrap_or_default()),
    }
}

/// The end at which `from` becomes `to`.
fn rescaled(from: &Tensor<'_>, to: &Tensor<'_>, file: ByteEncoding) -> Result<End, Fault> {
    let end = End::rescaled(from.bytes()?, to.bytes()?, file);
    end.ok_or_else(|| to.fault("its scale does not fit that of what it is made from"))
}

impl Reader<'_> {
    /// A QUANTIZE or DEQUANTIZE behind the network.
    pub(super) fn convert(&mut self, code: i32, inputs: &[i32], output: i32) -> Result<(), Fault> {
        let (to, from) = (self.graph.tensor(output)?, self.graph.tensor(inputs.first().copied().unwrap_or(-1))?);
        if from.kind != TYPE_INT8 {
            return Err(from.activation().err().unwrap_or_default());
        }
        let (value, input, _) = self.value(inputs)?;
        if to.map()? != from.map()? {
            return Err(to.fault(format_args!("shape {:?} becomes {:?}", from.shape, to.shape)));
        }
        if code == operator::QUANTIZE && to.kind == TYPE_INT8 && self.softmax.is_none() && (input.h, input.w) == (1, 1)
        {
            // The mean of one pixel is rescaled as QUANTIZE does.
            let mean = Kind::Mean(to.activation()?);
            self.push(&to, output, value, mean);
            return Ok(());
        }
        if output != self.graph.outputs.i32(0)? {
            let name = to.type_name();
            return Err(to.fault(format_args!(
                "it turns int8 into {name} inside the network, which is supported at its ends only: quantize all of it"
            )));
        }
        self.output = Some(match (code, to.kind) {
            (operator::DEQUANTIZE, TYPE_FLOAT32) => End::Float32(from.activation()?),
            (operator::QUANTIZE, TYPE_INT8 | TYPE_UINT8) => rescaled(&from, &to, to.bytes()?)?,
            _ => return Err(to.fault(format_args!("int8 becomes {}: int8, uint8 or float32 needed", to.type_name()))),
        });
        self.sources.insert(output, Source::Value(value));
        Ok(())
    }
}
