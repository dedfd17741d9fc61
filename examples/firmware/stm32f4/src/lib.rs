//! STM32F4 boards: USART1 on PB6 (sends) and PB7 (receives), 115200 baud; logs over the debug probe.
#![no_std]

use embedded_hal_nb::serial::{Read as _, Write as _};
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use firmware_app::CycleCounter;
use stm32f4xx_hal::{
    pac::{self, RCC, USART1},
    prelude::*,
    rcc::Config,
    serial::Serial,
};
use {defmt_rtt as _, panic_probe as _};

/// Megahertz of the board's crystal and of the chip at most.
#[cfg(feature = "stm32f405")]
const MEGAHERTZ: (u32, u32) = (12, 168);
#[cfg(feature = "stm32f407")]
const MEGAHERTZ: (u32, u32) = (8, 168);
#[cfg(feature = "stm32f411")]
const MEGAHERTZ: (u32, u32) = (25, 100);

/// Looks at a crystal before it counts as dead; each takes some cycles of 16 MHz.
const PATIENCE: u32 = 200_000;

/// The serial line and the clock.
///
/// # Panics
/// When called twice.
pub fn start() -> (Line, CycleCounter) {
    let mut core = cortex_m::Peripherals::take().expect("called once");
    let chip = pac::Peripherals::take().expect("called once");
    let mut rcc = if crystal_starts(&chip.RCC) {
        let (crystal, most) = MEGAHERTZ;
        chip.RCC.freeze(Config::hse(crystal.MHz()).sysclk(most.MHz()))
    } else {
        defmt::warn!("the crystal does not start: 16 MHz from the internal oscillator");
        chip.RCC.constrain()
    };
    let hertz = rcc.clocks.sysclk().raw();
    let port = chip.GPIOB.split(&mut rcc);
    let serial = chip.USART1.serial((port.pb6, port.pb7), 115_200.bps(), &mut rcc);
    let serial = serial.expect("115200 baud can be had from every clock");
    (Line(serial), CycleCounter::new(&mut core.DCB, &mut core.DWT, hertz))
}

/// Whether the board has a working crystal. Waiting for one that has none would be for ever.
fn crystal_starts(rcc: &RCC) -> bool {
    rcc.cr().modify(|_, w| w.hseon().set_bit());
    (0..PATIENCE).any(|_| rcc.cr().read().hserdy().bit_is_set())
}

/// USART1.
pub struct Line(Serial<USART1>);

impl ErrorType for Line {
    type Error = ErrorKind;
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        let Some(first) = bytes.first_mut() else { return Ok(0) };
        *first = nb::block!(self.0.read()).map_err(|_| ErrorKind::Other)?;
        Ok(1)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        for byte in bytes {
            nb::block!(self.0.write(*byte)).map_err(|_| ErrorKind::Other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        nb::block!(self.0.flush()).map_err(|_| ErrorKind::Other)
    }
}
