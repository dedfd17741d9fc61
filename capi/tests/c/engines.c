/* The engine's part of misuse.c. */
#include "common.h"

/* Returns how many checks it made. */
unsigned engines(const char *file);

static union {
    uint8_t bytes[4096];
    double align;
} foreign;

static RESIDUAL_ALIGNED(16) uint8_t zeros[1024];

#define FOREIGN ((residual_engine_t *)(void *)zeros)
#define MISALIGNED(type) ((type *)(void *)(foreign.bytes + 1))

static void handles(residual_engine_t *engine) {
    residual_engine_info_t info;
    const int8_t *output;
    int8_t *input;
    const char *name;
    size_t len = 0;
    int32_t done = 0;
    uint32_t class_index = 0;
    residual_engine_t *misaligned = (residual_engine_t *)(void *)((char *)engine + 4);

    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_info(NULL, &info));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_info(engine, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_info(misaligned, &info));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_info(engine, MISALIGNED(residual_engine_info_t)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_engine_info(FOREIGN, &info));
    EXPECT(RESIDUAL_OK, residual_engine_info(engine, &info));

    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_input(NULL, &input, &len));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_input(engine, NULL, &len));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_input(engine, &input, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_input(misaligned, &input, &len));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_input(engine, MISALIGNED(int8_t *), &len));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_input(engine, &input, MISALIGNED(size_t)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_engine_input(FOREIGN, &input, &len));

    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_input_rgb(NULL, foreign.bytes, 48));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_input_rgb(engine, NULL, 48));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_input_rgb(misaligned, foreign.bytes, 48));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_engine_input_rgb(FOREIGN, foreign.bytes, 48));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_engine_input_rgb(engine, foreign.bytes, SIZE_MAX));
    /* This model does not say how pictures become inputs. */
    EXPECT(RESIDUAL_NO_PREPROCESSING, residual_engine_input_rgb(engine, foreign.bytes, 48));

    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_run(NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_run(misaligned));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_engine_run(FOREIGN));

    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_step(NULL, &done));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_step(engine, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_step(misaligned, &done));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_step(engine, MISALIGNED(int32_t)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_engine_step(FOREIGN, &done));

    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_output(NULL, &output, &len));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_output(engine, NULL, &len));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_output(engine, &output, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_output(misaligned, &output, &len));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_output(engine, MISALIGNED(const int8_t *), &len));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_engine_output(FOREIGN, &output, &len));

    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_class(NULL, &class_index));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_class(engine, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_class(misaligned, &class_index));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_class(engine, MISALIGNED(uint32_t)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_engine_class(FOREIGN, &class_index));

    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_class_name(NULL, 0, &name, &len));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_class_name(engine, 0, NULL, &len));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_class_name(engine, 0, &name, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_class_name(misaligned, 0, &name, &len));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_class_name(engine, 0, MISALIGNED(const char *), &len));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_engine_class_name(FOREIGN, 0, &name, &len));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_engine_class_name(engine, 0xffffffff, &name, &len));
}

/* Runs the engine in one go and in steps: the same output. */
static void inferences(residual_engine_t *engine) {
    const int8_t *output;
    int8_t *input, first[16];
    size_t len = 0, i, steps = 0;
    int32_t done = 0;
    uint32_t class_index = 99;
    int way;
    for (way = 0; way < 3; way++) {
        EXPECT(RESIDUAL_OK, residual_engine_input(engine, &input, &len));
        for (i = 0; i < len; i++) input[i] = (int8_t)(i * 7 % 251);
        if (way == 0) EXPECT(RESIDUAL_OK, residual_engine_run(engine));
        /* An inference that was given up leaves no trace in the next. */
        for (done = 0, steps = 0; way > 0 && !done && (way == 2 || steps < 3); steps++)
            EXPECT(RESIDUAL_OK, residual_engine_step(engine, &done));
        if (way == 1) continue;
        EXPECT(RESIDUAL_OK, residual_engine_output(engine, &output, &len));
        CHECK(len == 10);
        if (way == 0) memcpy(first, output, len);
        CHECK(memcmp(first, output, len) == 0);
    }
    CHECK(steps > 20);
    EXPECT(RESIDUAL_OK, residual_engine_class(engine, &class_index));
    for (i = 0; i < 10; i++) CHECK(first[i] <= first[class_index]);
}

unsigned engines(const char *file) {
    size_t len, need = 0, i;
    uint8_t *model = read_file(file, &len), *block, *arena, *shifted;
    residual_engine_t *engine = FOREIGN, *copy;
    EXPECT(RESIDUAL_NULL_POINTER, residual_arena_bytes(NULL, len, &need));
    EXPECT(RESIDUAL_NULL_POINTER, residual_arena_bytes(model, len, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_arena_bytes(model + 1, len - 1, &need));
    EXPECT(RESIDUAL_MISALIGNED, residual_arena_bytes(model, len, MISALIGNED(size_t)));
    EXPECT(RESIDUAL_BAD_MODEL, residual_arena_bytes(model, 0, &need));
    EXPECT(RESIDUAL_BAD_MODEL, residual_arena_bytes(model, len - 1, &need));
    EXPECT(RESIDUAL_BAD_MODEL, residual_arena_bytes(foreign.bytes, sizeof foreign.bytes, &need));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_arena_bytes(model, SIZE_MAX, &need));
    EXPECT(RESIDUAL_OK, residual_arena_bytes(model, len, &need));

    block = malloc(need + 16);
    CHECK(block != NULL && need > 1000);
    arena = block + (16 - (uintptr_t)block % 16) % 16;
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_new(NULL, len, arena, need, &engine));
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_new(model, len, NULL, need, &engine));
    CHECK(engine == NULL);
    EXPECT(RESIDUAL_NULL_POINTER, residual_engine_new(model, len, arena, need, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_new(model + 2, len - 2, arena, need, &engine));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_new(model, len, arena + 8, need - 8, &engine));
    EXPECT(RESIDUAL_MISALIGNED, residual_engine_new(model, len, arena, need, MISALIGNED(residual_engine_t *)));
    EXPECT(RESIDUAL_BAD_MODEL, residual_engine_new(model, len - 4, arena, need, &engine));
    EXPECT(RESIDUAL_BAD_MODEL, residual_engine_new(model, 0, arena, need, &engine));
    EXPECT(RESIDUAL_TOO_SHORT, residual_engine_new(model, len, arena, 0, &engine));
    EXPECT(RESIDUAL_TOO_SHORT, residual_engine_new(model, len, arena, RESIDUAL_ENGINE_BYTES - 1, &engine));
    EXPECT(RESIDUAL_TOO_SHORT, residual_engine_new(model, len, arena, RESIDUAL_ENGINE_BYTES, &engine));
    EXPECT(RESIDUAL_TOO_SHORT, residual_engine_new(model, len, arena, need - 1, &engine));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_engine_new(model, len, arena, SIZE_MAX, &engine));
    /* The model inside the arena. */
    shifted = malloc(len + need + 32);
    CHECK(shifted != NULL);
    arena = shifted + (16 - (uintptr_t)shifted % 16) % 16;
    memcpy(arena + 16, model, len);
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_engine_new(arena + 16, len, arena, need, &engine));
    /* A model that is damaged anywhere. */
    for (i = 0; i < len; i += i < 600 ? 1 : 997) {
        arena[16 + i] ^= 0x10;
        CHECK(residual_engine_new(arena + 16, len, block + (16 - (uintptr_t)block % 16) % 16, need, &engine) != RESIDUAL_OK);
        CHECK(engine == NULL);
        arena[16 + i] ^= 0x10;
    }
    free(shifted);

    arena = block + (16 - (uintptr_t)block % 16) % 16;
    EXPECT(RESIDUAL_OK, residual_engine_new(model, len, arena, need, &engine));
    handles(engine);
    inferences(engine);
    /* A copy of an engine is none. */
    memcpy(zeros, engine, sizeof zeros);
    copy = FOREIGN;
    EXPECT(RESIDUAL_BAD_HANDLE, residual_engine_run(copy));
    memset(zeros, 0, sizeof zeros);
    free(block);
    free(model);
    return checks;
}
