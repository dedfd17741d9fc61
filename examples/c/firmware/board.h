/* What the program needs of its board: Arm's MPS2 with a Cortex-M4 (AN386) or M7 (AN500), which QEMU emulates. */
#ifndef BOARD_H
#define BOARD_H

/* The first UART, ready to write. */
void uart_init(void);
/* One character; a newline becomes what terminals expect. */
void uart_write(char c);
/* Ends the emulation, successfully if `status` is 0. */
_Noreturn void board_exit(int status);

/* A hint that no core defines: an instruction counter finds it. */
#define MARK() __asm__ volatile(".inst.n 0xbf50" ::: "memory")

#endif
