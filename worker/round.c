/*
 * round.c
 *		Rounds: what is new for a neighbour goes to it in batches.
 *
 * Several batches are on their way at a time. Each is a transaction of its own at the neighbour, and one that fails does not
 * keep the next from being taken in. So the cursor, which says that all of the round is there, goes with the last batch, and
 * that one is kept back until the others are acknowledged.
 *
 * A round can be long, and the line bad. So the neighbour keeps, beside the cursor, how far the round has come: each batch brings the
 * place up to which everything is acknowledged, which is never its own end, and they are stored together. The next connection goes on
 * from there with the same snapshot, whenever that is: a row that was changed meanwhile is not visible in that snapshot, so
 * it is passed over and sent by the next round. Such a place is good for one round only, so it names the snapshots and,
 * for a resend, which one; and like a cursor it is worth nothing when this database was set back since.
 *
 * The neighbour must take a batch in within cmblock.peer_timeout. Whether it can depends on the line; so after each time that it
 * did not, batches are half as large as that one, and they grow again as soon as large ones are fast. A site with many links makes
 * smaller ones to begin with, for the memory that they take.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "incarnation.h"
#include "round.h"
#include "slots.h"
#include "worker.h"

/* Batches are about as large as that; one row is sent however large it is. */
#define BATCH_MIN_OCTETS 2048

/* Rows of this size are expected when less than a full batch is read: what does not fit is read again. */
#define SMALL_ROW_OCTETS 128

/* libpq keeps the room that it needed once; all links together are to need about that much. */
#define ALL_BATCHES_OCTETS (16 * 1024 * 1024)
#define BATCH_FAIR_OCTETS (128 * 1024)

/* A batch that took less than this part of the time it is given could have been twice as large. */
#define FAST 8

/* ---------- how far it is ---------- */

#define PROGRESS_WORDS (5 + FEED_PLACE_WORDS)

/* The place in this round behind a batch of so many rows, for the neighbour to keep. NULL: it would be too long. */
static char *
describe_place(const Link *link, const Here *here, int rows)
{
	char *text = psprintf("1 %s %X/%X " INT64_FORMAT " " INT64_FORMAT " %s", here->incarnation,
						  LSN_FORMAT_ARGS(link->feed.position), link->resending, link->round_rows + rows,
						  cmblock_feed_place(&link->feed));

	return strlen(text) < BATCH_MAX_PROGRESS ? MemoryContextStrdup(link->context, text) : NULL;
}

static bool
split(char *text, char **word, int words)
{
	for (int i = 0; i < words; i++)
		if (!(word[i] = strtok(i == 0 ? text : NULL, " ")))
			return false;
	return strtok(NULL, " ") == NULL;
}

void
cmblock_round_resume(Link *link, const char *progress)
{
	char *word[PROGRESS_WORDS];
	uint32 high;
	uint32 low;
	TimestampTz lost_since;
	TimestampTz resend;

	/* One of another version of cmblock is no error. */
	if (!split(pstrdup(progress), word, PROGRESS_WORDS) || strcmp(word[0], "1") != 0 ||
		sscanf(word[2], "%X/%X", &high, &low) != 2)
		return;
	resend = strtoll(word[3], NULL, 10);
	if (resend != link->resend_requested ||
		cmblock_judge_cursor(word[1], (uint64) high << 32 | low, &lost_since) != CURSOR_GOOD)
		return;
	if (resend != 0)
		cmblock_feed_position(&link->feed, NULL);
	if (!cmblock_feed_resume(&link->feed, word + 5))
		return;
	cmblock_feed_make_durable(&link->feed);
	link->resending = resend;
	link->in_round = true;
	link->sent_any = true;
	link->round_rows = strtoll(word[4], NULL, 10);
}

/* ---------- batches on their way ---------- */

bool
cmblock_round_has_room(const Link *link)
{
	return !link->held && !link->awaiting_last && link->peer.in_flight < LINK_WINDOW;
}

void
cmblock_round_note_batch(Link *link, char *place, int octets, TimestampTz now)
{
	int at = link->batches_away++;

	if (at == 0)
		link->waiting_since = now;
	link->away[at].place = place;
	link->away[at].octets = octets;
}

int
cmblock_round_octets(const Link *link, const Here *here)
{
	return Min(link->batch_octets, Max(ALL_BATCHES_OCTETS / here->links, BATCH_FAIR_OCTETS));
}

/* `place`: where the round is behind this batch; NULL for the last one. */
static RoundStep
send_batch(Link *link, const Here *here, const StringInfo data, int rows, const char *cursor, char *place,
		   TimestampTz now)
{
	PeerIdentity who = cmblock_link_identity(link, here);

	if (cmblock_peer_send(&link->peer, &who, data->data, data->len, cursor, link->feed.position, false,
						  cursor ? NULL : link->reached, now) == PEER_FAILED)
		return ROUND_FAILED;
	cmblock_round_note_batch(link, place, data->len, now);
	cmblock_link_progressed(link, rows, data->len);
	link->round_rows += rows;
	return ROUND_OK;
}

static void
set_reached(Link *link, char *place)
{
	if (link->reached)
		pfree(link->reached);
	link->reached = place;
}

/* The oldest batch on its way was acknowledged. */
static void
take_acknowledgement(Link *link, TimestampTz now)
{
	int64 allowed = (int64) cmblock_peer_timeout * 1000;

	if (link->away[0].place)
		set_reached(link, link->away[0].place);
	if (link->away[0].octets >= link->batch_octets / 2 && (now - link->waiting_since) / 1000 < allowed / FAST)
		link->batch_octets = Min(link->batch_octets * 2, LINK_BATCH_OCTETS);
	link->batches_away--;
	memmove(link->away, link->away + 1, link->batches_away * sizeof(link->away[0]));
	link->waiting_since = now;
}

void
cmblock_round_timed_out(Link *link)
{
	if (link->batches_away > 0)
		link->batch_octets = Max(Min(link->away[0].octets, link->batch_octets) / 2, BATCH_MIN_OCTETS);
}

/* ---------- steps ---------- */

/* Inside cmblock_begin_work, and after the counter of changes was read. */
static void
begin_round(Link *link)
{
	if (link->resend_requested != 0)
		cmblock_feed_position(&link->feed, NULL);
	cmblock_feed_begin(&link->feed);
	link->resending = link->resend_requested;
	link->in_round = true;
	link->sent_any = false;
	link->round_rows = 0;
}

/* Everything up to the round's snapshot is at the neighbour. */
static void
finish_round(Link *link, const Here *here, TimestampTz now)
{
	cmblock_feed_finish(&link->feed);
	set_reached(link, NULL);
	link->in_round = false;
	link->unconfirmed |= link->sent_any;
	if (link->unconfirmed)
		return;
	cmblock_link_confirmed(link, now);
	if (link->failures > 0 || link->fresh)
		cmblock_link_succeeded(link, here, now);
}

TimestampTz
cmblock_confirmation_due(const Link *link)
{
	if (!link->unconfirmed || link->in_round || link->peer.in_flight > 0)
		return DT_NOEND;
	if (link->failures > 0 || link->fresh || link->resending != 0)
		return 0;
	return cmblock_link_write_due(link);
}

static void
hold(Link *link, StringInfoData data, int rows)
{
	link->held = MemoryContextAlloc(link->context, sizeof(StringInfoData));
	*link->held = data;
	link->held_rows = rows;
}

RoundStep
cmblock_round_send_held(Link *link, const Here *here, TimestampTz now)
{
	StringInfo held = link->held;
	char *cursor = cmblock_feed_cursor(&link->feed);
	RoundStep step;

	link->held = NULL;
	link->awaiting_last = true;
	step = send_batch(link, here, held, link->held_rows, cursor, NULL, now);
	pfree(held->data);
	pfree(held);
	return step;
}

RoundStep
cmblock_round_send_cursor(Link *link, const Here *here, TimestampTz now)
{
	MemoryContext old = MemoryContextSwitchTo(link->context);
	StringInfoData nothing;

	initStringInfo(&nothing);
	hold(link, nothing, 0);
	MemoryContextSwitchTo(old);
	link->in_round = true;
	link->sent_any = true;
	cmblock_feed_make_durable(&link->feed);
	return cmblock_round_send_held(link, here, now);
}

/* Reads the next chunk. True when it is the last of its round. Inside cmblock_begin_work. */
static bool
read_chunk(Link *link, const Here *here, BatchWriter *writer)
{
	int octets = cmblock_round_octets(link, here);
	int rows = cmblock_batch_rows;

	if (!link->in_round)
		begin_round(link);
	if (octets < LINK_BATCH_OCTETS)
		rows = Min(rows, octets / SMALL_ROW_OCTETS);
	return cmblock_feed_next(&link->feed, writer, rows, octets);
}

RoundStep
cmblock_round_next(Link *link, const Here *here, TimestampTz now)
{
	BatchWriter writer;
	MemoryContext old;
	RoundStep step;
	bool last;

	if (!link->in_round)
	{
		link->look = false;
		link->changes = cmblock_slots_changes();
	}
	if (cmblock_begin_work() != GROUND_READY)
		return ROUND_NO_GROUND;
	old = MemoryContextSwitchTo(link->context);
	cmblock_batch_begin(&writer);
	MemoryContextSwitchTo(old);
	last = read_chunk(link, here, &writer);
	cmblock_end_work();
	cmblock_batch_finish(&writer);

	if (last && writer.rows == 0 && !link->sent_any && link->resending == 0 && link->feed.since)
	{
		/*
		 * Nothing for this neighbour: its record may stay behind, there is nothing in between. Without a record it gets
		 * the cursor all the same, since it would go on to report that nothing has come.
		 */
		pfree(writer.data.data);
		finish_round(link, here, now);
		return ROUND_OK;
	}
	if (!link->sent_any)
		cmblock_feed_make_durable(&link->feed);
	link->sent_any = true;
	if (last)
	{
		hold(link, writer.data, writer.rows);
		return link->peer.in_flight == 0 ? cmblock_round_send_held(link, here, now) : ROUND_OK;
	}
	step =
		send_batch(link, here, &writer.data, writer.rows, NULL, describe_place(link, here, writer.rows), now);
	pfree(writer.data.data);
	return step;
}

bool
cmblock_round_acknowledged(Link *link, const Here *here, TimestampTz now)
{
	while (link->batches_away > link->peer.in_flight)
		take_acknowledgement(link, now);
	if (!link->awaiting_last || link->peer.in_flight > 0)
		return false;
	link->awaiting_last = false;
	finish_round(link, here, now);
	return true;
}

void
cmblock_round_abandon(Link *link)
{
	cmblock_feed_abandon(&link->feed);
	for (int i = 0; i < link->batches_away; i++)
		if (link->away[i].place)
			pfree(link->away[i].place);
	link->batches_away = 0;
	set_reached(link, NULL);
	if (link->held)
	{
		pfree(link->held->data);
		pfree(link->held);
		link->held = NULL;
	}
	link->in_round = false;
	link->awaiting_last = false;
	link->unconfirmed = false;
	link->resending = 0;
}
