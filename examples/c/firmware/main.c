/* Classifies pictures with an int8 network and reports over the UART:
 *
 *   output 80b3...  the network's outputs, two hexadecimal digits each
 *   class cat       the class with the largest, or its number
 */
#include <residual.h>

#include "board.h"
#include "model.h"

/* The picture of a camera would be here; see pictures.S. */
extern const uint8_t pictures[], pictures_end[];

/* All the memory the network needs: it is known when the firmware is built. */
static RESIDUAL_ARENA(arena, MODEL_ARENA_BYTES);

#define PICTURE_BYTES (MODEL_HEIGHT * MODEL_WIDTH * MODEL_CHANNELS)

static void print(const char *text) {
    while (*text) uart_write(*text++);
}

static void print_number(uint32_t n) {
    char digits[11];
    char *at = digits + sizeof digits;
    *--at = 0;
    do *--at = (char)('0' + n % 10);
    while (n /= 10);
    print(at);
}

static void print_output(const int8_t *values, size_t len) {
    size_t i;
    print("output ");
    for (i = 0; i < len; i++) {
        uart_write("0123456789abcdef"[(uint8_t)values[i] >> 4]);
        uart_write("0123456789abcdef"[(uint8_t)values[i] & 15]);
    }
    print("\n");
}

static void print_class(residual_engine_t *engine, uint32_t class_index) {
    const char *name;
    size_t i, len;
    print("class ");
    if (residual_engine_class_name(engine, class_index, &name, &len) == RESIDUAL_OK)
        for (i = 0; i < len; i++) uart_write(name[i]);
    else
        print_number(class_index);
    print("\n");
}

/* These pictures are numbers of the network's own encoding. A camera's pixels go in with
 * residual_engine_input_rgb instead. */
static residual_status_t set_input(residual_engine_t *engine, const uint8_t *picture) {
    int8_t *input;
    size_t i, len;
    residual_status_t status = residual_engine_input(engine, &input, &len);
    if (status != RESIDUAL_OK) return status;
    for (i = 0; i < len; i++) input[i] = (int8_t)picture[i];
    return RESIDUAL_OK;
}

static residual_status_t classify(residual_engine_t *engine, const uint8_t *picture) {
    const int8_t *values;
    size_t len;
    uint32_t class_index;
    residual_status_t status = set_input(engine, picture);
    if (status != RESIDUAL_OK) return status;
    MARK();
    status = residual_engine_run(engine);
    MARK();
    if (status != RESIDUAL_OK) return status;
    status = residual_engine_output(engine, &values, &len);
    if (status != RESIDUAL_OK) return status;
    print_output(values, len);
    status = residual_engine_class(engine, &class_index);
    if (status != RESIDUAL_OK) return status;
    print_class(engine, class_index);
    return RESIDUAL_OK;
}

int main(void) {
    residual_engine_t *engine;
    const uint8_t *picture;
    residual_status_t status;
    uart_init();
    status = residual_engine_new(model, MODEL_BYTES, arena, sizeof arena, &engine);
    for (picture = pictures; status == RESIDUAL_OK && picture + PICTURE_BYTES <= pictures_end; picture += PICTURE_BYTES)
        status = classify(engine, picture);
    if (status != RESIDUAL_OK) {
        print("error ");
        print(residual_status_string(status));
        print("\n");
    }
    board_exit(status);
}
