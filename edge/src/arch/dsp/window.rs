//! 3x3 windows over ten interleaved columns.

use core::arch::naked_asm;

use super::finish::{Task, finish};

/// Four of the columns from `$x` on, times the two weights in `$w`.
macro_rules! half {
    ($w:literal, $x:expr, $($a:literal $b:literal $at:literal),+) => {
        concat!($(
            "ldrd r2, r3, [r1, #", $x, "+", $at, "]\nsmlad ", $a, ", ", $w, ", r2, ", $a, "\nsmlad ", $b, ", ", $w,
            ", r3, ", $b, "\n"
        ),+)
    };
}

/// Four inputs of one tap for 8 pixels: 27 instructions for 32 products.
macro_rules! tap {
    ($w:literal, $x:literal) => {
        concat!(
            "ldr.w lr, [r0, #", $w, "]\nsxtb16 r12, lr\nsxtb16 lr, lr, ror #8\n",
            half!("r12", $x, "r4" "r5" "0", "r6" "r7" "8", "r8" "r9" "16", "r10" "r11" "24"),
            half!("lr", concat!($x, "+40"), "r4" "r5" "0", "r6" "r7" "8", "r8" "r9" "16", "r10" "r11" "24"),
        )
    };
}

macro_rules! window {
    ($name:ident, $c:literal) => {
        /// Adds the products of a 3x3 window to the bias for 8 pixels and finishes the task. For each row of the window
        /// and every four inputs, `x` holds the pairs `(0, 2)` of ten columns, then the pairs `(1, 3)`.
        ///
        /// # Safety
        /// With `C` channels, `end` is `15 C` words behind `x`, readable to there; weights are readable for `9 C`
        /// bytes; `task` is as for [`finish`].
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(weights: *const i8, x: *const u32, task: &mut Task, end: *const u32) {
            naked_asm!(
                cpu!(),
                "push {{r4-r11, lr}}
                 sub sp, #12
                 strd r2, r3, [sp]
                 add r3, r1, #20*{c}
                 str r3, [sp, #8]
                 ldr r4, [r2]
                 mov r5, r4
                 mov r6, r4
                 mov r7, r4
                 mov r8, r4
                 mov r9, r4
                 mov r10, r4
                 mov r11, r4
                 2:",
                tap!("0", "0"),
                tap!("{c}", "4"),
                tap!("2*{c}", "8"),
                tap!("4", "80"),
                tap!("{c}+4", "84"),
                tap!("2*{c}+4", "88"),
                tap!("8", "160"),
                tap!("{c}+8", "164"),
                tap!("2*{c}+8", "168"),
                tap!("12", "240"),
                tap!("{c}+12", "244"),
                tap!("2*{c}+12", "248"),
                "ldr r2, [sp, #8]
                 add r1, r1, #320
                 adds r0, #16
                 cmp r1, r2
                 bne.w 2b
                 ldr r3, [sp, #4]
                 add r2, r2, #20*{c}
                 add r0, r0, #2*{c}
                 str r2, [sp, #8]
                 cmp r1, r3
                 bne.w 2b
                 ldr r2, [sp]
                 add sp, #12
                 b {finish}",
                c = const $c,
                finish = sym finish,
            )
        }
    };
}

window!(window16, 16);
window!(window32, 32);
window!(window64, 64);
