/*
 * decision_writers.c
 *		Which rows this transaction is changing, so that nobody uses the cache of decisions for them until it has ended.
 *
 * The guard says so before each change. What a transaction touched is remembered until its end, whatever becomes of
 * its savepoints, and given back by a callback: see decision_cache.c for why that is early enough and late enough.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "decision_cache.h"

/* The states that this transaction touched; beyond this many its database is marked as a whole. */
#define MAX_TOUCHED 8192

typedef struct Touched
{
	pg_atomic_uint64 *state;
	char status;
} Touched;

#define SH_PREFIX touched
#define SH_ELEMENT_TYPE Touched
#define SH_KEY_TYPE pg_atomic_uint64 *
#define SH_KEY state
#define SH_HASH_KEY(table, key) ((uint32) (((uintptr_t) (key) >> 3) * UINT64CONST(0x9E3779B97F4A7C15) >> 32))
#define SH_EQUAL(table, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static touched_hash *touched = NULL; /* in TopTransactionContext */
static bool flooded = false;
static bool preparing = false;

static void
give_all_back(void)
{
	touched_iterator iterator;
	Touched *t;

	touched_start_iterate(touched, &iterator);
	while ((t = touched_iterate(touched, &iterator)) != NULL)
		cmblock_cache_end_writer(t->state);
	if (flooded)
		cmblock_cache_end_writer(cmblock_cache_database_state());
	touched = NULL;
	flooded = false;
}

/*
 * COMMIT comes after the commit is visible, ABORT after the rollback is, PREPARE after the locks have gone to the prepared
 * transaction.
 */
static void
end_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			preparing = touched != NULL;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* Also for an error within PREPARE: whether it came about is then for coverage.c to find out. */
			if (preparing)
				cmblock_cache_note_prepare();
			preparing = false;
			if (touched)
				give_all_back();
			break;
		default:
			break;
	}
}

static void
watch_transaction(void)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(end_transaction, NULL);
		registered = true;
	}
	if (touched == NULL)
		touched = touched_create(TopTransactionContext, 16, NULL);
}

static void
touch(pg_atomic_uint64 *state)
{
	bool found;

	if (flooded)
		return;
	watch_transaction();
	if (touched->members >= MAX_TOUCHED)
	{
		flooded = true;
		cmblock_cache_add_writer(cmblock_cache_database_state());
		return;
	}
	touched_insert(touched, state, &found);
	if (!found)
		cmblock_cache_add_writer(state);
}

void
cmblock_cache_touch_client(const Smsid *smsid)
{
	if (cmblock_cache_exists())
		touch(cmblock_cache_client_key(smsid, false).state);
}

void
cmblock_cache_touch_certificate(const unsigned char *sha256)
{
	if (cmblock_cache_exists())
		touch(cmblock_cache_certificate_key(sha256).state);
}
