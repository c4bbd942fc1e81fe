/*
 * phase.c
 *		What a link is doing at this moment: for people, kept in shared memory.
 *
 * A phase may last milliseconds, so it is not worth a write to a table. It is a hash table by database and neighbour, which
 * the replicator writes and view replication_status reads. When the replicator ends, what it said is taken away. If the
 * table is full, the phase of a link is not shown; nothing else depends on it.
 *
 * Locking: one LWLock. The replicator takes it only when something changed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "phase.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(cmblock_link_phase);

/* Links of all databases of the server. */
#define MAX_PHASES 4096

static const char *const labels[] = {
	[PHASE_CONNECTING] = "connecting",
	[PHASE_HANDSHAKE] = "handshake",
	[PHASE_FIRST_SYNCHRONISATION] = "first synchronisation",
	[PHASE_SENDING] = "sending",
	[PHASE_COMPARING] = "comparing",
	[PHASE_IDLE] = "idle",
	[PHASE_WAITING_TO_RETRY] = "waiting to retry",
	[PHASE_PAUSED] = "paused",
};

typedef struct PhaseKey
{
	Oid database;
	SiteCode neighbour;
} PhaseKey;

typedef struct PhaseEntry
{
	PhaseKey key;
	LinkPhase phase;
	int64 rows;
} PhaseEntry;

static HTAB *phases = NULL;

Size
cmblock_phase_size(void)
{
	return hash_estimate_size(MAX_PHASES, sizeof(PhaseEntry));
}

void
cmblock_phase_startup(void)
{
	HASHCTL control = {.keysize = sizeof(PhaseKey), .entrysize = sizeof(PhaseEntry)};

	phases = ShmemInitHash("cmblock phases", MAX_PHASES, MAX_PHASES, &control,
						   HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

/* The replicator ends. */
static void
take_away(int code, Datum arg)
{
	HASH_SEQ_STATUS scan;
	PhaseEntry *entry;

	LWLockAcquire(cmblock_lock(LOCK_PHASES), LW_EXCLUSIVE);
	hash_seq_init(&scan, phases);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (entry->key.database == MyDatabaseId)
			hash_search(phases, &entry->key, HASH_REMOVE, NULL);
	LWLockRelease(cmblock_lock(LOCK_PHASES));
}

void
cmblock_phase_publish(SiteCode neighbour, LinkPhase phase, int64 rows)
{
	static bool registered = false;
	PhaseKey key = {MyDatabaseId, neighbour};
	PhaseEntry *entry;

	if (!registered)
		before_shmem_exit(take_away, (Datum) 0);
	registered = true;
	LWLockAcquire(cmblock_lock(LOCK_PHASES), LW_EXCLUSIVE);
	entry = hash_search(phases, &key, HASH_ENTER_NULL, NULL);
	if (entry)
	{
		entry->phase = phase;
		entry->rows = rows;
	}
	LWLockRelease(cmblock_lock(LOCK_PHASES));
}

bool
cmblock_phase_connected(SiteCode neighbour)
{
	PhaseKey key = {MyDatabaseId, neighbour};
	PhaseEntry *entry;
	bool connected;

	if (!phases)
		return false;
	LWLockAcquire(cmblock_lock(LOCK_PHASES), LW_SHARED);
	entry = hash_search(phases, &key, HASH_FIND, NULL);
	connected = entry && (entry->phase == PHASE_FIRST_SYNCHRONISATION || entry->phase == PHASE_SENDING ||
						  entry->phase == PHASE_COMPARING || entry->phase == PHASE_IDLE);
	LWLockRelease(cmblock_lock(LOCK_PHASES));
	return connected;
}

Datum
cmblock_link_phase(PG_FUNCTION_ARGS)
{
	PhaseKey key = {MyDatabaseId, PG_GETARG_SITE_CODE(0)};
	PhaseEntry *entry;
	TupleDesc desc;
	Datum values[2] = {0};
	bool nulls[2] = {true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (phases)
	{
		LWLockAcquire(cmblock_lock(LOCK_PHASES), LW_SHARED);
		entry = hash_search(phases, &key, HASH_FIND, NULL);
		if (entry)
		{
			values[0] = PointerGetDatum(labels[entry->phase]);
			values[1] = Int64GetDatum(entry->rows);
			nulls[0] = false;
			nulls[1] = entry->phase != PHASE_FIRST_SYNCHRONISATION && entry->phase != PHASE_SENDING;
		}
		LWLockRelease(cmblock_lock(LOCK_PHASES));
	}
	if (!nulls[0])
		values[0] = CStringGetTextDatum((const char *) DatumGetPointer(values[0]));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
