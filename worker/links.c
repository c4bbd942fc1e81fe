/*
 * links.c
 *		The links of this database as the replicator has them: read from replication_link, and state written back.
 *
 * The table has what administrators said (server, pause, resend) and what they ask for (state, errors, progress). The
 * replicator writes when something failed, which its back-off makes rare, and after changes were delivered, at most once
 * a second a link; never when idle. Those commits are asynchronous: what they say can be lost in a crash, because what counts
 * is the cursor at the neighbour.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "commands/async.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "comparison.h"
#include "compat.h"
#include "incarnation.h"
#include "links.h"
#include "round.h"
#include "statement.h"
#include "types.h"
#include "worker.h"

#define DEGRADED_AFTER 12
#define FAILED_AFTER 24

#define RETRY_MIN_MS 1000

/* Progress of a busy link is written down this often. */
#define WRITE_INTERVAL_MS 1000

static const char *const state_labels[] = {
	[LINK_ACTIVE] = "active",
	[LINK_DEGRADED] = "degraded",
	[LINK_FAILED] = "failed",
};

/* ---------- reading ---------- */

static Statement read_links = {"SELECT neighbour, server, paused, resend_requested, state::text, failures, "
							   "compared_at FROM cmblock.replication_link "
							   "WHERE server IS NOT NULL",
							   {NULL}};

typedef enum LinkColumn
{
	COLUMN_NEIGHBOUR = 1,
	COLUMN_SERVER,
	COLUMN_PAUSED,
	COLUMN_RESEND_REQUESTED,
	COLUMN_STATE,
	COLUMN_FAILURES,
	COLUMN_COMPARED_AT
} LinkColumn;

static Link *
find_link(dlist_head *links, SiteCode neighbour)
{
	dlist_iter iter;

	dlist_foreach (iter, links)
	{
		Link *link = dlist_container(Link, node, iter.cur);

		if (link->neighbour == neighbour)
			return link;
	}
	return NULL;
}

static Link *
add_link(dlist_head *links, const Here *here, SiteCode neighbour)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "cmblock link", ALLOCSET_SMALL_SIZES);
	Link *link = MemoryContextAllocZero(context, sizeof(Link));

	link->context = context;
	link->neighbour = neighbour;
	strlcpy(link->code, cmblock_site_code_string(neighbour), sizeof(link->code));
	cmblock_feed_init(&link->feed, context, here->identity.code, neighbour,
					  neighbour == here->identity.parent);
	link->peer.deadline = DT_NOEND;
	link->batch_octets = LINK_BATCH_OCTETS;
	dlist_push_tail(links, &link->node);
	return link;
}

PeerIdentity
cmblock_link_identity(const Link *link, const Here *here)
{
	return (PeerIdentity){here->hierarchy, here->code, link->code, here->incarnation};
}

void
cmblock_disconnect_link(Link *link)
{
	cmblock_peer_close(&link->peer);
	cmblock_round_abandon(link);
	cmblock_forget_calls(link);
	link->verified = false;
	cmblock_comparison_end(link);
}

void
cmblock_close_link(Link *link)
{
	cmblock_disconnect_link(link);
	dlist_delete(&link->node);
	MemoryContextDelete(link->context);
}

static LinkState
state_of(const char *label)
{
	for (int i = 0; i < lengthof(state_labels); i++)
		if (strcmp(label, state_labels[i]) == 0)
			return i;
	elog(ERROR, "unknown state of a link: %s", label);
}

static void
read_link(Link *link, HeapTuple row, TupleDesc desc)
{
	bool isnull;
	const char *server = SPI_getvalue(row, desc, COLUMN_SERVER);
	Datum requested;

	if (!link->server || strcmp(link->server, server) != 0)
	{
		if (link->server)
			pfree(link->server);
		link->server = MemoryContextStrdup(link->context, server);
		cmblock_disconnect_link(link);
	}
	link->paused = DatumGetBool(SPI_getbinval(row, desc, COLUMN_PAUSED, &isnull));
	requested = SPI_getbinval(row, desc, COLUMN_RESEND_REQUESTED, &isnull);
	link->resend_requested = isnull ? 0 : DatumGetTimestampTz(requested);
	link->state = state_of(SPI_getvalue(row, desc, COLUMN_STATE));
	link->failures = DatumGetInt32(SPI_getbinval(row, desc, COLUMN_FAILURES, &isnull));
	requested = SPI_getbinval(row, desc, COLUMN_COMPARED_AT, &isnull);
	link->compared_at = isnull ? 0 : DatumGetTimestampTz(requested);
	link->seen = true;
}

static void
describe_here(Here *here, const SiteIdentity *identity)
{
	here->identity = *identity;
	strlcpy(here->code, cmblock_site_code_string(identity->code), sizeof(here->code));
	strlcpy(here->hierarchy,
			DatumGetCString(
				DirectFunctionCall1(uuid_out, UUIDPGetDatum(unconstify(pg_uuid_t *, &identity->hierarchy)))),
			sizeof(here->hierarchy));
	strlcpy(here->incarnation, cmblock_note_run(), sizeof(here->incarnation));
}

bool
cmblock_read_links(dlist_head *links, Here *here)
{
	const SiteIdentity *identity = cmblock_this_site();
	dlist_mutable_iter iter;
	uint64 rows;
	SPITupleTable *found;

	dlist_foreach_modify (iter, links)
		dlist_container(Link, node, iter.cur)->seen = false;

	rows = identity ? cmblock_execute(&read_links, NULL, NULL) : 0;
	found = SPI_tuptable;
	if (rows > 0)
		describe_here(here, identity);
	here->links = rows;
	for (uint64 i = 0; i < rows; i++)
	{
		HeapTuple row = found->vals[i];
		bool isnull;
		SiteCode neighbour = DatumGetSiteCode(SPI_getbinval(row, found->tupdesc, COLUMN_NEIGHBOUR, &isnull));
		Link *link = find_link(links, neighbour);

		if (!link)
			link = add_link(links, here, neighbour);
		read_link(link, row, found->tupdesc);
	}

	dlist_foreach_modify (iter, links)
	{
		Link *link = dlist_container(Link, node, iter.cur);

		if (!link->seen)
			cmblock_close_link(link);
	}
	return rows > 0;
}

/* ---------- writing ---------- */

static Statement write_failure = {
	"UPDATE cmblock.replication_link SET state = $2::cmblock.link_state, failures = $3, last_error = $4, "
	"last_error_sqlstate = $5, last_error_at = $6, next_retry_at = $7, rows_sent = rows_sent + $8, "
	"batches_sent = batches_sent + $9, bytes_sent = bytes_sent + $10 WHERE neighbour = $1",
	{"site_code", "text", "int4", "text", "text", "timestamptz", "timestamptz", "int8", "int8", "int8"}};

static Statement write_success = {
	"UPDATE cmblock.replication_link SET state = 'active', failures = 0, next_retry_at = NULL, "
	"last_success_at = $2, "
	"rows_sent = rows_sent + $3, batches_sent = batches_sent + $4, bytes_sent = bytes_sent + $5, "
	"acknowledged = $6, "
	"resend_requested = CASE WHEN resend_requested <> $7 THEN resend_requested END "
	"WHERE neighbour = $1",
	{"site_code", "timestamptz", "int8", "int8", "int8", "pg_snapshot", "timestamptz"}};

static void
announce(const Link *link, const Here *here, LinkState before, const char *why)
{
	if (link->state == before)
		return;
	Async_Notify("cmblock_replication", psprintf("%s %s", link->code, state_labels[link->state]));
	if (link->state == LINK_ACTIVE)
		ereport(LOG, errmsg("replication link from %s to %s is active again", here->code, link->code));
	else
		ereport(
			LOG,
			errmsg("replication link from %s to %s is %s", here->code, link->code, state_labels[link->state]),
			errdetail("%d attempts in a row failed, the last one with: %s", link->failures, why),
			errhint("View cmblock.replication_status has the details."));
}

static void
forget_progress(Link *link, TimestampTz now)
{
	link->progress = false;
	link->rows = 0;
	link->batches = 0;
	link->octets = 0;
	link->written_at = now;
}

/* Doubles from a second to cmblock.retry_max; half of it is random, so that the links of a site do not march in step. */
static int64
retry_delay(int failures)
{
	double delay = Min((double) RETRY_MIN_MS * pow(2, Min(failures - 1, 20)), (double) cmblock_retry_max);

	return (int64) (delay / 2 + delay / 2 * pg_prng_double(&pg_global_prng_state));
}

static LinkState
state_after(int failures)
{
	if (failures >= FAILED_AFTER)
		return LINK_FAILED;
	return failures >= DEGRADED_AFTER ? LINK_DEGRADED : LINK_ACTIVE;
}

void
cmblock_link_failed(Link *link, const Here *here, const char *sqlstate, const char *message, TimestampTz now)
{
	LinkState before = link->state;
	Datum values[10];

	link->failures = Min(link->failures, INT_MAX - 1) + 1;
	link->state = state_after(link->failures);
	link->next_try = TimestampTzPlusMilliseconds(now, retry_delay(link->failures));
	if (cmblock_begin_work() != GROUND_READY)
		return;
	values[0] = SiteCodeGetDatum(link->neighbour);
	values[1] = CStringGetTextDatum(state_labels[link->state]);
	values[2] = Int32GetDatum(link->failures);
	values[3] = CStringGetTextDatum(message);
	values[4] = CStringGetTextDatum(sqlstate);
	values[5] = TimestampTzGetDatum(now);
	values[6] = TimestampTzGetDatum(link->next_try);
	values[7] = Int64GetDatum(link->rows);
	values[8] = Int64GetDatum(link->batches);
	values[9] = Int64GetDatum(link->octets);
	cmblock_execute(&write_failure, values, NULL);
	announce(link, here, before, message);
	cmblock_end_work();
	forget_progress(link, now);
}

void
cmblock_link_succeeded(Link *link, const Here *here, TimestampTz now)
{
	LinkState before = link->state;
	Datum values[7];
	char nulls[8] = "       ";

	link->failures = 0;
	link->state = LINK_ACTIVE;
	link->next_try = 0;
	if (cmblock_begin_work() != GROUND_READY)
		return;
	values[0] = SiteCodeGetDatum(link->neighbour);
	values[1] = TimestampTzGetDatum(now);
	values[2] = Int64GetDatum(link->rows);
	values[3] = Int64GetDatum(link->batches);
	values[4] = Int64GetDatum(link->octets);
	values[5] = PointerGetDatum(link->confirmed);
	values[6] = TimestampTzGetDatum(link->resending);
	if (!link->confirmed)
		nulls[5] = 'n';
	cmblock_execute(&write_success, values, nulls);
	announce(link, here, before, NULL);
	cmblock_end_work();
	if (link->resending == link->resend_requested)
		link->resend_requested = 0;
	link->resending = 0;
	link->fresh = false;
	forget_progress(link, now);
}

void
cmblock_link_confirmed(Link *link, TimestampTz now)
{
	MemoryContext old = MemoryContextSwitchTo(link->context);

	if (link->confirmed)
		pfree(link->confirmed);
	link->confirmed = NULL;
	if (link->feed.since)
		link->confirmed =
			(struct varlena *) DatumGetPointer(datumCopy(PointerGetDatum(link->feed.since), false, -1));
	link->unconfirmed = false;
	link->acknowledged_at = now;
	MemoryContextSwitchTo(old);
}

static LinkPhase
phase_of(const Link *link)
{
	if (link->paused)
		return PHASE_PAUSED;
	switch (link->peer.phase)
	{
		case PEER_OFFLINE:
			return PHASE_WAITING_TO_RETRY;
		case PEER_RESOLVING:
		case PEER_CONNECTING:
			return PHASE_CONNECTING;
		case PEER_OPENING:
			return PHASE_HANDSHAKE;
		case PEER_READY:
			break;
	}
	if (!link->in_round || !link->sent_any)
		return link->comparison ? PHASE_COMPARING : PHASE_IDLE;
	return link->feed.since ? PHASE_SENDING : PHASE_FIRST_SYNCHRONISATION;
}

void
cmblock_publish_phase(Link *link)
{
	LinkPhase phase = phase_of(link);

	if (link->published && link->phase == phase && link->published_rows == link->round_rows)
		return;
	link->published = true;
	link->phase = phase;
	link->published_rows = link->round_rows;
	cmblock_phase_publish(link->neighbour, phase, link->round_rows);
}

void
cmblock_link_progressed(Link *link, int rows, int octets)
{
	link->progress = true;
	link->rows += rows;
	link->batches++;
	link->octets += octets;
}

TimestampTz
cmblock_link_write_due(const Link *link)
{
	return link->progress ? TimestampTzPlusMilliseconds(link->written_at, WRITE_INTERVAL_MS) : DT_NOEND;
}
