/*
 * history_check.c
 *		Is the chain of the block history whole? All of it at once, or again and again at a bounded cost.
 *
 * verify_block_history recomputes the whole chain, which takes seconds for a million events: good once a day, too much for a
 * tool that asks every minute. history_check remembers in shared memory how far it has come, and in each call looks at
 *
 *   - the newest event that it has seen: it must still be there, with the same hash. So it is noticed when events
 *     are cut off the end, which the chain itself cannot tell;
 *   - the events that were added since;
 *   - a piece of the old ones, the next in each call, round and round: after enough calls every event has been looked at.
 *
 * What is found broken is reported from then on, until verify_block_history finds the chain whole: somebody looked into it.
 * A server that starts remembers nothing: the first call verifies the last events, and the round begins anew. Nothing is
 * written to a table, so this works on a standby. Without shared_preload_libraries each session remembers for itself.
 *
 * Snapshots: what is remembered was visible to somebody before, in a transaction that had written nothing itself. So it is read
 * before the snapshot is taken, and must be visible in that.
 *
 * Locking: LOCK_HISTORY_CHECK covers what is remembered. Two calls at once may do the same work; the later one wins.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "history.h"
#include "history_check.h"
#include "progress.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(cmblock_history_check);
PG_FUNCTION_INFO_V1(cmblock_verify_block_history);

/* Databases of one server; of others nothing is remembered from one call to the next. */
#define MAX_WATCHES 64

typedef struct Watch
{
	Oid database; /* InvalidOid: free */
	Oid history;  /* the table: an extension that was created anew has another */
	TimestampTz used;
	HistoryEnd newest;     /* verified; id 0: nothing seen yet */
	HistoryEnd position;   /* of the round through the old events */
	TimestampTz round_end; /* when all events had been looked at; 0: not yet */
	bool broken;
	int64 first_broken;
	char problem[128];
} Watch;

static Watch *watches = NULL;
static Watch own;

Size
cmblock_history_check_size(void)
{
	return MAX_WATCHES * sizeof(Watch);
}

void
cmblock_history_check_startup(void)
{
	bool found;

	watches = ShmemInitStruct("cmblock history check", cmblock_history_check_size(), &found);
	if (!found)
		memset(watches, 0, cmblock_history_check_size());
}

/* ---------- what is remembered ---------- */

/* With the lock. The place of this database, or else the one that was used least recently. */
static Watch *
place(void)
{
	Watch *oldest = &watches[0];

	for (int i = 0; i < MAX_WATCHES; i++)
	{
		if (watches[i].database == MyDatabaseId)
			return &watches[i];
		if (watches[i].used < oldest->used)
			oldest = &watches[i];
	}
	return oldest;
}

static void
recall(Watch *watch)
{
	Oid history = cmblock_relation(REL_BLOCK_EVENT);

	if (watches)
	{
		LWLockAcquire(cmblock_lock(LOCK_HISTORY_CHECK), LW_SHARED);
		*watch = *place();
		LWLockRelease(cmblock_lock(LOCK_HISTORY_CHECK));
	}
	else
		*watch = own;
	if (watch->database != MyDatabaseId || watch->history != history)
		*watch = (Watch){.database = MyDatabaseId, .history = history};
}

static void
remember(Watch *watch)
{
	/* It may have seen events of its own, which it can still take back. */
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	watch->used = GetCurrentTimestamp();
	if (watches)
	{
		LWLockAcquire(cmblock_lock(LOCK_HISTORY_CHECK), LW_EXCLUSIVE);
		*place() = *watch;
		LWLockRelease(cmblock_lock(LOCK_HISTORY_CHECK));
	}
	else
		own = *watch;
}

static void
note_problem(Watch *watch, const char *problem, int64 first_broken)
{
	watch->broken = true;
	watch->first_broken = first_broken;
	strlcpy(watch->problem, problem, sizeof(watch->problem));
}

/* All events were looked at, up to `end`: history_check goes on from there. */
static void
note_verified(const HistoryEnd *end, const char *problem, int64 first_broken)
{
	Watch watch;

	recall(&watch);
	if (problem)
		note_problem(&watch, problem, first_broken);
	else
	{
		watch.broken = false;
		watch.newest = *end;
		watch.round_end = GetCurrentTimestamp();
	}
	memset(&watch.position, 0, sizeof(watch.position));
	remember(&watch);
}

/* ---------- looking ---------- */

/* Is the newest event of last time still there? */
static bool
still_there(Watch *watch, Snapshot snapshot)
{
	HistoryEnd found;

	if (watch->newest.id == 0)
		return true;
	if (!cmblock_find_event(snapshot, watch->newest.id, &found) || found.id != watch->newest.id)
		note_problem(watch, "it was there before, and is gone", watch->newest.id);
	else if (memcmp(found.hash, watch->newest.hash, HISTORY_HASH_OCTETS) != 0)
		note_problem(watch, "its hash is not the one that it had before", watch->newest.id);
	return !watch->broken;
}

/* Follows the chain from `end` on; returns how many events it looked at. */
static int64
follow(Watch *watch, Snapshot snapshot, int64 events, HistoryEnd *end)
{
	int64 first = end->id;
	int64 first_broken = 0;
	char *problem = events > 0 ? cmblock_follow_history(snapshot, events, end, &first_broken) : NULL;

	if (problem)
		note_problem(watch, problem, first_broken);
	return end->id - first;
}

/* The first call has to begin somewhere: with the last events. What came before them is for the round. */
static void
begin_near_the_end(Watch *watch, Snapshot snapshot, int64 events)
{
	HistoryEnd last;

	if (watch->newest.id == 0 && cmblock_find_event(snapshot, PG_INT64_MAX, &last) && last.id > events)
		(void) cmblock_find_event(snapshot, last.id - events, &watch->newest);
}

static void
go_round(Watch *watch, Snapshot snapshot, int64 events)
{
	if (watch->position.id + events >= watch->newest.id)
		events = watch->newest.id - watch->position.id;
	(void) follow(watch, snapshot, events, &watch->position);
	if (watch->broken || watch->position.id < watch->newest.id)
		return;
	watch->round_end = GetCurrentTimestamp();
	memset(&watch->position, 0, sizeof(watch->position));
}

Datum
cmblock_history_check(PG_FUNCTION_ARGS)
{
	int64 events = PG_GETARG_INT32(0);
	TupleDesc result;
	Watch watch;
	Snapshot snapshot;
	Datum values[6] = {0};
	bool nulls[6] = {0};

	if (get_call_result_type(fcinfo, NULL, &result) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (events < 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"events\" must be at least 1"));
	recall(&watch);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (!watch.broken && still_there(&watch, snapshot))
	{
		begin_near_the_end(&watch, snapshot, events);
		events -= follow(&watch, snapshot, events, &watch.newest);
		if (!watch.broken)
			go_round(&watch, snapshot, events);
	}
	remember(&watch);
	UnregisterSnapshot(snapshot);

	values[0] = BoolGetDatum(!watch.broken);
	values[1] = Int64GetDatum(watch.newest.id);
	values[2] = Int64GetDatum(watch.position.id);
	nulls[3] = watch.round_end == 0;
	values[3] = TimestampTzGetDatum(watch.round_end);
	nulls[4] = !watch.broken;
	values[4] = Int64GetDatum(watch.first_broken);
	values[5] = CStringGetTextDatum(watch.broken ? watch.problem : "nothing broken was found");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(result), values, nulls)));
}

/* ---------- all at once ---------- */

Datum
cmblock_verify_block_history(PG_FUNCTION_ARGS)
{
	TupleDesc result;
	Datum values[5] = {0};
	bool nulls[5] = {0};
	HistoryEnd last;
	HistoryEnd end = {0};
	int64 first_broken = 0;
	char *problem;

	if (get_call_result_type(fcinfo, NULL, &result) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cmblock_progress_begin(PROGRESS_VERIFY_HISTORY);
	(void) cmblock_find_event(GetActiveSnapshot(), PG_INT64_MAX, &last);
	cmblock_progress_phase(WORK_VERIFYING_CHAIN, last.id);
	problem = cmblock_follow_history(GetActiveSnapshot(), PG_INT64_MAX, &end, &first_broken);
	cmblock_progress_end();
	note_verified(&end, problem, first_broken);

	values[0] = BoolGetDatum(problem == NULL);
	values[1] = Int64GetDatum(end.id);
	values[2] = Int64GetDatum(first_broken);
	nulls[2] = problem == NULL;
	values[3] = CStringGetTextDatum(problem ? problem : "every event follows from the one before");
	values[4] = PointerGetDatum(cmblock_make_bytea(end.hash, HISTORY_HASH_OCTETS));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(result), values, nulls)));
}
