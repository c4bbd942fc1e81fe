/*
 * crl_cache.h
 *		The indexes of the CRLs in use, found by the SHA-256 of their DER: in shared memory, once for all backends.
 *
 * The cache never decides which CRL is current; the table does. It holds whatever digest it is asked for.
 */
#ifndef CMBLOCK_CRL_CACHE_H
#define CMBLOCK_CRL_CACHE_H

#include "postgres.h"

#include "crl_index.h"

/*
 * Keeps one index in place. A plain value: it may lie on the stack and be forgotten, since the end of the resource
 * owner under which it was taken (portal, subtransaction, transaction) releases the pin, also after an error.
 */
typedef struct CrlPin
{
	uint32 place;
	uint32 serial; /* 0: holds nothing */
} CrlPin;

/*
 * Brings the DER of the CRL with this digest, detoasted in CurrentMemoryContext, which the cache deletes afterwards. Called on
 * a miss, without any lock held, so that it may read tables, wait and raise. NULL: there is no such CRL.
 */
typedef bytea *(*CrlLoader)(const uint8 *sha256, void *arg);

/*
 * The index of the CRL with this digest, pinned; built first where nobody has it. NULL only if the loader said that there is
 * no such CRL, or brought a damaged one, which a WARNING says. Without contention a pin and its release cost about as much as two uncontended locks; take one for each
 * use and not for a session, since what is pinned cannot be evicted.
 */
extern const CrlIndex *cmblock_crl_pin(const uint8 *sha256, CrlLoader load, void *arg, CrlPin *pin);

/* Gives the index back. Nothing happens if the pin is empty or was released already. */
extern void cmblock_crl_unpin(CrlPin *pin);

/*
 * Puts a CRL in before it becomes current, so that nobody waits for it afterwards. "crl" was read without error, and
 * "sha256" is the digest of crl->der: the caller answers for that. Does nothing if there is no room.
 */
extern void cmblock_crl_preload(const uint8 *sha256, const Crl *crl);

/* This CRL was replaced by another: its memory may go first. Who still needs it, for an older snapshot, has it still. */
extern void cmblock_crl_retire(const uint8 *sha256);

/* For the view: the index if it is ready in shared memory, pinned; else NULL. Not counted as a use. */
extern const CrlIndex *cmblock_crl_peek(const uint8 *sha256, CrlPin *pin);

/* cmblock.crl_cache_size, in kB */
extern int cmblock_crl_cache_size;

/* For worker/init.c. */
extern void cmblock_crl_cache_define_settings(void);
extern Size cmblock_crl_cache_shmem_size(void);
extern void cmblock_crl_cache_startup(void);

#endif
