//! Chooses the kernels. The DSP and MVE extensions are not visible to `cfg(target_feature)` on
//! stable Rust, so they are read off the target and `-C target-cpu`.

use std::env;

const DSP_CPUS: [&str; 4] = ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m35p"];
const MVE_CPUS: [&str; 2] = ["cortex-m55", "cortex-m85"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(residual_kernels, values(\"portable\", \"mla\", \"dsp\", \"mve\"))");
    println!("cargo::rustc-check-cfg=cfg(residual_mul32, residual_v8m, residual_blocks)");
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let cpu = flags.split('\x1f').flat_map(|f| f.split(' ')).filter_map(|f| f.split_once("target-cpu=")).next_back();
    let cpu = cpu.map_or("", |(_, cpu)| cpu);
    let thumb = target.starts_with("thumb");
    let kernels = if thumb && MVE_CPUS.contains(&cpu) {
        "mve"
    } else if target.starts_with("thumbv7em") || (thumb && DSP_CPUS.contains(&cpu)) {
        "dsp"
    } else if target.starts_with("thumbv7m") || target.starts_with("thumbv8m.main") {
        "mla"
    } else {
        "portable"
    };
    if target.starts_with("thumbv8m.main") {
        println!("cargo::rustc-cfg=residual_v8m");
    }
    // These multiply 32 bits to 32 bits only.
    let mul32 = target.starts_with("thumbv6m") || target.starts_with("thumbv8m.base");
    if mul32 {
        println!("cargo::rustc-cfg=residual_mul32");
    }
    // Widened weights are of no use to vectors, nor where eight registers hold no tile of sums.
    if !mul32 && kernels != "mve" {
        println!("cargo::rustc-cfg=residual_blocks");
    }
    println!("cargo::rustc-cfg=residual_kernels=\"{kernels}\"");
}
