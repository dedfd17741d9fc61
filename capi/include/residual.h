/* residual: deep residual networks for C programs. Version 0.1.0, MIT OR Apache-2.0.
 *
 * Two faces. The engine (residual_engine_*) runs int8 models in memory that the caller owns; it needs no
 * operating system and no allocator. On a host there are also models from files, pictures and threads; define
 * RESIDUAL_FIRMWARE to do without them, as is done for cores of the Cortex-M family.
 *
 * What holds for every function:
 *  - It checks its pointers for NULL and alignment and its lengths for size before it uses them, and returns a
 *    status. What it cannot check is yours to keep: memory is as long as the length beside it says, nobody
 *    writes to it during the call, and strings end with a NUL.
 *  - Handles of the host's face are looked up and never followed: one that was freed, or that never was one, gives
 *    RESIDUAL_BAD_HANDLE. No handle is given out twice while the process lives. An engine's handle must point to
 *    readable memory.
 *  - Nothing is thrown or unwinds into C. Results are written on success only; a handle asked for is NULL
 *    after a failure that comes after the arguments were checked.
 *  - RESIDUAL_DEFECT is a panic that was caught. Afterwards a session says at every call that it is unusable: free
 *    it. An engine has abandoned its inference and can begin another. Models and pictures are as before.
 *  - After fork(), a child has none of its parent's threads: there a session of more than one thread gives
 *    RESIDUAL_NO_THREADS. It can be freed, and new sessions be made on the same model. Fork while no other thread
 *    is in a call of this library.
 *  - Pointers from this library are not freed with free(). */

#ifndef RESIDUAL_H
#define RESIDUAL_H

#include <stddef.h>
#include <stdint.h>

#define RESIDUAL_VERSION_MAJOR 0
#define RESIDUAL_VERSION_MINOR 1
#define RESIDUAL_VERSION_PATCH 0
/** What this header is for; pass it to residual_check_version. */
#define RESIDUAL_VERSION \
    ((uint32_t)RESIDUAL_VERSION_MAJOR << 16 | (uint32_t)RESIDUAL_VERSION_MINOR << 8 | RESIDUAL_VERSION_PATCH)

/* RESIDUAL_FIRMWARE chooses the engine alone. */
#if !defined(RESIDUAL_FIRMWARE) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define RESIDUAL_FIRMWARE
#endif
#if !defined(RESIDUAL_FIRMWARE) && !defined(RESIDUAL_HOST)
#define RESIDUAL_HOST
#endif

/** Alignment of an object's first byte. */
#if defined(_MSC_VER)
#define RESIDUAL_ALIGNED(bytes) __declspec(align(bytes))
#else
#define RESIDUAL_ALIGNED(bytes) __attribute__((aligned(bytes)))
#endif

/** Alignment of an arena. */
#define RESIDUAL_ARENA_ALIGN 16

/** Bytes at the start of an arena for the engine itself. */
#define RESIDUAL_ENGINE_BYTES (UINTPTR_MAX > 0xffffffffu ? 512 : 256)

/** An arena of constant size: `static RESIDUAL_ARENA(arena, MODEL_ARENA_BYTES);` */
#define RESIDUAL_ARENA(name, bytes) RESIDUAL_ALIGNED(16) uint8_t name[bytes]

/** For a residual_options_t: all as the file says. */
#define RESIDUAL_OPTIONS_INIT {0, 0, NULL, NULL, NULL, NULL}


/**
 * What a call came to.
 */
enum residual_status_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It did what was asked.
     */
    RESIDUAL_OK = 0,
    /**
     * A pointer that must not be NULL is.
     */
    RESIDUAL_NULL_POINTER = 1,
    /**
     * A pointer is not aligned for what it points to.
     */
    RESIDUAL_MISALIGNED = 2,
    /**
     * A buffer or an arena is too short.
     */
    RESIDUAL_TOO_SHORT = 3,
    /**
     * A handle is of another kind, was freed, or never came from this library.
     */
    RESIDUAL_BAD_HANDLE = 4,
    /**
     * An argument has a value that makes no sense.
     */
    RESIDUAL_BAD_ARGUMENT = 5,
    /**
     * Another thread, or the code this one interrupted, is using the handle.
     */
    RESIDUAL_BUSY = 6,
    /**
     * The header and the library are of different versions.
     */
    RESIDUAL_WRONG_VERSION = 7,
    /**
     * The operating system refused to read a file.
     */
    RESIDUAL_IO = 8,
    /**
     * The model is damaged, of an unknown format, or does not fit its network.
     */
    RESIDUAL_BAD_MODEL = 9,
    /**
     * The picture is damaged or of a kind that is not supported.
     */
    RESIDUAL_BAD_PICTURE = 10,
    /**
     * The model does not say how pictures become inputs, and the caller did not either.
     */
    RESIDUAL_NO_PREPROCESSING = 11,
    /**
     * The processor lacks what was asked for.
     */
    RESIDUAL_UNSUPPORTED = 12,
    /**
     * Threads could not be started, or stayed in the process that this one was forked from.
     */
    RESIDUAL_NO_THREADS = 13,
    /**
     * A defect of this library, a panic, caught at its border.
     */
    RESIDUAL_DEFECT = 14,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum residual_status_t residual_status_t;
#else
typedef int32_t residual_status_t;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

#if defined(RESIDUAL_HOST)
/**
 * What a model computes with.
 */
enum residual_precision_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
#if defined(RESIDUAL_HOST)
    /**
     * 32-bit floats
     */
    RESIDUAL_F32 = 0,
#endif
#if defined(RESIDUAL_HOST)
    /**
     * 8-bit integers
     */
    RESIDUAL_INT8 = 1,
#endif
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum residual_precision_t residual_precision_t;
#else
typedef int32_t residual_precision_t;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus
#endif

/**
 * A model, its arena, and where in an inference it is. Lives at the start of the arena. Opaque.
 */
typedef struct residual_engine_t residual_engine_t;

#if defined(RESIDUAL_HOST)
/**
 * A decoded picture. Opaque.
 */
typedef struct residual_image_t residual_image_t;
#endif

#if defined(RESIDUAL_HOST)
/**
 * A loaded network, ready to be shared by any number of sessions. Opaque.
 */
typedef struct residual_model_t residual_model_t;
#endif

#if defined(RESIDUAL_HOST)
/**
 * The memory and the threads for runs of a model, by one thread at a time. Opaque.
 */
typedef struct residual_session_t residual_session_t;
#endif

/**
 * Shapes and encodings of an engine's input and output. The real value of a number `q` is
 * `(q - zero_point) * scale`.
 */
typedef struct residual_engine_info_t {
    /**
     * rows of the input
     */
    uint32_t height;
    /**
     * columns of the input
     */
    uint32_t width;
    /**
     * channels of the input, next to each other
     */
    uint32_t channels;
    /**
     * numbers in the output
     */
    uint32_t classes;
    /**
     * layers
     */
    uint32_t ops;
    /**
     * of the input
     */
    float input_scale;
    /**
     * of the input
     */
    int32_t input_zero_point;
    /**
     * of the output
     */
    float output_scale;
    /**
     * of the output
     */
    int32_t output_zero_point;
} residual_engine_info_t;

#if defined(RESIDUAL_HOST)
/**
 * Pixels of a picture, 8 bits each of R, G and B, rows from the top, pixels from the left.
 */
typedef struct residual_picture_t {
    /**
     * the first pixel
     */
    const uint8_t *pixels;
    /**
     * bytes that may be read from there
     */
    size_t len;
    /**
     * pixels in a row, 1 to 65535
     */
    uint32_t width;
    /**
     * rows, 1 to 65535
     */
    uint32_t height;
    /**
     * bytes from one row to the next, at least `3 * width`; 0 means `3 * width`
     */
    size_t stride;
} residual_picture_t;
#endif

#if defined(RESIDUAL_HOST)
/**
 * How a model is loaded. Zeros and NULLs (`RESIDUAL_OPTIONS_INIT`) mean: as the file says.
 */
typedef struct residual_options_t {
    /**
     * threads that share the layers of a batch, at most 1024; 0 for all the process may use. Each session
     * starts its own, so use 1 where sessions run side by side. Results do not depend on it
     */
    uint32_t threads;
    /**
     * pictures run at once, at most 1024; 0 for 1. Results do not depend on it
     */
    uint32_t batch;
    /**
     * the network, such as "resnet20-cifar-Ac", for weights that do not name it; or NULL
     */
    const char *architecture;
    /**
     * three means of R, G, B in 0..1 instead of the file's; or NULL, together with `std`
     */
    const float *mean;
    /**
     * three standard deviations of R, G, B in 0..1 instead of the file's; or NULL, together with `mean`
     */
    const float *std;
    /**
     * class names, one a line, in the order of the outputs, instead of the file's; or NULL
     */
    const char *class_names;
} residual_options_t;
#endif

#if defined(RESIDUAL_HOST)
/**
 * What there is to know about a model. Strings live as long as the model or a session on it.
 */
typedef struct residual_model_info_t {
    /**
     * the network, such as "resnet50", or the file's name where it does not say
     */
    const char *architecture;
    /**
     * rows of an input
     */
    size_t height;
    /**
     * columns of an input
     */
    size_t width;
    /**
     * channels of an input, next to each other
     */
    size_t channels;
    /**
     * outputs of the network
     */
    size_t classes;
    /**
     * entries that `residual_session_layers` has
     */
    size_t layers;
    /**
     * pictures run at once
     */
    size_t batch;
    /**
     * threads of a session
     */
    size_t threads;
    /**
     * bytes of weights, in the order in which they are used
     */
    size_t weight_bytes;
    /**
     * bytes of memory of a session
     */
    size_t session_bytes;
    /**
     * what it computes with
     */
    residual_precision_t precision;
    /**
     * 1 if neither the file nor the caller said how pictures become inputs and ImageNet's usual way is taken
     */
    int32_t preprocessing_assumed;
} residual_model_info_t;
#endif

#if defined(RESIDUAL_HOST)
/**
 * A class and how probable it is.
 */
typedef struct residual_prediction_t {
    /**
     * its name, or its number as text; lives as long as the session or its model
     */
    const char *name;
    /**
     * the output's number, from 0
     */
    size_t class_index;
    /**
     * by softmax over all outputs
     */
    float probability;
    /**
     * the output itself
     */
    float logit;
} residual_prediction_t;
#endif

#if defined(RESIDUAL_HOST)
/**
 * A layer and how long it took.
 */
typedef struct residual_layer_time_t {
    /**
     * torchvision's name, such as "layer1.0.conv2", or a `.tflite` file's own; lives as long as the session or its
     * model
     */
    const char *name;
    /**
     * the kernel chosen for it; lives as long as the session or its model
     */
    const char *kernel;
    /**
     * multiply-adds for one picture
     */
    uint64_t macs;
    /**
     * time it took during the last call that succeeded, all pictures together; 0 before the first
     */
    uint64_t nanoseconds;
} residual_layer_time_t;
#endif

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Bytes of arena that a model needs, the same as the constant that `residual-embed` writes beside the
 * model's array.
 *
 * The model (a `.rsd` file) must start at a multiple of 4 bytes. Thread-safe.
 */
residual_status_t residual_arena_bytes(const void *model, size_t model_len, size_t *bytes_out);

/**
 * Makes an engine in `arena`, which must start at a multiple of `RESIDUAL_ARENA_ALIGN` bytes and have at
 * least `residual_arena_bytes`. Model and arena must stay where they are as long as the engine is used, the
 * model unchanged. There is nothing to free: forget the engine and use the arena for something else.
 *
 * The model is checked completely, once: afterwards nothing about it can fail. Thread-safe.
 */
residual_status_t residual_engine_new(const void *model,
                                      size_t model_len,
                                      void *arena,
                                      size_t arena_len,
                                      struct residual_engine_t **engine);

/**
 * Shapes and encodings. One engine is used by one thread at a time.
 */
residual_status_t residual_engine_info(struct residual_engine_t *engine, struct residual_engine_info_t *info);

/**
 * Where the next input goes: `*len` numbers, rows from the top, pixels from the left, channels together.
 * Layers overwrite it, so ask and fill it before every inference. Abandons an unfinished inference.
 *
 * One engine is used by one thread at a time.
 */
residual_status_t residual_engine_input(struct residual_engine_t *engine, int8_t **values, size_t *len);

/**
 * Makes the next input from `height * width` pixels of 8-bit R, G, B with the model's own mean, deviation and
 * encoding. The picture must have the input's size. Abandons an unfinished inference.
 *
 * `RESIDUAL_NO_PREPROCESSING` if the model does not say how, `RESIDUAL_BAD_PICTURE` if `len` is not
 * `height * width * 3`. One engine is used by one thread at a time.
 */
residual_status_t residual_engine_input_rgb(struct residual_engine_t *engine,
                                            const uint8_t *pixels,
                                            size_t len);

/**
 * Computes everything that is left of an inference. One engine is used by one thread at a time.
 */
residual_status_t residual_engine_run(struct residual_engine_t *engine);

/**
 * Computes a small part of an inference, at most a few output rows of one layer, and sets `*done` to 1 when
 * the output is ready, to 0 otherwise. Between two calls a watchdog can be fed. After the last part the next
 * call begins another inference.
 *
 * One engine is used by one thread at a time.
 */
residual_status_t residual_engine_step(struct residual_engine_t *engine, int32_t *done);

/**
 * The output of a finished inference, `*len` numbers, one a class. They lie in the arena until the next
 * input or inference.
 *
 * One engine is used by one thread at a time.
 */
residual_status_t residual_engine_output(struct residual_engine_t *engine,
                                         const int8_t **values,
                                         size_t *len);

/**
 * The class with the largest output of a finished inference, the first of equals.
 *
 * One engine is used by one thread at a time.
 */
residual_status_t residual_engine_class(struct residual_engine_t *engine, uint32_t *class_index);

/**
 * A class's name in the model: `*len` bytes of UTF-8, without a NUL behind them.
 *
 * `RESIDUAL_BAD_ARGUMENT` where the model has no name for it. One engine is used by one thread at a time.
 */
residual_status_t residual_engine_class_name(struct residual_engine_t *engine,
                                             uint32_t class_index,
                                             const char **name,
                                             size_t *len);

#if defined(RESIDUAL_HOST)
/**
 * One line about the last call of this thread that failed, naming the file or argument and the values that
 * disagree; empty if none did. It lives until this thread's next call that fails, or its end.
 *
 * Thread-safe: every thread has its own.
 */
const char *residual_last_error(void);
#endif

#if defined(RESIDUAL_HOST)
/**
 * Decodes a JPEG, PNG, BMP or WebP file; its content tells which. Free it with `residual_image_free`.
 *
 * Thread-safe.
 */
residual_status_t residual_image_open(const char *file, struct residual_image_t **image);
#endif

#if defined(RESIDUAL_HOST)
/**
 * Decodes a JPEG, PNG, BMP or WebP file that is in memory. Free it with `residual_image_free`.
 *
 * Thread-safe.
 */
residual_status_t residual_image_decode(const uint8_t *bytes, size_t len, struct residual_image_t **image);
#endif

#if defined(RESIDUAL_HOST)
/**
 * The pixels of a decoded picture. They live until it is freed.
 *
 * Thread-safe.
 */
residual_status_t residual_image_picture(const struct residual_image_t *image,
                                         struct residual_picture_t *picture);
#endif

#if defined(RESIDUAL_HOST)
/**
 * Frees a decoded picture; NULL is fine.
 *
 * Thread-safe.
 */
residual_status_t residual_image_free(struct residual_image_t *image);
#endif

#if defined(RESIDUAL_HOST)
/**
 * Loads a model: safetensors or a PyTorch file, or int8 from `.rsd` or `.tflite`; the file's content tells which.
 * `options` may be NULL. Free it with `residual_model_free`.
 *
 * The file is not needed afterwards but must not change during the call. Thread-safe.
 */
residual_status_t residual_model_open(const char *file,
                                      const struct residual_options_t *options,
                                      struct residual_model_t **model);
#endif

#if defined(RESIDUAL_HOST)
/**
 * Sizes and strings of a model.
 *
 * Thread-safe.
 */
residual_status_t residual_model_info(const struct residual_model_t *model,
                                      struct residual_model_info_t *info);
#endif

#if defined(RESIDUAL_HOST)
/**
 * The name of a class, or its number as text where names are not known. It lives as long as the model or a
 * session on it.
 *
 * `RESIDUAL_BAD_ARGUMENT` if there is no such class. Thread-safe.
 */
residual_status_t residual_model_class_name(const struct residual_model_t *model,
                                            size_t class_index,
                                            const char **name);
#endif

#if defined(RESIDUAL_HOST)
/**
 * Frees a model; NULL is fine. Sessions on it go on: the last of them frees its memory.
 *
 * Thread-safe.
 */
residual_status_t residual_model_free(struct residual_model_t *model);
#endif

#if defined(RESIDUAL_HOST)
/**
 * A session on a model. Free it with `residual_session_free`; the model may be freed before.
 *
 * Thread-safe.
 */
residual_status_t residual_session_new(const struct residual_model_t *model,
                                       struct residual_session_t **session);
#endif

#if defined(RESIDUAL_HOST)
/**
 * The `k` most probable classes of each of `count` pictures of any size, best first: `count * k` entries.
 * `k` may be at most the number of classes. On an error nothing is written.
 *
 * `RESIDUAL_BUSY` while another thread uses the session; otherwise thread-safe.
 */
residual_status_t residual_session_classify(struct residual_session_t *session,
                                            const struct residual_picture_t *pictures,
                                            size_t count,
                                            size_t k,
                                            struct residual_prediction_t *predictions,
                                            size_t predictions_len);
#endif

#if defined(RESIDUAL_HOST)
/**
 * The outputs for each of `count` pictures of any size, before softmax: `count * classes` floats. On an error
 * nothing is written.
 *
 * `RESIDUAL_BUSY` while another thread uses the session; otherwise thread-safe.
 */
residual_status_t residual_session_logits(struct residual_session_t *session,
                                          const struct residual_picture_t *pictures,
                                          size_t count,
                                          float *logits,
                                          size_t logits_len);
#endif

#if defined(RESIDUAL_HOST)
/**
 * Runs the network on inputs that the caller has normalised: `inputs_len` floats, any number of images of
 * `height * width * channels` each (rows from the top, pixels from the left, channels together). Writes
 * `classes` floats for each. Where the model computes with int8, inputs are rounded to its encoding first, and
 * the floats are what its outputs stand for. On an error nothing is written.
 *
 * `RESIDUAL_BUSY` while another thread uses the session; otherwise thread-safe.
 */
residual_status_t residual_session_run(struct residual_session_t *session,
                                       const float *inputs,
                                       size_t inputs_len,
                                       float *logits,
                                       size_t logits_len);
#endif

#if defined(RESIDUAL_HOST)
/**
 * The layers in the order in which they run, and their times during the session's last call that
 * succeeded. Writes the first `layers_len` of them, and how many there are to `*count`.
 *
 * `RESIDUAL_BUSY` while another thread uses the session; otherwise thread-safe.
 */
residual_status_t residual_session_layers(struct residual_session_t *session,
                                          struct residual_layer_time_t *layers,
                                          size_t layers_len,
                                          size_t *count);
#endif

#if defined(RESIDUAL_HOST)
/**
 * Frees a session; NULL is fine. A call that uses it in another thread finishes first.
 *
 * Thread-safe.
 */
residual_status_t residual_session_free(struct residual_session_t *session);
#endif

/**
 * A short text for a status, never NULL. It lives forever.
 *
 * Thread-safe.
 */
const char *residual_status_string(int32_t status);

/**
 * The library's version: `major << 16 | minor << 8 | patch`.
 *
 * Thread-safe.
 */
uint32_t residual_version(void);

/**
 * Whether the library fits the header a program was compiled with: pass `RESIDUAL_VERSION`. The major
 * numbers must be equal, and before 1.0 the minor ones; the library may not be older than the header.
 *
 * `RESIDUAL_WRONG_VERSION` if it does not fit. Thread-safe.
 */
residual_status_t residual_check_version(uint32_t header);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RESIDUAL_H */
