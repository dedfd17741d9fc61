/* Start-up, the UART and the end. */
#include "board.h"

#include <stdint.h>
#include <string.h>

/* From the linker script. */
extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];

int main(void);
_Noreturn void reset(void);
_Noreturn void fault(void);

struct vectors {
    uint32_t *stack;
    void (*handlers[15])(void);
};

/* Initial stack, reset, and one handler for everything that should not happen. */
__attribute__((section(".vector_table"), used)) const struct vectors vectors = {
    stack_top,
    {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault},
};

#define CPACR (*(volatile uint32_t *)0xe000ed88)

void reset(void) {
    CPACR |= 0xf << 20; /* the floating-point unit */
    __asm__ volatile("dsb\nisb" ::: "memory");
    memcpy(data_start, data_load, (size_t)((char *)data_end - (char *)data_start));
    memset(bss_start, 0, (size_t)((char *)bss_end - (char *)bss_start));
    board_exit(main());
}

void fault(void) {
    const char *text = "error fault\n";
    while (*text) uart_write(*text++);
    board_exit(1);
}

#define UART_DATA (*(volatile uint32_t *)0x40004000)
#define UART_STATE (*(volatile uint32_t *)0x40004004)
#define UART_CONTROL (*(volatile uint32_t *)0x40004008)
#define UART_DIVIDER (*(volatile uint32_t *)0x40004010)

void uart_init(void) {
    UART_DIVIDER = 217; /* 115200 baud at 25 MHz */
    UART_CONTROL = 1;   /* transmit */
}

void uart_write(char c) {
    if (c == '\n') uart_write('\r');
    while (UART_STATE & 1) { /* full */
    }
    UART_DATA = (uint8_t)c;
}

void board_exit(int status) {
    /* Semihosting's exit; on a board without a debugger this faults, so a product loops instead. */
    register uint32_t operation __asm__("r0") = 0x18;
    register uint32_t reason __asm__("r1") = status ? 0x20023 : 0x20026;
    for (;;) __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(reason) : "memory");
}
