/* Compiled as C and as C++, with every warning an error: the header is clean, may be included twice, and its macros
 * can be used. */
#include <residual.h>
#include <residual.h>

RESIDUAL_ALIGNED(64) extern const uint8_t include_aligned[3];
RESIDUAL_ALIGNED(64) const uint8_t include_aligned[3] = {1, 2, 3};
static RESIDUAL_ARENA(arena, RESIDUAL_ENGINE_BYTES + 16);
#ifdef RESIDUAL_HOST
static const residual_options_t options = RESIDUAL_OPTIONS_INIT;
#endif

#ifdef __cplusplus
extern "C"
#endif
int include_test(void);

int include_test(void) {
    residual_status_t status = residual_check_version(RESIDUAL_VERSION);
    residual_engine_t *engine = NULL;
    if (status != RESIDUAL_OK) return residual_status_string(status)[0];
#ifdef RESIDUAL_HOST
    if (options.batch != 0) return 1;
#endif
    return residual_engine_new(include_aligned, sizeof include_aligned, arena, sizeof arena, &engine) == RESIDUAL_OK;
}
