//! The convolutions. Accumulators of VMLADAV are the even registers, so what moves on is in odd ones. VLDM loads
//! up to seven vectors at once, whatever lies one behind the other; that is why windows are laid out anew.

use core::arch::naked_asm;

/// What [`windows`] and its like do. They read, and move on, these words in order.
#[repr(C)]
pub(super) struct Task {
    /// what accumulators start from
    pub zeros: [i32; 8],
    /// the strips of a window's rows
    pub rows: [*const i8; 3],
    /// of the first channel
    pub weights: *const i8,
    /// of 16 inputs
    pub chunks: usize,
    pub channel: *const [i32; 4],
    pub channels_end: *const [i32; 4],
    /// where the first block of a channel is stored
    pub y: *mut i8,
    /// bytes from a block to the next
    pub step: usize,
    /// where a block behind the last would be
    pub y_end: *mut i8,
    /// bytes of all blocks
    pub extent: usize,
    /// its middle, for 0
    pub conv_table: *const i32,
    pub shortcut_table: *const i32,
    pub sum_mult: i32,
    pub sum_half: i32,
    pub sum_shift: i32,
    /// bytes from a pixel to the next
    pub stride: usize,
    /// where sums are stored instead of bytes, or NULL
    pub sums: *mut i32,
    /// of the 8 pixels of a block
    pub offsets: [u16; 8],
    /// of every second one
    pub even_offsets: [u32; 4],
    /// places of a patch, and bytes of weights behind the last chunk of each
    pub lines: usize,
    pub tail: usize,
}

/// Eight dot products with the weights in `$w`: of even pixels first.
macro_rules! eight {
    ($w:literal, $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal $g:literal) => {
        concat!(
            "vmladava.s8 r0, ",
            $a,
            ", ",
            $w,
            "\nvmladava.s8 r8, ",
            $b,
            ", ",
            $w,
            "\nvmladava.s8 r2, ",
            $c,
            ", ",
            $w,
            "\nvmladava.s8 r10, ",
            $d,
            ", ",
            $w,
            "\nvmladava.s8 r4, ",
            $e,
            ", ",
            $w,
            "\nvmladava.s8 r12, ",
            $f,
            ", ",
            $w,
            "\nvmladava.s8 r6, ",
            $g,
            ", ",
            $w,
            "\n",
        )
    };
}

/// Products of one pixel with the three taps in q5 to q7, for the outputs that have it in their window.
macro_rules! taps {
    ($x:literal, $($acc:literal $w:literal),+) => {
        concat!($("vmladava.s8 ", $acc, ", ", $x, ", ", $w, "\n"),+)
    };
}

/// One row of the window for 8 outputs and 16 inputs: 3 loads, 24 instructions for 384 products.
macro_rules! row {
    ($row:literal) => {
        concat!(
            "vldmia r1!, {{d10-d15}}\nvldmia ", $row, "!, {{d0-d9}}\n",
            taps!("q0", "r0" "q5"),
            taps!("q1", "r8" "q5", "r0" "q6"),
            taps!("q2", "r2" "q5", "r8" "q6", "r0" "q7"),
            taps!("q3", "r10" "q5", "r2" "q6", "r8" "q7"),
            taps!("q4", "r4" "q5", "r10" "q6", "r2" "q7"),
            "vldmia ", $row, "!, {{d0-d9}}\n",
            taps!("q0", "r12" "q5", "r4" "q6", "r10" "q7"),
            taps!("q1", "r6" "q5", "r12" "q6", "r4" "q7"),
            taps!("q2", "lr" "q5", "r6" "q6", "r12" "q7"),
            taps!("q3", "lr" "q6", "r6" "q7"),
            taps!("q4", "lr" "q7"),
        )
    };
}

/// Rescales the sums `$x` into the highest bytes of `$y`, saturating, by the factor, half and shift in these
/// registers: what a product's sign takes away, its sum's does as well.
macro_rules! rescale {
    ($x0:literal $x1:literal, $y0:literal $y1:literal, $mult:literal $half:literal $shift:literal) => {
        concat!(
            "vshr.s32 ",
            $y0,
            ", ",
            $x0,
            ", #31\nvshr.s32 ",
            $y1,
            ", ",
            $x1,
            ", #31\n",
            "vqrdmlah.s32 ",
            $y0,
            ", ",
            $x0,
            ", ",
            $mult,
            "\nvqrdmlah.s32 ",
            $y1,
            ", ",
            $x1,
            ", ",
            $mult,
            "\n",
            "vadd.i32 ",
            $y0,
            ", ",
            $y0,
            ", ",
            $half,
            "\nvadd.i32 ",
            $y1,
            ", ",
            $y1,
            ", ",
            $half,
            "\n",
            "vqshl.s32 ",
            $y0,
            ", ",
            $shift,
            "\nvqshl.s32 ",
            $y1,
            ", ",
            $shift,
            "\n",
        )
    };
}

/// The sums of a block, on the stack, rescaled: even pixels in q2, odd ones in q3.
macro_rules! rescaled {
    () => {
        concat!(
            "ldr r9, [r11, #52]
             stm sp, {{r0, r2, r4, r6, r8, r10, r12, lr}}
             vldmia sp, {{d0-d3}}
             ldm r9, {{r0, r2, r4, r6}}
             vadd.i32 q0, q0, r0
             vadd.i32 q1, q1, r0
",
            rescale!("q0" "q1", "q2" "q3", "r2" "r4" "r6"),
        )
    };
}

/// Stores the highest bytes of q2 and q3 and moves on to the next block; whether there is one. r8 is its place.
macro_rules! stored {
    () => {
        "vshr.u32 q3, q3, #8
         vldrh.u16 q0, [r11, #104]
         add r9, r11, #60
         vsri.32 q3, q2, #24
         ldm r9, {{r8, r10, r12}}
         vstrb.16 q3, [r8, q0]
         add r8, r8, r10
         str r8, [r9]
         cmp r8, r12
"
    };
}

/// Adds the highest bytes of q2 and q3 to the shortcut's bytes, into the highest bytes of q2 and q3.
macro_rules! added {
    () => {
        concat!(
            "ldr r8, [r11, #60]
             vshr.s32 q2, q2, #24
             add r9, r11, #76
             vldrw.u32 q7, [r11, #120]
             vshr.s32 q3, q3, #24
             ldm r9, {{r0, r2, r4, r6, r10, r12}}
             vldrb.u32 q4, [r8, q7]
             add r12, r12, r8
             vldrb.u32 q5, [r12, q7]
             vldrw.u32 q0, [r0, q2, uxtw #2]
             vldrw.u32 q1, [r0, q3, uxtw #2]
             vldrw.u32 q2, [r2, q4, uxtw #2]
             vldrw.u32 q3, [r2, q5, uxtw #2]
             vadd.i32 q0, q0, q2
             vadd.i32 q1, q1, q3
",
            rescale!("q0" "q1", "q2" "q3", "r4" "r6" "r10"),
        )
    };
}

/// Begins a kernel: r11 is the task, 8 words on the stack are free.
macro_rules! enter {
    () => {
        "push {{r4-r11, lr}}
         vpush {{d8-d15}}
         sub sp, #36
         mov r11, r0
"
    };
}

macro_rules! leave {
    () => {
        "add sp, #36
         vpop {{d8-d15}}
         pop {{r4-r11, pc}}
"
    };
}

/// Moves on to the next channel; whether there is one. r1 is at its weights.
macro_rules! next_channel {
    () => {
        "add r9, r11, #52
         ldm r9, {{r0, r2, r4, r6, r8, r10}}
         adds r0, #16
         adds r8, #1
         sub r4, r8, r10
         str r1, [r11, #44]
         str r8, [r11, #68]
         str r4, [r11, #60]
         str r0, [r9]
         cmp r0, r2
"
    };
}

macro_rules! windows {
    ($name:ident, $finish:expr) => {
        /// 3x3 windows of stride 1, 8 outputs at a time, for all channels of a task.
        ///
        /// # Safety
        /// Of `blocks = extent / step > 0`: strips are readable for `160 blocks chunks` bytes, weights for
        /// `144 chunks` bytes of every channel, all aligned to words; channels from `channel` to
        /// `channels_end`, at least one, are readable. Bytes at `offsets` from all blocks of all channels,
        /// one byte apart, are writable; with an addition they are readable, `even_offsets` are those of even
        /// pixels, odd ones a stride further, and both tables hold 256 words.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(task: &mut Task) {
            naked_asm!(
                cpu!(),
                enter!(),
                "1:
                 ldrd r3, r5, [r11, #32]
                 ldr r7, [r11, #40]
                 2:
                 ldrd r1, r9, [r11, #44]
                 ldm r11, {{r0, r2, r4, r6, r8, r10, r12, lr}}
                 3:",
                row!("r3"),
                row!("r5"),
                row!("r7"),
                "subs r9, r9, #1
                 bne.w 3b",
                rescaled!(),
                $finish,
                stored!(),
                "bne.w 2b",
                next_channel!(),
                "bne.w 1b",
                leave!(),
            )
        }
    };
}

windows!(windows, "");
windows!(windows_sum, added!());

/// Products of the next 16 bytes of 8 pixels with the weights in q7.
macro_rules! chunk {
    () => {
        concat!(
            "vldmia r3!, {{d0-d13}}\n",
            eight!("q7", "q0" "q1" "q2" "q3" "q4" "q5" "q6"),
            "vldrw.u32 q0, [r3], #16\nvmladava.s8 lr, q0, q7\n",
        )
    };
}

/// Any windows of 8 outputs, collected, for all channels of a task: lines of `chunks` whole chunks and a
/// `tail`, which takes up a whole one. Where the task has a place for sums, it has one channel only.
///
/// # Safety
/// The first of `rows` is readable for 128 bytes a chunk of every line and aligned to words, weights for the
/// bytes of all lines of every channel; the rest is as for [`windows`], with `extent = step > 0`, and an
/// addition where there are tables. `sums` is NULL or writable for 8 words.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn patch(task: &mut Task) {
    naked_asm!(
        cpu!(),
        enter!(),
        "ldr r1, [r11, #44]
         1:
         ldr r3, [r11, #32]
         ldr r7, [r11, #136]
         ldm r11, {{r0, r2, r4, r6, r8, r10, r12, lr}}
         2:
         ldr r5, [r11, #48]
         cbz r5, 4f
         3:
         vldrb.u8 q7, [r1], #16",
        chunk!(),
        "subs r5, #1
         bne 3b
         4:
         ldr r9, [r11, #140]
         cmp r9, #0
         beq 5f
         vctp.8 r9
         vpst
         vldrbt.u8 q7, [r1]
         add r1, r9",
        chunk!(),
        "5:
         subs r7, #1
         bne 2b
         ldr r9, [r11, #100]
         cmp r9, #0
         bne 8f",
        rescaled!(),
        "ldr r9, [r11, #76]
         cmp r9, #0
         beq 6f",
        added!(),
        "6:",
        stored!(),
        next_channel!(),
        "bne.w 1b
         b 9f
         8:
         stm r9, {{r0, r2, r4, r6, r8, r10, r12, lr}}
         9:",
        leave!(),
    )
}

/// Products with the weights in q5 to q7 of the next five of 24 pixels, or as many as there are.
macro_rules! some {
    ($last:literal, $($acc:literal $x:literal $w:literal),+) => {
        concat!("vldmia r3!, {{d0-", $last, "}}\n", $("vmladava.s8 ", $acc, ", ", $x, ", ", $w, "\n"),+)
    };
}

/// As [`patch`] for whole chunks, `3 chunks` of them: 6 loads, 24 instructions for 384 products.
///
/// # Safety
/// As for [`patch`] with one line of `3 chunks` chunks and no place for sums; weights are aligned to words.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn threes(task: &mut Task) {
    naked_asm!(
        cpu!(),
        enter!(),
        "ldr r1, [r11, #44]
         1:
         ldr r3, [r11, #32]
         ldr r9, [r11, #48]
         ldm r11, {{r0, r2, r4, r6, r8, r10, r12, lr}}
         3:
         vldmia r1!, {{d10-d15}}",
        some!("d9", "r0" "q0" "q5", "r8" "q1" "q5", "r2" "q2" "q5", "r10" "q3" "q5", "r4" "q4" "q5"),
        some!("d9", "r12" "q0" "q5", "r6" "q1" "q5", "lr" "q2" "q5", "r0" "q3" "q6", "r8" "q4" "q6"),
        some!("d9", "r2" "q0" "q6", "r10" "q1" "q6", "r4" "q2" "q6", "r12" "q3" "q6", "r6" "q4" "q6"),
        some!("d9", "lr" "q0" "q6", "r0" "q1" "q7", "r8" "q2" "q7", "r2" "q3" "q7", "r10" "q4" "q7"),
        some!("d7", "r4" "q0" "q7", "r12" "q1" "q7", "r6" "q2" "q7", "lr" "q3" "q7"),
        "subs r9, r9, #1
         bne.w 3b",
        rescaled!(),
        "ldr r9, [r11, #76]
         cmp r9, #0
         beq 6f",
        added!(),
        "6:",
        stored!(),
        next_channel!(),
        "bne.w 1b",
        leave!(),
    )
}
