//! The inner loops.

use core::arch::naked_asm;

use super::cpu;

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

macro_rules! quad4 {
    () => {
        concat!(weights!(), half!("r12", "r4" "r5" "r6" "r7"), half!("lr", "r4" "r5" "r6" "r7"))
    };
}

/// The loop around quads of `$size` bytes of code and `2^$log` bytes of inputs: entered in its middle
/// so that what remains after it is a multiple of four quads.
macro_rules! dot {
    ($(#[$doc:meta])* $name:ident($acc:ty), $quad:ident, $size:literal, $log:literal, $load:expr, $finish:expr) => {
        $(#[$doc])*
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(weights: *const i8, x: *const u32, acc: $acc, end: *const u32) {
            naked_asm!(
                cpu!(),
                "push {{r2, r3, r4-r11, lr}}",
                $load,
                // quads modulo 4 decide where to enter
                "subs r3, r3, r1",
                concat!("lsrs r3, r3, #", $log),
                "ands r3, r3, #3",
                "beq 2f",
                "movw r12, #{size}",
                "mul r3, r3, r12",
                "adr.w r12, 3f",
                "sub r12, r12, r3",
                "orr r12, r12, #1",
                "bx r12",
                ".p2align 2",
                "2:",
                $quad!(),
                $quad!(),
                $quad!(),
                $quad!(),
                "3:",
                "ldr r2, [sp, #4]",
                "cmp r1, r2",
                "bne 2b",
                "pop {{r2, r3}}",
                $finish,
                "pop {{r4-r11, pc}}",
                size = const $size,
            )
        }
    };
}

dot! {
    /// Adds `sum_k w[k] x[p][k]` to 8 accumulators: 27 instructions for 32 products.
    ///
    /// # Safety
    /// `end > x`; the words from `x` to `end` are readable and a whole number of quads; as many times
    /// four bytes are readable at `weights`; `acc` is valid for 8 words.
    dot8(*mut i32), quad8, 108, "6", "ldm r2, {{r4-r11}}", "stm r2, {{r4-r11}}"
}

dot! {
    /// As [`dot8`] for 4 accumulators: 15 instructions for 16 products.
    ///
    /// # Safety
    /// As for [`dot8`], with `acc` valid for 4 words.
    dot4(*mut i32), quad4, 60, "5", "ldm r2, {{r4-r7}}", "stm r2, {{r4-r7}}"
}

/// What [`dot8_store`] does with its sums; it reads these words in order.
#[repr(C)]
pub(super) struct Task {
    pub bias: i32,
    pub mult: i32,
    pub half: i32,
    pub y: *mut i8,
    pub stride: usize,
    pub shift: u32,
}

macro_rules! store {
    ($($acc:literal)*) => {
        concat!($(
            "add ", $acc, ", ", $acc, ", ", $acc, "\n",
            "smmulr r0, ", $acc, ", r12\n",
            "smmlar ", $acc, ", ", $acc, ", r12, lr\n",
            "add ", $acc, ", ", $acc, ", r0, asr #31\n",
            "asr ", $acc, ", ", $acc, ", r3\n",
            "ssat ", $acc, ", #8, ", $acc, "\n",
            "strb ", $acc, ", [r1]\n",
            "add r1, r1, r2\n",
        )*)
    };
}

dot! {
    /// As [`dot8`], the sums starting at a bias, rescaled and stored as bytes.
    ///
    /// # Safety
    /// As for [`dot8`]; the task's `y` is writable at multiples of its stride up to 7.
    dot8_store(&Task), quad8, 108, "6",
    "ldr r4, [r2]
     mov r5, r4
     mov r6, r4
     mov r7, r4
     mov r8, r4
     mov r9, r4
     mov r10, r4
     mov r11, r4",
    concat!(
        "add r2, r2, #4
         ldm r2, {{r0, r1, r12}}
         ldrd r2, r3, [r2, #12]
         mov lr, r1
         mov r1, r12
         mov r12, r0
",
        store!("r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11"),
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
