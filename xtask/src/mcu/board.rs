//! The emulated boards.

/// A core, the QEMU machine that has it and how to build for it.
#[derive(Debug)]
pub struct Board {
    /// what the command line calls it
    pub name: &'static str,
    /// QEMU's name
    pub machine: &'static str,
    /// Rust's target
    pub target: &'static str,
    /// compiler flags
    pub flags: &'static str,
    /// optimisation level: where the kernels are assembly, the rest may be small
    pub opt_level: &'static str,
    /// the kernels this build chooses
    pub kernels: &'static str,
}

/// All boards. QEMU has no M0+ board with enough memory: its code runs on an M3, which executes
/// every ARMv6-M instruction, so the count is the same.
pub const BOARDS: [Board; 6] = [
    Board {
        name: "m4",
        machine: "mps2-an386",
        target: "thumbv7em-none-eabihf",
        flags: "-C target-cpu=cortex-m4",
        opt_level: "s",
        kernels: "dsp",
    },
    Board {
        name: "m7",
        machine: "mps2-an500",
        target: "thumbv7em-none-eabihf",
        flags: "-C target-cpu=cortex-m7",
        opt_level: "s",
        kernels: "dsp",
    },
    Board {
        name: "m33",
        machine: "mps2-an505",
        target: "thumbv8m.main-none-eabihf",
        flags: "-C target-cpu=cortex-m33",
        opt_level: "s",
        kernels: "dsp",
    },
    Board {
        name: "m55",
        machine: "mps3-an547",
        target: "thumbv8m.main-none-eabihf",
        flags: "-C target-cpu=cortex-m55",
        opt_level: "s",
        kernels: "mve",
    },
    Board {
        name: "m3",
        machine: "mps2-an385",
        target: "thumbv7m-none-eabi",
        flags: "",
        opt_level: "3",
        kernels: "mla",
    },
    Board {
        name: "m0",
        machine: "mps2-an385",
        target: "thumbv6m-none-eabi",
        flags: "",
        opt_level: "3",
        kernels: "portable",
    },
];

/// The board called `name`.
pub fn parse(name: &str) -> Result<&'static Board, String> {
    let names = || BOARDS.map(|b| b.name).join(", ");
    BOARDS.iter().find(|b| b.name == name).ok_or_else(|| format!("unknown board, expected one of {}", names()))
}
