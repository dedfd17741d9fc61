//! Subnormal numbers, which some processors compute with a hundred times more slowly.

use core::marker::PhantomData;

/// While it lives, this thread's vector units take subnormal inputs as zero and flush subnormal results to zero (x86-64:
/// DAZ and FTZ of MXCSR; AArch64: FZ of FPCR; elsewhere nothing changes). Dropping it restores what was set.
///
/// A trained network has activations that fade towards zero; without this, a picture can take many times longer than
/// another. What is flushed is below 1.2e-38: far below the rounding of any logit.
pub struct FlushDenormals {
    saved: Control,
    /// the register belongs to this thread
    _this_thread: PhantomData<*const ()>,
}

impl FlushDenormals {
    /// Begins flushing.
    #[allow(clippy::new_without_default)] // it acts on the thread: a default would hide that
    pub fn new() -> Self {
        let saved = read();
        write(saved | FLUSH);
        FlushDenormals { saved, _this_thread: PhantomData }
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        write(self.saved);
    }
}

#[cfg(target_arch = "x86_64")]
type Control = u32;
/// Denormals-are-zero and flush-to-zero.
#[cfg(target_arch = "x86_64")]
const FLUSH: Control = 1 << 6 | 1 << 15;

#[cfg(target_arch = "x86_64")]
fn read() -> Control {
    let mut value: Control = 0;
    // SAFETY: stores 4 bytes into `value`; SSE is part of x86-64.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
    value
}

#[cfg(target_arch = "x86_64")]
fn write(value: Control) {
    // SAFETY: loads 4 bytes from `value`, which `read` gave with at most the two bits of `FLUSH` more: rounding and
    // masked exceptions stay as they were. The compiler assumes that subnormals are kept; it can differ from the
    // processor only in folding constants below 1.2e-38, of which the kernels have none.
    unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags, readonly)) };
}

#[cfg(target_arch = "aarch64")]
type Control = u64;
/// Flush-to-zero, inputs included.
#[cfg(target_arch = "aarch64")]
const FLUSH: Control = 1 << 24;

#[cfg(target_arch = "aarch64")]
fn read() -> Control {
    let value: Control;
    // SAFETY: FPCR may be read at any privilege.
    unsafe { core::arch::asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

#[cfg(target_arch = "aarch64")]
fn write(value: Control) {
    // SAFETY: FPCR may be written at any privilege; only FZ differs from what `read` gave. As on x86-64, the compiler can
    // differ in folding constants only.
    unsafe { core::arch::asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Control = u32;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FLUSH: Control = 0;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> Control {
    0
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write(_value: Control) {}

#[cfg(test)]
mod tests {
    use core::hint::black_box;

    use super::FlushDenormals;

    #[test]
    fn subnormals_are_flushed_while_it_lives_and_kept_again_afterwards() {
        let half_of_smallest = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        assert!(half_of_smallest() > 0.0);
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            let outer = FlushDenormals::new();
            assert_eq!(half_of_smallest().to_bits(), 0);
            drop(FlushDenormals::new());
            // The inner one restores what the outer one set.
            assert_eq!(half_of_smallest().to_bits(), 0);
            drop(outer);
        }
        assert!(half_of_smallest() > 0.0);
    }

    #[cfg(panic = "unwind")]
    #[test]
    fn unwinding_keeps_subnormals_again() {
        let half_of_smallest = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        let panicked = std::panic::catch_unwind(|| {
            let _flush = FlushDenormals::new();
            panic!("unwinding drops it");
        });
        assert!(panicked.is_err() && half_of_smallest() > 0.0);
    }
}
