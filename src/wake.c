/*
 * wake.c
 *		Telling the background workers, at commit, that there is news.
 *
 * The flags are of this process and this transaction. They act at the very end of the commit: the transaction is then
 * visible to others, its locks are released, and its cache invalidations are sent, so the worker that wakes up can neither look
 * too early nor at an old catalog entry. That is later than a commit callback runs, hence the callback of resource owners.
 * A subtransaction that rolls back leaves its flag behind: the worker then looks once in vain, which costs less than
 * keeping book.
 *
 * PREPARE TRANSACTION forgets the flags; the utility hook wakes the worker at COMMIT PREPARED.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "slots.h"
#include "wake.h"

static bool rows_changed = false;
static bool links_changed = false;
static bool sources_changed = false;
static List *held_databases = NIL;

static bool committed = false;

static void
note_end(XactEvent event, void *arg)
{
	committed = event == XACT_EVENT_COMMIT;
}

static void
act(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	ListCell *cell;

	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level)
		return;
	if (committed && (rows_changed || links_changed))
		cmblock_slots_wake(MyDatabaseId, WORKER_REPLICATOR, links_changed);
	if (committed && sources_changed)
		cmblock_slots_wake(MyDatabaseId, WORKER_REFRESHER, true);
	foreach (cell, held_databases)
		cmblock_slots_release(lfirst_oid(cell));

	list_free(held_databases);
	held_databases = NIL;
	rows_changed = false;
	links_changed = false;
	sources_changed = false;
	committed = false;
}

static bool
watch_transaction(void)
{
	static bool registered = false;

	if (!cmblock_slots_available())
		return false;
	if (!registered)
	{
		RegisterXactCallback(note_end, NULL);
		RegisterResourceReleaseCallback(act, NULL);
		registered = true;
	}
	return true;
}

void
cmblock_wake_at_commit(void)
{
	if (watch_transaction())
		rows_changed = true;
}

void
cmblock_wake_links_at_commit(void)
{
	if (watch_transaction())
		links_changed = true;
}

void
cmblock_wake_refresher_at_commit(void)
{
	if (watch_transaction())
		sources_changed = true;
}

void
cmblock_release_at_end(Oid database)
{
	MemoryContext old;

	if (!watch_transaction())
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	held_databases = lappend_oid(held_databases, database);
	MemoryContextSwitchTo(old);
}

void
cmblock_wake_now(void)
{
	if (!cmblock_slots_available())
		return;
	for (WorkerKind kind = 0; kind < WORKER_KINDS; kind++)
		cmblock_slots_wake(MyDatabaseId, kind, true);
}
