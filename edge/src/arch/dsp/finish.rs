//! How the sums of 8 pixels become bytes.

use core::arch::naked_asm;

/// What sums of 8 pixels start from and become. [`finish`] reads these words in order.
#[repr(C)]
pub(super) struct Task {
    pub bias: i32,
    pub mult: i32,
    pub half: i32,
    pub shift: u32,
    pub stride: usize,
    /// where the first pixel's byte is stored; NULL: nowhere
    pub y: *mut i8,
    /// tables of the addition, or NULL
    pub conv_table: *const i32,
    pub shortcut_table: *const i32,
    pub sum_shift: u32,
    pub sum_mult: i32,
    pub sum_half: i32,
    pub sums: [i32; 8],
}

/// Rescales and saturates `$y`, a sum; `$t` is scratch.
macro_rules! rescale {
    ($y:literal, $t:literal, $mult:literal, $half:literal, $shift:literal, $saturate:literal) => {
        concat!(
            "smmulr ",
            $t,
            ", ",
            $y,
            ", ",
            $mult,
            "\n",
            "smmlar ",
            $y,
            ", ",
            $y,
            ", ",
            $mult,
            ", ",
            $half,
            "\n",
            "add ",
            $y,
            ", ",
            $y,
            ", ",
            $t,
            ", asr #31\n",
            "asr ",
            $y,
            ", ",
            $y,
            ", ",
            $shift,
            "\n",
            $saturate,
            " ",
            $y,
            ", #8, ",
            $y,
            "\n",
        )
    };
}

/// Where kernels end: stores the sums, in r4 to r11, in the task at r2; where it has a `y`, also as bytes there, added
/// to what is there if it has tables. Returns to what was pushed as lr after r4 to r11.
///
/// # Safety
/// `y` is NULL or writable at multiples of the stride up to 7. Both tables are NULL or hold 256 words, and then `y`
/// is readable too.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn finish() {
    naked_asm!(
        cpu!(),
        "add r0, r2, #44
         stm r0, {{r4-r11}}
         adds r2, #4
         ldm r2!, {{r4-r8}}
         cmp r8, #0
         beq 6f
         ldr r9, [r2]
         cmp r9, #0
         bne 5f
         add lr, r0, #32
         4:
         ldrd r1, r3, [r0], #8
         lsls r1, r1, #1
         lsls r3, r3, #1",
        rescale!("r1", "r2", "r4", "r5", "r6", "ssat"),
        "strb r1, [r8]\n",
        rescale!("r3", "r2", "r4", "r5", "r6", "ssat"),
        "strb r3, [r8, r7]
         add r8, r8, r7, lsl #1
         cmp r0, lr
         bne 4b
         pop {{r4-r11, pc}}
         5:
         ldm r2, {{r9-r12, lr}}
         add r2, r0, #32
         7:
         ldr r1, [r0], #4
         lsls r1, r1, #1",
        rescale!("r1", "r3", "r4", "r5", "r6", "usat"),
        "ldrb r3, [r8]
         ldr r1, [r9, r1, lsl #2]
         ldr r3, [r10, r3, lsl #2]
         adds r1, r1, r3",
        rescale!("r1", "r3", "r12", "lr", "r11", "ssat"),
        "strb r1, [r8]
         add r8, r7
         cmp r0, r2
         bne 7b
         6:
         pop {{r4-r11, pc}}",
    )
}
