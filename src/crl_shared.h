/*
 * crl_shared.h
 *		Indexes of CRLs in shared memory: slots, their memory, pins and eviction. Used by crl_cache.c only.
 */
#ifndef CMBLOCK_CRL_SHARED_H
#define CMBLOCK_CRL_SHARED_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "crl_index.h"

/* CRLs that shared memory can hold at a time, whatever their size. */
#define CRL_SHARED_SLOTS 1024

typedef enum SharedAnswer
{
	SHARED_READY,     /* pinned for the caller */
	SHARED_CLAIMED,   /* nobody has it: the caller is to build it, and ends with publish or abandon */
	SHARED_BUILDING,  /* another process is building it */
	SHARED_TOO_LARGE, /* it was tried: it does not fit into the cache */
	SHARED_NO_SLOT    /* every slot is in use */
} SharedAnswer;

typedef struct SharedCrl
{
	uint8 sha256[CRL_SHA256_OCTETS];
	SharedAnswer state; /* SHARED_READY, SHARED_BUILDING or SHARED_TOO_LARGE */
	uint64 bytes;
	uint64 hits;
	uint32 pins;
	uint32 builds;
	double build_ms; /* of the last build */
	TimestampTz built_at;
	TimestampTz last_used;
} SharedCrl;

typedef struct SharedTotals
{
	uint64 size; /* the budget, in octets */
	uint64 used;
	uint64 hits;
	uint64 builds;
	double build_ms;
	uint64 failed_builds;
	uint64 waits;
	uint64 evictions;
	uint64 no_room;
} SharedTotals;

/* Was the library preloaded? */
extern bool cmblock_crl_shared_available(void);

/* The index, pinned, if this process has used it before and it is still there; no lock is taken. Else NULL. */
extern const CrlIndex *cmblock_crl_shared_pin(const uint8 *sha256, TimestampTz now, int *slot);

/* Looks for the digest, under the lock. *index is set for SHARED_READY; *slot unless SHARED_NO_SLOT. */
extern SharedAnswer cmblock_crl_shared_find(const uint8 *sha256, TimestampTz now, int *slot,
											const CrlIndex **index);

extern void cmblock_crl_shared_unpin(int slot);

/* Waits until nobody builds this digest in this slot any more. False: not before the deadline. */
extern bool cmblock_crl_shared_wait(const uint8 *sha256, int slot, TimestampTz deadline);

/*
 * Memory for the index of a claimed slot, after evicting what is neither pinned nor fresh in use. NULL if there is none;
 * *too_large: nor will there ever be, and the others will be told so by SHARED_TOO_LARGE.
 */
extern void *cmblock_crl_shared_reserve(int slot, Size size, TimestampTz now, bool *too_large);

/* The claimed slot's index is built: all may use it, and the caller has it pinned and opens it next. */
extern void cmblock_crl_shared_publish(int slot, double build_ms, TimestampTz now);
extern const CrlIndex *cmblock_crl_shared_index(int slot);

/* Makes it the first to be evicted, until it is used again. */
extern void cmblock_crl_shared_retire(const uint8 *sha256);

/* The claimed slot will not be built. Safe at process exit, too. */
extern void cmblock_crl_shared_abandon(int slot, bool failed);

/* For the view: peek pins what is ready and does not count as a use. */
extern const CrlIndex *cmblock_crl_shared_peek(const uint8 *sha256, int *slot);
extern int cmblock_crl_shared_list(SharedCrl *crl); /* room for CRL_SHARED_SLOTS */
extern void cmblock_crl_shared_totals(SharedTotals *totals);

#endif
