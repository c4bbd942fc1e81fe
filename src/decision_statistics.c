/*
 * decision_statistics.c
 *		How many requests were allowed, and how many refused for which reason: functions decision_counts and
 *		reset_decision_statistics.
 *
 * A decision takes a microsecond and may be made thousands of times a second on each of many processors, so counting
 * it must cost next to nothing. Each process has a row of counters of its own in shared memory, found by its place among the
 * server's processes, and is the only one that writes them: an addition without a lock, to a cache line that no other
 * process writes. Who reads adds up the rows of all processes of the database. The counters are read and written as
 * whole numbers, so a reader sees each at some moment, not all at the same one.
 *
 * When a process ends, it adds its counters to the total of its database and leaves zeros to the next one. A reset does not
 * touch the counters of others: it sets the total to what makes the sum zero.
 *
 * Nothing is written to a table, so this works on a standby; it begins anew with every start of the server. Without
 * shared_preload_libraries nothing is counted.
 *
 * Locking: LOCK_DECISIONS covers the totals, and which process is of which database. It is taken when a process counts for
 * the first time and when it ends, and by those who read.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "decision_statistics.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(cmblock_decision_counts);
PG_FUNCTION_INFO_V1(cmblock_reset_decision_statistics);

/* More databases with decisions than this on one server are not counted. */
#define MAX_DATABASES 64

typedef struct Total
{
	Oid database; /* InvalidOid: free */
	TimestampTz since;
	int64 count[DECISION_COUNTERS]; /* of processes that have ended, less what was reset */
} Total;

typedef struct Counters
{
	Oid database; /* InvalidOid: not counting */
	pg_atomic_uint64 count[DECISION_COUNTERS];
	char padding[PG_CACHE_LINE_SIZE]; /* the next process begins on another line */
} Counters;

typedef struct Statistics
{
	TimestampTz started;
	Total total[MAX_DATABASES];
	Counters process[FLEXIBLE_ARRAY_MEMBER]; /* MaxBackends */
} Statistics;

static Statistics *statistics = NULL;

/* Counts that nobody reads. */
static pg_atomic_uint64 unread[DECISION_COUNTERS];

pg_atomic_uint64 *cmblock_my_decisions = NULL;

Size
cmblock_decision_statistics_size(void)
{
	return add_size(offsetof(Statistics, process), mul_size(MaxBackends, sizeof(Counters)));
}

void
cmblock_decision_statistics_startup(void)
{
	bool found;

	statistics = ShmemInitStruct("cmblock decision statistics", cmblock_decision_statistics_size(), &found);
	if (found)
		return;
	statistics->started = GetCurrentTimestamp();
	memset(statistics->total, 0, sizeof(statistics->total));
	for (int i = 0; i < MaxBackends; i++)
	{
		statistics->process[i].database = InvalidOid;
		for (int c = 0; c < DECISION_COUNTERS; c++)
			pg_atomic_init_u64(&statistics->process[i].count[c], 0);
	}
}

/* ---------- counting ---------- */

/* With the lock. NULL: there is none, and no room for one. */
static Total *
total_of(Oid database, bool add)
{
	Total *empty = NULL;

	for (int i = 0; i < MAX_DATABASES; i++)
	{
		if (statistics->total[i].database == database)
			return &statistics->total[i];
		if (statistics->total[i].database == InvalidOid && empty == NULL)
			empty = &statistics->total[i];
	}
	if (!add || empty == NULL)
		return NULL;
	memset(empty, 0, sizeof(Total));
	empty->database = database;
	empty->since = statistics->started;
	return empty;
}

/* Databases that were dropped need no total. */
static void
forget_dropped(void)
{
	Oid dropped[MAX_DATABASES];

	/* The catalog is not read under a lock of ours. A database that is gone has no processes, and its OID is not used again so soon. */
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		dropped[i] = statistics->total[i].database;
		if (dropped[i] != InvalidOid && get_database_name(dropped[i]) != NULL)
			dropped[i] = InvalidOid;
	}
	LWLockAcquire(cmblock_lock(LOCK_DECISIONS), LW_EXCLUSIVE);
	for (int i = 0; i < MAX_DATABASES; i++)
		if (dropped[i] != InvalidOid && statistics->total[i].database == dropped[i])
			statistics->total[i].database = InvalidOid;
	LWLockRelease(cmblock_lock(LOCK_DECISIONS));
}

/* The process ends: what it counted goes to its database. */
static void
hand_over(int code, Datum arg)
{
	Counters *mine = (Counters *) DatumGetPointer(arg);
	Total *total;

	LWLockAcquire(cmblock_lock(LOCK_DECISIONS), LW_EXCLUSIVE);
	total = total_of(mine->database, false);
	for (int c = 0; c < DECISION_COUNTERS; c++)
	{
		if (total)
			total->count[c] += (int64) pg_atomic_read_u64(&mine->count[c]);
		pg_atomic_write_u64(&mine->count[c], 0);
	}
	mine->database = InvalidOid;
	cmblock_my_decisions = unread;
	LWLockRelease(cmblock_lock(LOCK_DECISIONS));
}

/* False: too many databases count already. */
static bool
join(Counters *mine)
{
	bool joined;

	LWLockAcquire(cmblock_lock(LOCK_DECISIONS), LW_EXCLUSIVE);
	joined = total_of(MyDatabaseId, true) != NULL;
	if (joined)
		mine->database = MyDatabaseId;
	LWLockRelease(cmblock_lock(LOCK_DECISIONS));
	return joined;
}

void
cmblock_decision_statistics_attach(void)
{
	Counters *mine;

	cmblock_my_decisions = unread;
	if (statistics == NULL)
		return;
	mine = &statistics->process[MyProc - ProcGlobal->allProcs];
	if (!join(mine))
	{
		forget_dropped();
		if (!join(mine))
			return;
	}
	before_shmem_exit(hand_over, PointerGetDatum(mine));
	cmblock_my_decisions = mine->count;
}

/* ---------- reading ---------- */

/* With the lock. What the processes that are running have counted for the database. */
static void
add_running(Oid database, int64 *count)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		const Counters *process = &statistics->process[i];

		if (process->database != database)
			continue;
		for (int c = 0; c < DECISION_COUNTERS; c++)
			count[c] += (int64) pg_atomic_read_u64((pg_atomic_uint64 *) &process->count[c]);
	}
}

/* Where nothing was counted yet the counts are zero. */
static void
read_counts(int64 *count, TimestampTz *since)
{
	const Total *total;

	memset(count, 0, sizeof(int64) * DECISION_COUNTERS);
	*since = statistics->started;
	LWLockAcquire(cmblock_lock(LOCK_DECISIONS), LW_SHARED);
	total = total_of(MyDatabaseId, false);
	if (total)
	{
		memcpy(count, total->count, sizeof(total->count));
		*since = total->since;
		add_running(MyDatabaseId, count);
	}
	LWLockRelease(cmblock_lock(LOCK_DECISIONS));
}

Datum
cmblock_decision_counts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64 *count = palloc(sizeof(int64) * DECISION_COUNTERS);
	TimestampTz since;

	InitMaterializedSRF(fcinfo, 0);
	if (statistics == NULL)
		return (Datum) 0;
	read_counts(count, &since);
	for (Reason reason = REASON_NONE; reason < DECISION_REASONS; reason++)
	{
		const char *name = reason == REASON_NONE ? "allowed" : cmblock_reason_name(reason);

		/* Only ever a warning. */
		if (reason == REASON_CERTIFICATE_UNREGISTERED)
			continue;
		for (Transport transport = TRANSPORT_HTTP; transport < DECISION_TRANSPORTS; transport++)
			for (RequestKind kind = REQUEST_POLICY; kind < DECISION_KINDS; kind++)
			{
				Datum values[5] = {CStringGetTextDatum(name), cmblock_enum_datum(ENUM_TRANSPORT, transport),
								   cmblock_enum_datum(ENUM_REQUEST_KIND, kind),
								   Int64GetDatum(count[cmblock_decision_counter(transport, kind, reason)]),
								   TimestampTzGetDatum(since)};
				bool nulls[5] = {0};

				tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
			}
	}
	return (Datum) 0;
}

Datum
cmblock_reset_decision_statistics(PG_FUNCTION_ARGS)
{
	int64 *running = palloc0(sizeof(int64) * DECISION_COUNTERS);
	Total *total;

	if (statistics == NULL)
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("there are no decision statistics: cmblock is not preloaded"),
			errhint("Add cmblock to shared_preload_libraries in postgresql.conf and restart the server."));
	LWLockAcquire(cmblock_lock(LOCK_DECISIONS), LW_EXCLUSIVE);
	total = total_of(MyDatabaseId, true);
	if (total)
	{
		add_running(MyDatabaseId, running);
		for (int c = 0; c < DECISION_COUNTERS; c++)
			total->count[c] = -running[c];
		total->since = GetCurrentTimestamp();
	}
	LWLockRelease(cmblock_lock(LOCK_DECISIONS));
	PG_RETURN_VOID();
}
