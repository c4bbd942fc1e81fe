/*
 * wake.c
 *		Telling the background workers, at commit, that there is news.
 *
 * The flags are of this process and this transaction. The commit callback runs after the transaction has
 * become visible to others, so the worker that it wakes cannot look too early. A subtransaction that rolls back leaves its flag
 * behind: the worker then looks once in vain, which costs less than keeping book.
 *
 * PREPARE TRANSACTION forgets the flags; the utility hook wakes the worker at COMMIT PREPARED.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "slots.h"
#include "wake.h"

static bool rows_changed = false;
static bool links_changed = false;
static List *held_databases = NIL;

static void
forget(void)
{
	rows_changed = false;
	links_changed = false;
	list_free(held_databases);
	held_databases = NIL;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	ListCell *cell;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (rows_changed || links_changed)
				cmblock_slots_wake(MyDatabaseId, links_changed);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	foreach (cell, held_databases)
		cmblock_slots_release(lfirst_oid(cell));
	forget();
}

static bool
watch_transaction(void)
{
	static bool registered = false;

	if (!cmblock_slots_available())
		return false;
	if (!registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
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
	if (cmblock_slots_available())
		cmblock_slots_wake(MyDatabaseId, true);
}
