/* What the tests share. */
#ifndef COMMON_H
#define COMMON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <residual.h>

static unsigned checks;

/* Ends the test unless `condition` holds. */
#define CHECK(condition) check((condition) != 0, #condition, __FILE__, __LINE__)

static inline void check(int holds, const char *condition, const char *file, int line) {
    checks++;
    if (holds) return;
    fprintf(stderr, "%s:%d: %s does not hold\n", file, line, condition);
    fprintf(stderr, "the library says: %s\n", residual_last_error());
    exit(1);
}

/* Ends the test unless the call comes to `status`. */
#define EXPECT(status, call) expect(status, call, #call, __FILE__, __LINE__)

static inline void expect(residual_status_t want, residual_status_t got, const char *call, const char *file, int line) {
    checks++;
    if (want == got) return;
    fprintf(stderr, "%s:%d: %s\n  gave \"%s\" instead of \"%s\"\n", file, line, call, residual_status_string(got),
            residual_status_string(want));
    fprintf(stderr, "the library says: %s\n", residual_last_error());
    exit(1);
}

/* A file in memory of exactly its length. */
static inline uint8_t *read_file(const char *name, size_t *len) {
    FILE *file = fopen(name, "rb");
    uint8_t *bytes;
    long end = 0;
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0 && (end = ftell(file)) > 0 && fseek(file, 0, SEEK_SET) == 0);
    *len = (size_t)end;
    bytes = malloc(*len);
    CHECK(bytes != NULL && fread(bytes, 1, *len, file) == *len);
    fclose(file);
    return bytes;
}

static inline void write_file(const char *name, const uint8_t *bytes, size_t len) {
    FILE *file = fopen(name, "wb");
    CHECK(file != NULL && fwrite(bytes, 1, len, file) == len && fclose(file) == 0);
}

#endif
