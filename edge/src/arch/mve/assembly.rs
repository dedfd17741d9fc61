//! The loops. Accumulators of VMLADAV are even registers, so pointers are odd ones. Loops that end in LETP
//! predicate their last turn: lanes beyond the end read as 0 and are not stored.

use core::arch::naked_asm;

use super::Finish;

/// Module-level assembly does not inherit `-C target-cpu`.
macro_rules! cpu {
    () => {
        ".cpu cortex-m55"
    };
}

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

/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy(from: *const i8, to: *mut i8, len: usize) {
    naked_asm!(
        cpu!(),
        "push {{r7, lr}}
         cbz r2, 3f
         dlstp.8 lr, r2
         2:
         vldrb.u8 q0, [r0], #16
         vstrb.8 q0, [r1], #16
         letp lr, 2b
         3:
         pop {{r7, pc}}",
    )
}

/// # Safety
/// The pointers, two to weights and three to pixels, are readable for `len` bytes; `sums` is writable for 8
/// words, of which 0 to 2 and 4 to 6 are written.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn dot_2x3(pointers: &[*const i8; 5], len: usize, sums: *mut i32) {
    naked_asm!(
        cpu!(),
        "push {{r2, r4-r11, lr}}
         vpush {{d8-d9}}
         mov r11, r1
         ldrd r3, r5, [r0]
         ldrd r1, r7, [r0, #8]
         ldr r9, [r0, #16]
         movs r0, #0
         movs r2, #0
         movs r4, #0
         movs r6, #0
         mov r8, r0
         mov r10, r0
         cmp r11, #0
         beq 3f
         dlstp.8 lr, r11
         2:
         vldrb.u8 q0, [r3], #16
         vldrb.u8 q2, [r1], #16
         vldrb.u8 q1, [r5], #16
         vmladava.s8 r0, q0, q2
         vldrb.u8 q3, [r7], #16
         vmladava.s8 r6, q1, q2
         vldrb.u8 q4, [r9], #16
         vmladava.s8 r2, q0, q3
         vmladava.s8 r8, q1, q3
         vmladava.s8 r4, q0, q4
         vmladava.s8 r10, q1, q4
         letp lr, 2b
         3:
         vpop {{d8-d9}}
         pop {{r12}}
         str r0, [r12]
         strd r2, r4, [r12, #4]
         str r6, [r12, #16]
         strd r8, r10, [r12, #20]
         pop {{r4-r11, pc}}",
    )
}

/// What the `window` kernels work on; they read these words in order.
#[repr(C)]
pub(super) struct Window {
    pub rows: [*const i32; 3],
    pub weights: [*const i32; 2],
    pub sums: [*mut i32; 2],
    /// bytes from a row's first pixel to the end of the sums' pixels
    pub end: usize,
}

/// Eight dot products: pixels in four registers, weights of two channels in q6 and q7.
macro_rules! products {
    ($op:literal, $a:literal $b:literal $c:literal $d:literal) => {
        concat!(
            $op, " r0, ", $a, ", q6\n", $op, " r8, ", $a, ", q7\n", $op, " r2, ", $b, ", q6\n", $op, " r10, ", $b,
            ", q7\n", $op, " r4, ", $c, ", q6\n", $op, " r12, ", $c, ", q7\n", $op, " r6, ", $d, ", q6\n", $op,
            " lr, ", $d, ", q7\n",
        )
    };
}

/// One row of the window, 16 channels: six pixels, three taps, two channels. r1, r3 and r5 move on.
macro_rules! taps {
    ($first:literal) => {
        concat!(
            "vldrw.u32 q0, [r1], #16
             vldrw.u32 q6, [r3], #16
             vldrw.u32 q7, [r5], #16
             vldrw.u32 q1, [r1, #{c}-16]
             vldrw.u32 q2, [r1, #2*{c}-16]
             vldrw.u32 q3, [r1, #3*{c}-16]
",
            products!($first, "q0" "q1" "q2" "q3"),
            "vldrw.u32 q6, [r3, #{c}-16]
             vldrw.u32 q7, [r5, #{c}-16]
             vldrw.u32 q4, [r1, #4*{c}-16]
",
            products!("vmladava.s8", "q1" "q2" "q3" "q4"),
            "vldrw.u32 q6, [r3, #2*{c}-16]
             vldrw.u32 q7, [r5, #2*{c}-16]
             vldrw.u32 q5, [r1, #5*{c}-16]
",
            products!("vmladava.s8", "q2" "q3" "q4" "q5"),
        )
    };
}

/// The pixels of row `$row` of the window; weights from the row before on to this one.
macro_rules! row {
    (0) => {
        "ldr r1, [r11]
         ldrd r3, r5, [r11, #12]
         add r1, r1, r9
"
    };
    ($row:literal) => {
        concat!(
            "ldr r1, [r11, #4*",
            $row,
            "]
             adds r3, #2*{c}
             adds r5, #2*{c}
             add r1, r1, r9
"
        )
    };
}

/// The rest of the row's channels.
macro_rules! rest {
    (1) => {
        ""
    };
    ($chunks:literal $more:literal) => {
        concat!("mov r7, #", $chunks, "-", $more, "\n6:\n", taps!("vmladava.s8"), "subs r7, #1\nbne 6b\n")
    };
}

macro_rules! window {
    ($name:ident, $c:literal, $first:expr, $next:expr) => {
        /// # Safety
        /// With `n = end / C`, a positive multiple of 4: rows are readable for `n + 2` pixels of `C` bytes,
        /// weights for `9 C` bytes, sums are writable for `n` words; all are aligned to words.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(task: &mut Window) {
            naked_asm!(
                cpu!(),
                "push {{r4-r11, lr}}
                 vpush {{d8-d15}}
                 mov r11, r0
                 movs r0, #0
                 mov r9, r0
                 2:",
                row!(0),
                taps!("vmladav.s8"),
                $first,
                row!("1"),
                $next,
                row!("2"),
                $next,
                "ldrd r1, r3, [r11, #20]
                 stm r1!, {{r0, r2, r4, r6}}
                 stm r3!, {{r8, r10, r12, lr}}
                 strd r1, r3, [r11, #20]
                 ldr r5, [r11, #28]
                 add r9, r9, #4*{c}
                 cmp r9, r5
                 bne 2b
                 vpop {{d8-d15}}
                 pop {{r4-r11, pc}}",
                c = const $c,
            )
        }
    };
}

window!(window16, 16, rest!(1), taps!("vmladava.s8"));
window!(window32, 32, taps!("vmladava.s8"), concat!(taps!("vmladava.s8"), taps!("vmladava.s8")));
window!(window64, 64, rest!("4" "1"), rest!("4" "0"));

/// Rescales q0, or half of it with `vrmulh`, by the factor, half and shift in these registers.
macro_rules! rescale {
    ($multiply:literal $mult:literal $half:literal $shift:literal) => {
        concat!(
            $multiply,
            ".s32 q0, q0, ",
            $mult,
            "\nvshr.s32 q2, q0, #31\nvadd.i32 q0, q0, ",
            $half,
            "\nvadd.i32 q0, q0, q2\nvshl.s32 q0, ",
            $shift,
            "\n"
        )
    };
}

/// # Safety
/// `sums` is readable for `count` words, `y` writable at multiples of the stride below `count`; `count > 0`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn store(sums: *const i32, y: *mut i8, count: usize, finish: &Finish<'_>) {
    naked_asm!(
        cpu!(),
        "push {{r4-r8, lr}}
         ldm r3, {{r3-r7}}
         mov r12, #0
         vidup.u32 q1, r12, #1
         vmul.i32 q1, q1, r7
         lsl r7, r7, #2
         dlstp.32 lr, r2
         2:
         vldrw.u32 q0, [r0], #16
         vadd.i32 q0, q0, r3",
        rescale!("vqrdmulh" "r4" "r5" "r6"),
        "vqmovnb.s32 q0, q0
         vqmovnb.s16 q0, q0
         vstrb.32 q0, [r1, q1]
         add r1, r1, r7
         letp lr, 2b
         pop {{r4-r8, pc}}",
    )
}

/// As [`store`], adding to the shortcut's bytes in `y`.
///
/// # Safety
/// As for [`store`]; `y` is readable too, and both tables hold 256 words.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn store_sum(sums: *const i32, y: *mut i8, count: usize, finish: &Finish<'_>) {
    naked_asm!(
        cpu!(),
        "push {{r3-r11, lr}}
         vpush {{d8-d13}}
         mov r12, #0
         vidup.u32 q1, r12, #1
         vmov.i32 q3, #0
         vmov.i32 q4, #255
         mov lr, r2
         ldm r3!, {{r2, r4-r11}}
         ldr r12, [r3]
         vdup.32 q6, r10
         vmul.i32 q1, q1, r7
         lsl r7, r7, #2
         mov r3, r2
         // twice the sum is in the tables, so its product is not doubled
         dlstp.32 lr, lr
         2:
         vldrw.u32 q0, [r0], #16
         vadd.i32 q0, q0, r3",
        rescale!("vqrdmulh" "r4" "r5" "r6"),
        "vmax.s32 q0, q0, q3
         vmin.s32 q0, q0, q4
         vldrb.u32 q5, [r1, q1]
         vldrw.u32 q2, [r8, q0, uxtw #2]
         vldrw.u32 q0, [r9, q5, uxtw #2]
         vadd.i32 q0, q0, q2",
        rescale!("vrmulh" "q6" "r11" "r12"),
        "vqmovnb.s32 q0, q0
         vqmovnb.s16 q0, q0
         vstrb.32 q0, [r1, q1]
         add r1, r1, r7
         letp lr, 2b
         vpop {{d8-d13}}
         pop {{r3-r11, pc}}",
    )
}
