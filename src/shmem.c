/*
 * shmem.c
 *		The library's shared memory: one request hook and one startup hook for all its users.
 *
 * Exists only when the library is in shared_preload_libraries. A user adds its size and its startup function
 * below, and its lock to CmblockLock. After a crash the postmaster makes shared memory anew, so nothing that matters lives here alone.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "crl_cache.h"
#include "decision_cache.h"
#include "decision_statistics.h"
#include "history.h"
#include "incarnation.h"
#include "phase.h"
#include "progress.h"
#include "question.h"
#include "refusal_log.h"
#include "shmem.h"
#include "slots.h"

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;
static LWLockPadded *locks = NULL;

static void
request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(cmblock_slots_size());
	RequestAddinShmemSpace(cmblock_incarnation_size());
	RequestAddinShmemSpace(cmblock_crl_cache_shmem_size());
	RequestAddinShmemSpace(cmblock_question_size());
	RequestAddinShmemSpace(cmblock_phase_size());
	RequestAddinShmemSpace(cmblock_decision_cache_shmem_size());
	RequestAddinShmemSpace(cmblock_decision_statistics_size());
	RequestAddinShmemSpace(cmblock_refusal_log_size());
	RequestAddinShmemSpace(cmblock_history_check_size());
	RequestAddinShmemSpace(cmblock_progress_size());
	RequestNamedLWLockTranche("cmblock", CMBLOCK_LOCKS);
}

static void
startup(void)
{
	if (previous_startup)
		previous_startup();
	locks = GetNamedLWLockTranche("cmblock");
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	cmblock_slots_startup();
	cmblock_incarnation_startup();
	cmblock_crl_cache_startup();
	cmblock_question_startup();
	cmblock_phase_startup();
	cmblock_decision_cache_startup();
	cmblock_decision_statistics_startup();
	cmblock_refusal_log_startup();
	cmblock_history_check_startup();
	cmblock_progress_startup();
	LWLockRelease(AddinShmemInitLock);
}

void
cmblock_shmem_init(void)
{
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
