/*
 * slots.h
 *		Shared memory in which sessions, the launcher and the replicators find one another: a slot a database.
 */
#ifndef CMBLOCK_SLOTS_H
#define CMBLOCK_SLOTS_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "storage/proc.h"

/* Databases of one cluster that can have a replicator. */
#define CMBLOCK_MAX_SLOTS 1024

/* Shared memory: for the hooks in shmem.c. */
extern Size cmblock_slots_size(void);
extern void cmblock_slots_startup(void);

/* Is there shared memory, that is: was the library preloaded? */
extern bool cmblock_slots_available(void);

/*
 * Sessions. `links`: what links there are has changed, not only rows. Wakes the replicator of the database; where there
 * is none, asks the launcher to look at the database.
 */
extern void cmblock_slots_wake(Oid database, bool links);

/*
 * Stops the replicator of a database and keeps it from being started again until cmblock_slots_release.
 * Waits until it is gone, at most `timeout_ms`; true when it is.
 */
extern bool cmblock_slots_hold(Oid database, int timeout_ms);
extern void cmblock_slots_release(Oid database);

/* Is a replicator of this database running? Is the launcher? */
extern bool cmblock_slots_replicator_runs(Oid database);
extern bool cmblock_slots_launcher_runs(void);

/* The launcher. */
extern void cmblock_slots_attach_launcher(void);
extern void cmblock_slots_request(Oid database);
extern void cmblock_slots_forget(Oid database);

/*
 * The next database that is to have its replicator started now, marked as starting; InvalidOid when there is none.
 * *wait_until is when to ask again: DT_NOEND means when woken. At most `parallel` are starting at any time.
 */
extern Oid cmblock_slots_next_start(TimestampTz now, int parallel, TimestampTz *wait_until);

/* The start did not come about; try again at that time. */
extern void cmblock_slots_postpone(Oid database, TimestampTz until);

/* A worker process ended: the databases that were starting in it and never reported are to be tried again. */
extern void cmblock_slots_start_failed(Oid database, TimestampTz now);

/* The replicator: takes its slot, and gives it back when the process ends. False: not wanted any more. */
extern bool cmblock_slots_attach(Oid database);

/* From here on the process counts as at work, no longer as starting: the launcher may start others. */
extern void cmblock_slots_at_work(void);

/* Counters that grow with each wake-up: read them before the snapshot whose news they announce. */
extern uint32 cmblock_slots_changes(void);
extern uint32 cmblock_slots_links(void);

/*
 * This process is about to end because there is nothing to do in its database, having seen that at `links`.
 * Without this call the launcher starts another one.
 */
extern void cmblock_slots_retire(uint32 links);

#endif
