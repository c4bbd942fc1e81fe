/*
 * history_check.h
 *		Is the chain of the block history whole?
 */
#ifndef CMBLOCK_HISTORY_CHECK_H
#define CMBLOCK_HISTORY_CHECK_H

#include "postgres.h"

/* Shared memory: for worker/init.c. */
extern Size cmblock_history_check_size(void);
extern void cmblock_history_check_startup(void);

#endif
