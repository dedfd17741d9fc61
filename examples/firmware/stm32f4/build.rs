//! See `firmware_app::build` for the model.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let small_flash = env::var_os("CARGO_FEATURE_STM32F411").is_some();
    let memory = if small_flash { include_str!("memory/stm32f411.x") } else { include_str!("memory/stm32f405.x") };
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    firmware_app::build::firmware(memory)
}
