/*
 * durable.h
 *		What has to outlast a crash before somebody else may rely on it.
 */
#ifndef CMBLOCK_DURABLE_H
#define CMBLOCK_DURABLE_H

#include "postgres.h"
#include "access/xlogdefs.h"

/* A position behind everything that is visible now, which can be flushed. Not in recovery. */
extern XLogRecPtr cmblock_end_of_visible(void);

/*
 * Waits until everything that is visible now is on disk, and where synchronous_commit says so at the synchronous standbys too, as a
 * commit of this session would. Cheap when it is there already. In recovery everything visible is on disk at the primary server.
 */
extern void cmblock_make_durable(void);

#endif
