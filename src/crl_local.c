/*
 * crl_local.c
 *		Indexes of CRLs in this process's own memory, for when shared memory cannot hold them: the library was not
 *		preloaded, the CRL is larger than the cache, or everything in the cache is in use.
 *
 * The same budget holds for each process. An index that is larger than all of it is kept beside the others for as long
 * as it is in use, since every request would build it anew otherwise. Each lies in a memory context of its own, so that
 * the memory of large ones goes back to the operating system.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "crl_cache.h"
#include "crl_local.h"

/* A CRL larger than the budget that was not asked for so long is dropped when another comes in. */
#define LARGE_IDLE_MS 60000

static HTAB *store = NULL;
static LocalTotals local_totals;

LocalCrl *
cmblock_crl_local_find(const uint8 *sha256)
{
	return store ? hash_search(store, sha256, HASH_FIND, NULL) : NULL;
}

static void
drop(LocalCrl *crl)
{
	local_totals.used -= crl->size;
	MemoryContextDelete(crl->memory);
	hash_search(store, crl->sha256, HASH_REMOVE, NULL);
}

/* Drops large ones out of use. Of the others: what they take, and the one to evict first (NULL: all are pinned). */
static Size
survey(Size budget, TimestampTz now, LocalCrl **victim)
{
	HASH_SEQ_STATUS walk;
	LocalCrl *crl;
	Size used = 0;

	*victim = NULL;
	hash_seq_init(&walk, store);
	while ((crl = hash_seq_search(&walk)) != NULL)
	{
		if (crl->size > budget)
		{
			if (crl->pins == 0 && TimestampDifferenceExceeds(crl->last_used, now, LARGE_IDLE_MS))
				drop(crl);
			continue;
		}
		used += crl->size;
		if (crl->pins == 0 && (!*victim || crl->last_used < (*victim)->last_used))
			*victim = crl;
	}
	return used;
}

static void
make_room(Size size, TimestampTz now)
{
	Size budget = (Size) cmblock_crl_cache_size * 1024;
	LocalCrl *victim;

	while (survey(budget, now, &victim) + size > budget && victim && size <= budget)
	{
		drop(victim);
		local_totals.evictions++;
	}
}

LocalCrl *
cmblock_crl_local_add(const uint8 *sha256, MemoryContext memory, const void *index, Size size,
					  double build_ms, TimestampTz now)
{
	CrlIndex opened;
	LocalCrl *crl;

	if (!cmblock_crl_index_open(index, size, &opened))
		elog(ERROR, "the index of a CRL is damaged");
	if (!store)
	{
		HASHCTL control = {
			.keysize = CRL_SHA256_OCTETS, .entrysize = sizeof(LocalCrl), .hcxt = TopMemoryContext};

		store =
			hash_create("cmblock CRLs of this process", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	make_room(size, now);
	crl = hash_search(store, sha256, HASH_ENTER, NULL);
	crl->index = opened;
	crl->memory = memory;
	crl->size = size;
	crl->pins = 0;
	crl->hits = 0;
	crl->build_ms = build_ms;
	crl->built_at = crl->last_used = now;
	crl->retry_at = DT_NOEND;
	MemoryContextSetParent(memory, TopMemoryContext);
	local_totals.used += size;
	local_totals.builds++;
	local_totals.build_ms += build_ms;
	return crl;
}

void
cmblock_crl_local_pin(LocalCrl *crl, TimestampTz now)
{
	crl->pins++;
	crl->hits++;
	crl->last_used = now;
	local_totals.hits++;
}

void
cmblock_crl_local_unpin(LocalCrl *crl)
{
	crl->pins--;
}

void
cmblock_crl_local_forget(LocalCrl *crl)
{
	if (crl->pins == 0)
		drop(crl);
}

bool
cmblock_crl_local_walk(HASH_SEQ_STATUS *walk)
{
	if (store)
		hash_seq_init(walk, store);
	return store != NULL;
}

void
cmblock_crl_local_totals(LocalTotals *totals)
{
	*totals = local_totals;
}
