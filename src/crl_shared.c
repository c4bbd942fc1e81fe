/*
 * crl_shared.c
 *		Indexes of CRLs in shared memory: slots, their memory, pins and eviction.
 *
 * Memory
 *		One arena in the server's main shared memory, as large as cmblock.crl_cache_size, handed out in pages by the
 *		server's free page manager, as the server itself does for min_dynamic_shared_memory. Every process has it mapped at
 *		the same address from the start, so nothing is attached or detached, a CRL that was replaced cannot live on in
 *		the mappings of idle sessions, and the budget holds by construction. What was never used takes no memory.
 *		(A DSA area would not do: it keeps the segment of a large object that was freed. Tried with PostgreSQL 15 and a limit of
 *		128 MB, an index of 37 MB that grows by a thousandth with each new CRL was refused at the fourth.)
 *
 * Slots
 *		FREE -> BUILDING (claimed by one process, which builds without any lock) -> READY -> FREE (evicted). The
 *		contents of a READY slot never change. A FREE slot keeps digest and counters until it is needed for another CRL,
 *		so that a CRL which is built again and again can be seen.
 *
 * Locking
 *		LOCK_CRL_CACHE protects everything but the atomics. It is held for a look through the slots and for
 *		moving pages to and from the free page manager; never while a CRL is loaded, built or read.
 *		A slot's "pins" is its generation (high half) and the number of pins (low half) in one word. A process that knows slot and
 *		generation pins by one atomic addition and sees in the result whether it has what it wanted; eviction raises the
 *		generation by compare-and-exchange, which fails when anybody holds a pin. So no lock is needed to use a CRL again.
 *		A pin that came too late is taken back; it may hold up an eviction for a moment, and nothing else.
 *
 * Failure
 *		A process that ends in any orderly way abandons its claim and gives its pins back (crl_cache.c). If it does not, the
 *		postmaster makes shared memory anew. A builder that is stuck is not waited for beyond a deadline.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/shmem.h"
#include "utils/freepage.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "crl_cache.h"
#include "crl_shared.h"
#include "shmem.h"

/*
 * What was used so recently is not evicted. Where the CRLs in use do not fit, the newcomer is served from its
 * backend's own memory: else each would push the other out, and every request would build one.
 */
#define RECENT_USE_MS 1000

/* Where a process saw which digest: sets of a few slot numbers, chosen by the digest. */
#define HINT_SETS 512
#define HINT_WAYS 4

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_BUILDING,
	SLOT_READY
} SlotState;

typedef struct Slot
{
	pg_atomic_uint64 pins; /* generation and pins */
	pg_atomic_uint64 hits;
	pg_atomic_uint64 last_used; /* a TimestampTz */

	SlotState state;
	bool known;     /* digest and counters mean something */
	bool too_large; /* FREE because it can never fit */
	uint8 sha256[CRL_SHA256_OCTETS];
	Size first_page;
	Size pages; /* 0: none are reserved */
	Size size;  /* octets of the index */
	uint32 builds;
	double build_ms;
	TimestampTz built_at;
	ConditionVariable built; /* somebody stopped building */
} Slot;

/* A slot's atomics share a cache line with nothing that another slot writes. */
typedef union PaddedSlot
{
	Slot slot;
	char pad[TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(Slot))];
} PaddedSlot;

typedef struct SharedCache
{
	Size pages;      /* of the budget */
	Size free_pages; /* of those, not reserved */
	SharedTotals totals;
	pg_atomic_uint64 waits;
	int used; /* slots from here on have never been used */
	PaddedSlot padded[CRL_SHARED_SLOTS];
} SharedCache;

/* What this process knows of a slot; valid while the generation is the slot's. */
typedef struct View
{
	uint32 generation;
	uint8 sha256[CRL_SHA256_OCTETS];
	CrlIndex index;
} View;

static SharedCache *cache = NULL;
static char *arena = NULL; /* its first page is the free page manager's */

static View *views[CRL_SHARED_SLOTS];
static View *spare_view = NULL;
static uint16 hints[HINT_SETS][HINT_WAYS]; /* slot + 1 */

#define GENERATION(word) ((uint32) ((word) >> 32))
#define PINS(word) ((uint32) (word))
#define ONE_GENERATION (UINT64CONST(1) << 32)

static inline Slot *
slot_at(int place)
{
	return &cache->padded[place].slot;
}

static inline FreePageManager *
free_pages(void)
{
	return (FreePageManager *) arena;
}

static inline void *
slot_memory(const Slot *slot)
{
	return fpm_page_to_pointer(arena, slot->first_page);
}

static Size
budget_pages(void)
{
	return fpm_size_to_pages((Size) cmblock_crl_cache_size * 1024);
}

static Size
arena_size(void)
{
	/* A page for the manager, and one to align on. */
	return mul_size(add_size(budget_pages(), 2), FPM_PAGE_SIZE);
}

Size
cmblock_crl_cache_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(SharedCache)), arena_size());
}

void
cmblock_crl_cache_startup(void)
{
	bool found;
	char *memory;

	StaticAssertStmt(sizeof(FreePageManager) <= FPM_PAGE_SIZE, "the free page manager needs one page");

	cache = ShmemInitStruct("cmblock CRL cache", sizeof(SharedCache), &found);
	memory = ShmemInitStruct("cmblock CRLs", arena_size(), &found);
	arena = (char *) TYPEALIGN(FPM_PAGE_SIZE, memory);
	if (found)
		return;

	memset(cache, 0, sizeof(SharedCache));
	cache->pages = cache->free_pages = budget_pages();
	pg_atomic_init_u64(&cache->waits, 0);
	for (int i = 0; i < CRL_SHARED_SLOTS; i++)
	{
		pg_atomic_init_u64(&slot_at(i)->pins, 0);
		pg_atomic_init_u64(&slot_at(i)->hits, 0);
		pg_atomic_init_u64(&slot_at(i)->last_used, 0);
		ConditionVariableInit(&slot_at(i)->built);
	}
	FreePageManagerInitialize(free_pages(), arena);
	FreePageManagerPut(free_pages(), 1, cache->pages);
}

bool
cmblock_crl_shared_available(void)
{
	return cache != NULL;
}

/* The four places where this process may have noted the slot of a digest. */
static uint16 *
hint_set(const uint8 *sha256)
{
	return hints[(sha256[0] | sha256[1] << 8) % HINT_SETS];
}

/* The slot where this process saw the digest last; -1: not seen, or forgotten. */
static int
recall(const uint8 *sha256)
{
	uint16 *set = hint_set(sha256);

	for (int way = 0; way < HINT_WAYS && set[way] != 0; way++)
		if (memcmp(views[set[way] - 1]->sha256, sha256, CRL_SHA256_OCTETS) == 0)
			return set[way] - 1;
	return -1;
}

static void
remember(const uint8 *sha256, int place)
{
	uint16 *set = hint_set(sha256);

	if (recall(sha256) == place)
		return;
	memmove(set + 1, set, (HINT_WAYS - 1) * sizeof(uint16));
	set[0] = place + 1;
}

/* Room for a view, taken before anything is pinned or claimed, since this may raise. */
static void
prepare_view(void)
{
	if (!spare_view)
		spare_view = MemoryContextAllocZero(TopMemoryContext, sizeof(View));
}

static void
touch(Slot *slot, TimestampTz now)
{
	pg_atomic_fetch_add_u64(&slot->hits, 1);
	pg_atomic_write_u64(&slot->last_used, (uint64) now);
}

const CrlIndex *
cmblock_crl_shared_pin(const uint8 *sha256, TimestampTz now, int *slot)
{
	int place = recall(sha256);
	uint64 before;

	if (place < 0)
		return NULL;
	before = pg_atomic_fetch_add_u64(&slot_at(place)->pins, 1);
	if (GENERATION(before) != views[place]->generation)
	{
		pg_atomic_fetch_sub_u64(&slot_at(place)->pins, 1);
		return NULL;
	}
	touch(slot_at(place), now);
	*slot = place;
	return &views[place]->index;
}

void
cmblock_crl_shared_unpin(int slot)
{
	pg_atomic_fetch_sub_u64(&slot_at(slot)->pins, 1);
}

/* What the caller has pinned becomes what this process knows of the slot. */
static const CrlIndex *
look_at(int place)
{
	Slot *slot = slot_at(place);
	View *view = views[place];

	if (!view)
	{
		view = views[place] = spare_view;
		spare_view = NULL;
	}
	if (!cmblock_crl_index_open(slot_memory(slot), slot->size, &view->index))
	{
		cmblock_crl_shared_unpin(place);
		ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("the index of a CRL is damaged in shared memory"), errhint("Restart the server."));
	}
	memcpy(view->sha256, slot->sha256, CRL_SHA256_OCTETS);
	view->generation = GENERATION(pg_atomic_read_u64(&slot->pins));
	remember(view->sha256, place);
	return &view->index;
}

/* The slot that has this digest, whatever its state. Needs the lock. -1: none. */
static int
search(const uint8 *sha256)
{
	for (int i = 0; i < cache->used; i++)
		if (slot_at(i)->known && memcmp(slot_at(i)->sha256, sha256, CRL_SHA256_OCTETS) == 0)
			return i;
	return -1;
}

/* Needs the lock exclusively. */
static void
give_pages_back(Slot *slot)
{
	if (slot->pages == 0)
		return;
	FreePageManagerPut(free_pages(), slot->first_page, slot->pages);
	cache->free_pages += slot->pages;
	slot->pages = 0;
}

/* What was used least recently of all that may be evicted; NULL: all is pinned or in fresh use. */
static Slot *
eviction_victim(TimestampTz now)
{
	Slot *oldest = NULL;
	TimestampTz oldest_use = TimestampTzPlusMilliseconds(now, -RECENT_USE_MS);

	for (int i = 0; i < cache->used; i++)
	{
		Slot *slot = slot_at(i);
		TimestampTz used = (TimestampTz) pg_atomic_read_u64(&slot->last_used);

		/* A use in the future was noted before the clock was set back: nobody knows when that was. */
		if (used > TimestampTzPlusMilliseconds(now, RECENT_USE_MS))
			used = DT_NOBEGIN;
		if (slot->state == SLOT_READY && PINS(pg_atomic_read_u64(&slot->pins)) == 0 && used <= oldest_use)
		{
			oldest = slot;
			oldest_use = used;
		}
	}
	return oldest;
}

/* Needs the lock exclusively. False: nothing may be evicted. */
static bool
evict_one(TimestampTz now)
{
	Slot *slot;

	while ((slot = eviction_victim(now)) != NULL)
	{
		uint64 word = pg_atomic_read_u64(&slot->pins);

		/* Who has pinned it meanwhile keeps it; the next look finds another. */
		if (PINS(word) == 0 && pg_atomic_compare_exchange_u64(&slot->pins, &word, word + ONE_GENERATION))
		{
			slot->state = SLOT_FREE;
			give_pages_back(slot);
			cache->totals.evictions++;
			return true;
		}
	}
	return false;
}

/* A slot for a digest that has none: one never used, or the free one of the longest forgotten CRL. */
static int
free_slot(TimestampTz now)
{
	int oldest = -1;

	if (cache->used < CRL_SHARED_SLOTS)
		return cache->used++;
	do
	{
		for (int i = 0; i < CRL_SHARED_SLOTS; i++)
			if (slot_at(i)->state == SLOT_FREE &&
				(oldest < 0 || pg_atomic_read_u64(&slot_at(i)->last_used) <
								   pg_atomic_read_u64(&slot_at(oldest)->last_used)))
				oldest = i;
	} while (oldest < 0 && evict_one(now));
	return oldest;
}

/* Needs the lock exclusively. */
static int
claim(const uint8 *sha256, int place, TimestampTz now)
{
	Slot *slot;

	if (place < 0)
	{
		place = free_slot(now);
		if (place < 0)
			return -1;
		slot = slot_at(place);
		cache->totals.hits += pg_atomic_read_u64(&slot->hits);
		memcpy(slot->sha256, sha256, CRL_SHA256_OCTETS);
		slot->known = true;
		slot->too_large = false;
		slot->size = 0;
		slot->builds = 0;
		slot->build_ms = 0;
		slot->built_at = 0;
		pg_atomic_write_u64(&slot->hits, 0);
		pg_atomic_write_u64(&slot->last_used, (uint64) now);
	}
	slot_at(place)->state = SLOT_BUILDING;
	return place;
}

/* Needs the lock. Pins what is ready. */
static SharedAnswer
answer(int place)
{
	Slot *slot;

	if (place < 0)
		return SHARED_CLAIMED;
	slot = slot_at(place);
	if (slot->state == SLOT_BUILDING)
		return SHARED_BUILDING;
	if (slot->state == SLOT_FREE)
		return slot->too_large ? SHARED_TOO_LARGE : SHARED_CLAIMED;
	pg_atomic_fetch_add_u64(&slot->pins, 1);
	return SHARED_READY;
}

SharedAnswer
cmblock_crl_shared_find(const uint8 *sha256, TimestampTz now, int *slot, const CrlIndex **index)
{
	SharedAnswer found;
	int place;

	prepare_view();
	LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_SHARED);
	place = search(sha256);
	found = answer(place);
	LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));

	if (found == SHARED_CLAIMED)
	{
		LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_EXCLUSIVE);
		place = search(sha256);
		found = answer(place);
		if (found == SHARED_CLAIMED)
		{
			place = claim(sha256, place, now);
			if (place < 0)
			{
				cache->totals.no_room++;
				found = SHARED_NO_SLOT;
			}
		}
		LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));
	}

	*slot = place;
	if (found == SHARED_READY)
	{
		*index = look_at(place);
		touch(slot_at(place), now);
	}
	return found;
}

const CrlIndex *
cmblock_crl_shared_peek(const uint8 *sha256, int *slot)
{
	SharedAnswer found;

	prepare_view();
	LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_SHARED);
	*slot = search(sha256);
	found = answer(*slot);
	LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));
	return found == SHARED_READY ? look_at(*slot) : NULL;
}

static bool
being_built(const uint8 *sha256, int place)
{
	bool building;

	LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_SHARED);
	building = slot_at(place)->state == SLOT_BUILDING &&
			   memcmp(slot_at(place)->sha256, sha256, CRL_SHA256_OCTETS) == 0;
	LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));
	return building;
}

bool
cmblock_crl_shared_wait(const uint8 *sha256, int slot, TimestampTz deadline)
{
	bool building;

	pg_atomic_fetch_add_u64(&cache->waits, 1);
	ConditionVariablePrepareToSleep(&slot_at(slot)->built);
	while ((building = being_built(sha256, slot)))
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

		if (left <= 0)
			break;
		ConditionVariableTimedSleep(&slot_at(slot)->built, left, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return !building;
}

void *
cmblock_crl_shared_reserve(int slot, Size size, TimestampTz now, bool *too_large)
{
	Slot *claimed = slot_at(slot);
	Size pages = fpm_size_to_pages(size);
	bool found = false;

	*too_large = pages > cache->pages;
	LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_EXCLUSIVE);
	claimed->size = size;
	claimed->too_large = *too_large;
	if (!*too_large)
	{
		while (!(found = FreePageManagerGet(free_pages(), pages, &claimed->first_page)) && evict_one(now))
			;
	}
	if (found)
	{
		claimed->pages = pages;
		cache->free_pages -= pages;
	}
	else
		cache->totals.no_room++;
	LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));
	return found ? slot_memory(claimed) : NULL;
}

void
cmblock_crl_shared_publish(int slot, double build_ms, TimestampTz now)
{
	Slot *claimed = slot_at(slot);

	prepare_view();
	LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_EXCLUSIVE);
	claimed->state = SLOT_READY;
	claimed->builds++;
	claimed->build_ms = build_ms;
	claimed->built_at = now;
	pg_atomic_write_u64(&claimed->last_used, (uint64) now);
	pg_atomic_fetch_add_u64(&claimed->pins, 1);
	cache->totals.builds++;
	cache->totals.build_ms += build_ms;
	LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));
	ConditionVariableBroadcast(&claimed->built);
}

const CrlIndex *
cmblock_crl_shared_index(int slot)
{
	return look_at(slot);
}

void
cmblock_crl_shared_abandon(int slot, bool failed)
{
	Slot *claimed = slot_at(slot);

	LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_EXCLUSIVE);
	claimed->state = SLOT_FREE;
	give_pages_back(claimed);
	if (failed)
		cache->totals.failed_builds++;
	LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));
	ConditionVariableBroadcast(&claimed->built);
}

void
cmblock_crl_shared_retire(const uint8 *sha256)
{
	int place;

	LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_SHARED);
	place = search(sha256);
	if (place >= 0)
		pg_atomic_write_u64(&slot_at(place)->last_used, 0);
	LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));
}

int
cmblock_crl_shared_list(SharedCrl *crl)
{
	int count = 0;

	LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_SHARED);
	for (int i = 0; i < cache->used; i++)
	{
		Slot *slot = slot_at(i);

		if (!slot->known || (slot->state == SLOT_FREE && !slot->too_large))
			continue;
		memcpy(crl->sha256, slot->sha256, CRL_SHA256_OCTETS);
		crl->state = slot->state == SLOT_READY      ? SHARED_READY
					 : slot->state == SLOT_BUILDING ? SHARED_BUILDING
													: SHARED_TOO_LARGE;
		crl->bytes = slot->size;
		crl->hits = pg_atomic_read_u64(&slot->hits);
		crl->pins = PINS(pg_atomic_read_u64(&slot->pins));
		crl->builds = slot->builds;
		crl->build_ms = slot->build_ms;
		crl->built_at = slot->built_at;
		crl->last_used = (TimestampTz) pg_atomic_read_u64(&slot->last_used);
		crl++;
		count++;
	}
	LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));
	return count;
}

void
cmblock_crl_shared_totals(SharedTotals *totals)
{
	LWLockAcquire(cmblock_lock(LOCK_CRL_CACHE), LW_SHARED);
	*totals = cache->totals;
	totals->size = (uint64) cache->pages * FPM_PAGE_SIZE;
	totals->used = (uint64) (cache->pages - cache->free_pages) * FPM_PAGE_SIZE;
	totals->waits = pg_atomic_read_u64(&cache->waits);
	for (int i = 0; i < cache->used; i++)
		totals->hits += pg_atomic_read_u64(&slot_at(i)->hits);
	LWLockRelease(cmblock_lock(LOCK_CRL_CACHE));
}
