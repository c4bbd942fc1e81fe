/*
 * crl_local.h
 *		Indexes of CRLs in this process's own memory, for when shared memory cannot hold them. Used by crl_cache.c only.
 */
#ifndef CMBLOCK_CRL_LOCAL_H
#define CMBLOCK_CRL_LOCAL_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/hsearch.h"

#include "crl_index.h"

typedef struct LocalCrl
{
	uint8 sha256[CRL_SHA256_OCTETS]; /* the key */
	CrlIndex index;
	MemoryContext memory;
	Size size;
	uint32 pins;
	uint64 hits;
	double build_ms;
	TimestampTz built_at;
	TimestampTz last_used;
	TimestampTz retry_at; /* from then on shared memory is to be tried again */
} LocalCrl;

typedef struct LocalTotals
{
	uint64 used;
	uint64 hits;
	uint64 builds;
	double build_ms;
	uint64 evictions;
} LocalTotals;

extern LocalCrl *cmblock_crl_local_find(const uint8 *sha256);

/*
 * Takes in an index that lies in a memory context of its own, which goes over to the store; others make room for it as
 * far as they are not pinned. The digest must be new.
 */
extern LocalCrl *cmblock_crl_local_add(const uint8 *sha256, MemoryContext memory, const void *index,
									   Size size, double build_ms, TimestampTz now);

extern void cmblock_crl_local_pin(LocalCrl *crl, TimestampTz now);
extern void cmblock_crl_local_unpin(LocalCrl *crl);

/* Forgets it, unless it is pinned. */
extern void cmblock_crl_local_forget(LocalCrl *crl);

/* For the view: false if there is nothing to walk, with hash_seq_search. */
extern bool cmblock_crl_local_walk(HASH_SEQ_STATUS *walk);
extern void cmblock_crl_local_totals(LocalTotals *totals);

#endif
