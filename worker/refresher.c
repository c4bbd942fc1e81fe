/*
 * refresher.c
 *		Keeps the CRLs of one database fresh: one process for all of its sources.
 *
 * A loop: what fetches have ended, whether the sources changed, what is due by the clock; then sleep on latch,
 * sockets and clock together. Each source has its next attempt in table crl_source, so a restart changes nothing
 * about the schedule. Up to MAX_FETCHES transfers run at once, and none of them can hold up the others (fetch.c). No
 * transaction is open while they run. What arrives is taken in in a transaction of its own (sources.c), after which
 * it is in force everywhere: the cache has it before the commit shows it.
 *
 * A change of crl_source, of a CRL or of the trust list wakes the process at commit (wake.c). Without one it looks
 * around once a minute, and writes nothing while nothing changes.
 *
 * Failures: a fetch that fails is noted in the source's row. An error of this database ends the process with exit
 * code 1, and the launcher starts it again after a delay. Where no source is left, or no extension, it ends for good;
 * the first new source has it started again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cmblock.h"
#include "crl_source.h"
#include "fetch.h"
#include "slots.h"
#include "sources.h"
#include "worker.h"

/* Sources are read again this often, in case somebody changed a table without its trigger, or dropped it. */
#define LOOK_MS 60000

/* What could not be settled for another session's lock is tried again after this. */
#define LOCKED_PAUSE_MS 5000

/* A clock that went back by less is being corrected in the usual way. */
#define CLOCK_STEP_MS 1000

/* Fetches that are under way, by what identifies their source. */
typedef struct UnderWay
{
	Fetch *fetch;
	TimestampTz started;
	bool ended;
	bool locked;     /* it waits for a lock of another session, */
	int64 settle_at; /* until this time of cmblock_fetch_clock */
	bool has_scope;
	bool delta;
	unsigned char scope[SHA256_OCTETS];
} UnderWay;

static UnderWay under_way[MAX_FETCHES];
static MemoryContext sources_context;
static MemoryContext turn_context;
static SourceList sources;
static uint32 tasks_seen;
static TimestampTz next_look = DT_NOBEGIN;
static TimestampTz interval_since; /* since when crl_refresh_interval is what it is, for all that we know */

static void
retire(void)
{
	cmblock_slots_retire(tasks_seen);
	proc_exit(0);
}

/* Where a row that has to go or come is locked by another session, this waits for the next time. */
static void
follow_sources(void)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		cmblock_follow_sources();
		cmblock_end_work();
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		FreeErrorData(cmblock_abort_work_for_error(context));
	}
	PG_END_TRY();
}

/* Reads the sources; ends this process when there are none, or no extension. */
static void
look_around(void)
{
	static bool said = false;
	WorkerGround ground;

	next_look = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_MS);
	tasks_seen = cmblock_slots_tasks();
	MemoryContextReset(sources_context);
	memset(&sources, 0, sizeof(sources));
	ground = cmblock_begin_work();
	if (ground == GROUND_READY)
	{
		follow_sources();
		ground = cmblock_begin_work();
	}
	if (ground == GROUND_GONE)
		retire();
	if (ground == GROUND_OTHER_VERSION)
	{
		if (!said)
			ereport(LOG,
					errmsg("cmblock refresher is idle: the extension in this database is not of version %s",
						   CMBLOCK_VERSION),
					errhint("Bring both to the same version: restart the server, or ALTER EXTENSION cmblock "
							"UPDATE."));
		said = true;
		return;
	}
	said = false;
	MemoryContextSwitchTo(sources_context);
	cmblock_read_sources(&sources);
	cmblock_end_work();
	if (sources.count == 0 && cmblock_fetch_count() == 0)
		retire();
}

/* ---------- fetches ---------- */

static void
settle_ended(void)
{
	Fetch *fetch;

	while ((fetch = cmblock_fetch_done()) != NULL)
		for (int i = 0; i < MAX_FETCHES; i++)
			under_way[i].ended |= under_way[i].fetch == fetch;

	for (int i = 0; i < MAX_FETCHES; i++)
	{
		UnderWay *u = &under_way[i];

		CHECK_FOR_INTERRUPTS();
		if (!u->fetch || !u->ended || (u->locked && u->settle_at > cmblock_fetch_clock()))
			continue;
		pgstat_report_activity(STATE_RUNNING, psprintf("taking in the CRL from %s", u->fetch->url));
		if (cmblock_settle_fetch(u->fetch, u->started, !u->locked))
		{
			cmblock_fetch_free(u->fetch);
			u->fetch = NULL;
			next_look = DT_NOBEGIN;
		}
		else
		{
			u->locked = true;
			u->settle_at = cmblock_fetch_clock() + LOCKED_PAUSE_MS;
		}
		MemoryContextReset(turn_context);
	}
}

/* Until what waits for a lock is tried again; -1: nothing does. */
static long
locked_pause(void)
{
	long pause = -1;

	for (int i = 0; i < MAX_FETCHES; i++)
		if (under_way[i].fetch && under_way[i].locked)
		{
			long left = (long) Max(under_way[i].settle_at - cmblock_fetch_clock(), 0);

			pause = pause < 0 ? left : Min(pause, left);
		}
	return pause;
}

/* Is this source being asked, or another one of its series? */
static bool
is_under_way(const Source *source)
{
	for (int i = 0; i < MAX_FETCHES; i++)
	{
		const UnderWay *u = &under_way[i];

		if (!u->fetch)
			continue;
		if (u->fetch->tag == source->id)
			return true;
		if (u->has_scope && source->has_scope && u->delta == source->delta &&
			memcmp(u->scope, source->scope, SHA256_OCTETS) == 0)
			return true;
	}
	return false;
}

static UnderWay *
free_place(void)
{
	for (int i = 0; i < MAX_FETCHES; i++)
		if (!under_way[i].fetch)
			return &under_way[i];
	return NULL;
}

/*
 * What was planned under a longer interval is brought forward: it is due when the interval that holds now is over,
 * counted from when it came to hold. A quarter more is what the schedule may add. A plan that was made in the future, when
 * the clock was wrong, is worth nothing.
 */
static TimestampTz
due_at(const Source *source)
{
	if (source->last_attempt > GetCurrentTimestamp())
		return DT_NOBEGIN;
	if (source->last_attempt >= interval_since)
		return source->next_attempt;
	return Min(source->next_attempt, interval_since + cmblock_crl_refresh_interval * USECS_PER_SEC / 4 * 5);
}

/* Starts what is due, healthy sources first, as the list is sorted. Returns when something will be due next. */
static TimestampTz
start_due(void)
{
	TimestampTz next = next_look;

	for (int i = 0; i < sources.count; i++)
	{
		Source *source = &sources.source[i];
		UnderWay *place = free_place();

		if (!place)
			break;
		if (is_under_way(source))
			continue;
		if (due_at(source) > GetCurrentTimestamp())
		{
			next = Min(next, due_at(source));
			continue;
		}
		place->started = GetCurrentTimestamp();
		place->ended = place->locked = false;
		place->fetch = cmblock_fetch_start(source->url, source->etag, source->last_modified, source->id);
		place->delta = source->delta;
		place->has_scope = source->has_scope;
		memcpy(place->scope, source->scope, SHA256_OCTETS);
		if (place->fetch->outcome != FETCH_UNDER_WAY)
			next = DT_NOBEGIN; /* it has ended already */
	}
	return next;
}

static void
report_activity(void)
{
	char text[512] = "";
	int count = 0;

	for (int i = 0; i < MAX_FETCHES; i++)
	{
		size_t used = strlen(text);

		if (under_way[i].fetch)
			snprintf(text + used, sizeof(text) - used, "%s%s%s", count++ > 0 ? ", " : "fetching ",
					 under_way[i].locked ? "waiting for a lock to take in " : "", under_way[i].fetch->url);
	}
	pgstat_report_activity(count > 0 ? STATE_RUNNING : STATE_IDLE, text);
}

static void
reload_settings(void)
{
	int interval = cmblock_crl_refresh_interval;

	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	if (cmblock_crl_refresh_interval != interval)
		interval_since = GetCurrentTimestamp();
}

/* After the clock was set back, what was planned by it would be long in coming. */
static void
notice_clock(void)
{
	static TimestampTz last = DT_NOBEGIN;
	TimestampTz now = GetCurrentTimestamp();

	if (TimestampTzPlusMilliseconds(now, CLOCK_STEP_MS) < last)
	{
		next_look = DT_NOBEGIN;
		interval_since = now;
	}
	last = now;
}

static void
refresh(void)
{
	for (;;)
	{
		TimestampTz now;
		TimestampTz next;
		long pause;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload_settings();
		notice_clock();
		settle_ended();
		if (cmblock_slots_tasks() != tasks_seen || GetCurrentTimestamp() >= next_look)
			look_around();
		next = start_due();
		report_activity();
		now = GetCurrentTimestamp();
		pause = locked_pause();
		if (next > now)
		{
			long wait = TimestampDifferenceMilliseconds(now, next) + 1;

			cmblock_fetch_wait(pause < 0 ? wait : Min(pause, wait));
		}
	}
}

void
cmblock_refresher_main(Datum database)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!cmblock_slots_attach(DatumGetObjectId(database), WORKER_REFRESHER))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database), InvalidOid, 0);
	cmblock_pin_settings();
	sources_context = AllocSetContextCreate(TopMemoryContext, "cmblock sources", ALLOCSET_SMALL_SIZES);
	turn_context = AllocSetContextCreate(TopMemoryContext, "cmblock refresher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_context);

	interval_since = GetCurrentTimestamp();
	look_around();
	cmblock_slots_at_work();
	pgstat_report_appname("cmblock refresher");
	cmblock_fetch_init();
	refresh();
}
