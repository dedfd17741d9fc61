//! What the firmware of every board shares. A board brings a serial port and a clock; the rest is here:
//!
//! * [`classify`]: pictures come in, the class, the scores and every layer's time go out;
//! * [`mlperf`]: MLPerf Tiny's protocol, which its runner speaks;
//! * [`memory!`] and `build`: the model, chosen when the firmware is built, and exactly the memory it needs.
//!
//! A firmware is then this (`board` is its own module or crate):
//!
//! ```text
//! #[cortex_m_rt::entry]
//! fn main() -> ! {
//!     let (mut port, clock) = board::start();
//!     firmware_app::start(firmware_app::memory!(), clock, &mut port, firmware_app::classify)
//! }
//! ```
#![cfg_attr(not(feature = "build"), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "build")]
pub mod build;
mod classify;
mod clock;
mod memory;
mod mlperf;
mod network;
mod port;

pub use classify::classify;
#[cfg(feature = "cortex-m")]
pub use clock::CycleCounter;
pub use clock::{Clock, Watch};
pub use memory::{Aligned, Memory, Sizes};
pub use mlperf::mlperf;
pub use network::{Mode, Network};
pub use port::Error;
#[doc(hidden)]
pub use static_cell::ConstStaticCell;

use embedded_io::{Read, Write};

/// Runs an application for ever. An error of the line ends the exchange under way, not the application; a model
/// that does not run is told on the line.
pub fn start<'a, P: Read + Write, C: Clock>(
    memory: Memory<'a>,
    clock: C,
    port: &mut P,
    application: impl Fn(&mut Network<'a, C>, &mut P) -> Result<(), Error<P::Error>>,
) -> ! {
    match Network::new(memory, clock) {
        Ok(mut network) => loop {
            let _result = application(&mut network, port);
            #[cfg(feature = "defmt")]
            if let Err(e) = _result {
                defmt::warn!("{}", defmt::Debug2Format(&e));
            }
        },
        Err(e) => {
            #[cfg(feature = "defmt")]
            defmt::error!("{}", e);
            let _ = port::print(port, format_args!("error {e}\r\n"));
            loop {
                core::hint::spin_loop();
            }
        }
    }
}
