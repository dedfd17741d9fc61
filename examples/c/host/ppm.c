#include "ppm.h"

#include <stdio.h>
#include <stdlib.h>

/* The next number of the header, 0 if there is none of 1 to 65535. Comments go from # to the end of the line. */
static unsigned header_number(FILE *file) {
    unsigned value = 0;
    int c = getc(file);
    while (c == '#' || c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = getc(file);
        else
            c = getc(file);
    }
    for (; c >= '0' && c <= '9'; c = getc(file)) {
        value = 10 * value + (unsigned)(c - '0');
        if (value > 65535) return 0;
    }
    /* One blank ends a number; after the last one the pixels begin. */
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' ? value : 0;
}

uint8_t *ppm_read(const char *name, residual_picture_t *picture, const char **reason) {
    uint8_t *pixels = NULL;
    FILE *file = fopen(name, "rb");
    *reason = NULL;
    if (!file) return NULL;
    if (getc(file) == 'P' && getc(file) == '6') {
        unsigned width = header_number(file), height = width ? header_number(file) : 0;
        unsigned most = height ? header_number(file) : 0;
        size_t len = (size_t)3 * width * height;
        if (most != 255) *reason = "not a PPM file with 8 bits a sample";
        else if (len / 3 / height != width || !(pixels = malloc(len))) *reason = "out of memory";
        else if (fread(pixels, 1, len, file) != len) *reason = "shorter than its header says";
        if (*reason) {
            free(pixels);
            pixels = NULL;
        } else {
            picture->pixels = pixels;
            picture->len = len;
            picture->width = width;
            picture->height = height;
            picture->stride = 0;
        }
    }
    fclose(file);
    return pixels;
}
