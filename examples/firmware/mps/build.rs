//! `RESIDUAL_BOARD` chooses the board: `mps2-an386` (the default), `mps2-an500` or `mps3-an547`; see
//! `firmware_app::build` for the model.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(board, values(\"mps2\", \"mps3\"))");
    println!("cargo::rerun-if-env-changed=RESIDUAL_BOARD");
    let (board, memory) = match env::var("RESIDUAL_BOARD").as_deref() {
        Ok("mps2-an386" | "mps2-an500") | Err(_) => ("mps2", include_str!("memory/mps2.x")),
        Ok("mps3-an547") => ("mps3", include_str!("memory/mps3-an547.x")),
        Ok(other) => return Err(format!("unknown board {other}").into()),
    };
    println!("cargo::rustc-cfg=board=\"{board}\"");
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    firmware_app::build::firmware(memory)
}
