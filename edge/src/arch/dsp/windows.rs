//! The windows of pixels, collected and interleaved.

use core::{arch::naked_asm, ops::Range};

/// The two pairs of a word of inputs less the zero points in r4, for a pixel at `$at` behind r2.
macro_rules! spread {
    ($word:literal, $at:literal) => {
        concat!(
            "sxtb16 lr, ",
            $word,
            "\nsxtb16 ",
            $word,
            ", ",
            $word,
            ", ror #8\nssub16 lr, lr, r4\nssub16 ",
            $word,
            ", ",
            $word,
            ", r4\nstr lr, [r2, #",
            $at,
            "]\nstr ",
            $word,
            ", [r2, #16+",
            $at,
            "]\n",
        )
    };
}

/// Copies the parts of windows that are on the map to `to` in `spare`, one window after the other, and interleaves each to
/// every fourth word from `x` on, which moves on by one.
///
/// # Safety
/// `count > 0`. From `from` on and from there on in steps, `lines > 0` lines of `bytes` bytes with `skip` between them are
/// readable, and with `gap` between them writable at `to`; `spare` is readable for `words` words, `x` writable for eight
/// times as many less `4 - count`.
#[unsafe(naked)]
unsafe extern "C" fn collect(
    windows: &Windows,
    from: *const i8,
    to: *mut i8,
    spare: *const u32,
    x: *mut u32,
    count: usize,
) {
    naked_asm!(
        cpu!(),
        // [sp] windows, [sp + 4] from, [sp + 8] to, [sp + 12] spare, [sp + 44] x
        "push {{r4-r9, lr}}
         ldr r9, [sp, #32]
         push {{r0-r3}}
         1:
         ldm r0!, {{r4-r7}}
         2:
         subs r8, r4, #8
         blo 4f
         3:
         ldr r12, [r1], #4
         ldr lr, [r1], #4
         str r12, [r2], #4
         str lr, [r2], #4
         subs r8, #8
         bhs 3b
         4:
         adds r8, #8
         beq 6f
         5:
         ldrb r12, [r1], #1
         strb r12, [r2], #1
         subs r8, #1
         bne 5b
         6:
         add r1, r6
         add r2, r7
         subs r5, #1
         bne 2b
         ldm r0, {{r1, r4, r5}}
         ldr r2, [sp, #44]
         add r6, r2, #4
         str r6, [sp, #44]
         subs r1, #4
         blo 8f
         7:
         ldm r3!, {{r6, r7, r8, r12}}",
        spread!("r6", "0"),
        spread!("r7", "32"),
        spread!("r8", "64"),
        spread!("r12", "96"),
        "adds r2, #128
         subs r1, #4
         bhs 7b
         8:
         adds r1, #4
         beq 3f
         9:
         ldr r6, [r3], #4",
        spread!("r6", "0"),
        "adds r2, #32
         subs r1, #1
         bne 9b
         3:
         ldm sp, {{r0-r3}}
         add r1, r5
         str r1, [sp, #4]
         subs r9, #1
         bne 1b
         add sp, #16
         pop {{r4-r9, pc}}",
    )
}

/// The windows of a layer's pixels. [`collect`] loads the first seven words in order.
#[repr(C)]
pub struct Windows {
    /// bytes of a line that are on the map
    bytes: usize,
    /// lines that are on the map
    lines: usize,
    /// from the end of such bytes to the next line's
    skip: usize,
    /// the same in the window
    gap: usize,
    /// words that hold a window
    words: usize,
    /// the zero point, in both halves
    zeros: u32,
    /// bytes from pixel to pixel
    step: usize,
    /// bytes of a line
    line: usize,
    /// bytes of the map's lines
    pitch: usize,
}

impl Windows {
    /// Windows of `words` words with lines of `line` bytes, `step` apart on a map with lines of `pitch` bytes.
    pub fn new(words: usize, line: usize, step: usize, pitch: usize, zero: i8) -> Self {
        let zeros = (i32::from(zero) as u32 & 0xffff).wrapping_mul(0x0001_0001);
        Windows { bytes: 0, lines: 0, skip: 0, gap: 0, words, zeros, step, line, pitch }
    }

    /// Interleaves windows less the zero point as pixels `pixels` of four in `x`, as [`super::dot4`] takes them. `lines` lines
    /// of `bytes` bytes of each come from the map, where the first one's begin with `map`, to byte `at` of the window; the
    /// others are those in `spare`. `false` if a length does not fit.
    #[inline(always)]
    pub fn collect(
        &mut self,
        (lines, bytes): (usize, usize),
        map: &[i8],
        at: usize,
        spare: &mut [u32],
        pixels: Range<usize>,
        x: &mut [u32],
    ) -> bool {
        let (Some(skip), Some(gap)) = (self.pitch.checked_sub(bytes), self.line.checked_sub(bytes)) else {
            return false;
        };
        let (Some(below), Some(after)) = (lines.checked_sub(1), pixels.len().checked_sub(1)) else { return false };
        let end = |pitch: usize, first: usize| pitch.saturating_mul(below).saturating_add(first).saturating_add(bytes);
        let inside = end(self.pitch, self.step.saturating_mul(after)) <= map.len()
            && end(self.line, at) <= self.words.saturating_mul(4)
            && self.words <= spare.len()
            && self.words <= x.len() / 8
            && pixels.end <= 4;
        if inside {
            (self.bytes, self.lines, self.skip, self.gap) = (bytes, lines, skip, gap);
            // SAFETY: the last line ends inside the map and inside the window, for which `spare` and `x` have room.
            unsafe {
                let to = spare.as_mut_ptr().cast::<i8>().add(at);
                let x = x.as_mut_ptr().add(pixels.start);
                collect(self, map.as_ptr(), to, spare.as_ptr(), x, pixels.len());
            }
        }
        inside
    }
}
