/*
 * shmem.c
 *		The library's shared memory: one request hook and one startup hook for all its users.
 *
 * Exists only when the library is in shared_preload_libraries. The users are listed in worker/init.c, their locks in CmblockLock.
 * After a crash the postmaster makes shared memory anew, so nothing that matters lives here alone.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "shmem.h"

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;
static LWLockPadded *locks = NULL;
static const ShmemUser *users;
static int user_count;

static void
request(void)
{
	if (previous_request)
		previous_request();
	for (int i = 0; i < user_count; i++)
		RequestAddinShmemSpace(users[i].size());
	RequestNamedLWLockTranche("cmblock", CMBLOCK_LOCKS);
}

static void
startup(void)
{
	if (previous_startup)
		previous_startup();
	locks = GetNamedLWLockTranche("cmblock");
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < user_count; i++)
		users[i].startup();
	LWLockRelease(AddinShmemInitLock);
}

void
cmblock_shmem_init(const ShmemUser *all_users, int count)
{
	users = all_users;
	user_count = count;
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

LWLock *
cmblock_lock(CmblockLock which)
{
	return &locks[which].lock;
}
