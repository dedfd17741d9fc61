//! An int8 model's ops, encodings and places in the arena.

use std::io::Write;

use residual::{
    QuantizedModel,
    quant::{Conv, Op},
    rsd::View,
};
use serde_json::{Value, json};

use crate::cli::table::{Table, bytes, grouped, sentence};

struct Row {
    name: String,
    kind: String,
    object: Value,
    cells: Vec<String>,
}

pub fn show(model: &QuantizedModel, as_json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let view = model.view()?;
    let rows: Vec<Row> = (0..view.ops()).filter_map(|i| row(&view, i)).collect();
    let macs: u64 = (0..view.ops()).filter_map(|i| Some(view.op(i)?.macs())).sum();
    let (input, encoding) = model.input()?;
    if as_json {
        let object = json!({
            "type": "int8",
            "arch": model.name(),
            "input": [input.h, input.w, input.c],
            "input_scale": encoding.scale,
            "input_zero_point": encoding.zero_point,
            "classes": model.classes(),
            "class_names": model.class_names(),
            "macs": macs,
            "model_bytes": model.bytes().len(),
            "arena_bytes": view.arena_bytes(),
            "softmax": model.softmax().is_some(),
            "layers": rows.into_iter().map(|r| r.object).collect::<Vec<_>>(),
        });
        writeln!(out, "{object:#}")?;
        return Ok(());
    }
    let header = ["layer", "op", "output", "scale", "zero point", "MACs", "offset"];
    let mut table = Table::new(&header).leave_out(&["offset", "zero point", "scale", "output"]);
    for row in &rows {
        let c = |i: usize| row.cells.get(i).map_or("", String::as_str);
        table.row(&[&row.name, &row.kind, &c(0), &c(1), &c(2), &c(3), &c(4)]);
    }
    table.write(out)?;
    writeln!(out)?;
    sentence(out, &format!("{} in int8: input {input}, {} classes", model.name(), model.classes()))?;
    let (size, arena) = (bytes(model.bytes().len() as u64), bytes(view.arena_bytes() as u64));
    Ok(sentence(out, &format!("{} multiply-adds a picture; model {size}, values {arena}", grouped(macs)))?)
}

fn row(view: &View<'_>, index: usize) -> Option<Row> {
    let (op, value) = (view.op(index)?, view.value(index + 1)?);
    let kind = match op {
        Op::Conv(Conv { window, add, .. }) => {
            let sum = if add.is_some() { " + shortcut" } else { "" };
            format!("conv {0}x{0}/{1}{sum}", window.kernel, window.stride)
        }
        Op::MaxPool(window) => format!("max pool {0}x{0}/{1}", window.kernel, window.stride),
        Op::GlobalAveragePool(_) => "average pool".to_owned(),
        Op::Mean(_) => "mean".to_owned(),
        _ => "unknown".to_owned(),
    };
    // Names in a file of others may be anything.
    let name: String = view.name(index).unwrap_or_default().chars().take(60).collect();
    let shape = value.shape;
    Some(Row {
        object: json!({
            "name": name,
            "op": kind,
            "output": [shape.h, shape.w, shape.c],
            "scale": value.scale,
            "zero_point": value.zero_point,
            "macs": op.macs(),
            "offset_bytes": value.offset,
        }),
        cells: vec![
            shape.to_string(),
            format!("{:.6}", value.scale),
            value.zero_point.to_string(),
            grouped(op.macs()),
            value.offset.to_string(),
        ],
        name,
        kind,
    })
}
