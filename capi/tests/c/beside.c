/* The library beside another Rust library: each has its own runtime. */
#include "common.h"

int other_catches(void);

int main(void) {
    residual_model_t *model = NULL;
    CHECK(other_catches() == 1);
    CHECK(residual_version() == RESIDUAL_VERSION);
    EXPECT(RESIDUAL_IO, residual_model_open("/nonexistent", NULL, &model));
    CHECK(other_catches() == 1 && strlen(residual_last_error()) > 0);
    return 0;
}
