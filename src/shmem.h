/*
 * shmem.h
 *		The library's shared memory: one request hook and one startup hook for all its users.
 */
#ifndef CMBLOCK_SHMEM_H
#define CMBLOCK_SHMEM_H

#include "postgres.h"
#include "storage/lwlock.h"

/* Locks of the tranche "cmblock", by user. */
typedef enum CmblockLock
{
	LOCK_SLOTS,
	LOCK_CRL_CACHE,
	LOCK_QUESTIONS,
	LOCK_PHASES,
	LOCK_DECISIONS,
	LOCK_HISTORY_CHECK,
	LOCK_PROGRESS
} CmblockLock;

#define CMBLOCK_LOCKS (LOCK_PROGRESS + 1)

/* How much a subsystem needs, and what makes it or finds it. `startup` runs under AddinShmemInitLock. */
typedef struct ShmemUser
{
	Size (*size)(void);
	void (*startup)(void);
} ShmemUser;

/* Called from _PG_init while shared_preload_libraries is being loaded. The list is not copied. */
extern void cmblock_shmem_init(const ShmemUser *all_users, int count);

/* One of our locks. Only where the shared memory exists. */
extern LWLock *cmblock_lock(CmblockLock which);

#endif
