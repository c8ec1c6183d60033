/*
 * config_file.h - the configuration's file. Internal to config*.c.
 */
#ifndef CONFIG_FILE_H
#define CONFIG_FILE_H

#include "config_load.h"

/* All of its values; what is wrong with it is reported. */
void	config_file_load(struct loader *l, const char *file);

#endif
