/* Classifies pictures:
 *
 *   classify [-k CLASSES] [-t THREADS] [-l] [-p] MODEL PICTURE...
 *
 * PICTURE is a PPM file (P6, 8 bits), or a JPEG, PNG, BMP or WebP. -l prints the outputs themselves, exactly, -p how
 * long each layer of the last picture took. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <residual.h>

#include "ppm.h"

static int failed(const char *what, residual_status_t status) {
    fprintf(stderr, "error: %s: %s\n", what, status == RESIDUAL_OK ? "out of memory" : residual_last_error());
    return EXIT_FAILURE;
}

struct options {
    size_t k;
    uint32_t threads;
    int logits, profile;
};

/* Prints the classes or the outputs of one picture. */
static int classify(residual_session_t *session, const residual_model_info_t *model, const struct options *options,
                    const char *name, const residual_picture_t *picture) {
    residual_status_t status;
    size_t i;
    if (options->logits) {
        float *logits = malloc(model->classes * sizeof *logits);
        if (!logits) return failed(name, RESIDUAL_OK);
        status = residual_session_logits(session, picture, 1, logits, model->classes);
        for (i = 0; status == RESIDUAL_OK && i < model->classes; i++) printf("%s %u %.9g\n", name, (unsigned)i, (double)logits[i]);
        free(logits);
    } else {
        size_t k = options->k < model->classes ? options->k : model->classes;
        residual_prediction_t *best = malloc(k * sizeof *best);
        if (!best) return failed(name, RESIDUAL_OK);
        status = residual_session_classify(session, picture, 1, k, best, k);
        if (status == RESIDUAL_OK) printf("%s\n", name);
        for (i = 0; status == RESIDUAL_OK && i < k; i++)
            printf("  %6.2f%%  %s\n", 100.0 * (double)best[i].probability, best[i].name);
        free(best);
    }
    return status == RESIDUAL_OK ? EXIT_SUCCESS : failed(name, status);
}

/* Reads one picture, whatever its format, and classifies it. */
static int classify_file(residual_session_t *session, const residual_model_info_t *model,
                         const struct options *options, const char *name) {
    residual_picture_t picture;
    residual_image_t *image = NULL;
    residual_status_t status;
    const char *reason;
    int result;
    uint8_t *pixels = ppm_read(name, &picture, &reason);
    if (pixels) {
        result = classify(session, model, options, name, &picture);
        free(pixels);
        return result;
    }
    if (reason) {
        fprintf(stderr, "error: %s: %s\n", name, reason);
        return EXIT_FAILURE;
    }
    /* Not a PPM file: the library decodes the others. */
    status = residual_image_open(name, &image);
    if (status == RESIDUAL_OK) status = residual_image_picture(image, &picture);
    result = status == RESIDUAL_OK ? classify(session, model, options, name, &picture) : failed(name, status);
    residual_image_free(image);
    return result;
}

static int profile(residual_session_t *session, const residual_model_info_t *model) {
    residual_layer_time_t *layers = malloc(model->layers * sizeof *layers);
    residual_status_t status;
    size_t i, count = 0;
    if (!layers) return failed("layers", RESIDUAL_OK);
    status = residual_session_layers(session, layers, model->layers, &count);
    for (i = 0; status == RESIDUAL_OK && i < count; i++)
        printf("%-24s %-28s %8.3f ms\n", layers[i].name, layers[i].kernel, (double)layers[i].nanoseconds / 1e6);
    free(layers);
    return status == RESIDUAL_OK ? EXIT_SUCCESS : failed("layers", status);
}

static int usage(void) {
    fputs("usage: classify [-k CLASSES] [-t THREADS] [-l] [-p] MODEL PICTURE...\n", stderr);
    return 2;
}

/* A whole number of at least 1, or 0. */
static unsigned number(const char *text) {
    char *end;
    unsigned long value = text ? strtoul(text, &end, 10) : 0;
    return text && *text >= '0' && *text <= '9' && !*end && value <= 1024 ? (unsigned)value : 0;
}

int main(int argc, char **argv) {
    struct options options = {5, 1, 0, 0};
    residual_options_t how = RESIDUAL_OPTIONS_INIT;
    residual_model_t *model = NULL;
    residual_session_t *session = NULL;
    residual_model_info_t info;
    residual_status_t status;
    int i, result = EXIT_SUCCESS;

    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "-k") && number(argv[i + 1])) options.k = number(argv[++i]);
        else if (!strcmp(argv[i], "-t") && number(argv[i + 1])) options.threads = number(argv[++i]);
        else if (!strcmp(argv[i], "-l")) options.logits = 1;
        else if (!strcmp(argv[i], "-p")) options.profile = 1;
        else return usage();
    }
    if (argc - i < 2) return usage();
    if (residual_check_version(RESIDUAL_VERSION) != RESIDUAL_OK) return failed("residual", RESIDUAL_WRONG_VERSION);

    how.threads = options.threads;
    status = residual_model_open(argv[i], &how, &model);
    if (status == RESIDUAL_OK) status = residual_model_info(model, &info);
    if (status == RESIDUAL_OK) status = residual_session_new(model, &session);
    if (status != RESIDUAL_OK) result = failed("model", status);
    while (result == EXIT_SUCCESS && ++i < argc) result = classify_file(session, &info, &options, argv[i]);
    if (result == EXIT_SUCCESS && options.profile) result = profile(session, &info);
    residual_session_free(session);
    residual_model_free(model);
    return result;
}
