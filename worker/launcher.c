/*
 * launcher.c
 *		Starts the workers of each database that has something for them to do.
 *
 * At start it has every database looked at: a worker of each kind is started there, and ends at once when it finds
 * nothing to do, saying so in its slot (slots.c). From then on the launcher sleeps until a slot asks for a worker: a
 * link was made, a worker died, a DROP DATABASE failed. It is in no database itself, so it is in nobody's way.
 *
 * On a standby it is not started; the postmaster does that at the end of recovery.
 *
 * A worker is registered never to be restarted by the postmaster, who would do it without looking whether its
 * database is still there and how often it failed; the launcher does it with a growing delay.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "slots.h"
#include "worker.h"

/* Databases that are looked at at the same time: each takes one of max_worker_processes for a moment. */
#define PARALLEL_STARTS 4

/* When no worker process is to be had, how long until the next attempt. */
#define NO_SLOT_MS 30000

typedef struct Started
{
	Oid database;
	WorkerKind kind;
	BackgroundWorkerHandle *handle;
} Started;

static const char *const kind_names[WORKER_KINDS] = {
	[WORKER_REPLICATOR] = "replicator",
	[WORKER_REFRESHER] = "refresher",
};

static List *started = NIL;

/* ---------- databases ---------- */

/* One whose DROP was interrupted takes no connections either. */
static bool
takes_connections(Form_pg_database database)
{
	return database->datallowconn && !cmblock_database_is_invalid(database);
}

static void
request_all_databases(void)
{
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (takes_connections(database) && !database->datistemplate)
			for (WorkerKind kind = 0; kind < WORKER_KINDS; kind++)
				cmblock_slots_request(database->oid, kind);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
}

static bool
can_connect(Oid database)
{
	HeapTuple tuple;
	bool can = false;

	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		can = takes_connections((Form_pg_database) GETSTRUCT(tuple));
		ReleaseSysCache(tuple);
	}
	CommitTransactionCommand();
	return can;
}

/* ---------- workers ---------- */

static BackgroundWorkerHandle *
start_worker(Oid database, WorkerKind kind)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "cmblock");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "cmblock_%s_main", kind_names[kind]);
	snprintf(worker.bgw_name, BGW_MAXLEN, "cmblock %s of database %u", kind_names[kind], database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "cmblock %s", kind_names[kind]);
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

/* Forgets the workers that have ended; one that never came up leaves its database to be tried again. */
static void
reap(void)
{
	ListCell *cell;

	foreach (cell, started)
	{
		Started *entry = lfirst(cell);
		pid_t pid;

		if (GetBackgroundWorkerPid(entry->handle, &pid) != BGWH_STOPPED)
			continue;
		cmblock_slots_start_failed(entry->database, entry->kind, GetCurrentTimestamp());
		pfree(entry->handle);
		pfree(entry);
		started = foreach_delete_current(started, cell);
	}
}

static void
remember(Oid database, WorkerKind kind, BackgroundWorkerHandle *handle)
{
	Started *entry = palloc(sizeof(Started));

	entry->database = database;
	entry->kind = kind;
	entry->handle = handle;
	started = lappend(started, entry);
}

/* Starts what is wanted. Returns when to do so again without having been woken. */
static TimestampTz
start_wanted(void)
{
	static bool complained = false;
	TimestampTz wait_until;
	Oid database;
	WorkerKind kind;

	while (cmblock_slots_next_start(GetCurrentTimestamp(), PARALLEL_STARTS, &database, &kind, &wait_until))
	{
		BackgroundWorkerHandle *handle;

		CHECK_FOR_INTERRUPTS();
		if (!can_connect(database))
		{
			cmblock_slots_postpone(database, kind, 0);
			cmblock_slots_forget(database, kind);
			continue;
		}
		handle = start_worker(database, kind);
		if (handle)
		{
			remember(database, kind, handle);
			complained = false;
			continue;
		}
		cmblock_slots_postpone(database, kind,
							   TimestampTzPlusMilliseconds(GetCurrentTimestamp(), NO_SLOT_MS));
		if (!complained)
			ereport(LOG, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("cmblock has no background worker process left for database %u", database),
					errdetail("Its %s does not run until there is one.", kind_names[kind]),
					errhint("Raise max_worker_processes and restart the server."));
		complained = true;
	}
	return wait_until;
}

void
cmblock_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	MemoryContextSwitchTo(
		AllocSetContextCreate(TopMemoryContext, "cmblock launcher", ALLOCSET_DEFAULT_SIZES));

	cmblock_slots_attach_launcher();
	request_all_databases();
	for (;;)
	{
		TimestampTz until;
		long timeout;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		reap();
		until = start_wanted();
		timeout = until == DT_NOEND ? -1 : TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until) + 1;
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout < 0 ? 0 : WL_TIMEOUT),
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
