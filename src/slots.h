/*
 * slots.h
 *		Shared memory in which sessions, the launcher and the workers find one another.
 */
#ifndef CMBLOCK_SLOTS_H
#define CMBLOCK_SLOTS_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "storage/proc.h"

#include "types.h"

typedef enum WorkerKind
{
	WORKER_REPLICATOR, /* its tasks are links */
	WORKER_REFRESHER   /* its tasks are sources of CRLs */
} WorkerKind;

#define WORKER_KINDS (WORKER_REFRESHER + 1)

/* A slot each for 1024 databases of one cluster. */
#define CMBLOCK_MAX_SLOTS (1024 * WORKER_KINDS)

/* Shared memory: for worker/init.c. */
extern Size cmblock_slots_size(void);
extern void cmblock_slots_startup(void);

/* Is there shared memory, that is: was the library preloaded? */
extern bool cmblock_slots_available(void);

/*
 * Sessions. `tasks`: what tasks there are has changed, not only rows. Wakes the worker of the database; where there
 * is none, asks the launcher to look at the database.
 */
extern void cmblock_slots_wake(Oid database, WorkerKind kind, bool tasks);

/* Wakes the replicator of the database, if there is one, although no row changed. */
extern void cmblock_slots_nudge(Oid database);

/* The counter that grows with each wake-up for changed rows, read before what it announces; 0 where there is no slot. */
extern uint32 cmblock_slots_changes_of(Oid database);

/*
 * Stops the workers of a database and keeps them from being started again until cmblock_slots_release.
 * Waits until they are gone, at most `timeout_ms`; true when they are.
 */
extern bool cmblock_slots_hold(Oid database, int timeout_ms);
extern void cmblock_slots_release(Oid database);

/* Is this worker of the database running? Is the launcher? */
extern bool cmblock_slots_worker_runs(Oid database, WorkerKind kind);
extern bool cmblock_slots_launcher_runs(void);

/*
 * Asks the replicator of this database to compare with a neighbour. False: another session's request has not been taken yet. Wakes it.
 */
extern bool cmblock_slots_request_comparison(Oid database, SiteCode neighbour);

/* The launcher. */
extern void cmblock_slots_attach_launcher(void);
extern void cmblock_slots_request(Oid database, WorkerKind kind);
extern void cmblock_slots_forget(Oid database, WorkerKind kind);

/*
 * The next worker that is to be started now, marked as starting; false when there is none. Then
 * *wait_until is when to ask again: DT_NOEND means when woken. At most `parallel` are starting at any time.
 */
extern bool cmblock_slots_next_start(TimestampTz now, int parallel, Oid *database, WorkerKind *kind,
									 TimestampTz *wait_until);

/* The start did not come about; try again at that time. */
extern void cmblock_slots_postpone(Oid database, WorkerKind kind, TimestampTz until);

/* A worker process ended: if it was starting and never reported, it is to be tried again. */
extern void cmblock_slots_start_failed(Oid database, WorkerKind kind, TimestampTz now);

/* A worker: takes its slot, and gives it back when the process ends. False: not wanted any more. */
extern bool cmblock_slots_attach(Oid database, WorkerKind kind);

/* From here on the process counts as at work, no longer as starting: the launcher may start others. */
extern void cmblock_slots_at_work(void);

/* Counters that grow with each wake-up: read them before the snapshot whose news they announce. */
extern uint32 cmblock_slots_changes(void);
extern uint32 cmblock_slots_tasks(void);

/* The neighbour that a session wants a comparison with, once; NO_SITE: none. */
extern SiteCode cmblock_slots_take_comparison(void);

/*
 * This process is about to end because there is nothing to do in its database, having seen that at `tasks`.
 * Without this call the launcher starts another one.
 */
extern void cmblock_slots_retire(uint32 tasks);

#endif
