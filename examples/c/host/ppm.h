/* Reads portable pixmaps. */
#ifndef PPM_H
#define PPM_H

#include <residual.h>

/* The pixels of a P6 file with 8 bits a sample, to be freed with free(), and `picture` describing them. NULL if
 * there are none: `*reason` then says why, or is NULL if the file is of another format or cannot be read. */
uint8_t *ppm_read(const char *name, residual_picture_t *picture, const char **reason);

#endif
