/* Every function with NULL, short, misaligned and foreign arguments and damaged models: a status each time. Linked
 * with AddressSanitizer; what is passed lies in memory of exactly the length it says.
 *
 *   misuse WEIGHTS INT8 PICTURE SCRATCH TFLITE */
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

static const float mean[3] = {0.5f, 0.4f, 0.3f}, deviation[3] = {0.25f, 0.3f, 0.2f};

/* Memory that is no object of the library. */
static union {
    uint8_t bytes[4096];
    double align;
} foreign;

#define FOREIGN(type) ((type *)(void *)foreign.bytes)
#define MISALIGNED(type) ((type *)(void *)(foreign.bytes + 1))

static residual_model_t *open_model(const char *file, uint32_t batch) {
    residual_options_t options = RESIDUAL_OPTIONS_INIT;
    residual_model_t *model = NULL;
    options.threads = 2;
    options.batch = batch;
    options.mean = mean;
    options.std = deviation;
    EXPECT(RESIDUAL_OK, residual_model_open(file, &options, &model));
    return model;
}

static void versions(void) {
    int i;
    CHECK(residual_version() == RESIDUAL_VERSION);
    EXPECT(RESIDUAL_OK, residual_check_version(RESIDUAL_VERSION));
    EXPECT(RESIDUAL_WRONG_VERSION, residual_check_version(RESIDUAL_VERSION + 1));
    EXPECT(RESIDUAL_WRONG_VERSION, residual_check_version(RESIDUAL_VERSION + 0x100));
    EXPECT(RESIDUAL_WRONG_VERSION, residual_check_version(RESIDUAL_VERSION + 0x10000));
    CHECK(residual_last_error()[0] != 0);
    for (i = RESIDUAL_OK; i <= RESIDUAL_DEFECT; i++) CHECK(strcmp(residual_status_string((residual_status_t)i), "unknown status"));
    CHECK(!strcmp(residual_status_string((residual_status_t)(RESIDUAL_DEFECT + 1)), "unknown status"));
    CHECK(!strcmp(residual_status_string((residual_status_t)-1), "unknown status"));
}

static void models(const char *weights) {
    residual_options_t options = RESIDUAL_OPTIONS_INIT;
    residual_model_t *model = FOREIGN(residual_model_t);
    residual_model_info_t info;
    const char *name;
    EXPECT(RESIDUAL_NULL_POINTER, residual_model_open(NULL, NULL, &model));
    EXPECT(RESIDUAL_NULL_POINTER, residual_model_open(weights, NULL, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_model_open(weights, NULL, MISALIGNED(residual_model_t *)));
    EXPECT(RESIDUAL_MISALIGNED, residual_model_open(weights, MISALIGNED(residual_options_t), &model));
    EXPECT(RESIDUAL_IO, residual_model_open("/nonexistent", NULL, &model));
    CHECK(model == NULL && strstr(residual_last_error(), "/nonexistent"));
    EXPECT(RESIDUAL_IO, residual_model_open("", NULL, &model));
    EXPECT(RESIDUAL_IO, residual_model_open("/", NULL, &model));
    options.threads = 1025;
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_model_open(weights, &options, &model));
    options.threads = 0xffffffff;
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_model_open(weights, &options, &model));
    options.threads = 1;
    options.batch = 1025;
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_model_open(weights, &options, &model));
    options.batch = 0;
    options.mean = mean;
    EXPECT(RESIDUAL_NULL_POINTER, residual_model_open(weights, &options, &model));
    options.std = MISALIGNED(float);
    EXPECT(RESIDUAL_MISALIGNED, residual_model_open(weights, &options, &model));
    options.std = FOREIGN(float); /* zeros */
    EXPECT(RESIDUAL_BAD_MODEL, residual_model_open(weights, &options, &model));
    options.mean = options.std = NULL;
    options.architecture = "resnet9000-cifar";
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_model_open(weights, &options, &model));
    options.architecture = "\xff";
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_model_open(weights, &options, &model));
    options.architecture = "resnet50";
    EXPECT(RESIDUAL_BAD_MODEL, residual_model_open(weights, &options, &model));
    options.architecture = NULL;
    options.class_names = "one\ntwo";
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_model_open(weights, &options, &model));
    CHECK(model == NULL);

    model = open_model(weights, 1);
    EXPECT(RESIDUAL_NULL_POINTER, residual_model_info(NULL, &info));
    EXPECT(RESIDUAL_NULL_POINTER, residual_model_info(model, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_model_info(model, MISALIGNED(residual_model_info_t)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_model_info(FOREIGN(residual_model_t), &info));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_model_info((residual_model_t *)(void *)((char *)model + 1), &info));
    EXPECT(RESIDUAL_NULL_POINTER, residual_model_class_name(NULL, 0, &name));
    EXPECT(RESIDUAL_NULL_POINTER, residual_model_class_name(model, 0, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_model_class_name(model, 0, MISALIGNED(const char *)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_model_class_name(FOREIGN(residual_model_t), 0, &name));
    EXPECT(RESIDUAL_OK, residual_model_class_name(model, 0, &name));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_model_class_name(model, 10, &name));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_model_class_name(model, SIZE_MAX, &name));
    EXPECT(RESIDUAL_OK, residual_model_free(NULL));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_model_free(FOREIGN(residual_model_t)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_model_free(MISALIGNED(residual_model_t)));
    EXPECT(RESIDUAL_OK, residual_model_free(model));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_model_free(model));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_model_info(model, &info));
}

static void images(const char *file) {
    residual_image_t *image = FOREIGN(residual_image_t);
    residual_picture_t picture;
    size_t len, cut;
    uint8_t *bytes = read_file(file, &len);
    EXPECT(RESIDUAL_NULL_POINTER, residual_image_open(NULL, &image));
    EXPECT(RESIDUAL_NULL_POINTER, residual_image_open(file, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_image_open(file, MISALIGNED(residual_image_t *)));
    EXPECT(RESIDUAL_IO, residual_image_open("/nonexistent", &image));
    CHECK(image == NULL);
    EXPECT(RESIDUAL_NULL_POINTER, residual_image_decode(NULL, len, &image));
    EXPECT(RESIDUAL_NULL_POINTER, residual_image_decode(bytes, len, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_image_decode(bytes, len, MISALIGNED(residual_image_t *)));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_image_decode(bytes, SIZE_MAX, &image));
    for (cut = 0; cut < len; cut += len / 17 + 1) {
        uint8_t *part = malloc(cut + !cut);
        CHECK(part != NULL);
        memcpy(part, bytes, cut);
        EXPECT(RESIDUAL_BAD_PICTURE, residual_image_decode(part, cut, &image));
        free(part);
    }
    EXPECT(RESIDUAL_OK, residual_image_decode(bytes, len, &image));
    EXPECT(RESIDUAL_NULL_POINTER, residual_image_picture(NULL, &picture));
    EXPECT(RESIDUAL_NULL_POINTER, residual_image_picture(image, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_image_picture(image, MISALIGNED(residual_picture_t)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_image_picture(FOREIGN(residual_image_t), &picture));
    EXPECT(RESIDUAL_OK, residual_image_picture(image, &picture));
    EXPECT(RESIDUAL_OK, residual_image_free(NULL));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_image_free(FOREIGN(residual_image_t)));
    EXPECT(RESIDUAL_OK, residual_image_free(image));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_image_free(image));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_image_picture(image, &picture));
    free(bytes);
}

/* Pictures that do not fit their description. */
static void pictures(residual_session_t *session, size_t classes) {
    static const struct {
        residual_status_t status;
        uint32_t width, height;
        size_t len, stride;
    } cases[] = {
        {RESIDUAL_TOO_SHORT, 5, 4, 59, 0},          {RESIDUAL_TOO_SHORT, 5, 4, 0, 0},
        {RESIDUAL_TOO_SHORT, 5, 4, 60, 16},         {RESIDUAL_TOO_SHORT, 65535, 65535, 60, 0},
        {RESIDUAL_TOO_SHORT, 5, 4, 60, SIZE_MAX},   {RESIDUAL_BAD_PICTURE, 0, 4, 60, 0},
        {RESIDUAL_BAD_PICTURE, 5, 0, 60, 0},        {RESIDUAL_BAD_PICTURE, 65536, 1, 60, 0},
        {RESIDUAL_BAD_PICTURE, 1, 0xffffffff, 60, 0}, {RESIDUAL_BAD_ARGUMENT, 5, 4, 60, 14},
        {RESIDUAL_BAD_ARGUMENT, 5, 4, SIZE_MAX, 0}, {RESIDUAL_OK, 5, 4, 60, 15},
        {RESIDUAL_OK, 5, 3, 60, 17},                {RESIDUAL_OK, 1, 1, 3, 0},
    };
    uint8_t *pixels = calloc(60, 1);
    float *logits = malloc(classes * sizeof *logits);
    size_t i;
    CHECK(pixels && logits);
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        residual_picture_t picture;
        residual_prediction_t best;
        picture.pixels = pixels;
        picture.len = cases[i].len;
        picture.width = cases[i].width;
        picture.height = cases[i].height;
        picture.stride = cases[i].stride;
        EXPECT(cases[i].status, residual_session_logits(session, &picture, 1, logits, classes));
        EXPECT(cases[i].status, residual_session_classify(session, &picture, 1, 1, &best, 1));
        picture.pixels = NULL;
        EXPECT(RESIDUAL_NULL_POINTER, residual_session_logits(session, &picture, 1, logits, classes));
    }
    free(pixels);
    free(logits);
}

static void sessions(const char *file) {
    residual_model_t *model = open_model(file, 3);
    residual_model_info_t info;
    residual_session_t *session = FOREIGN(residual_session_t);
    residual_layer_time_t *layers;
    residual_prediction_t *best;
    residual_picture_t two[2];
    float *inputs, *logits;
    uint8_t *pixels = calloc(48, 1);
    size_t one, classes, count = 0;
    EXPECT(RESIDUAL_OK, residual_model_info(model, &info));
    classes = info.classes;
    one = info.height * info.width * info.channels;
    CHECK(pixels && info.batch == 3 && info.channels == 3);
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_new(NULL, &session));
    CHECK(session == NULL);
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_new(model, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_session_new(model, MISALIGNED(residual_session_t *)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_new(FOREIGN(residual_model_t), &session));
    EXPECT(RESIDUAL_OK, residual_session_new(model, &session));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_new((residual_model_t *)(void *)session, &session));
    EXPECT(RESIDUAL_OK, residual_session_new(model, &session));

    inputs = calloc(2 * one, sizeof *inputs);
    logits = calloc(2 * classes, sizeof *logits);
    CHECK(inputs && logits);
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_run(NULL, inputs, 2 * one, logits, 2 * classes));
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_run(session, NULL, 2 * one, logits, 2 * classes));
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_run(session, inputs, 2 * one, NULL, 2 * classes));
    EXPECT(RESIDUAL_MISALIGNED, residual_session_run(session, MISALIGNED(float), one, logits, classes));
    EXPECT(RESIDUAL_MISALIGNED, residual_session_run(session, inputs, one, MISALIGNED(float), classes));
    EXPECT(RESIDUAL_TOO_SHORT, residual_session_run(session, inputs, 0, logits, classes));
    EXPECT(RESIDUAL_TOO_SHORT, residual_session_run(session, inputs, one - 1, logits, classes));
    EXPECT(RESIDUAL_TOO_SHORT, residual_session_run(session, inputs, 2 * one, logits, 2 * classes - 1));
    EXPECT(RESIDUAL_TOO_SHORT, residual_session_run(session, inputs, 2 * one, logits, 0));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_session_run(session, inputs, SIZE_MAX, logits, classes));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_session_run(session, inputs, one, logits, SIZE_MAX / 2));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_run(FOREIGN(residual_session_t), inputs, one, logits, classes));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_run((residual_session_t *)(void *)model, inputs, one, logits, classes));
    EXPECT(RESIDUAL_OK, residual_session_run(session, inputs, 2 * one, logits, 2 * classes));
    /* The results may even replace the inputs. */
    EXPECT(RESIDUAL_OK, residual_session_run(session, inputs, 2 * one, inputs, 2 * classes));
    CHECK(memcmp(inputs, logits, 2 * classes * sizeof *logits) == 0);

    two[0].pixels = two[1].pixels = pixels;
    two[0].len = two[1].len = 48;
    two[0].width = two[1].width = two[0].height = two[1].height = 4;
    two[0].stride = two[1].stride = 0;
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_logits(NULL, two, 2, logits, 2 * classes));
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_logits(session, NULL, 2, logits, 2 * classes));
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_logits(session, two, 2, NULL, 2 * classes));
    EXPECT(RESIDUAL_MISALIGNED, residual_session_logits(session, MISALIGNED(residual_picture_t), 1, logits, classes));
    EXPECT(RESIDUAL_MISALIGNED, residual_session_logits(session, two, 2, MISALIGNED(float), 2 * classes));
    EXPECT(RESIDUAL_TOO_SHORT, residual_session_logits(session, two, 2, logits, 2 * classes - 1));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_session_logits(session, two, 0, logits, classes));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_session_logits(session, two, SIZE_MAX, logits, classes));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_logits(FOREIGN(residual_session_t), two, 2, logits, 2 * classes));
    EXPECT(RESIDUAL_OK, residual_session_logits(session, two, 2, logits, 2 * classes));
    CHECK(memcmp(logits, logits + classes, classes * sizeof *logits) == 0);

    best = calloc(2 * classes, sizeof *best);
    CHECK(best != NULL);
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_classify(NULL, two, 2, 1, best, 2));
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_classify(session, NULL, 2, 1, best, 2));
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_classify(session, two, 2, 1, NULL, 2));
    EXPECT(RESIDUAL_MISALIGNED, residual_session_classify(session, MISALIGNED(residual_picture_t), 1, 1, best, 2));
    EXPECT(RESIDUAL_MISALIGNED, residual_session_classify(session, two, 2, 1, MISALIGNED(residual_prediction_t), 2));
    EXPECT(RESIDUAL_TOO_SHORT, residual_session_classify(session, two, 2, 1, best, 1));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_session_classify(session, two, 0, 1, best, 2));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_session_classify(session, two, 2, 0, best, 2));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_session_classify(session, two, 1, classes + 1, best, 2 * classes));
    EXPECT(RESIDUAL_BAD_ARGUMENT, residual_session_classify(session, two, 1, SIZE_MAX, best, 2 * classes));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_classify(FOREIGN(residual_session_t), two, 2, 1, best, 2));
    EXPECT(RESIDUAL_OK, residual_session_classify(session, two, 2, classes, best, 2 * classes));
    CHECK(best[0].class_index == best[classes].class_index && best[0].probability >= best[1].probability);
    pictures(session, classes);

    layers = calloc(info.layers, sizeof *layers);
    CHECK(layers != NULL);
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_layers(NULL, layers, info.layers, &count));
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_layers(session, NULL, info.layers, &count));
    EXPECT(RESIDUAL_NULL_POINTER, residual_session_layers(session, layers, info.layers, NULL));
    EXPECT(RESIDUAL_MISALIGNED, residual_session_layers(session, MISALIGNED(residual_layer_time_t), 1, &count));
    EXPECT(RESIDUAL_MISALIGNED, residual_session_layers(session, layers, 1, MISALIGNED(size_t)));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_layers(FOREIGN(residual_session_t), layers, 1, &count));
    EXPECT(RESIDUAL_OK, residual_session_layers(session, layers, 1, &count));
    CHECK(count == info.layers && layers[1].name == NULL);
    EXPECT(RESIDUAL_OK, residual_session_layers(session, layers, info.layers, &count));
    CHECK(strlen(layers[count - 1].name) > 0 && layers[0].nanoseconds > 0);

    /* What the results point to lives as long as the session. */
    EXPECT(RESIDUAL_OK, residual_model_free(model));
    CHECK(strlen(best[0].name) > 0 && strlen(layers[0].kernel) > 0 && strlen(info.architecture) > 0);
    EXPECT(RESIDUAL_OK, residual_session_free(NULL));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_free(FOREIGN(residual_session_t)));
    EXPECT(RESIDUAL_OK, residual_session_free(session));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_free(session));
    EXPECT(RESIDUAL_BAD_HANDLE, residual_session_run(session, inputs, one, logits, classes));
    free(pixels);
    free(inputs);
    free(logits);
    free(best);
    free(layers);
}

/* A stale handle never becomes a later object, whatever the allocator gives back. */
static void stale_handles(const char *file) {
    residual_model_t *model = open_model(file, 1), *old;
    residual_session_t *session, *first;
    int i;
    EXPECT(RESIDUAL_OK, residual_session_new(model, &first));
    EXPECT(RESIDUAL_OK, residual_session_free(first));
    for (i = 0; i < 20; i++) {
        residual_model_info_t info;
        EXPECT(RESIDUAL_OK, residual_session_new(model, &session));
        EXPECT(RESIDUAL_BAD_HANDLE, residual_session_free(first));
        EXPECT(RESIDUAL_OK, residual_session_free(session));
        old = model;
        EXPECT(RESIDUAL_OK, residual_model_free(model));
        model = open_model(file, 1);
        EXPECT(RESIDUAL_BAD_HANDLE, residual_model_info(old, &info));
        EXPECT(RESIDUAL_BAD_HANDLE, residual_model_free(old));
    }
    EXPECT(RESIDUAL_OK, residual_model_free(model));
}

/* In a forked child a session of several threads gives a status, and a new one works. */
static void forked(const char *file) {
    residual_model_t *model = open_model(file, 1);
    residual_session_t *session;
    residual_model_info_t info;
    float *inputs, *logits;
    size_t one;
    int status;
    pid_t child;
    EXPECT(RESIDUAL_OK, residual_model_info(model, &info));
    one = info.height * info.width * info.channels;
    inputs = calloc(one, sizeof *inputs);
    logits = calloc(info.classes, sizeof *logits);
    CHECK(inputs && logits && info.threads == 2);
    EXPECT(RESIDUAL_OK, residual_session_new(model, &session));
    EXPECT(RESIDUAL_OK, residual_session_run(session, inputs, one, logits, info.classes));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60);
        EXPECT(RESIDUAL_NO_THREADS, residual_session_run(session, inputs, one, logits, info.classes));
        EXPECT(RESIDUAL_OK, residual_session_free(session));
        EXPECT(RESIDUAL_OK, residual_session_new(model, &session));
        EXPECT(RESIDUAL_OK, residual_session_run(session, inputs, one, logits, info.classes));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT(RESIDUAL_OK, residual_session_run(session, inputs, one, logits, info.classes));
    EXPECT(RESIDUAL_OK, residual_session_free(session));
    EXPECT(RESIDUAL_OK, residual_model_free(model));
    free(inputs);
    free(logits);
}

unsigned engines(const char *file);

/* Files cut short and with single bytes changed: a model or a status, never more. */
static void damaged_files(const char *file, const char *scratch, int checked) {
    size_t len, i, opened = 0;
    uint8_t *bytes = read_file(file, &len);
    residual_options_t options = RESIDUAL_OPTIONS_INIT;
    residual_model_t *model;
    options.mean = mean;
    options.std = deviation;
    for (i = 0; i < 60; i++) {
        size_t at = i < 30 ? i * 3 : (size_t)((double)len * (double)(i - 30) / 30.0);
        write_file(scratch, bytes, at);
        CHECK(residual_model_open(scratch, &options, &model) != RESIDUAL_OK && model == NULL);
        bytes[at] ^= 0x41;
        write_file(scratch, bytes, len);
        if (residual_model_open(scratch, &options, &model) == RESIDUAL_OK) {
            opened++;
            EXPECT(RESIDUAL_OK, residual_model_free(model));
        } else {
            CHECK(model == NULL);
        }
        bytes[at] ^= 0x41;
    }
    /* A checksum finds all of them. */
    CHECK(!checked || opened == 0);
    remove(scratch);
    free(bytes);
}

int main(int argc, char **argv) {
    CHECK(argc == 6);
    versions();
    models(argv[1]);
    images(argv[3]);
    sessions(argv[1]);
    sessions(argv[2]);
    sessions(argv[5]);
    stale_handles(argv[1]);
    stale_handles(argv[2]);
    forked(argv[1]);
    forked(argv[2]);
    checks += engines(argv[2]);
    damaged_files(argv[1], argv[4], 0);
    damaged_files(argv[2], argv[4], 1);
    damaged_files(argv[5], argv[4], 0);
    printf("%u checks\n", checks);
    return 0;
}
