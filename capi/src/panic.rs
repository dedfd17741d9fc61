//! What happens at a panic, which would be a defect of the engine.

/// Stops with a fault that a debugger and a fault handler see.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        #[cfg(target_arch = "arm")]
        // SAFETY: an undefined instruction raises a fault and touches no memory.
        unsafe {
            core::arch::asm!("udf #0");
        }
        core::hint::spin_loop();
    }
}
