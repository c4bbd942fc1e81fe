/*
 * compare.c
 *		Comparing the rows of two sites: digests over ranges of keys.
 *
 * The site that compares goes through its tables in the order of their keys, a range of some hundred rows at a time, and sends the
 * bounds of the range, the number of its rows and one digest of them. The neighbour reads the same range: if number and
 * digest are the same it says so, else it answers with a line for each of its rows. So equal tables cost a scan at each side and a few octets a range, and a
 * difference costs one range. Ranges are cut by number of rows, so it does not matter how keys are distributed.
 *
 * A row's digest is SipHash over the octets that a batch would have for it: all that travels, the same on every machine. The key is
 * fixed, since this finds accidents; a neighbour who lies does it in other ways. The digest of a range is the sum of its rows'.
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "call.h"
#include "compare.h"
#include "siphash.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(cmblock_compare_rows);
PG_FUNCTION_INFO_V1(cmblock_fetch_rows);

/* A neighbour gets no more lines than this in one answer. */
#define ANSWER_ROWS 5000

typedef struct CompareTable
{
	const char *name;
	const char *key;
	const char *key_type;
	int key_length;
	Statement range[2][2]; /* with a lower bound; with an upper bound */
	Statement by_key;
} CompareTable;

static CompareTable tables[BATCH_TABLES] = {
	[BATCH_SITE] = {"site", "code", "site_code", 3},
	[BATCH_CLIENT] = {"client", "smsid", "smsid", SMSID_OCTETS},
	[BATCH_CERTIFICATE] = {"certificate", "sha256", "thumbprint", SHA256_OCTETS},
};

int
cmblock_compare_key_length(BatchTable table)
{
	return tables[table].key_length;
}

const char *
cmblock_compare_table_name(BatchTable table)
{
	return tables[table].name;
}

/* ---------- keys ---------- */

static Datum
key_datum(BatchTable table, const unsigned char *key)
{
	switch (table)
	{
		case BATCH_SITE:
			return SiteCodeGetDatum((SiteCode) key[0] << 16 | (SiteCode) key[1] << 8 | key[2]);
		case BATCH_CLIENT:
			return PointerGetDatum(key);
		default:
			return PointerGetDatum(cmblock_make_thumbprint(key, SHA256_OCTETS));
	}
}

static void
key_octets(BatchTable table, Datum value, unsigned char *key)
{
	switch (table)
	{
		case BATCH_SITE:
			key[0] = DatumGetSiteCode(value) >> 16;
			key[1] = DatumGetSiteCode(value) >> 8;
			key[2] = DatumGetSiteCode(value);
			break;
		case BATCH_CLIENT:
			memcpy(key, DatumGetSmsidP(value), SMSID_OCTETS);
			break;
		default:
		{
			struct varlena *thumbprint = PG_DETOAST_DATUM_PACKED(value);

			if (VARSIZE_ANY_EXHDR(thumbprint) != SHA256_OCTETS)
				elog(ERROR, "a SHA-256 thumbprint has %d octets", (int) VARSIZE_ANY_EXHDR(thumbprint));
			memcpy(key, VARDATA_ANY(thumbprint), SHA256_OCTETS);
		}
	}
}

char *
cmblock_compare_describe(BatchTable table, const unsigned char *key)
{
	if (table == BATCH_CLIENT)
		return psprintf("client %s", cmblock_smsid_string((const Smsid *) key));
	if (table == BATCH_SITE)
		return psprintf("site %.3s", key);
	return psprintf("certificate %s", cmblock_hex_string(key, SHA256_OCTETS));
}

/* ---------- reading ---------- */

static char *
select_columns(BatchTable which)
{
	StringInfoData sql;

	initStringInfo(&sql);
	cmblock_batch_select(&sql, which, tables[which].name);
	appendStringInfoString(&sql, " WHERE ");
	return sql.data;
}

/* Parameters of a range: 1 the lower bound, 2 the upper bound, 3 the limit. A bound that is not used is still passed. */
static Statement *
range_statement(BatchTable which, bool lower, bool upper)
{
	CompareTable *table = &tables[which];
	Statement *statement = &table->range[lower][upper];

	if (!statement->sql)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		statement->parameter[0] = table->key_type;
		statement->parameter[1] = table->key_type;
		statement->parameter[2] = "int4";
		statement->sql =
			psprintf("%s %s AND %s ORDER BY %s LIMIT $3", select_columns(which),
					 lower ? psprintf("%s > $1", table->key) : "($1 IS NULL OR true)",
					 upper ? psprintf("%s <= $2", table->key) : "($2 IS NULL OR true)", table->key);
		MemoryContextSwitchTo(old);
	}
	return statement;
}

/* Places in a batch of the columns that a difference is judged by; -1: the table has no such column. */
typedef struct Places
{
	int version;
	int origin;
	int assigned;
	int changed_at;
	int blocked;
	int revoked_at;
	int change_xid;
} Places;

static int
place_of(BatchTable table, const char *name)
{
	int count;
	const char *const *columns = cmblock_batch_columns(table, &count);

	for (int i = 0; i < count; i++)
		if (strcmp(columns[i], name) == 0)
			return i;
	return -1;
}

static Places
places_of(BatchTable table)
{
	int count;

	(void) cmblock_batch_columns(table, &count);
	return (Places){place_of(table, "version"),
					place_of(table, "origin_site"),
					place_of(table, "assigned_site"),
					place_of(table, "changed_at"),
					place_of(table, "blocked"),
					place_of(table, "revoked_at"),
					count};
}

static void
read_digest(RowDigest *row, BatchTable table, const Places *places, BatchCodec *codec, Datum *values,
			bool *nulls)
{
	BatchWriter writer;
	static const SipKey key = {UINT64_C(0x636d626c6f636b20), UINT64_C(0x636f6d7061726520)};

	cmblock_batch_begin(&writer);
	cmblock_batch_add(&writer, codec, values, nulls);
	cmblock_batch_finish(&writer);
	key_octets(table, values[0], row->key);
	row->digest = siphash(1, 3, key, (uint8_t *) writer.data.data, writer.data.len);
	row->version = DatumGetInt64(values[places->version]);
	row->origin = DatumGetSiteCode(values[places->origin]);
	row->assigned = places->assigned < 0 ? NO_SITE : DatumGetSiteCode(values[places->assigned]);
	row->changed_at = DatumGetTimestampTz(values[places->changed_at]);
	row->blocked = (places->blocked >= 0 && DatumGetBool(values[places->blocked])) ||
				   (places->revoked_at >= 0 && !nulls[places->revoked_at]);
	row->change_xid = U64FromFullTransactionId(DatumGetFullTransactionId(values[places->change_xid]));
}

void
cmblock_read_digests(RowDigests *digests, BatchTable table, const unsigned char *after,
					 const unsigned char *upto, int limit)
{
	Statement *statement = range_statement(table, after != NULL, upto != NULL);
	MemoryContext row_context =
		AllocSetContextCreate(CurrentMemoryContext, "cmblock compare", ALLOCSET_DEFAULT_SIZES);
	Datum values[3] = {after ? key_datum(table, after) : (Datum) 0, upto ? key_datum(table, upto) : (Datum) 0,
					   Int32GetDatum(limit)};
	char nulls[] = {after ? ' ' : 'n', upto ? ' ' : 'n', ' ', '\0'};
	MemoryContext result_context = CurrentMemoryContext;
	Places places = places_of(table);
	BatchCodec codec;
	TupleDesc desc;

	digests->table = table;
	digests->count = cmblock_execute(statement, values, nulls);
	MemoryContextSwitchTo(result_context); /* SPI left it */
	digests->row = palloc0(Max(digests->count, 1) * sizeof(RowDigest));
	desc = SPI_tuptable->tupdesc;
	cmblock_batch_codec(&codec, table, desc, true, CurrentMemoryContext);
	for (int i = 0; i < digests->count; i++)
	{
		Datum row[BATCH_MAX_COLUMNS + 1];
		bool row_nulls[BATCH_MAX_COLUMNS + 1];
		MemoryContext old = MemoryContextSwitchTo(row_context);

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(SPI_tuptable->vals[i], desc, row, row_nulls);
		read_digest(&digests->row[i], table, &places, &codec, row, row_nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	SPI_freetuptable(SPI_tuptable);
	MemoryContextDelete(row_context);
}

uint64
cmblock_sum_digests(const RowDigests *digests)
{
	uint64 sum = 0;

	for (int i = 0; i < digests->count; i++)
		sum += digests->row[i].digest;
	return sum;
}

int
cmblock_read_rows_by_key(BatchWriter *writer, BatchTable which, const char *keys, int count, int max_octets)
{
	CompareTable *table = &tables[which];
	BatchCodec codec;
	int done;

	if (!table->by_key.sql)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		table->by_key.parameter[0] = table->key_type;
		table->by_key.sql = psprintf("%s %s = $1", select_columns(which), table->key);
		MemoryContextSwitchTo(old);
	}
	for (done = 0; done < count && writer->data.len < max_octets; done++)
	{
		Datum key = key_datum(which, (const unsigned char *) keys + done * table->key_length);
		Datum row[BATCH_MAX_COLUMNS + 1];
		bool nulls[BATCH_MAX_COLUMNS + 1];

		CHECK_FOR_INTERRUPTS();
		if (cmblock_execute(&table->by_key, &key, NULL) == 0)
			continue;
		cmblock_batch_codec(&codec, which, SPI_tuptable->tupdesc, true, CurrentMemoryContext);
		heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, row, nulls);
		cmblock_batch_add(writer, &codec, row, nulls);
		SPI_freetuptable(SPI_tuptable);
	}
	return done;
}

/* ---------- digests as octets ---------- */

/* version, digest, origin, assigned, changed_at, blocked */
#define DIGEST_OCTETS (8 + 8 + 4 + 4 + 8 + 1)

void
cmblock_write_digests(StringInfo to, const RowDigests *digests)
{
	for (int i = 0; i < digests->count; i++)
	{
		const RowDigest *row = &digests->row[i];

		appendBinaryStringInfo(to, (const char *) row->key, tables[digests->table].key_length);
		pq_sendint64(to, row->version);
		pq_sendint64(to, row->digest);
		pq_sendint32(to, row->origin);
		pq_sendint32(to, row->assigned);
		pq_sendint64(to, row->changed_at);
		pq_sendint8(to, row->blocked);
	}
}

void
cmblock_parse_digests(RowDigests *digests, BatchTable table, const char *octets, int length)
{
	int key_length = tables[table].key_length;
	StringInfoData from = {unconstify(char *, octets), length, length, 0};

	digests->table = table;
	digests->count = length / (key_length + DIGEST_OCTETS);
	if (length != digests->count * (key_length + DIGEST_OCTETS))
		ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("malformed answer to compare_rows"));
	digests->row = palloc0(Max(digests->count, 1) * sizeof(RowDigest));
	for (int i = 0; i < digests->count; i++)
	{
		RowDigest *row = &digests->row[i];

		pq_copymsgbytes(&from, (char *) row->key, key_length);
		row->version = pq_getmsgint64(&from);
		row->digest = pq_getmsgint64(&from);
		row->origin = pq_getmsgint(&from, 4);
		row->assigned = pq_getmsgint(&from, 4);
		row->changed_at = pq_getmsgint64(&from);
		row->blocked = pq_getmsgbyte(&from) != 0;
		if (i > 0 && memcmp(row[-1].key, row->key, key_length) >= 0)
			ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("malformed answer to compare_rows"),
					errdetail("Its keys are out of order."));
	}
}

/* ---------- what a neighbour calls ---------- */

static BatchTable
table_argument(FunctionCallInfo fcinfo, int n)
{
	char *name;

	if (PG_ARGISNULL(n))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("relation cannot be null"));
	name = text_to_cstring(PG_GETARG_TEXT_PP(n));
	for (int i = 0; i < BATCH_TABLES; i++)
		if (strcmp(tables[i].name, name) == 0)
			return i;
	ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("table \"%s\" is not replicated", name));
}

static const unsigned char *
key_argument(FunctionCallInfo fcinfo, int n, BatchTable table)
{
	bytea *key;

	if (PG_ARGISNULL(n))
		return NULL;
	key = PG_GETARG_BYTEA_PP(n);
	if (VARSIZE_ANY_EXHDR(key) != tables[table].key_length)
		ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION),
				errmsg("a key of table %s has %d octets", tables[table].name, tables[table].key_length));
	return (const unsigned char *) VARDATA_ANY(key);
}

/* Who is calling, and in which encoding. Inside SPI. */
static void
check_caller(FunctionCallInfo fcinfo)
{
	Call call;
	Neighbour neighbour;

	cmblock_read_call(fcinfo, &call);
	if (pg_get_client_encoding() != PG_UTF8)
		ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION),
				errmsg("rows are compared with client_encoding UTF8"),
				errdetail("This session has client_encoding %s.", pg_get_client_encoding_name()));
	cmblock_check_call(&call, &neighbour);
}

/* compare_rows(..., relation, after, upto, rows, digest) → entries, reached: both null when the range is the same here. */
Datum
cmblock_compare_rows(PG_FUNCTION_ARGS)
{
	MemoryContext result_context = CurrentMemoryContext;
	MemoryContext old;
	TupleDesc desc;
	BatchTable table;
	RowDigests digests;
	StringInfoData lines;
	Datum values[2];
	bool nulls[2] = {true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	SPI_connect();
	check_caller(fcinfo);
	table = table_argument(fcinfo, 5);
	if (PG_ARGISNULL(8) || PG_ARGISNULL(9))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("rows and digest cannot be null"));
	cmblock_read_digests(&digests, table, key_argument(fcinfo, 6, table), key_argument(fcinfo, 7, table),
						 ANSWER_ROWS);
	if (digests.count != PG_GETARG_INT64(8) || cmblock_sum_digests(&digests) != (uint64) PG_GETARG_INT64(9))
	{
		initStringInfo(&lines);
		cmblock_write_digests(&lines, &digests);
		old = MemoryContextSwitchTo(result_context);
		values[0] = PointerGetDatum(cmblock_make_bytea(lines.data, lines.len));
		nulls[0] = false;
		if (digests.count == ANSWER_ROWS)
		{
			values[1] = PointerGetDatum(
				cmblock_make_bytea(digests.row[digests.count - 1].key, tables[table].key_length));
			nulls[1] = false;
		}
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* fetch_rows(..., relation, keys) → a batch */
Datum
cmblock_fetch_rows(PG_FUNCTION_ARGS)
{
	MemoryContext result_context = CurrentMemoryContext;
	BatchTable table;
	BatchWriter writer;
	bytea *keys;
	int length;
	Datum result;

	SPI_connect();
	check_caller(fcinfo);
	table = table_argument(fcinfo, 5);
	if (PG_ARGISNULL(6))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("keys cannot be null"));
	keys = PG_GETARG_BYTEA_PP(6);
	length = VARSIZE_ANY_EXHDR(keys);
	if (length % tables[table].key_length != 0 || length / tables[table].key_length > ANSWER_ROWS)
		ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("malformed list of keys"));
	cmblock_batch_begin(&writer);
	(void) cmblock_read_rows_by_key(&writer, table, VARDATA_ANY(keys), length / tables[table].key_length,
									INT_MAX);
	cmblock_batch_finish(&writer);
	MemoryContextSwitchTo(result_context);
	result = PointerGetDatum(cmblock_make_bytea(writer.data.data, writer.data.len));
	SPI_finish();
	PG_RETURN_DATUM(result);
}
