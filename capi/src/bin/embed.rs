//! `residual-embed`: an int8 model as a C array, with the memory it needs as a constant.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use residual::write_atomic;
use residual_core::rsd::{AlignedBytes, View};
use residual_edge::{Fast, Small, arena_bytes};

/// Write an int8 model (.rsd) as a C array and a header
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The model
    model: PathBuf,
    /// The array's name; it begins the constants' names in capitals
    #[arg(long, default_value = "model")]
    name: String,
    /// The C file; the header gets the same name with .h
    #[arg(short, long)]
    output: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let bytes = fs::read(&args.model).with_context(|| args.model.display().to_string())?;
    let model = AlignedBytes::from(&bytes[..]);
    let view = View::new_checked(&model).with_context(|| args.model.display().to_string())?;
    let first = args.name.starts_with(|c: char| c.is_ascii_alphabetic());
    let rest = args.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    ensure!(first && rest, "--name {}: letters, digits and _, a letter first", args.name.escape_debug());
    let header = args.output.with_extension("h");
    let header_name = header.file_name().with_context(|| format!("{}: not a file", args.output.display()))?;
    ensure!(header != args.output, "{}: the header would replace it", args.output.display());

    let (name, capitals) = (&args.name, args.name.to_uppercase());
    let (input, output) = (view.input().context("no input")?, view.output().context("no output")?);
    let mut text = format!(
        "/* {architecture}, written by residual-embed {version}. Do not edit. */\n\
         #ifndef {capitals}_H\n#define {capitals}_H\n\n#include <residual.h>\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n\
         #define {capitals}_BYTES {len}\n\
         /* of arena, for a library with fewest instructions, and for one with least memory (-small) */\n\
         #define {capitals}_ARENA_BYTES (RESIDUAL_ENGINE_BYTES + {fast})\n\
         #define {capitals}_ARENA_BYTES_SMALL (RESIDUAL_ENGINE_BYTES + {small})\n\
         /* rows, columns and channels of an input */\n\
         #define {capitals}_HEIGHT {h}\n#define {capitals}_WIDTH {w}\n#define {capitals}_CHANNELS {c}\n\
         #define {capitals}_CLASSES {classes}\n\n\
         extern const uint8_t {name}[{capitals}_BYTES];\n\n\
         #ifdef __cplusplus\n}}\n#endif\n\n#endif\n",
        // Not to end the comment early.
        architecture = view.architecture().unwrap_or("a network").replace("*/", "* /").escape_debug(),
        version = env!("CARGO_PKG_VERSION"),
        len = bytes.len(),
        fast = arena_bytes::<Fast>(&model)?,
        small = arena_bytes::<Small>(&model)?,
        h = input.shape.h,
        w = input.shape.w,
        c = input.shape.c,
        classes = output.shape.elements(),
    );
    write(&header, &text)?;

    text.clear();
    write!(text, "#include \"{}\"\n\nRESIDUAL_ALIGNED(16) const uint8_t ", header_name.to_string_lossy())?;
    write!(text, "{name}[{capitals}_BYTES] = {{")?;
    for (i, byte) in bytes.iter().enumerate() {
        write!(text, "{}{byte},", if i % 24 == 0 { "\n  " } else { "" })?;
    }
    text.push_str("\n};\n");
    write(&args.output, &text)
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    write_atomic(path, |file| std::io::Write::write_all(file, text.as_bytes()))
        .with_context(|| path.display().to_string())
}
