/*
 * replicator.c
 *		Sends the changes of one database to its neighbour sites: one process for all links.
 *
 * A loop: what happened on the sockets, what is due by the clock, whether there is news; then sleep on latch and
 * sockets together. A commit sets the latch (wake.c). When nothing is going on it wakes once a minute, looks whether a wake-up
 * got lost, and writes nothing.
 *
 * A link is offline, connecting, or ready. A ready link with news runs a round (round.c). Reading a chunk of it is
 * a short transaction; none is open while the network is waited for. Each turn of the loop gives each link one chunk, so
 * that a large round does not hold up the others.
 *
 * The neighbour takes batches in without waiting for its disk. What it has taken in counts as acknowledged when it has answered
 * open_link once more, which does wait: at once where something depends on it (a link that had failed, a resend), else
 * once a second at most. If it crashes before, its connection ends, and it names an older cursor in the next handshake.
 *
 * Failures: whatever goes wrong with a neighbour ends the connection, is written to replication_link and tried again
 * later, from the cursor that the neighbour then names. Whatever goes wrong in this database ends the process; the launcher
 * starts it again after a delay. It keeps nothing that could get lost.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "asking.h"
#include "cmblock.h"
#include "comparison.h"
#include "compat.h"
#include "connection.h"
#include "links.h"
#include "round.h"
#include "sleep.h"
#include "slots.h"
#include "statement.h"
#include "worker.h"

/* An idle process looks around this often. */
#define IDLE_MS 60000

/* When too many names are being looked up. */
#define RESOLVE_LATER_MS 50

static dlist_head links = DLIST_STATIC_INIT(links);
static Here here;
static uint32 links_seen;
static TimestampTz next_look;
static volatile sig_atomic_t servers_changed = false;
static bool is_restored = false; /* this site, as of the last look */

/* ---------- settings of this process ---------- */

static void
pin_settings(void)
{
	static const char *const settings[][2] = {
		{"client_encoding", "UTF8"},
		{"synchronous_commit", "off"},
		/* Each query is to go along an index, however the statistics are. */
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_sort", "off"},
	};

	cmblock_pin_settings();
	/* client_encoding looks the conversion up in the catalogs. */
	StartTransactionCommand();
	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	CommitTransactionCommand();
}

static void
note_server_change(Datum arg, int cache, uint32 hash)
{
	servers_changed = true;
}

/* ---------- the end ---------- */

static void
close_all(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &links)
		cmblock_close_link(dlist_container(Link, node, iter.cur));
}

/* There is nothing to do in this database: the launcher starts a new process when that changes. */
static void
retire(void)
{
	close_all();
	cmblock_slots_retire(links_seen);
	proc_exit(0);
}

/* Begins a transaction, or ends this process when the extension is gone. False: it is of another version. */
static bool
begin_work(void)
{
	static bool said = false;

	switch (cmblock_begin_work())
	{
		case GROUND_READY:
			said = false;
			return true;
		case GROUND_GONE:
			retire();
			break;
		case GROUND_OTHER_VERSION:
			if (!said)
				ereport(
					LOG,
					errmsg("cmblock replicator is idle: the extension in this database is not of version %s",
						   CMBLOCK_VERSION),
					errhint("Bring both to the same version: restart the server, or ALTER EXTENSION cmblock "
							"UPDATE."));
			said = true;
			break;
	}
	return false;
}

/* ---------- failures and connections ---------- */

static void
fail(Link *link, const char *sqlstate, const char *message)
{
	if (link->peer.timed_out || strcmp(sqlstate, "57014") == 0)
		cmblock_round_timed_out(link);
	cmblock_disconnect_link(link);
	cmblock_sockets_changed();
	cmblock_link_failed(link, &here, sqlstate, message, GetCurrentTimestamp());
}

/* The options of a link's server. NULL, and the link has failed, when there are none. */
static ConnectionOptions *
connection_options(Link *link)
{
	MemoryContext context = CurrentMemoryContext;
	ConnectionOptions *volatile options = NULL;
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		if (begin_work())
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			options = cmblock_connection_options(link->server, 5);
			MemoryContextSwitchTo(old);
			cmblock_end_work();
		}
	}
	PG_CATCH();
	{
		error = cmblock_abort_work_for_error(context);
	}
	PG_END_TRY();
	if (error)
		fail(link, unpack_sql_state(error->sqlerrcode), error->message);
	return options;
}

static uint64
hash_options(const ConnectionOptions *options)
{
	uint64 hash = options->password_required;

	for (int i = 0; i < options->count; i++)
	{
		hash = hash_bytes_extended((const unsigned char *) options->keywords[i], strlen(options->keywords[i]),
								   hash);
		hash =
			hash_bytes_extended((const unsigned char *) options->values[i], strlen(options->values[i]), hash);
	}
	return hash;
}

static void
connect_link(Link *link, TimestampTz now)
{
	ConnectionOptions *options;

	link->next_try = next_look;
	options = connection_options(link);
	if (!options)
		return;
	if (link->peer.phase == PEER_OFFLINE && cmblock_resolve_needed(options) &&
		cmblock_resolve_count() >= RESOLVE_AT_ONCE)
	{
		link->next_try = TimestampTzPlusMilliseconds(now, RESOLVE_LATER_MS);
		return;
	}
	link->options_hash = hash_options(options);
	cmblock_add_option(options, "application_name",
					   psprintf("cmblock replicator %s to %s", here.code, link->code));
	cmblock_add_option(options, "client_encoding", "UTF8");
	cmblock_sockets_changed();
	if (cmblock_peer_connect(&link->peer, options, now) == PEER_FAILED)
		fail(link, link->peer.sqlstate, link->peer.error);
}

/* The link to the parent; NULL: none. */
static Link *
parent_link(void)
{
	dlist_iter iter;

	dlist_foreach (iter, &links)
	{
		Link *link = dlist_container(Link, node, iter.cur);

		if (link->neighbour == here.identity.parent)
			return link;
	}
	return NULL;
}

/* Has this site compared with its parent, or where there is none, with all neighbours? */
static bool
has_compared(void)
{
	Link *parent = parent_link();
	dlist_iter iter;

	if (parent)
		return parent->verified;
	dlist_foreach (iter, &links)
		if (!dlist_container(Link, node, iter.cur)->verified)
			return false;
	return true;
}

/* Then it may be changed again, if it was restored. */
static void
look_at_restored(void)
{
	const SiteIdentity *site;

	if (!begin_work())
		return;
	site = cmblock_this_site();
	if (site && site->is_restored && has_compared())
		cmblock_unmark_restored();
	site = cmblock_this_site();
	is_restored = site && site->is_restored;
	cmblock_end_work();
}

/*
 * A child's word lifts no block, the parent's does. So what was lost is asked of the parent first, unless an administrator
 * accepted the state as it is.
 */
static bool
waits_for_parent(const Link *link)
{
	Link *parent = parent_link();

	return is_restored && link->comparison && parent && link != parent && !parent->verified;
}

/*
 * The neighbour has no record of this site: the link is new, or was made anew there. Then nothing tells whether it has rows that this
 * site has lost. So the parent is compared with once it has everything, and any neighbour at once when this site knows that it was set back.
 */
static CursorVerdict
judge_stranger(Link *link, TimestampTz *lost_since)
{
	const SiteIdentity *site = cmblock_this_site();

	if (site && site->is_restored)
	{
		*lost_since = GetCurrentTimestamp();
		return CURSOR_LOST;
	}
	link->compare_wanted |= link->feed.upward;
	return CURSOR_GOOD;
}

/*
 * What the neighbour has by its own record. If it has more than this database ever sent in its present life, the two are compared
 * before anything else goes over the link. Inside a transaction.
 */
static void
judge_cursor(Link *link)
{
	TimestampTz lost_since = 0;
	CursorVerdict verdict = CURSOR_GOOD;

	if (link->peer.cursor)
		verdict = cmblock_judge_cursor(link->peer.cursor_run, link->peer.cursor_position, &lost_since);
	else
		verdict = judge_stranger(link, &lost_since);
	cmblock_feed_position(&link->feed, verdict == CURSOR_GOOD ? link->peer.cursor : NULL);
	link->verified = verdict == CURSOR_GOOD;
	if (verdict == CURSOR_GOOD)
	{
		if (link->peer.progress)
			cmblock_round_resume(link, link->peer.progress);
		return;
	}
	if (verdict == CURSOR_LOST && !has_compared())
		cmblock_mark_restored(psprintf("site %s has received changes that are not here", link->code));
	cmblock_comparison_begin(link, &here, true, lost_since, true);
}

/* The handshake is done: the neighbour's own record says what it has. What makes no sense in it is the link's failure. */
static void
link_opened(Link *link)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData *volatile error = NULL;

	if (!begin_work())
		return;
	PG_TRY();
	{
		judge_cursor(link);
		cmblock_end_work();
	}
	PG_CATCH();
	{
		error = cmblock_abort_work_for_error(context);
	}
	PG_END_TRY();
	if (error)
	{
		fail(link, unpack_sql_state(error->sqlerrcode), error->message);
		return;
	}
	look_at_restored();
	link->look = true;
	link->fresh = true;
	cmblock_link_confirmed(link, GetCurrentTimestamp());
}

/* ---------- what there is to do ---------- */

static bool
has_news(const Link *link)
{
	return link->look || link->resend_requested != link->resending ||
		   link->changes != cmblock_slots_changes();
}

/* False: the link has no connection any more. */
static bool
after_step(Link *link, RoundStep step)
{
	switch (step)
	{
		case ROUND_OK:
			return true;
		case ROUND_FAILED:
			fail(link, link->peer.sqlstate, link->peer.error);
			break;
		case ROUND_NO_GROUND:
			cmblock_disconnect_link(link);
			cmblock_sockets_changed();
			/* Ends this process, or says why it is idle. */
			if (begin_work())
				cmblock_end_work();
			break;
	}
	return false;
}

/* ---------- comparisons ---------- */

/* When the next comparison of a ready link is due by itself. */
static TimestampTz
compare_due(const Link *link)
{
	if (link->compare_wanted)
		return 0;
	if (cmblock_compare_interval == 0)
		return DT_NOEND;
	return TimestampTzPlusMilliseconds(Max(link->compared_at, link->compare_after),
									   (int64) cmblock_compare_interval * 1000);
}

static void
begin_comparison(Link *link)
{
	if (!begin_work())
		return;
	link->compare_wanted = false;
	cmblock_comparison_begin(link, &here, false, 0, false);
	cmblock_end_work();
}

/* True when it could go on at once. */
static bool
step_comparison(Link *link, TimestampTz now)
{
	PeerIdentity who = cmblock_link_identity(link, &here);
	bool brings_cursor;

	switch (cmblock_comparison_step(link, &here, &who, now))
	{
		case COMPARISON_WAITS:
			break;
		case COMPARISON_MORE:
			return true;
		case COMPARISON_ERROR:
			fail(link, link->peer.sqlstate, link->peer.error);
			break;
		case COMPARISON_FINISHED:
			brings_cursor = cmblock_comparison_brings_cursor(link);
			cmblock_comparison_end(link);
			link->verified = true;
			link->look = true;
			if (brings_cursor)
				after_step(link, cmblock_round_send_cursor(link, &here, now));
			look_at_restored();
			return true;
	}
	return false;
}

/* Something that goes before the next range of a comparison. */
static bool
has_other_work(const Link *link, TimestampTz now)
{
	return link->in_round || has_news(link) || cmblock_confirmation_due(link) <= now;
}

/* One step of a ready link. True when it could go on at once. */
static bool
work_on(Link *link, TimestampTz now)
{
	if (link->calling != CALL_NONE || waits_for_parent(link))
		return false;
	if (link->comparison && (!cmblock_comparison_can_pause(link) || !has_other_work(link, now)))
		return step_comparison(link, now);
	if (!link->comparison && !link->in_round && link->feed.since && now >= compare_due(link))
	{
		begin_comparison(link);
		return link->comparison != NULL;
	}
	if (!link->in_round)
	{
		PeerIdentity who = cmblock_link_identity(link, &here);
		PeerEvent event;

		/* Confirmations and questions come before news: where there always is some, they would never be asked. */
		if (cmblock_confirmation_due(link) <= now)
		{
			link->calling = CALL_CONFIRM;
			event = cmblock_peer_confirm(&link->peer, &who, now);
		}
		else
			event = cmblock_call_link(link, &who, now);
		if (event == PEER_FAILED)
		{
			fail(link, link->peer.sqlstate, link->peer.error);
			return false;
		}
		if (link->calling != CALL_NONE || !has_news(link))
			return false;
	}
	if (link->held && link->peer.in_flight == 0)
	{
		after_step(link, cmblock_round_send_held(link, &here, now));
		return false;
	}
	if (!cmblock_round_has_room(link) || !after_step(link, cmblock_round_next(link, &here, now)))
		return false;
	if (link->in_round)
		return cmblock_round_has_room(link);
	return has_news(link) || link->comparison || cmblock_any_questions();
}

/* True when another link may have something to do now. */
static bool
acknowledged(Link *link, TimestampTz now)
{
	if (link->calling == CALL_CONFIRM)
	{
		link->calling = CALL_NONE;
		cmblock_link_confirmed(link, now);
		cmblock_link_succeeded(link, &here, now);
		return false;
	}
	if (link->calling != CALL_NONE)
		return cmblock_link_replied(link);
	(void) cmblock_round_acknowledged(link, &here, now);
	return false;
}

/* ---------- one turn ---------- */

/* Lets a link go on. True when it has more to do that waits for nothing. */
static bool
turn(Link *link, uint32 ready, TimestampTz now)
{
	PeerIdentity who = cmblock_link_identity(link, &here);
	bool pass_on = false;

	if (link->peer.phase != PEER_READY)
		pass_on = cmblock_answer_for_link(link);
	if (link->peer.phase == PEER_OFFLINE)
	{
		if (!link->paused && now >= link->next_try)
			connect_link(link, now);
		return pass_on;
	}
	if (link->paused)
	{
		cmblock_disconnect_link(link);
		cmblock_sockets_changed();
		return false;
	}
	if (link->peer.phase == PEER_RESOLVING || link->peer.phase == PEER_CONNECTING)
		cmblock_sockets_changed();
	switch (cmblock_peer_advance(&link->peer, &who, ready, now))
	{
		case PEER_FAILED:
			fail(link, link->peer.sqlstate, link->peer.error);
			return false;
		case PEER_RESOLVED:
			connect_link(link, now);
			break;
		case PEER_OPENED:
			link_opened(link);
			break;
		case PEER_ANSWERED:
			break;
		case PEER_ACKNOWLEDGED:
			pass_on = acknowledged(link, now);
			break;
		case PEER_NOTHING:
			break;
	}
	if (link->peer.phase == PEER_READY && work_on(link, now))
		return true;
	return pass_on;
}

/* When a link has to be looked at even if nothing happens. */
static TimestampTz
due(const Link *link)
{
	TimestampTz at = Min(link->peer.deadline, cmblock_confirmation_due(link));

	if (link->peer.phase == PEER_OFFLINE)
		return link->paused ? DT_NOEND : link->next_try;
	if (link->peer.phase == PEER_READY && !link->in_round && !link->comparison)
		at = Min(at, compare_due(link));
	return at;
}

/* ---------- sleeping ---------- */

static long
sleep_milliseconds(bool busy, TimestampTz now)
{
	TimestampTz until = next_look;
	dlist_iter iter;

	if (busy)
		return 0;
	dlist_foreach (iter, &links)
		until = Min(until, due(dlist_container(Link, node, iter.cur)));
	return TimestampDifferenceMilliseconds(now, until) + (until > now ? 1 : 0);
}

static void
report_activity(void)
{
	char text[128] = "";
	int working = 0;
	dlist_iter iter;

	dlist_foreach (iter, &links)
	{
		Link *link = dlist_container(Link, node, iter.cur);

		if (!link->in_round && !link->comparison)
			continue;
		if (working++ < 6)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s %s", working > 1 ? ", " : "",
					 link->in_round ? "sending to" : "comparing with", link->code);
	}
	pgstat_report_activity(working > 0 ? STATE_RUNNING : STATE_IDLE, working > 0 ? text : "");
}

/* ---------- what the whole process has to do ---------- */

/* Servers or user mappings changed: where a link's own did, it is connected anew now, whether it works or not. */
static void
reconnect_changed(TimestampTz now)
{
	dlist_iter iter;

	servers_changed = false;
	dlist_foreach (iter, &links)
	{
		Link *link = dlist_container(Link, node, iter.cur);
		ConnectionOptions *options = link->paused ? NULL : connection_options(link);

		if (!options || hash_options(options) == link->options_hash)
			continue;
		cmblock_disconnect_link(link);
		link->next_try = now;
		cmblock_sockets_changed();
	}
}

/* Sessions that wait for a comparison. */
static void
take_requests(void)
{
	SiteCode wanted = cmblock_slots_take_comparison();
	dlist_iter iter;

	if (wanted == NO_SITE)
		return;
	dlist_foreach (iter, &links)
	{
		Link *link = dlist_container(Link, node, iter.cur);

		if (link->neighbour == wanted)
			link->compare_wanted = true;
	}
}

static void
look_around(TimestampTz now)
{
	dlist_iter iter;
	bool any;

	next_look = TimestampTzPlusMilliseconds(now, IDLE_MS);
	links_seen = cmblock_slots_tasks();
	if (!begin_work())
		return;
	any = cmblock_read_links(&links, &here);
	cmblock_end_work();
	cmblock_sockets_changed();
	if (!any)
		retire();
	dlist_foreach (iter, &links)
	{
		Link *link = dlist_container(Link, node, iter.cur);

		link->look = true;
		/* Links that were never compared, or not for long, do not all begin at once. */
		if (link->compare_after == 0)
			link->compare_after = TimestampTzPlusMilliseconds(
				now, -(int64) (cmblock_compare_interval * 900.0 * pg_prng_double(&pg_global_prng_state)));
	}
	take_requests();
	look_at_restored();
}

/* Somebody changed the links: whatever failed before may work now. */
static void
retry_all(TimestampTz now)
{
	dlist_iter iter;

	dlist_foreach (iter, &links)
		dlist_container(Link, node, iter.cur)->next_try = now;
}

static void
accept_row(Relation relation, HeapTuple old_row, HeapTuple new_row, void *arg)
{
}

/*
 * A dump that was restored into a new cluster brings change_xids that this cluster has not reached. No
 * snapshot would call them visible, so they would never be sent. They get this transaction's.
 */
static void
restamp_future_rows(void)
{
	static Statement restamp[] = {
		{"UPDATE cmblock.site SET change_xid = pg_current_xact_id() "
		 "WHERE change_xid >= pg_snapshot_xmax(pg_current_snapshot())",
		 {NULL}},
		{"UPDATE cmblock.client SET change_xid = pg_current_xact_id() "
		 "WHERE change_xid >= pg_snapshot_xmax(pg_current_snapshot())",
		 {NULL}},
		{"UPDATE cmblock.certificate SET change_xid = pg_current_xact_id() "
		 "WHERE change_xid >= pg_snapshot_xmax(pg_current_snapshot())",
		 {NULL}},
	};
	Writer apply = {.kind = WRITER_APPLY, .check = accept_row};

	if (!begin_work())
		return;
	for (int i = 0; i < lengthof(restamp); i++)
		cmblock_execute_as(apply, &restamp[i], NULL, NULL);
	cmblock_end_work();
}

static void
replicate(void)
{
	MemoryContext cycle = AllocSetContextCreate(TopMemoryContext, "cmblock cycle", ALLOCSET_DEFAULT_SIZES);
	bool busy = false;

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		dlist_mutable_iter iter;

		MemoryContextSwitchTo(cycle);
		MemoryContextReset(cycle);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (cmblock_slots_tasks() != links_seen)
		{
			look_around(now);
			retry_all(now);
		}
		else if (now >= next_look)
			look_around(now);
		if (servers_changed)
			reconnect_changed(now);

		busy = false;
		cmblock_read_questions();
		dlist_foreach_modify (iter, &links)
		{
			Link *link = dlist_container(Link, node, iter.cur);
			uint32 ready = link->ready;

			link->ready = 0;
			busy |= turn(link, ready, now);
			cmblock_publish_phase(link);
		}
		report_activity();
		cmblock_sleep(&links, sleep_milliseconds(busy, GetCurrentTimestamp()));
	}
}

void
cmblock_replicator_main(Datum database)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!cmblock_slots_attach(DatumGetObjectId(database), WORKER_REPLICATOR))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database), InvalidOid, 0);
	pin_settings();
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, note_server_change, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, note_server_change, (Datum) 0);

	look_around(GetCurrentTimestamp());
	cmblock_slots_at_work();
	pgstat_report_appname(psprintf("cmblock replicator %s", here.code));
	restamp_future_rows();
	replicate();
}
