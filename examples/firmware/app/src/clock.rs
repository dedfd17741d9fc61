//! Time on a core.

/// Counts a core's cycles.
pub trait Clock {
    /// Cycles so far; wraps.
    fn now(&mut self) -> u32;

    /// Cycles in a second.
    fn hertz(&self) -> u32;
}

/// A clock's time beyond its wraps, as long as it is looked at once between two of them.
#[derive(Debug)]
pub struct Watch<C> {
    clock: C,
    last: u32,
    cycles: u64,
}

impl<C: Clock> Watch<C> {
    /// Begins at 0.
    pub fn new(mut clock: C) -> Self {
        Watch { last: clock.now(), clock, cycles: 0 }
    }

    /// Cycles since the beginning.
    pub fn cycles(&mut self) -> u64 {
        let now = self.clock.now();
        self.cycles = self.cycles.wrapping_add(now.wrapping_sub(self.last).into());
        self.last = now;
        self.cycles
    }

    /// `cycles` in microseconds.
    pub fn micros(&self, cycles: u64) -> u64 {
        const MILLION: u64 = 1_000_000;
        let hertz = u64::from(self.clock.hertz().max(1));
        (cycles / hertz).wrapping_mul(MILLION).wrapping_add(cycles % hertz * MILLION / hertz)
    }
}

/// The cycle counter in the core's debug unit (DWT), which M3 and larger have.
#[cfg(feature = "cortex-m")]
#[derive(Debug)]
pub struct CycleCounter {
    hertz: u32,
}

#[cfg(feature = "cortex-m")]
impl CycleCounter {
    /// Starts it on a core that runs at `hertz`.
    pub fn new(dcb: &mut cortex_m::peripheral::DCB, dwt: &mut cortex_m::peripheral::DWT, hertz: u32) -> Self {
        dcb.enable_trace();
        dwt.enable_cycle_counter();
        CycleCounter { hertz }
    }
}

#[cfg(feature = "cortex-m")]
impl Clock for CycleCounter {
    fn now(&mut self) -> u32 {
        cortex_m::peripheral::DWT::cycle_count()
    }

    fn hertz(&self) -> u32 {
        self.hertz
    }
}
