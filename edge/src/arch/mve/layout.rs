//! Copies, sums and tables. Loops that end in LETP predicate their last turn: lanes beyond the end read as 0 and
//! are not stored.

use core::arch::naked_asm;

use residual_core::quant::Add;

/// # Safety
/// `weights` is readable for `len` bytes.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn sum_of(weights: *const i8, len: usize) -> i32 {
    naked_asm!(
        cpu!(),
        "push {{r7, lr}}
         movs r2, #0
         cbz r1, 3f
         dlstp.8 lr, r1
         2:
         vldrb.u8 q0, [r0], #16
         vaddva.s8 r2, q0
         letp lr, 2b
         3:
         mov r0, r2
         pop {{r7, pc}}",
    )
}

/// What [`gather`] copies; it reads these words in order.
#[repr(C)]
pub(super) struct Gather {
    pub from: *const i8,
    pub to: *mut i8,
    /// pieces of 16 bytes that come to lie one behind the other
    pub count: usize,
    /// bytes between two of them
    pub step: usize,
    /// how often, each time 16 bytes further
    pub chunks: usize,
    /// bytes to leave out between a chunk's copies and the next's
    pub gap: usize,
    /// how often all that
    pub blocks: usize,
    /// bytes from what would be a block's next chunk to the next block
    pub further: usize,
}

/// # Safety
/// All pieces these steps lead to are readable and writable, and they do not overlap; no count is 0.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn gather(task: &Gather) {
    naked_asm!(
        cpu!(),
        "push {{r4-r9, lr}}
         ldm r0, {{r0-r7}}
         1:
         mov r8, r4
         2:
         mov r9, r0
         dls lr, r2
         3:
         vldrb.u8 q0, [r9]
         add r9, r3
         vstrb.8 q0, [r1], #16
         le lr, 3b
         adds r0, #16
         add r1, r5
         subs r8, #1
         bne 2b
         add r0, r7
         subs r6, #1
         bne 1b
         pop {{r4-r9, pc}}",
    )
}

/// What [`spread`] copies; it reads these words in order.
#[repr(C)]
pub(super) struct Spread {
    pub from: *const i8,
    pub to: *mut i8,
    /// bytes of each pixel
    pub bytes: usize,
    /// bytes between two pixels
    pub step: usize,
    /// pixels
    pub count: usize,
}

/// Copies pixels, each in pieces of 16 bytes that come to lie 128 bytes apart, the next pixel's pieces
/// behind them.
///
/// # Safety
/// `from` is readable for `bytes` at every multiple of `step` below `count`, `to` writable for as many pieces
/// at every multiple of 16, and they do not overlap; `bytes` and `count` are not 0.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn spread(task: &Spread) {
    naked_asm!(
        cpu!(),
        "push {{r4-r6, lr}}
         ldm r0, {{r0-r4}}
         1:
         mov r5, r0
         mov r6, r1
         dlstp.8 lr, r2
         2:
         vldrb.u8 q0, [r5], #16
         vstrb.8 q0, [r6]
         adds r6, #128
         letp lr, 2b
         add r0, r3
         adds r1, #16
         subs r4, #1
         bne 1b
         pop {{r4-r6, pc}}",
    )
}

/// Fills a table with the values from `first` on, shifted to the left and rescaled by factor, half and shift.
///
/// # Safety
/// `terms` is writable for `4 count` words; `count > 0`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn terms(terms: *mut i32, count: usize, first: i32, rescale: &[i32; 3]) {
    naked_asm!(
        cpu!(),
        "push {{r4-r6, lr}}
         ldm r3, {{r4-r6}}
         dls lr, r1
         2:
         vidup.u32 q0, r2, #1
         vshl.i32 q0, q0, #{left}
         vshr.s32 q1, q0, #31
         vqrdmlah.s32 q1, q0, r4
         vadd.i32 q1, q1, r5
         vshl.s32 q1, r6
         vstrw.32 q1, [r0], #16
         le lr, 2b
         pop {{r4-r6, pc}}",
        left = const Add::LEFT_SHIFT,
    )
}
