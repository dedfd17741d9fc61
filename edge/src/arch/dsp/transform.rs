//! Winograd's transforms of weights and inputs, four channels at a time.

use core::arch::naked_asm;

/// Column `$x` of the taps at r0 (rows r8 bytes and r9 bytes on) through `G` into the 3x6 matrix at sp.
macro_rules! weight_column {
    ($x:literal, $ror:literal) => {
        concat!(
            "ldr r3, [r0]
             ldr r4, [r0, r8]
             ldr r5, [r0, r9]
             add r0, r0, r1
             eor r3, r3, r10
             eor r4, r4, r10
             eor r5, r5, r10
",
            "uxtb16 r3, r3",
            $ror,
            "\nuxtb16 r4, r4",
            $ror,
            "\nuxtb16 r5, r5",
            $ror,
            "\n",
            "sub r3, r3, r11
             sub r4, r4, r11
             sub r5, r5, r11
             add r6, r3, r5
             add r7, r3, r5, lsl #2
             add r3, r3, r3, lsl #1
             add r5, r5, r5, lsl #1
             add r12, r6, r4
             sub r6, r6, r4
             add lr, r7, r4, lsl #1
             sub r7, r7, r4, lsl #1
",
            "str r3, [sp, #4*",
            $x,
            "]\nstr r12, [sp, #12+4*",
            $x,
            "]\nstr r6, [sp, #24+4*",
            $x,
            "]\n",
            "str lr, [sp, #36+4*",
            $x,
            "]\nstr r7, [sp, #48+4*",
            $x,
            "]\nstr r5, [sp, #60+4*",
            $x,
            "]\n",
        )
    };
}

/// Row `$y` of the matrix at r0 through `G` into the pairs at r2, `$at` being `48 $y`.
macro_rules! weight_row {
    ($at:literal) => {
        concat!(
            "ldm r0!, {{r3-r5}}
             add r6, r3, r5
             add r6, r6, r12
             add r7, r3, r5, lsl #2
             add r7, r7, r12
             add r3, r3, r3, lsl #1
             add r3, r3, r12
             add r5, r5, r5, lsl #1
             add r5, r5, r12
             add lr, r6, r4
             sub r6, r6, r4
             eor r3, r3, r12
             eor lr, lr, r12
             eor r6, r6, r12
",
            "str r3, [r2, #",
            $at,
            "]\nstr lr, [r2, #8+",
            $at,
            "]\nstr r6, [r2, #16+",
            $at,
            "]\n",
            "add lr, r7, r4, lsl #1
             sub r7, r7, r4, lsl #1
             eor lr, lr, r12
             eor r7, r7, r12
             eor r5, r5, r12
",
            "str lr, [r2, #24+",
            $at,
            "]\nstr r7, [r2, #32+",
            $at,
            "]\nstr r5, [r2, #40+",
            $at,
            "]\n",
        )
    };
}

macro_rules! weight_pair {
    ($ror:literal) => {
        concat!(
            weight_column!("0", $ror),
            weight_column!("1", $ror),
            weight_column!("2", $ror),
            "sub r0, r0, r8
             str r0, [sp, #72]
             mov r0, sp
             mov r12, #0x80008000
",
            weight_row!("0"),
            weight_row!("48"),
            weight_row!("96"),
            weight_row!("144"),
            weight_row!("192"),
            weight_row!("240"),
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
        "push {{r4-r11, lr}}
         sub sp, #76
         lsl r1, r1, #2
         add r8, r1, r1, lsl #1
         lsl r9, r8, #1
         mov r10, #0x80808080
         mov r11, #0x00800080
",
        weight_pair!(""),
        "ldr r0, [sp, #72]
         add r2, r2, #288
",
        weight_pair!(", ror #8"),
        "add sp, #76
         pop {{r4-r11, pc}}",
    )
}

/// `B^T` of the registers r3 to r8, in place.
macro_rules! bt {
    () => {
        "sub r9, r7, r5, lsl #2
         sub r10, r6, r4, lsl #2
         sub r11, r7, r5
         sub r12, r6, r4
         sub r8, r8, r6
         sub r8, r8, r12, lsl #2
         sub r3, r3, r5
         add r3, r11, r3, lsl #2
         add r4, r9, r10
         sub r5, r9, r10
         add r6, r11, r12, lsl #1
         sub r7, r11, r12, lsl #1
"
    };
}

macro_rules! input_column {
    ($ror:literal) => {
        concat!(
            "ldm r0!, {{r3-r8}}
             ldr r3, [r3, r1]
             ldr r4, [r4, r1]
             ldr r5, [r5, r1]
             ldr r6, [r6, r1]
             ldr r7, [r7, r1]
             ldr r8, [r8, r1]
             eor r3, r3, lr
             eor r4, r4, lr
             eor r5, r5, lr
             eor r6, r6, lr
             eor r7, r7, lr
             eor r8, r8, lr
",
            "uxtb16 r3, r3",
            $ror,
            "\nuxtb16 r4, r4",
            $ror,
            "\nuxtb16 r5, r5",
            $ror,
            "\n",
            "uxtb16 r6, r6",
            $ror,
            "\nuxtb16 r7, r7",
            $ror,
            "\nuxtb16 r8, r8",
            $ror,
            "\n",
            bt!(),
            "stm r2!, {{r3-r8}}\n",
        )
    };
}

/// Row `$y` of the matrix (stored by columns at sp) into the pairs at r2; `$constant` is subtracted
/// from r4.
macro_rules! input_row {
    ($y:literal, $constant:literal) => {
        concat!(
            "ldr r3, [sp, #4*",
            $y,
            "]\nldr r4, [sp, #24+4*",
            $y,
            "]\nldr r5, [sp, #48+4*",
            $y,
            "]\n",
            "ldr r6, [sp, #72+4*",
            $y,
            "]\nldr r7, [sp, #96+4*",
            $y,
            "]\nldr r8, [sp, #120+4*",
            $y,
            "]\n",
            "add r7, r7, lr\nadd r8, r8, lr\n",
            bt!(),
            $constant,
            "eor r3, r3, lr
             eor r4, r4, lr
             eor r5, r5, lr
             eor r6, r6, lr
             eor r7, r7, lr
             eor r8, r8, lr
",
            "str r3, [r2, #96*",
            $y,
            "]\nstr r4, [r2, #16+96*",
            $y,
            "]\nstr r5, [r2, #32+96*",
            $y,
            "]\n",
            "str r6, [r2, #48+96*",
            $y,
            "]\nstr r7, [r2, #64+96*",
            $y,
            "]\nstr r8, [r2, #80+96*",
            $y,
            "]\n",
        )
    };
}

macro_rules! input_pair {
    ($ror:literal) => {
        concat!(
            "ldr r0, [sp, #148]
             mov r2, sp
             mov lr, #0x80808080
",
            input_column!($ror),
            input_column!($ror),
            input_column!($ror),
            input_column!($ror),
            input_column!($ror),
            input_column!($ror),
            "ldr r2, [sp, #156]
             mov lr, #0x80008000
",
            input_row!("0", ""),
            input_row!("1", "ldr r9, [sp, #152]\nsub r4, r4, r9\n"),
            input_row!("2", ""),
            input_row!("3", ""),
            input_row!("4", ""),
            input_row!("5", ""),
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
        // [sp] matrix, [sp + 148] pixels, [sp + 152] constant, [sp + 156] v
        "push {{r4-r11, lr}}
         sub sp, #164
         str r0, [sp, #148]
         strd r2, r3, [sp, #152]
         lsl r1, r1, #2
",
        input_pair!(""),
        "add r2, r2, #576
         str r2, [sp, #156]
",
        input_pair!(", ror #8"),
        "add sp, #164
         pop {{r4-r11, pc}}",
    )
}
