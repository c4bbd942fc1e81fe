/*
 * comparison.c
 *		Comparing this database with a neighbour's over a link, and repairing what differs.
 *
 * One question at a time is on its way: a range of digests (compare.c), the rows that are needed from the neighbour, the rows that it is
 * to get. A range is read in one short transaction and so takes its turn with the chunks of the other links. Until it is settled, nothing
 * else is sent on the link, so a repair never overtakes a change; news go between two ranges.
 *
 * What was changed here since the last round is on its way and is no difference. What was changed there since the range was read looks
 * like one and is not: only this site's own rows and those it passes on are judged, and the neighbour gets them from nobody else.
 *
 * A comparison that is broken off begins anew with the next connection, if it was needed for the cursor, or else when it is due again.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "compare.h"
#include "comparison.h"
#include "durable.h"
#include "round.h"
#include "statement.h"
#include "worker.h"

/* Rows of a range, and rows that are fetched or sent at once. */
#define RANGE_ROWS 2000
#define REPAIR_ROWS 200

/* Differing rows that are named in the result and in the server log. */
#define EXAMPLES 20

typedef enum Awaiting
{
	AWAIT_NOTHING,
	AWAIT_RANGE,
	AWAIT_ROWS,
	AWAIT_REPAIR
} Awaiting;

typedef struct Keys
{
	StringInfoData octets;
	int count;
	int done;
} Keys;

struct Comparison
{
	MemoryContext context;
	MemoryContext range_context; /* of the range and what follows from it */
	Difference difference;
	bool brings_cursor;
	TimestampTz begun_at;
	Awaiting awaiting;
	bool in_range; /* the answer about the range has come, and not all of it is settled */

	/* where it is */
	int table;
	bool has_after;
	unsigned char after[COMPARE_KEY_MAX];
	bool has_upto; /* else the range is open */
	unsigned char upto[COMPARE_KEY_MAX];
	RowDigests range;
	Keys fetch;
	Keys send;

	/* what came of it */
	int64 rows;
	int64 different;
	int64 sent;
	int64 taken;
	int64 conflicts;
	int64 unrepaired;
	char *example[EXAMPLES];
	int examples;
};

void
cmblock_comparison_begin(Link *link, const Here *here, bool lost, TimestampTz lost_since, bool cursor)
{
	MemoryContext context =
		AllocSetContextCreate(link->context, "cmblock comparison", ALLOCSET_DEFAULT_SIZES);
	Comparison *c = MemoryContextAllocZero(context, sizeof(Comparison));

	c->context = context;
	c->range_context = AllocSetContextCreate(context, "cmblock range", ALLOCSET_DEFAULT_SIZES);
	/* It may be a site that is retired, and has to learn it. */
	c->difference.neighbour = (Neighbour){.here = here->identity,
										  .code = link->neighbour,
										  .is_parent = link->neighbour == here->identity.parent};
	c->difference.lost = lost;
	c->difference.lost_since = lost_since;
	c->brings_cursor = cursor;
	c->begun_at = GetCurrentTimestamp();
	/* Everything that is visible now will be there at the end. */
	if (cursor)
		cmblock_feed_begin(&link->feed);
	link->comparison = c;
}

void
cmblock_comparison_end(Link *link)
{
	if (link->comparison)
		MemoryContextDelete(link->comparison->context);
	link->comparison = NULL;
}

bool
cmblock_comparison_brings_cursor(const Link *link)
{
	return link->comparison->brings_cursor;
}

bool
cmblock_comparison_can_pause(const Link *link)
{
	const Comparison *c = link->comparison;

	return !c->brings_cursor && c->awaiting == AWAIT_NOTHING && !c->in_range;
}

/* ---------- judging a range ---------- */

static void
add_key(Keys *keys, BatchTable table, const unsigned char *key)
{
	appendBinaryStringInfo(&keys->octets, (const char *) key, cmblock_compare_key_length(table));
	keys->count++;
}

static void
add_example(Comparison *c, BatchTable table, const RowDigest *here, const RowDigest *there, const char *what)
{
	char *text;

	if (c->examples >= EXAMPLES)
		return;
	text = psprintf(
		"%s: %s, here %s, there %s", cmblock_compare_describe(table, here ? here->key : there->key), what,
		here ? psprintf("version " INT64_FORMAT "%s", here->version, here->blocked ? " (blocked)" : "")
			 : "missing",
		there ? psprintf("version " INT64_FORMAT "%s", there->version, there->blocked ? " (blocked)" : "")
			  : "missing");
	c->example[c->examples++] = MemoryContextStrdup(c->context, text);
}

/* Was the row changed here since the last round? */
static bool
on_its_way(const Link *link, const RowDigest *here)
{
	return link->feed.since && here &&
		   !DatumGetBool(DirectFunctionCall2(pg_visible_in_snapshot, UInt64GetDatum(here->change_xid),
											 PointerGetDatum(link->feed.since)));
}

static void
judge(Link *link, Comparison *c, const RowDigest *here, const RowDigest *there)
{
	BatchTable table = c->table;
	const char *what = "the row here was sent";

	if (on_its_way(link, here))
		return;
	switch (cmblock_judge_difference(&c->difference, table, here, there))
	{
		case DIFFERENCE_NONE:
			return;
		case DIFFERENCE_SEND:
			add_key(&c->send, table, here->key);
			break;
		case DIFFERENCE_FETCH:
			add_key(&c->fetch, table, there->key);
			what = "the row there was taken into account";
			break;
		case DIFFERENCE_REPORT:
			c->unrepaired++;
			what = "left as it is";
			break;
	}
	c->different++;
	add_example(c, table, here, there, what);
}

/* Goes through both lists, which are in the order of the keys, as far as the answer reaches. */
static void
merge_lists(Link *link, Comparison *c, const RowDigests *there)
{
	int length = cmblock_compare_key_length(c->table);
	const RowDigests *here = &c->range;
	int i = 0;
	int k = 0;

	while (i < here->count || k < there->count)
	{
		int order = i == here->count    ? 1
					: k == there->count ? -1
										: memcmp(here->row[i].key, there->row[k].key, length);

		if (order <= 0 && c->has_upto && memcmp(here->row[i].key, c->upto, length) > 0)
			break;
		if (order < 0)
			judge(link, c, &here->row[i++], NULL);
		else if (order > 0)
			judge(link, c, NULL, &there->row[k++]);
		else
		{
			if (here->row[i].digest != there->row[k].digest || here->row[i].version != there->row[k].version)
				judge(link, c, &here->row[i], &there->row[k]);
			i++;
			k++;
		}
	}
}

static void
take_range(Link *link, Comparison *c, PGresult *answer)
{
	MemoryContext old = MemoryContextSwitchTo(c->range_context);
	int length = cmblock_compare_key_length(c->table);

	if (!PQgetisnull(answer, 0, 1))
	{
		/* The neighbour has more rows in this range than it tells at once: the next range begins behind them. */
		if (PQgetlength(answer, 0, 1) != length)
			ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("malformed answer to compare_rows"));
		c->has_upto = true;
		memcpy(c->upto, PQgetvalue(answer, 0, 1), length);
	}
	initStringInfo(&c->fetch.octets);
	initStringInfo(&c->send.octets);
	if (!PQgetisnull(answer, 0, 0))
	{
		RowDigests there;

		cmblock_parse_digests(&there, c->table, PQgetvalue(answer, 0, 0), PQgetlength(answer, 0, 0));
		merge_lists(link, c, &there);
	}
	for (int i = 0; i < c->range.count; i++)
		if (!c->has_upto || memcmp(c->range.row[i].key, c->upto, length) <= 0)
			c->rows++;
	MemoryContextSwitchTo(old);
}

static void
next_range(Comparison *c)
{
	c->has_after = c->has_upto;
	memcpy(c->after, c->upto, sizeof(c->after));
	if (!c->has_upto)
		c->table++;
	c->in_range = false;
	memset(&c->fetch, 0, sizeof(Keys));
	memset(&c->send, 0, sizeof(Keys));
	MemoryContextReset(c->range_context);
}

/* ---------- questions ---------- */

static bool
ask_range(Link *link, Comparison *c, const PeerIdentity *who, TimestampTz now)
{
	int length = cmblock_compare_key_length(c->table);
	MemoryContext old;
	char rows[32];
	char digest[32];
	PeerValue values[5];

	if (cmblock_begin_work() != GROUND_READY)
		return false;
	old = MemoryContextSwitchTo(c->range_context);
	cmblock_read_digests(&c->range, c->table, c->has_after ? c->after : NULL, NULL, RANGE_ROWS);
	MemoryContextSwitchTo(old);
	cmblock_end_work();

	c->has_upto = c->range.count == RANGE_ROWS;
	if (c->has_upto)
		memcpy(c->upto, c->range.row[c->range.count - 1].key, length);
	snprintf(rows, sizeof(rows), "%d", c->range.count);
	snprintf(digest, sizeof(digest), INT64_FORMAT, (int64) cmblock_sum_digests(&c->range));
	values[0] = (PeerValue){cmblock_compare_table_name(c->table)};
	values[1] = (PeerValue){c->has_after ? (const char *) c->after : NULL, length, true};
	values[2] = (PeerValue){c->has_upto ? (const char *) c->upto : NULL, length, true};
	values[3] = (PeerValue){rows};
	values[4] = (PeerValue){digest};
	c->awaiting = AWAIT_RANGE;
	return cmblock_peer_compare(&link->peer, who, PEER_COMPARE_ROWS, values, 5, now) != PEER_FAILED;
}

/* The next keys of a list, at most REPAIR_ROWS. */
static const char *
next_keys(const Keys *keys, BatchTable table, int *count)
{
	*count = Min(keys->count - keys->done, REPAIR_ROWS);
	return keys->octets.data + keys->done * cmblock_compare_key_length(table);
}

static bool
ask_rows(Link *link, Comparison *c, const PeerIdentity *who, TimestampTz now)
{
	int count;
	const char *keys = next_keys(&c->fetch, c->table, &count);
	PeerValue values[2] = {{cmblock_compare_table_name(c->table)},
						   {keys, count * cmblock_compare_key_length(c->table), true}};

	c->fetch.done += count;
	c->awaiting = AWAIT_ROWS;
	return cmblock_peer_compare(&link->peer, who, PEER_FETCH_ROWS, values, 2, now) != PEER_FAILED;
}

static bool
send_rows(Link *link, const Here *here, Comparison *c, const PeerIdentity *who, TimestampTz now)
{
	int count;
	const char *keys = next_keys(&c->send, c->table, &count);
	MemoryContext old;
	BatchWriter writer;

	old = MemoryContextSwitchTo(c->range_context);
	cmblock_batch_begin(&writer);
	MemoryContextSwitchTo(old);
	if (cmblock_begin_work() != GROUND_READY)
		return false;
	c->send.done +=
		cmblock_read_rows_by_key(&writer, c->table, keys, count, cmblock_round_octets(link, here));
	cmblock_end_work();
	cmblock_make_durable();
	cmblock_batch_finish(&writer);
	c->sent += writer.rows;
	c->awaiting = AWAIT_REPAIR;
	cmblock_link_progressed(link, writer.rows, writer.data.len);
	cmblock_round_note_batch(link, NULL, writer.data.len, now);
	return cmblock_peer_send(&link->peer, who, writer.data.data, writer.data.len, NULL, 0, true, NULL, now) !=
		   PEER_FAILED;
}

static bool
take_rows(Comparison *c, PGresult *answer)
{
	if (cmblock_begin_work() != GROUND_READY)
		return false;
	if (!PQgetisnull(answer, 0, 0))
		cmblock_take_back(&c->difference, PQgetvalue(answer, 0, 0), PQgetlength(answer, 0, 0), &c->taken,
						  &c->conflicts);
	cmblock_end_work();
	return true;
}

/* ---------- the end ---------- */

static Statement write_result = {
	"UPDATE cmblock.replication_link SET compared_at = $2, compared_rows = $3, compared_different = $4, "
	"compared_sent = $5, "
	"compared_taken = $6, compared_conflicts = $7, compared_unrepaired = $8, compared_examples = $9 WHERE "
	"neighbour = $1",
	{"site_code", "timestamptz", "int8", "int8", "int8", "int8", "int8", "int8", "text[]"}};

static void
report(const Link *link, const Here *here, const Comparison *c)
{
	StringInfoData list;

	if (c->different == 0 && !c->difference.lost)
		return;
	initStringInfo(&list);
	for (int i = 0; i < c->examples; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? "\n" : "", c->example[i]);
	ereport(LOG,
			errmsg("site %s compared with site %s: " INT64_FORMAT " of " INT64_FORMAT
				   " rows differed, " INT64_FORMAT " were sent, " INT64_FORMAT " taken back, " INT64_FORMAT
				   " conflicts, " INT64_FORMAT " left as they are",
				   here->code, link->code, c->different, c->rows, c->sent, c->taken, c->conflicts,
				   c->unrepaired),
			list.len > 0 ? errdetail_log("%s", list.data) : 0);
}

static bool
write_down(Link *link, const Here *here, Comparison *c)
{
	Datum examples[EXAMPLES];
	Datum values[9];

	if (cmblock_begin_work() != GROUND_READY)
		return false;
	for (int i = 0; i < c->examples; i++)
		examples[i] = CStringGetTextDatum(c->example[i]);
	values[0] = SiteCodeGetDatum(link->neighbour);
	values[1] = TimestampTzGetDatum(c->begun_at);
	values[2] = Int64GetDatum(c->rows);
	values[3] = Int64GetDatum(c->different);
	values[4] = Int64GetDatum(c->sent);
	values[5] = Int64GetDatum(c->taken);
	values[6] = Int64GetDatum(c->conflicts);
	values[7] = Int64GetDatum(c->unrepaired);
	values[8] = PointerGetDatum(construct_array(examples, c->examples, TEXTOID, -1, false, TYPALIGN_INT));
	cmblock_execute(&write_result, values, NULL);
	report(link, here, c);
	cmblock_end_work();
	link->compared_at = c->begun_at;
	return true;
}

/* ---------- steps ---------- */

/* Takes the neighbour's answer; false: the database has no extension of ours any more. After an error the connection's end clears it. */
static bool
take_answer(Link *link, Comparison *c)
{
	bool ok = true;

	if (c->awaiting == AWAIT_RANGE)
		take_range(link, c, link->peer.answer);
	else if (c->awaiting == AWAIT_ROWS)
		ok = take_rows(c, link->peer.answer);
	PQclear(link->peer.answer);
	link->peer.answer = NULL;
	c->awaiting = AWAIT_NOTHING;
	return ok;
}

/* What is wrong with the neighbour's rows is the link's failure, not this process's. */
static bool
take_answer_safely(Link *link, Comparison *c)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = false;

	PG_TRY();
	{
		ok = take_answer(link, c);
	}
	PG_CATCH();
	{
		ErrorData *error = cmblock_abort_work_for_error(context);
		const char *sqlstate = unpack_sql_state(error->sqlerrcode);
		bool has_detail = error->detail && cmblock_detail_is_public(sqlstate);

		strlcpy(link->peer.sqlstate, sqlstate, sizeof(link->peer.sqlstate));
		snprintf(link->peer.error, sizeof(link->peer.error), "%s%s%s", error->message, has_detail ? ". " : "",
				 has_detail ? error->detail : "");
	}
	PG_END_TRY();
	return ok;
}

ComparisonStep
cmblock_comparison_step(Link *link, const Here *here, const PeerIdentity *who, TimestampTz now)
{
	Comparison *c = link->comparison;
	bool ok;

	if (link->peer.in_flight > 0)
		return COMPARISON_WAITS;
	if (c->awaiting != AWAIT_NOTHING)
	{
		if (!take_answer_safely(link, c))
			return COMPARISON_ERROR;
		c->in_range = true;
	}
	if (c->fetch.done < c->fetch.count)
		ok = ask_rows(link, c, who, now);
	else if (c->send.done < c->send.count)
		ok = send_rows(link, here, c, who, now);
	else
	{
		if (c->in_range)
		{
			next_range(c);
			return COMPARISON_MORE;
		}
		if (c->table == BATCH_TABLES)
			return write_down(link, here, c) ? COMPARISON_FINISHED : COMPARISON_ERROR;
		ok = ask_range(link, c, who, now);
	}
	return ok ? COMPARISON_WAITS : COMPARISON_ERROR;
}
