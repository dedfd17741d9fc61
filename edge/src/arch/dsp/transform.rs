//! Winograd's transforms of weights and inputs, four channels at a time: the columns of both pairs into
//! a matrix on the stack, then its rows.

use core::arch::naked_asm;

/// `G` of the pairs r3 to r5, in halves: r3, r7, r8, r9, r10 and r5. `a + 4 c` is `(a + c) + 3 c`.
macro_rules! g {
    () => {
        "sadd16 r6, r3, r5
         sadd16 r7, r6, r4
         ssub16 r8, r6, r4
         sadd16 r9, r5, r5
         sadd16 r5, r9, r5
         sadd16 r6, r6, r5
         sadd16 r4, r4, r4
         sadd16 r9, r6, r4
         ssub16 r10, r6, r4
         sadd16 r4, r3, r3
         sadd16 r3, r4, r3
"
    };
}

/// The next column of one pair, in r3 to r5, into the matrix from `$at` behind r2 on.
macro_rules! weight_column {
    ($at:literal) => {
        concat!(
            g!(),
            "str r3, [r2, #",
            $at,
            "]\nstr r7, [r2, #12+",
            $at,
            "]\nstr r8, [r2, #24+",
            $at,
            "]\nstr r9, [r2, #36+",
            $at,
            "]\nstr r10, [r2, #48+",
            $at,
            "]\nstr r5, [r2, #60+",
            $at,
            "]\n",
        )
    };
}

/// Transforms the 3x3 weights of four input channels of one output channel into two pairs.
///
/// # Safety
/// `w` is readable at multiples of `stride` words up to 8, `u` writable at even indices up to 142.
#[unsafe(naked)]
pub unsafe extern "C" fn weights_of_quad(w: *const u32, stride: usize, u: *mut u32) {
    naked_asm!(
        cpu!(),
        // [sp] the matrices of both pairs, 6 rows of 3 each, [sp + 144] u
        "push {{r2, r4-r11, lr}}
         sub sp, #144
         lsls r1, r1, #2
         add r12, r1, r1, lsl #1
         mov r2, sp
         add lr, sp, #12
         2:
         ldr r9, [r0]
         ldr r10, [r0, r12]
         ldr r11, [r0, r12, lsl #1]
         add r0, r0, r1
         sxtb16 r3, r9
         sxtb16 r4, r10
         sxtb16 r5, r11
         push {{r9-r11}}",
        weight_column!("0"),
        "pop {{r3-r5}}
         sxtb16 r3, r3, ror #8
         sxtb16 r4, r4, ror #8
         sxtb16 r5, r5, ror #8",
        weight_column!("72"),
        "adds r2, #4
         cmp r2, lr
         bne 2b
         mov r0, sp
         ldr r2, [sp, #144]
         add r12, sp, #144
         3:
         ldm r0!, {{r3-r5}}",
        g!(),
        "str r7, [r2, #8]
         str r8, [r2, #16]
         str r9, [r2, #24]
         str r10, [r2, #32]
         str r5, [r2, #40]
         str r3, [r2], #48
         cmp r0, r12
         bne 3b
         add sp, #148
         pop {{r4-r11, pc}}",
    )
}

/// `B^T` of r2 to r7, in place; r8 and r9 are scratch.
macro_rules! bt {
    () => {
        "subs r7, r7, r5
         subs r2, r2, r4
         sub r8, r6, r4, lsl #2
         sub r9, r5, r3, lsl #2
         subs r4, r6, r4
         subs r6, r5, r3
         add r2, r4, r2, lsl #2
         sub r7, r7, r6, lsl #2
         add r5, r4, r6, lsl #1
         sub r6, r4, r6, lsl #1
         add r3, r8, r9
         sub r4, r8, r9
"
    };
}

/// `$op` of each of r2 to r7.
macro_rules! each {
    ($op:literal, $rest:literal) => {
        concat!(
            $op, " r2, r2", $rest, "\n", $op, " r3, r3", $rest, "\n", $op, " r4, r4", $rest, "\n", $op, " r5, r5",
            $rest, "\n", $op, " r6, r6", $rest, "\n", $op, " r7, r7", $rest, "\n",
        )
    };
}

/// The next row of the matrix at r0 through `B` into pairs at r1. The bias lr of the split into signed halves
/// is in two elements, one of which enters every result once.
macro_rules! input_row {
    () => {
        concat!(
            "ldr r3, [r0, #48]
             ldr r4, [r0, #96]
             ldr r5, [r0, #144]
             ldr r6, [r0, #192]
             ldr r7, [r0, #240]
             ldr r2, [r0], #4
             add r6, r6, lr
             add r7, r7, lr
",
            bt!(),
            each!("eor", ", lr"),
            "str r3, [r1, #16]
             str r4, [r1, #32]
             str r5, [r1, #48]
             str r6, [r1, #64]
             str r7, [r1, #80]
             str r2, [r1], #96
",
        )
    };
}

/// Transforms word `q` (four channels) of a patch of 6x6 pixels into two pairs.
///
/// # Safety
/// Every pointer is readable at `q`, `v` writable at multiples of 4 up to 284.
#[unsafe(naked)]
pub unsafe extern "C" fn input_of_quad(pixels: &[[*const u32; 6]; 6], q: usize, constant: u32, v: *mut u32) {
    naked_asm!(
        cpu!(),
        // [sp] columns, of either pair in turn, [sp + 288] constant, [sp + 292] v
        "push {{r2-r11, lr}}
         sub sp, #288
         lsls r1, r1, #2
         mov r10, sp
         add r11, sp, #288
         mov lr, #0x80808080
         2:
         ldm r0!, {{r2-r7}}
         ldr r2, [r2, r1]
         ldr r3, [r3, r1]
         ldr r4, [r4, r1]
         ldr r5, [r5, r1]
         ldr r6, [r6, r1]
         ldr r7, [r7, r1]",
        each!("eor", ", lr"),
        "add r12, r10, #24
         stm r12, {{r2-r7}}",
        each!("uxtb16", ""),
        bt!(),
        "stm r10!, {{r2-r7}}
         ldm r10, {{r2-r7}}",
        each!("uxtb16", ", ror #8"),
        bt!(),
        "stm r10!, {{r2-r7}}
         cmp r10, r11
         bne 2b
         mov r0, sp
         ldr r1, [sp, #292]
         add r11, sp, #48
         mov lr, #0x80008000
         3:",
        input_row!(),
        input_row!(),
        "cmp r0, r11
         bne 3b",
        // position (1, 1) of both pairs
        "ldr r0, [sp, #288]
         sub r1, r1, #1040
         ldr r2, [r1]
         ldr r3, [r1, #576]
         ssub16 r2, r2, r0
         ssub16 r3, r3, r0
         str r2, [r1]
         str r3, [r1, #576]
         add sp, #296
         pop {{r4-r11, pc}}",
    )
}
