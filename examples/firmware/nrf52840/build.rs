//! See `firmware_app::build` for the model.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    firmware_app::build::firmware(include_str!("memory.x"))
}
