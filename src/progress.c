/*
 * progress.c
 *		How far a long command of a session has come: view progress.
 *
 * PostgreSQL has progress views for its own commands, and no way for an extension to add one. So each process has a place in
 * shared memory, found by its number among the server's processes, in which it says what it is doing; others read it. The place is
 * taken back when the command ends, also by an error.
 *
 * The replicator's first synchronisation is shown by replication_status, since it belongs to a link.
 *
 * Locking: LOCK_PROGRESS covers the places. The owner takes it when a phase begins or ends; the count of what is done is a
 * number of its own that it writes without the lock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "progress.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(cmblock_running_commands);

static const char *const command_names[] = {
	[PROGRESS_IMPORT_CRL] = "import_crl",
	[PROGRESS_CHECK_CRL] = "check_crl",
	[PROGRESS_VERIFY_HISTORY] = "verify_block_history",
};

static const struct
{
	const char *name;
	const char *unit;
} phases[] = {
	[WORK_READING] = {"reading", "octets"},
	[WORK_VERIFYING_SIGNATURE] = {"verifying the signature", "octets"},
	[WORK_WAITING_FOR_SERIES] = {"waiting for another import", NULL},
	[WORK_INDEXING] = {"indexing", "entries"},
	[WORK_COMPARING] = {"comparing with the CRL before", "entries"},
	[WORK_STORING] = {"storing", "octets"},
	[WORK_ASKING_BEFORE] = {"asking for certificates, before", "certificates"},
	[WORK_ASKING_AFTER] = {"asking for certificates, after", "certificates"},
	[WORK_VERIFYING_CHAIN] = {"verifying the chain", "events"},
};

typedef struct Place
{
	int pid; /* 0: nothing to show */
	Oid database;
	ProgressCommand command;
	ProgressPhase phase;
	TimestampTz started;
	TimestampTz phase_started;
	int64 total;
	pg_atomic_uint64 done;
} Place;

static Place *places = NULL; /* MaxBackends */
static int depth = 0;        /* commands that run, one in the other */
static int level;            /* of the subtransaction in which the first of them began */

Size
cmblock_progress_size(void)
{
	return mul_size(MaxBackends, sizeof(Place));
}

void
cmblock_progress_startup(void)
{
	bool found;

	places = ShmemInitStruct("cmblock progress", cmblock_progress_size(), &found);
	if (found)
		return;
	memset(places, 0, cmblock_progress_size());
	for (int i = 0; i < MaxBackends; i++)
		pg_atomic_init_u64(&places[i].done, 0);
}

/* ---------- saying it ---------- */

static Place *
mine(void)
{
	return &places[MyProc - ProcGlobal->allProcs];
}

static void
clear(void)
{
	depth = 0;
	LWLockAcquire(cmblock_lock(LOCK_PROGRESS), LW_EXCLUSIVE);
	mine()->pid = 0;
	LWLockRelease(cmblock_lock(LOCK_PROGRESS));
}

static void
transaction_ends(XactEvent event, void *arg)
{
	if (depth > 0 && event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		clear();
}

static void
process_ends(int code, Datum arg)
{
	clear();
}

/* An error that is caught, as in PL/pgSQL; or check_crl takes back what it tried, and goes on. */
static void
subtransaction_ends(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *arg)
{
	if (depth == 0 || event != SUBXACT_EVENT_ABORT_SUB)
		return;
	if (GetCurrentTransactionNestLevel() <= level)
		clear();
	else
		depth = 1;
}

void
cmblock_progress_begin(ProgressCommand command)
{
	static bool registered = false;
	Place *place;

	if (places == NULL || depth++ > 0)
		return;
	if (!registered)
	{
		RegisterXactCallback(transaction_ends, NULL);
		RegisterSubXactCallback(subtransaction_ends, NULL);
		before_shmem_exit(process_ends, (Datum) 0);
		registered = true;
	}
	level = GetCurrentTransactionNestLevel();
	place = mine();
	LWLockAcquire(cmblock_lock(LOCK_PROGRESS), LW_EXCLUSIVE);
	place->database = MyDatabaseId;
	place->command = command;
	place->started = GetCurrentTimestamp();
	LWLockRelease(cmblock_lock(LOCK_PROGRESS));
}

void
cmblock_progress_end(void)
{
	if (depth > 0 && --depth == 0)
		clear();
}

void
cmblock_progress_phase(ProgressPhase phase, int64 total)
{
	Place *place;

	if (depth == 0)
		return;
	place = mine();
	LWLockAcquire(cmblock_lock(LOCK_PROGRESS), LW_EXCLUSIVE);
	place->pid = MyProcPid;
	place->phase = phase;
	place->phase_started = GetCurrentTimestamp();
	place->total = total;
	pg_atomic_write_u64(&place->done, 0);
	LWLockRelease(cmblock_lock(LOCK_PROGRESS));
}

void
cmblock_progress_done(int64 done)
{
	if (depth > 0)
		pg_atomic_write_u64(&mine()->done, (uint64) done);
}

/* ---------- showing it ---------- */

static void
put(ReturnSetInfo *result, Place *place)
{
	Datum values[8];
	bool nulls[8] = {0};
	const char *unit = phases[place->phase].unit;

	values[0] = Int32GetDatum(place->pid);
	values[1] = CStringGetTextDatum(command_names[place->command]);
	values[2] = CStringGetTextDatum(phases[place->phase].name);
	values[3] = Int64GetDatum((int64) pg_atomic_read_u64(&place->done));
	values[4] = Int64GetDatum(place->total);
	nulls[3] = nulls[4] = nulls[5] = unit == NULL;
	values[5] = unit ? CStringGetTextDatum(unit) : (Datum) 0;
	values[6] = TimestampTzGetDatum(place->started);
	values[7] = TimestampTzGetDatum(place->phase_started);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
cmblock_running_commands(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Place *copy;

	InitMaterializedSRF(fcinfo, 0);
	if (places == NULL)
		return (Datum) 0;
	copy = palloc(cmblock_progress_size());
	LWLockAcquire(cmblock_lock(LOCK_PROGRESS), LW_SHARED);
	memcpy(copy, places, cmblock_progress_size());
	LWLockRelease(cmblock_lock(LOCK_PROGRESS));
	for (int i = 0; i < MaxBackends; i++)
		if (copy[i].pid != 0 && copy[i].database == MyDatabaseId)
			put(result, &copy[i]);
	return (Datum) 0;
}
