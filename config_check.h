/*
 * config_check.h - what depends on two keys of the configuration, or on the system. Internal to config*.c.
 */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

#include "config_load.h"

/* What depends on two keys, or on the system; and what is derived from values. */
void			 config_check(struct loader *l);

#endif
