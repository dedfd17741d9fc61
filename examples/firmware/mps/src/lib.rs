//! Arm's MPS2 and MPS3 boards (FPGA), as hardware and in QEMU: AN386 (Cortex-M4), AN500 (M7) and AN547 (M55).
#![no_std]

use core::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering},
};

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_rt::exception;
use embedded_io::{ErrorType, Read, Write};
use firmware_app::Clock;
use vcell::VolatileCell;
use {defmt_rtt as _, panic_probe as _};

/// UART 0's address and the frequency of core and peripherals.
#[cfg(board = "mps2")]
const BOARD: (usize, u32) = (0x4000_4000, 25_000_000);
#[cfg(board = "mps3")]
const BOARD: (usize, u32) = (0x4930_3000, 32_000_000);

const BAUD: u32 = 115_200;

/// The serial line and the clock.
///
/// # Panics
/// When called twice.
pub fn start() -> (Uart, Ticks) {
    let core = cortex_m::Peripherals::take().expect("called once");
    (Uart::start(), Ticks::start(core.SYST))
}

/// Registers of Arm's CMSDK APB UART.
#[repr(C)]
struct Registers {
    data: VolatileCell<u32>,
    /// bit 0: no room for a byte to send; bit 1: a byte came
    state: VolatileCell<u32>,
    /// bit 0: send; bit 1: receive
    control: VolatileCell<u32>,
    interrupt: VolatileCell<u32>,
    divider: VolatileCell<u32>,
}

/// UART 0.
pub struct Uart(&'static Registers);

impl Uart {
    fn start() -> Self {
        let (address, hertz) = BOARD;
        // SAFETY: the board has this UART's registers at this address, aligned and for ever; nothing else here refers
        // to them, since `start` runs once.
        let registers = unsafe { &*core::ptr::with_exposed_provenance::<Registers>(address) };
        registers.divider.set(hertz / BAUD);
        registers.control.set(0b11);
        Uart(registers)
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Read for Uart {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let Some(first) = bytes.first_mut() else { return Ok(0) };
        while self.0.state.get() & 2 == 0 {}
        *first = self.0.data.get() as u8;
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for byte in bytes {
            while self.0.state.get() & 1 != 0 {}
            self.0.data.set(u32::from(*byte));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Times the 24-bit SysTick counter began again.
static WRAPS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    // Only this exception writes it.
    WRAPS.store(WRAPS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// The core's SysTick counter, made 32 bits wide: QEMU has no cycle counter.
pub struct Ticks {
    last: u32,
}

impl Ticks {
    fn start(mut syst: SYST) -> Self {
        syst.set_clock_source(SystClkSource::Core);
        syst.set_reload(0x00ff_ffff);
        syst.clear_current();
        syst.enable_interrupt();
        syst.enable_counter();
        Ticks { last: 0 }
    }
}

impl Clock for Ticks {
    fn now(&mut self) -> u32 {
        let (wraps, left) = loop {
            let before = WRAPS.load(Ordering::Relaxed);
            let left = SYST::get_current();
            if WRAPS.load(Ordering::Relaxed) == before {
                break (before, left);
            }
        };
        let mut now = (wraps << 24).wrapping_add(0x00ff_ffff - left);
        // Begun again, but the exception is still to come.
        if now.wrapping_sub(self.last) > i32::MAX as u32 {
            now = now.wrapping_add(1 << 24);
        }
        self.last = now;
        now
    }

    fn hertz(&self) -> u32 {
        BOARD.1
    }
}
