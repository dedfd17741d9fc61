//! The inner loops.

use core::arch::naked_asm;

use super::finish::{Task, finish};

/// One channel, four inputs of four pixels: 11 more instructions per further four pixels.
macro_rules! half {
    ($weights:literal, $a:literal $b:literal $c:literal $d:literal) => {
        concat!(
            "ldrd r2, r3, [r1], #8\n",
            "smlad ",
            $a,
            ", ",
            $weights,
            ", r2, ",
            $a,
            "\n",
            "smlad ",
            $b,
            ", ",
            $weights,
            ", r3, ",
            $b,
            "\n",
            "ldrd r2, r3, [r1], #8\n",
            "smlad ",
            $c,
            ", ",
            $weights,
            ", r2, ",
            $c,
            "\n",
            "smlad ",
            $d,
            ", ",
            $weights,
            ", r3, ",
            $d,
            "\n",
        )
    };
}

macro_rules! weights {
    () => {
        "ldr.w lr, [r0], #4\nsxtb16 r12, lr\nsxtb16 lr, lr, ror #8\n"
    };
}

macro_rules! quad8 {
    () => {
        concat!(
            weights!(),
            half!("r12", "r4" "r5" "r6" "r7"),
            half!("r12", "r8" "r9" "r10" "r11"),
            half!("lr", "r4" "r5" "r6" "r7"),
            half!("lr", "r8" "r9" "r10" "r11"),
        )
    };
}

/// Adds `sum_k w[k] x[p][k]` to the bias for 8 pixels, 27 instructions for 32 products, and stores the
/// sums in the task; where it has a `y`, also as bytes there, added to what is there if it has tables.
///
/// # Safety
/// `end > x`; the words from `x` to `end` are readable and a whole number of quads; as many times four
/// bytes are readable at `weights`. `y` is NULL or writable at multiples of the stride up to 7. Both tables
/// are NULL or hold 256 words, and then `y` is readable too.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn dot8(weights: *const i8, x: *const u32, task: &mut Task, end: *const u32) {
    naked_asm!(
        cpu!(),
        "push {{r2, r3, r4-r11, lr}}
         ldr r4, [r2]
         mov r5, r4
         mov r6, r4
         mov r7, r4
         mov r8, r4
         mov r9, r4
         mov r10, r4
         mov r11, r4",
        // the loop is entered in its middle, so that a multiple of four quads remains after it
        "subs r3, r3, r1
         lsrs r3, r3, #6
         ands r3, r3, #3
         beq 2f
         movs r2, #108
         muls r3, r2
         adr.w r12, 3f
         sub r12, r12, r3
         orr r12, r12, #1
         bx r12
         .p2align 2
         2:",
        quad8!(),
        quad8!(),
        quad8!(),
        quad8!(),
        "3:
         ldr r2, [sp, #4]
         cmp r1, r2
         bne 2b
         pop {{r2, r3}}
         b {finish}",
        finish = sym finish,
    )
}

/// Adds `sum_k w[k] x[p][k]` to 4 accumulators.
///
/// # Safety
/// As for [`dot8`], with `acc` valid for 4 words.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn dot4(weights: *const i8, x: *const u32, acc: *mut i32, end: *const u32) {
    naked_asm!(
        cpu!(),
        "push {{r2, r4-r8, lr}}
         mov r8, r3
         ldm r2, {{r4-r7}}
         2:",
        weights!(),
        half!("r12", "r4" "r5" "r6" "r7"),
        half!("lr", "r4" "r5" "r6" "r7"),
        "cmp r1, r8
         bne 2b
         pop {{r2}}
         stm r2, {{r4-r7}}
         pop {{r4-r8, pc}}",
    )
}

macro_rules! pair {
    ($op:literal, $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal $g:literal $h:literal) => {
        concat!(
            "ldrd r12, lr, [r0], #288\n",
            "ldrd r2, r3, [r1, #8]\n",
            $op,
            " r6, r12, r2",
            $c,
            "\n",
            $op,
            " r7, r12, r3",
            $d,
            "\n",
            $op,
            " r10, lr, r2",
            $g,
            "\n",
            $op,
            " r11, lr, r3",
            $h,
            "\n",
            "ldrd r2, r3, [r1], #576\n",
            $op,
            " r4, r12, r2",
            $a,
            "\n",
            $op,
            " r5, r12, r3",
            $b,
            "\n",
            $op,
            " r8, lr, r2",
            $e,
            "\n",
            $op,
            " r9, lr, r3",
            $f,
            "\n",
        )
    };
}

macro_rules! first_pair {
    () => {
        pair!("smuad", "" "" "" "" "" "" "" "")
    };
}

macro_rules! next_pair {
    () => {
        pair!("smlad", ", r4" ", r5" ", r6" ", r7" ", r8" ", r9" ", r10" ", r11")
    };
}

/// What [`products`] keeps in memory; it reads these words in order.
#[repr(C)]
pub(super) struct Frame {
    sums: *mut i32,
    sums_end: *mut i32,
    /// bytes both operands step back for the next position
    rewind: [usize; 2],
    /// bytes of code to skip on entry: after the first two pairs, pairs modulo 8 decide
    skip: usize,
    /// bytes of `v` for one position
    extent: usize,
}

const PAIR_CODE: usize = 44;

impl Frame {
    pub(super) fn new(pairs: usize, sums: *mut i32) -> Self {
        Frame {
            sums,
            sums_end: sums.wrapping_add(288),
            rewind: [pairs * 288 - 8, pairs * 576 - 16],
            skip: (pairs - 2) % 8 * PAIR_CODE,
            extent: pairs * 576,
        }
    }
}

/// Two channels, four tiles, 36 positions; 11 instructions for 16 products.
///
/// # Safety
/// With `n` even pairs, `n >= 2`: `u` is readable for `72 n` words, `v` for `144 n`, `frame` is
/// `Frame::new(n, sums)` and `sums` is writable for 288 words.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn products(u: *const u32, v: *const u32, frame: *const Frame) {
    naked_asm!(
        cpu!(),
        "push {{r4-r11, lr}}",
        "ldm r2, {{r3-r8}}",
        // entry into the loop, end of the first position's inputs
        "adr.w r9, 4f",
        "sub r9, r9, r7",
        "orr r9, r9, #1",
        "add r10, r1, r8",
        // [sp] sums, [sp + 4] end of sums, [sp + 8] rewinds, [sp + 16] entry, [sp + 20] end of v
        "mov r7, r9",
        "mov r8, r10",
        "push {{r3-r8}}",
        "2:",
        first_pair!(),
        next_pair!(),
        "ldr r2, [sp, #16]",
        "bx r2",
        ".p2align 2",
        "3:",
        next_pair!(),
        next_pair!(),
        next_pair!(),
        next_pair!(),
        next_pair!(),
        next_pair!(),
        next_pair!(),
        next_pair!(),
        "4:",
        "ldr r2, [sp, #20]",
        "cmp r1, r2",
        "bne 3b",
        "adds r2, #16",
        "str r2, [sp, #20]",
        "ldrd r2, r3, [sp]",
        "stm r2!, {{r4-r11}}",
        "str r2, [sp]",
        "ldrd r4, r5, [sp, #8]",
        "subs r0, r0, r4",
        "subs r1, r1, r5",
        "cmp r2, r3",
        "bne 2b",
        "add sp, #24",
        "pop {{r4-r11, pc}}",
    )
}

/// One word's two pairs, less the zero points in r12, to slots r3 bytes apart.
macro_rules! spread {
    ($word:literal) => {
        concat!(
            "sxtb16 r9, ",
            $word,
            "\nsxtb16 r10, ",
            $word,
            ", ror #8\n",
            "ssub16 r9, r9, r12
             ssub16 r10, r10, r12
             str r9, [r2]
             str r10, [r2, r3]
             add r2, r2, r3, lsl #1
",
        )
    };
}

/// Spreads words of four bytes into pairs `(0, 2)` and `(1, 3)`, less `zeros`.
///
/// # Safety
/// `words` is readable for `count` words, `count > 0`; `x` is writable at multiples of `stride` bytes below
/// `2 count`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn interleave(words: *const u32, count: usize, x: *mut u32, stride: usize, zeros: u32) {
    naked_asm!(
        cpu!(),
        "ldr r12, [sp]
         push {{r4-r10, lr}}
         subs r1, #4
         blo 3f
         2:
         ldm r0!, {{r4-r7}}",
        spread!("r4"),
        spread!("r5"),
        spread!("r6"),
        spread!("r7"),
        "subs r1, #4
         bhs 2b
         3:
         adds r1, #4
         beq 5f
         4:
         ldr r4, [r0], #4",
        spread!("r4"),
        "subs r1, #1
         bne 4b
         5:
         pop {{r4-r10, pc}}",
    )
}
