/*
 * crl_cache.c
 *		The indexes of the CRLs in use, found by the SHA-256 of their DER: in shared memory, once for all backends.
 *
 * Design
 *		Whoever needs a CRL pins its index by digest. Normally that is one atomic addition on shared memory
 *		(crl_shared.c). On a miss one process claims the digest, loads the DER with the caller's loader, checks that it has
 *		this digest, and builds the index; the others that miss it wait for that one. Content under a digest never changes,
 *		so there is nothing to invalidate: a CRL that is not asked for any more is evicted some day.
 *
 *		What shared memory cannot take (crl_shared.c says when) is kept in this process's own memory (crl_local.c), and
 *		so is everything without shared_preload_libraries. Where room was only short for the moment, shared
 *		memory is tried again after a second; the copy is then handed over and not built again.
 *
 * Locking
 *		Nothing is locked while a CRL is loaded or built. A loader may wait for a lock that one of the waiters
 *		holds, which the deadlock detector cannot see; so nobody waits longer than WAIT_MS before it builds for itself.
 *
 * Failure
 *		A builder that fails, is cancelled or terminated gives its claim and its memory back, and one of the waiters takes
 *		over. Pins are recorded in this process by the resource owner under which they were taken and are given back with
 *		it; what remains is given back when the process exits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "crl_cache.h"
#include "crl_local.h"
#include "crl_shared.h"
#include "types.h"
#include "x509.h"

/* A CRL of a million entries is loaded and built in a third of a second. */
#define WAIT_MS 5000

/* A copy of our own is used so long before shared memory is tried again. */
#define RETRY_MS 1000

/* The clock is read at least once for so many pins. */
#define PINS_PER_CLOCK 64

/* One pin of this process. */
typedef struct Hold
{
	uint32 serial; /* 0: free */
	ResourceOwner owner;
	int slot; /* in shared memory, or -1 and */
	LocalCrl *local;
} Hold;

/* Where an index comes from: a CRL that was read already, or our own copy, or the loader. */
typedef struct Source
{
	const uint8 *sha256;
	CrlLoader load;
	void *arg;
	const Crl *crl;
	LocalCrl *local;
	MemoryContext context; /* what the loader brought */
	Crl loaded;
	instr_time start;
} Source;

int cmblock_crl_cache_size = 128 * 1024;

static Hold *holds = NULL;
static uint32 hold_room = 0;
static uint32 holds_used = 0; /* places from here on are free */
static uint32 last_serial = 0;

void
cmblock_crl_cache_define_settings(void)
{
	/* Shared memory cannot grow later. Without preloading there is none, and the setting may come at any time. */
	GucContext context = process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomIntVariable(
		"cmblock.crl_cache_size", "Memory for the CRLs in use, 36 bytes an entry.",
		"Shared memory where cmblock is in shared_preload_libraries; else what each session may use.",
		&cmblock_crl_cache_size, 128 * 1024, 64, MAX_KILOBYTES, context, GUC_UNIT_KB, NULL, NULL, NULL);
}

/*
 * The time of use that eviction goes by. The statement's start is good enough for short statements; a long one
 * reads the clock now and then.
 */
static TimestampTz
coarse_now(void)
{
	static TimestampTz now = 0;
	static uint32 pins = 0;

	now = Max(now, GetCurrentStatementStartTimestamp());
	if (pins++ % PINS_PER_CLOCK == 0)
		now = Max(now, GetCurrentTimestamp());
	return now;
}

static void
release(Hold *hold)
{
	hold->serial = 0;
	if (hold->slot >= 0)
		cmblock_crl_shared_unpin(hold->slot);
	else
		cmblock_crl_local_unpin(hold->local);
	while (holds_used > 0 && holds[holds_used - 1].serial == 0)
		holds_used--;
}

static void
release_all_of(ResourceOwner owner, bool any_owner)
{
	for (uint32 place = holds_used; place-- > 0;)
		if (holds[place].serial != 0 && (any_owner || holds[place].owner == owner))
			release(&holds[place]);
}

/* The server calls this for each resource owner, which is the current one meanwhile. */
static void
end_of_resource_owner(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (phase == RESOURCE_RELEASE_BEFORE_LOCKS && holds_used > 0)
		release_all_of(CurrentResourceOwner, false);
}

static void
end_of_process(int code, Datum arg)
{
	release_all_of(NULL, true);
}

/* A place for one more pin; hold_room: there is none. Pins given back out of turn leave gaps. */
static uint32
free_place(void)
{
	uint32 place = holds_used;

	if (place == hold_room)
		for (place = 0; place < hold_room && holds[place].serial != 0; place++)
			;
	return place;
}

/* Sees to it that there is a place, before the pin is taken: this may raise, and taking it may not. */
static void
prepare_hold(void)
{
	if (!holds)
	{
		holds = MemoryContextAlloc(TopMemoryContext, 16 * sizeof(Hold));
		hold_room = 16;
		RegisterResourceReleaseCallback(end_of_resource_owner, NULL);
		before_shmem_exit(end_of_process, (Datum) 0);
	}
	else if (free_place() == hold_room)
	{
		holds = repalloc(holds, mul_size(hold_room * 2, sizeof(Hold)));
		hold_room *= 2;
	}
}

static void
hold(int slot, LocalCrl *local, CrlPin *pin)
{
	uint32 place = free_place();
	Hold *new = &holds[place];

	if (++last_serial == 0)
		last_serial = 1;
	new->serial = last_serial;
	new->owner = CurrentResourceOwner;
	new->slot = slot;
	new->local = local;
	holds_used = Max(holds_used, place + 1);
	pin->place = place;
	pin->serial = last_serial;
}

static const CrlIndex *
hold_shared(int slot, const CrlIndex *index, CrlPin *pin)
{
	hold(slot, NULL, pin);
	return index;
}

static const CrlIndex *
hold_local(LocalCrl *local, TimestampTz now, CrlPin *pin)
{
	cmblock_crl_local_pin(local, now);
	hold(-1, local, pin);
	return &local->index;
}

void
cmblock_crl_unpin(CrlPin *pin)
{
	if (pin->serial != 0 && pin->place < holds_used && holds[pin->place].serial == pin->serial)
		release(&holds[pin->place]);
	pin->serial = 0;
}

static char *
digest_text(const uint8 *sha256)
{
	return cmblock_hex_string(sha256, CRL_SHA256_OCTETS);
}

static void
warn_damaged(const Source *source, const char *how)
{
	ereport(WARNING, errcode(ERRCODE_DATA_CORRUPTED),
			errmsg("CRL %s is damaged, and is ignored", digest_text(source->sha256)), errdetail("%s", how),
			errhint("Remove it with cmblock.remove_crl, and import it again."));
}

/*
 * Makes a source ready to be built from. False: there is no such CRL, or it is damaged. What the loader brings is not
 * believed, since other databases will be served from the same memory.
 */
static bool
open_source(Source *source)
{
	CrlLimits limits = {.max_size = SIZE_MAX, .max_entries = UINT32_MAX};
	MemoryContext caller;
	uint8 digest[CRL_SHA256_OCTETS];
	CrlError error;
	bytea *der;

	INSTR_TIME_SET_CURRENT(source->start);
	if (source->crl || source->local)
		return true;

	source->context =
		AllocSetContextCreate(CurrentMemoryContext, "cmblock CRL being loaded", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(source->context);
	der = source->load(source->sha256, source->arg);
	MemoryContextSwitchTo(caller);
	/* The loader may have taken pins itself. */
	prepare_hold();
	if (!der)
		return false;

	CHECK_FOR_INTERRUPTS();
	cmblock_sha256(VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der), digest);
	if (memcmp(digest, source->sha256, CRL_SHA256_OCTETS) != 0)
	{
		warn_damaged(source, psprintf("Its octets have the digest %s.", digest_text(digest)));
		return false;
	}
	CHECK_FOR_INTERRUPTS();
	error =
		cmblock_crl_read((const uint8 *) VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der), &limits, &source->loaded);
	if (error != CRLERR_NONE)
	{
		warn_damaged(source, cmblock_crl_error_text(error));
		return false;
	}
	CHECK_FOR_INTERRUPTS();
	source->crl = &source->loaded;
	return true;
}

static void
close_source(Source *source)
{
	if (source->context)
		MemoryContextDelete(source->context);
	source->context = NULL;
}

static Size
index_size(const Source *source)
{
	return source->local ? source->local->size : cmblock_crl_index_size(source->crl);
}

/* Fills memory of index_size. Does not check for interrupts. */
static void
build_index(const Source *source, void *memory, Size size)
{
	uint8 key[SIPHASH_KEY_OCTETS];

	if (source->local)
	{
		memcpy(memory, source->local->index.header, size);
		return;
	}
	if (!pg_strong_random(key, sizeof(key)))
		ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not get random octets"));
	if (!cmblock_crl_index_build(source->crl, key, source->sha256, memory, size))
		elog(ERROR, "could not build the index of a CRL");
}

static double
milliseconds_since(instr_time start)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_MILLISEC(now);
}

static void
warn_too_large(const Source *source)
{
	ereport(WARNING, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			errmsg("a CRL is larger than cmblock.crl_cache_size"),
			errdetail(
				"The index of CRL %s takes %zu kB of %d kB; each session that uses it makes one for itself.",
				digest_text(source->sha256), index_size(source) / 1024 + 1, cmblock_crl_cache_size),
			errhint("Raise cmblock.crl_cache_size."));
}

static void
abandon_claim(int code, Datum slot)
{
	cmblock_crl_shared_abandon(DatumGetInt32(slot), true);
}

typedef enum BuildResult
{
	BUILD_DONE,
	BUILD_NOTHING,
	BUILD_NO_ROOM,
	BUILD_TOO_LARGE
} BuildResult;

/*
 * Builds what the caller has claimed. BUILD_DONE leaves it pinned, everything else ends the claim; BUILD_NO_ROOM and
 * BUILD_TOO_LARGE leave the source open.
 */
static BuildResult
build_shared(int slot, Source *source, TimestampTz now)
{
	volatile BuildResult result = BUILD_NOTHING;

	PG_ENSURE_ERROR_CLEANUP(abandon_claim, Int32GetDatum(slot));
	{
		if (open_source(source))
		{
			Size size = index_size(source);
			bool too_large;
			void *memory = cmblock_crl_shared_reserve(slot, size, now, &too_large);

			if (memory)
			{
				build_index(source, memory, size);
				cmblock_crl_shared_publish(slot, milliseconds_since(source->start), now);
				result = BUILD_DONE;
			}
			else
				result = too_large ? BUILD_TOO_LARGE : BUILD_NO_ROOM;
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon_claim, Int32GetDatum(slot));

	if (result != BUILD_DONE)
		cmblock_crl_shared_abandon(slot, false);
	if (result == BUILD_TOO_LARGE)
		warn_too_large(source);
	if (result == BUILD_DONE || result == BUILD_NOTHING)
		close_source(source);
	return result;
}

/* Builds in this process's memory; opens the source if nobody has yet, and closes it. NULL: there is no such CRL. */
static LocalCrl *
build_local(Source *source, TimestampTz now)
{
	MemoryContext memory;
	LocalCrl *local;
	void *index;
	Size size;

	if (!source->crl && !open_source(source))
	{
		close_source(source);
		return NULL;
	}
	size = index_size(source);
	memory = AllocSetContextCreate(CurrentMemoryContext, "cmblock CRL", ALLOCSET_SMALL_SIZES);
	index = MemoryContextAllocHuge(memory, size);
	build_index(source, index, size);
	local =
		cmblock_crl_local_add(source->sha256, memory, index, size, milliseconds_since(source->start), now);
	close_source(source);
	return local;
}

/* Without shared memory. */
static LocalCrl *
find_or_build_local(Source *source, TimestampTz now)
{
	LocalCrl *local = cmblock_crl_local_find(source->sha256);

	if (!local && (source->crl || open_source(source)))
	{
		if (index_size(source) / 1024 > (Size) cmblock_crl_cache_size)
			warn_too_large(source);
		local = build_local(source, now);
	}
	close_source(source);
	return local;
}

/* The copy of this process, made if there is none yet: shared memory is not tried again before that time. */
static const CrlIndex *
serve_local(Source *source, TimestampTz now, TimestampTz retry_at, CrlPin *pin)
{
	LocalCrl *local = source->local ? source->local : build_local(source, now);

	if (!local)
		return NULL;
	local->retry_at = retry_at;
	return hold_local(local, now, pin);
}

/* It is in shared memory again, so our own copy is needed no more. */
static void
forget_copy(Source *source)
{
	if (source->local)
		cmblock_crl_local_forget(source->local);
	source->local = NULL;
}

static const CrlIndex *
find_or_build_shared(Source *source, TimestampTz now, CrlPin *pin)
{
	TimestampTz soon = TimestampTzPlusMilliseconds(now, RETRY_MS);
	const CrlIndex *index;
	int slot;

	for (;;)
	{
		/* A loader may have used the cache itself, and evicted our copy: ask each time. */
		source->local = cmblock_crl_local_find(source->sha256);
		if (source->local && source->local->retry_at > now)
			return hold_local(source->local, now, pin);

		switch (cmblock_crl_shared_find(source->sha256, now, &slot, &index))
		{
			case SHARED_READY:
				forget_copy(source);
				return hold_shared(slot, index, pin);

			case SHARED_CLAIMED:
				switch (build_shared(slot, source, now))
				{
					case BUILD_DONE:
						index = cmblock_crl_shared_index(slot);
						forget_copy(source);
						return hold_shared(slot, index, pin);
					case BUILD_NOTHING:
						return NULL;
					case BUILD_NO_ROOM:
						return serve_local(source, now, soon, pin);
					case BUILD_TOO_LARGE:
						return serve_local(source, now, DT_NOEND, pin);
				}
				break;

			case SHARED_BUILDING:
				if (!source->local &&
					cmblock_crl_shared_wait(source->sha256, slot,
											TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WAIT_MS)))
					continue;
				return serve_local(source, now, soon, pin);

			case SHARED_NO_SLOT:
				return serve_local(source, now, soon, pin);

			case SHARED_TOO_LARGE:
				return serve_local(source, now, DT_NOEND, pin);
		}
	}
}

/* Apart from cmblock_crl_pin because a Source is large. */
static const CrlIndex *
find_or_build(const uint8 *sha256, CrlLoader load, void *arg, TimestampTz now, CrlPin *pin)
{
	Source source = {.sha256 = sha256, .load = load, .arg = arg};
	LocalCrl *local;

	if (cmblock_crl_shared_available())
		return find_or_build_shared(&source, now, pin);
	local = find_or_build_local(&source, now);
	return local ? hold_local(local, now, pin) : NULL;
}

const CrlIndex *
cmblock_crl_pin(const uint8 *sha256, CrlLoader load, void *arg, CrlPin *pin)
{
	TimestampTz now = coarse_now();
	const CrlIndex *index;
	int slot;

	pin->serial = 0;
	prepare_hold();
	index = cmblock_crl_shared_pin(sha256, now, &slot);
	return index ? hold_shared(slot, index, pin) : find_or_build(sha256, load, arg, now, pin);
}

const CrlIndex *
cmblock_crl_peek(const uint8 *sha256, CrlPin *pin)
{
	const CrlIndex *index;
	int slot;

	pin->serial = 0;
	prepare_hold();
	index = cmblock_crl_shared_peek(sha256, &slot);
	return index ? hold_shared(slot, index, pin) : NULL;
}

void
cmblock_crl_preload(const uint8 *sha256, const Crl *crl)
{
	TimestampTz now = coarse_now();
	Source source = {.sha256 = sha256, .crl = crl};
	const CrlIndex *index;
	int slot;

	if (!cmblock_crl_shared_available())
		(void) find_or_build_local(&source, now);
	else if (cmblock_crl_shared_pin(sha256, now, &slot))
		cmblock_crl_shared_unpin(slot);
	else
	{
		SharedAnswer found = cmblock_crl_shared_find(sha256, now, &slot, &index);

		if (found == SHARED_READY ||
			(found == SHARED_CLAIMED && build_shared(slot, &source, now) == BUILD_DONE))
			cmblock_crl_shared_unpin(slot);
	}
}

void
cmblock_crl_retire(const uint8 *sha256)
{
	LocalCrl *local = cmblock_crl_local_find(sha256);

	if (local)
		cmblock_crl_local_forget(local);
	if (cmblock_crl_shared_available())
		cmblock_crl_shared_retire(sha256);
}
