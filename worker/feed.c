/*
 * feed.c
 *		What is new for a neighbour: the rows between two snapshots, in chunks.
 *
 * The neighbour has everything that is visible in the snapshot `since`. A round takes a snapshot `upto` and
 * sends the rows whose change_xid is visible in upto and not in since; then upto is the new since. This misses no row
 * that commits late: its transaction was running in one of the snapshots, so it is not visible there and
 * counts for the next round. It waits for no transaction either: what is still running is left to the next round.
 *
 * A round goes through the tables in the order of (change_xid, key), a chunk a transaction, and remembers where it was. Rows may be
 * changed meanwhile: a row that a later transaction than upto's changed has a change_xid that is not visible in upto, so it is
 * passed over here and sent by the next round, in its last state. No row can enter the round once it has begun.
 *
 * All of this holds however long a round takes, since nothing depends on a transaction that is open: what it is are two
 * snapshots and a place. So it can be written down as text, and gone on with later.
 *
 * Transaction numbers whose WAL was lost in a crash are used again. A cursor must not count them as seen, or what their
 * next owners change would never be sent, and no neighbour may get a version that a crash takes back. So what the snapshot calls
 * finished, rolled back included, gets to disk before the round's first batch leaves: up to the end of WAL when the
 * snapshot was taken. Nearly always the commit that made the round did that already, and later WAL is not waited for.
 *
 * The oldest change_xid that can matter is the xmin of since: the index on (change_xid, key) starts there. Most rounds have a row of
 * one table, so of the others only the index is looked at: where it has nothing from there on, there is nothing.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/xid8.h"

#include "durable.h"
#include "feed.h"
#include "scan.h"
#include "statement.h"
#include "worker.h"

/* Certificates are large: a chunk has fewer of them, since what does not fit is read again for the next one. */
#define CERTIFICATE_SHARE 8

extern Datum cmblock_site_code_in(PG_FUNCTION_ARGS);
extern Datum cmblock_site_code_out(PG_FUNCTION_ARGS);
extern Datum cmblock_smsid_in(PG_FUNCTION_ARGS);
extern Datum cmblock_smsid_out(PG_FUNCTION_ARGS);
extern Datum cmblock_thumbprint_in(PG_FUNCTION_ARGS);
extern Datum cmblock_thumbprint_out(PG_FUNCTION_ARGS);

typedef struct TableFeed
{
	const char *name;
	const char *key;
	const char *key_type;
	int key_length; /* as pg_type.typlen; a site code is passed by value */
	CmblockRelation relation;
	CmblockRelation index;
	PGFunction key_in;
	PGFunction key_out;
	Statement first;
	Statement next;
	BatchCodec codec; /* this process ends when the extension is dropped, so this stays right */
} TableFeed;

static TableFeed tables[BATCH_TABLES] = {
	[BATCH_SITE] = {"site", "code", "site_code", sizeof(SiteCode), REL_SITE, IDX_SITE_CHANGE_XID,
					cmblock_site_code_in, cmblock_site_code_out},
	[BATCH_CLIENT] = {"client", "smsid", "smsid", SMSID_OCTETS, REL_CLIENT, IDX_CLIENT_CHANGE_XID,
					  cmblock_smsid_in, cmblock_smsid_out},
	[BATCH_CERTIFICATE] = {"certificate", "sha256", "thumbprint", -1, REL_CERTIFICATE,
						   IDX_CERTIFICATE_CHANGE_XID, cmblock_thumbprint_in, cmblock_thumbprint_out},
};

/*
 * Parameters: 1 since, 2 upto, 3 the site whose rows are meant, 4 whether it is those or all others, 5 number of rows,
 * 6 change_xid to begin at or after, 7 key to begin after.
 */
#define QUERY_TAIL                                                                                           \
	" AND NOT pg_visible_in_snapshot(change_xid, $1) AND pg_visible_in_snapshot(change_xid, $2)"             \
	" AND (origin_site = $3) = $4 ORDER BY change_xid, %s LIMIT $5"

static const char *
query(const TableFeed *table, BatchTable which, const char *start)
{
	StringInfoData sql;

	initStringInfo(&sql);
	cmblock_batch_select(&sql, which, table->name);
	appendStringInfo(&sql, " WHERE %s", start);
	appendStringInfo(&sql, QUERY_TAIL, table->key);
	return sql.data;
}

static void
prepare_table(BatchTable which)
{
	TableFeed *table = &tables[which];
	static const char *const parameters[] = {"pg_snapshot", "pg_snapshot", "site_code",
											 "bool",        "int4",        "xid8"};
	MemoryContext old;

	if (table->first.sql)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	memcpy(table->first.parameter, parameters, sizeof(parameters));
	memcpy(table->next.parameter, parameters, sizeof(parameters));
	table->next.parameter[lengthof(parameters)] = table->key_type;
	table->next.sql = query(table, which, psprintf("(change_xid, %s) > ($6, $7)", table->key));
	table->first.sql = query(table, which, "change_xid >= $6");
	MemoryContextSwitchTo(old);
}

/* ---------- snapshots ---------- */

static struct varlena *
keep_snapshot(Feed *feed, Datum snapshot)
{
	MemoryContext old = MemoryContextSwitchTo(feed->context);
	struct varlena *copy = (struct varlena *) DatumGetPointer(datumCopy(snapshot, false, -1));

	MemoryContextSwitchTo(old);
	return copy;
}

static Datum
snapshot_from_text(const char *text)
{
	return DirectFunctionCall1(pg_snapshot_in, CStringGetDatum(text));
}

static void
set_since(Feed *feed, struct varlena *since)
{
	if (feed->since)
		pfree(feed->since);
	feed->since = since;
}

/* ---------- rounds ---------- */

void
cmblock_feed_init(Feed *feed, MemoryContext context, SiteCode here, SiteCode neighbour, bool upward)
{
	memset(feed, 0, sizeof(*feed));
	feed->context = context;
	feed->here = here;
	feed->neighbour = neighbour;
	feed->upward = upward;
}

void
cmblock_feed_position(Feed *feed, const char *cursor)
{
	set_since(feed, NULL);
	if (cursor)
		set_since(feed, keep_snapshot(feed, snapshot_from_text(cursor)));
}

void
cmblock_feed_begin(Feed *feed)
{
	Assert(!feed->upto);
	feed->upto = keep_snapshot(feed, DirectFunctionCall1(pg_current_snapshot, (Datum) 0));
	feed->position = cmblock_end_of_visible();
	feed->table = 0;
	feed->in_table = false;
}

static void
remember_place(Feed *feed, const TableFeed *table, Datum xid, Datum key)
{
	MemoryContext old = MemoryContextSwitchTo(feed->context);

	if (feed->key_copied)
		pfree(DatumGetPointer(feed->last_key));
	feed->key_copied = table->key_length != sizeof(SiteCode);
	feed->last_key = datumCopy(key, !feed->key_copied, table->key_length);
	feed->last_xid = xid;
	feed->in_table = true;
	MemoryContextSwitchTo(old);
}

/* Reads up to `limit` rows that come next in the table. The result is in SPI_tuptable. */
static int
read_rows(Feed *feed, TableFeed *table, int limit)
{
	struct varlena *since = feed->since;
	Datum values[7];

	values[0] = since ? PointerGetDatum(since) : snapshot_from_text("1:1:");
	values[1] = PointerGetDatum(feed->upto);
	values[2] = SiteCodeGetDatum(feed->upward ? feed->here : feed->neighbour);
	values[3] = BoolGetDatum(feed->upward);
	values[4] = Int32GetDatum(limit);
	values[5] = feed->in_table ? feed->last_xid : DirectFunctionCall1(pg_snapshot_xmin, values[0]);
	values[6] = feed->last_key;
	return cmblock_execute(feed->in_table ? &table->next : &table->first, values, NULL);
}

/*
 * Writes the rows of the last result until the batch is full; returns how many. Each value's send function allocates a
 * kilobyte, so what a row needed is freed before the next.
 */
static int
write_rows(Feed *feed, TableFeed *table, int rows, BatchWriter *writer, int max_octets)
{
	MemoryContext row_context =
		AllocSetContextCreate(CurrentMemoryContext, "cmblock row", ALLOCSET_DEFAULT_SIZES);
	TupleDesc desc = SPI_tuptable->tupdesc;
	Datum values[BATCH_MAX_COLUMNS + 1];
	bool nulls[BATCH_MAX_COLUMNS + 1];
	int row;

	Assert(desc->natts <= BATCH_MAX_COLUMNS + 1);
	for (row = 0; row < rows && writer->data.len < max_octets; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);

		heap_deform_tuple(SPI_tuptable->vals[row], desc, values, nulls);
		cmblock_batch_add(writer, &table->codec, values, nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	/* The key is the first of the columns in a batch, and change_xid was added as the last. */
	if (row > 0)
		remember_place(feed, table, values[desc->natts - 1], values[0]);
	MemoryContextDelete(row_context);
	return row;
}

/* False when no row of the table is newer than what the neighbour has. */
static bool
may_have_news(const Feed *feed, const TableFeed *table)
{
	if (!feed->since || feed->in_table)
		return true;
	return cmblock_index_reaches(table->relation, table->index,
								 DirectFunctionCall1(pg_snapshot_xmin, PointerGetDatum(feed->since)));
}

bool
cmblock_feed_next(Feed *feed, BatchWriter *writer, int max_rows, int max_octets)
{
	while (feed->table < BATCH_TABLES && writer->rows < max_rows && writer->data.len < max_octets)
	{
		BatchTable which = feed->table;
		TableFeed *table = &tables[which];
		int limit = max_rows - writer->rows;
		int rows;

		CHECK_FOR_INTERRUPTS();
		if (!may_have_news(feed, table))
		{
			feed->table++;
			continue;
		}
		if (which == BATCH_CERTIFICATE)
			limit = Max(limit / CERTIFICATE_SHARE, 1);
		prepare_table(which);
		rows = read_rows(feed, table, limit);
		if (!table->codec.columns)
			cmblock_batch_codec(&table->codec, which, SPI_tuptable->tupdesc, true, TopMemoryContext);
		if (write_rows(feed, table, rows, writer, max_octets) == rows && rows < limit)
		{
			feed->table++;
			feed->in_table = false;
		}
		SPI_freetuptable(SPI_tuptable);
	}
	return feed->table == BATCH_TABLES;
}

static char *
snapshot_text(const struct varlena *snapshot)
{
	if (!snapshot)
		return pstrdup("-");
	return DatumGetCString(DirectFunctionCall1(pg_snapshot_out, PointerGetDatum(snapshot)));
}

char *
cmblock_feed_place(const Feed *feed)
{
	const char *xid = "-";
	const char *key = "-";

	if (feed->in_table)
	{
		xid = DatumGetCString(DirectFunctionCall1(xid8out, feed->last_xid));
		key = DatumGetCString(DirectFunctionCall1(tables[feed->table].key_out, feed->last_key));
	}
	return psprintf("%s %s %d %s %s", snapshot_text(feed->since), snapshot_text(feed->upto), feed->table, xid,
					key);
}

bool
cmblock_feed_resume(Feed *feed, char **words)
{
	int table = atoi(words[2]);
	Datum upto;

	Assert(!feed->upto);
	if (strcmp(words[0], snapshot_text(feed->since)) != 0)
		return false;
	upto = snapshot_from_text(words[1]);
	if (table < 0 || table >= BATCH_TABLES)
		ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("there is no replicated table %d", table));
	feed->in_table = false;
	feed->table = table;
	if (strcmp(words[3], "-") != 0)
		remember_place(feed, &tables[table], DirectFunctionCall1(xid8in, CStringGetDatum(words[3])),
					   DirectFunctionCall1(tables[table].key_in, CStringGetDatum(words[4])));
	feed->upto = keep_snapshot(feed, upto);
	feed->position = cmblock_end_of_visible();
	return true;
}

void
cmblock_feed_make_durable(const Feed *feed)
{
	XLogFlush(feed->position);
}

char *
cmblock_feed_cursor(const Feed *feed)
{
	return snapshot_text(feed->upto);
}

void
cmblock_feed_finish(Feed *feed)
{
	set_since(feed, feed->upto);
	feed->upto = NULL;
}

void
cmblock_feed_abandon(Feed *feed)
{
	if (feed->upto)
		pfree(feed->upto);
	feed->upto = NULL;
}
