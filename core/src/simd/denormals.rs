//! Subnormal numbers, which some processors compute with a hundred times more slowly.

use core::marker::PhantomData;

/// Calls `f` while this thread's vector units take subnormal inputs as zero and flush subnormal results to zero (x86-64:
/// DAZ and FTZ of MXCSR; AArch64: FZ of FPCR; elsewhere nothing changes). Afterwards, and when `f` panics, they do what
/// they did before.
///
/// A trained network has activations that fade towards zero; without this, a picture can take many times longer than
/// another. What is flushed is below 1.2e-38: far below the rounding of any logit.
///
/// Arithmetic of the caller's own in `f` is changed too: it must not depend on subnormal numbers. The compiler takes the
/// default mode for granted, so a result that it computes ahead of time may be a subnormal number where the processor's
/// would be zero. Nothing else differs: rounding and exceptions stay as they were.
pub fn with_flushed_denormals<R>(f: impl FnOnce() -> R) -> R {
    let _flush = Flush::new();
    f()
}

/// The mode, until it is dropped. Private, so that these can only end in the opposite order of their beginnings, each on
/// the thread it began on: another order would leave the thread in a mode that nobody asked for.
struct Flush {
    saved: Control,
    /// the register belongs to this thread
    _this_thread: PhantomData<*const ()>,
}

impl Flush {
    fn new() -> Self {
        let saved = read();
        write(saved | FLUSH);
        Flush { saved, _this_thread: PhantomData }
    }
}

impl Drop for Flush {
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

    use super::with_flushed_denormals;

    fn half_of_smallest() -> f32 {
        black_box(f32::MIN_POSITIVE) * black_box(0.5)
    }

    #[test]
    fn subnormals_are_flushed_during_the_call_and_kept_again_afterwards() {
        assert!(half_of_smallest() > 0.0);
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            with_flushed_denormals(|| {
                assert_eq!(half_of_smallest().to_bits(), 0);
                with_flushed_denormals(|| ());
                // The inner call restores what the outer one set.
                assert_eq!(half_of_smallest().to_bits(), 0);
            });
        }
        assert!(half_of_smallest() > 0.0);
    }

    #[cfg(panic = "unwind")]
    #[test]
    fn unwinding_keeps_subnormals_again() {
        let panicked = std::panic::catch_unwind(|| with_flushed_denormals(|| panic!("unwinding ends it")));
        assert!(panicked.is_err() && half_of_smallest() > 0.0);
    }
}
