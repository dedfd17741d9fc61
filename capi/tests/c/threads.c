/* 32 threads share one model: the same bits as one thread alone. Two threads share a session: one works, or both
 * are told.
 *
 *   threads MODEL... */
#include <pthread.h>

#include "common.h"

enum { THREADS = 32, RUNS = 4 };

static residual_model_t *model;
static residual_session_t *shared;
static residual_model_info_t info;
static float *inputs, *expected;

/* Inputs that differ from thread to thread and from run to run. */
static size_t which(size_t thread, size_t run) { return (thread * RUNS + run) % 7; }

static void *work(void *argument) {
    size_t thread = (size_t)(uintptr_t)argument, run, failures = 0;
    size_t one = info.height * info.width * info.channels;
    residual_session_t *session = NULL;
    float *logits = malloc(info.classes * sizeof *logits);
    if (!logits || residual_session_new(model, &session) != RESIDUAL_OK) return (void *)1;
    for (run = 0; run < RUNS; run++) {
        size_t i = which(thread, run);
        residual_status_t status = residual_session_run(session, inputs + i * one, one, logits, info.classes);
        failures += status != RESIDUAL_OK || memcmp(logits, expected + i * info.classes, info.classes * sizeof *logits);
        status = residual_session_run(shared, inputs, one, logits, info.classes);
        failures += status == RESIDUAL_OK ? memcmp(logits, expected, info.classes * sizeof *logits) != 0
                                          : status != RESIDUAL_BUSY;
    }
    failures += residual_session_free(session) != RESIDUAL_OK;
    free(logits);
    return (void *)(uintptr_t)failures;
}

static void test(const char *file) {
    static const float mean[3] = {0.5f, 0.4f, 0.3f}, deviation[3] = {0.25f, 0.3f, 0.2f};
    residual_options_t options = RESIDUAL_OPTIONS_INIT;
    residual_session_t *session = NULL;
    pthread_t threads[THREADS];
    size_t i, one;
    uint32_t state = 1;
    options.threads = 1;
    options.mean = mean;
    options.std = deviation;
    EXPECT(RESIDUAL_OK, residual_model_open(file, &options, &model));
    EXPECT(RESIDUAL_OK, residual_model_info(model, &info));
    EXPECT(RESIDUAL_OK, residual_session_new(model, &session));
    EXPECT(RESIDUAL_OK, residual_session_new(model, &shared));
    one = info.height * info.width * info.channels;
    inputs = malloc(7 * one * sizeof *inputs);
    expected = malloc(7 * info.classes * sizeof *expected);
    CHECK(inputs && expected);
    for (i = 0; i < 7 * one; i++) {
        state = state * 1664525u + 1013904223u;
        inputs[i] = (float)(state >> 8) / 4194304.0f - 2.0f;
    }
    EXPECT(RESIDUAL_OK, residual_session_run(session, inputs, 7 * one, expected, 7 * info.classes));
    CHECK(memcmp(expected, expected + info.classes, info.classes * sizeof *expected) != 0);
    EXPECT(RESIDUAL_OK, residual_session_free(session));
    for (i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i) == 0);
    for (i = 0; i < THREADS; i++) {
        void *failures;
        CHECK(pthread_join(threads[i], &failures) == 0);
        CHECK(failures == NULL);
    }
    /* Sessions outlive their model. */
    EXPECT(RESIDUAL_OK, residual_model_free(model));
    EXPECT(RESIDUAL_OK, residual_session_run(shared, inputs, one, expected + info.classes, info.classes));
    CHECK(memcmp(expected, expected + info.classes, info.classes * sizeof *expected) == 0);
    EXPECT(RESIDUAL_OK, residual_session_free(shared));
    free(inputs);
    free(expected);
}

int main(int argc, char **argv) {
    CHECK(argc > 1);
    while (--argc) test(*++argv);
    printf("%d threads, %u checks\n", THREADS, checks);
    return 0;
}
