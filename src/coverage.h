/*
 * coverage.h
 *		Does every change of a client or certificate pass the guard, so that the cache of decisions hears of it?
 */
#ifndef CMBLOCK_COVERAGE_H
#define CMBLOCK_COVERAGE_H

#include "postgres.h"

typedef enum Coverage
{
	COVERED,
	UNCOVERED_NOT_PRELOADED,
	UNCOVERED_SWITCHED_OFF,
	UNCOVERED_RECOVERY, /* changes arrive as WAL, which fires no trigger */
	UNCOVERED_GUARD,    /* the guard does not stand as the extension put it up */
	UNCOVERED_PREPARED  /* a prepared transaction may have changed rows */
} Coverage;

/*
 * To be asked at the start of each decision, before anything is read. When COVERED, the cache may be used under this
 * tag, which is another one after anything happened that the guard did not see.
 */
extern Coverage cmblock_coverage(uint64 *tag);

/*
 * Has no transaction been prepared meanwhile that keeps changes back? To be asked after a ticket was taken and before its row
 * is read, and at the end after cmblock_cache_is_unchanged: whoever prepares says so here before it gives its buckets back.
 */
extern bool cmblock_coverage_holds(void);

/* For people. */
extern const char *cmblock_coverage_text(Coverage coverage);

#endif
