/*
 * batch.c
 *		The encoding of a batch of rows that travels from site to site: docs/protocol.md, protocol 1.
 *
 * A batch is sections, at most one a table, in the order of BatchTable. A section is the table's letter, the number of
 * columns (int16), the number of rows (int32) and the rows; a row is its columns; a column is its length (int32, -1 for
 * null) and that many octets in the type's binary format. Integers have the highest octet first. The columns are those
 * listed here, whatever other columns a table may have: change_xid means nothing at another site.
 *
 * The reader trusts nothing: each length is compared with what is left, and each value goes through its type's
 * receive function, which has to consume it whole. What a type refuses is raised as it raises it (22P03, 22P02, 22021 ...).
 */
#include "postgres.h"

#include "libpq/pqformat.h"
#include "port/pg_bswap.h"
#include "utils/lsyscache.h"

#include "batch.h"
#include "scan.h"

static const char *const site_columns[] = {
	"code", "kind", "parent", "retired_at", "version", "origin_site", "changed_by", "changed_at",
};

static const char *const client_columns[] = {
	"smsid",
	"name",
	"kind",
	"assigned_site",
	"hardware_id",
	"approval",
	"isv_proxied",
	"registered_at",
	"deleted_at",
	"blocked",
	"block_reason",
	"block_ticket",
	"block_changed_by",
	"block_changed_at",
	"version",
	"origin_site",
	"changed_by",
	"changed_at",
};

static const char *const certificate_columns[] = {
	"sha256",           "sha1",       "type",         "client",        "assigned_site",
	"subject",          "issuer",     "serial",       "not_before",    "not_after",
	"self_signed",      "key_sha256", "der",          "registered_at", "deleted_at",
	"revoked_at",       "blocked",    "block_reason", "block_ticket",  "block_changed_by",
	"block_changed_at", "version",    "origin_site",  "changed_by",    "changed_at",
};

static const struct
{
	char letter;
	int columns;
	const char *const *column;
} tables[BATCH_TABLES] = {
	[BATCH_SITE] = {'s', lengthof(site_columns), site_columns},
	[BATCH_CLIENT] = {'c', lengthof(client_columns), client_columns},
	[BATCH_CERTIFICATE] = {'x', lengthof(certificate_columns), certificate_columns},
};

StaticAssertDecl(lengthof(certificate_columns) <= BATCH_MAX_COLUMNS,
				 "certificate has too many columns for a batch");

const char *const *
cmblock_batch_columns(BatchTable table, int *count)
{
	*count = tables[table].columns;
	return tables[table].column;
}

void
cmblock_batch_select(StringInfo sql, BatchTable table, const char *name)
{
	appendStringInfoString(sql, "SELECT ");
	for (int i = 0; i < tables[table].columns; i++)
		appendStringInfo(sql, "%s, ", tables[table].column[i]);
	appendStringInfo(sql, "change_xid FROM cmblock.%s", name);
}

void
cmblock_batch_codec(BatchCodec *codec, BatchTable table, TupleDesc desc, bool send, MemoryContext context)
{
	codec->table = table;
	codec->columns = tables[table].columns;
	for (int i = 0; i < codec->columns; i++)
	{
		int number = cmblock_column_number(desc, tables[table].column[i]);
		Form_pg_attribute attribute = TupleDescAttr(desc, number - 1);
		Oid function;
		bool varlena;

		if (send)
			getTypeBinaryOutputInfo(attribute->atttypid, &function, &varlena);
		else
			getTypeBinaryInputInfo(attribute->atttypid, &function, &codec->parameter[i]);
		fmgr_info_cxt(function, &codec->function[i], context);
		codec->modifier[i] = attribute->atttypmod;
		codec->attribute[i] = number;
	}
}

/* ---------- writing ---------- */

static void
write_at(BatchWriter *writer, int offset, uint32 value)
{
	value = pg_hton32(value);
	memcpy(writer->data.data + offset, &value, sizeof(value));
}

static void
end_section(BatchWriter *writer)
{
	if (writer->section_table >= 0)
		write_at(writer, writer->section_rows_at, writer->section_rows);
}

void
cmblock_batch_begin(BatchWriter *writer)
{
	initStringInfo(&writer->data);
	writer->rows = 0;
	writer->section_table = -1;
}

void
cmblock_batch_add(BatchWriter *writer, BatchCodec *codec, Datum *values, bool *nulls)
{
	if (writer->section_table != codec->table)
	{
		Assert(writer->section_table < (int) codec->table);
		end_section(writer);
		pq_sendint8(&writer->data, tables[codec->table].letter);
		pq_sendint16(&writer->data, codec->columns);
		writer->section_rows_at = writer->data.len;
		pq_sendint32(&writer->data, 0);
		writer->section_rows = 0;
		writer->section_table = codec->table;
	}
	for (int i = 0; i < codec->columns; i++)
	{
		int column = codec->attribute[i] - 1;
		bytea *value;

		if (nulls[column])
		{
			pq_sendint32(&writer->data, (uint32) -1);
			continue;
		}
		value = SendFunctionCall(&codec->function[i], values[column]);
		pq_sendint32(&writer->data, VARSIZE(value) - VARHDRSZ);
		appendBinaryStringInfo(&writer->data, VARDATA(value), VARSIZE(value) - VARHDRSZ);
	}
	writer->section_rows++;
	writer->rows++;
}

void
cmblock_batch_finish(BatchWriter *writer)
{
	end_section(writer);
}

/* ---------- reading ---------- */

static void
malformed(BatchReader *reader, const char *what)
{
	ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("malformed batch of changes: %s", what),
			errdetail("At octet %d of %d.", reader->data.cursor, reader->data.len));
}

static const char *
take(BatchReader *reader, int length)
{
	const char *octets = reader->data.data + reader->data.cursor;

	if (length > reader->data.len - reader->data.cursor)
		malformed(reader, "it ends too early");
	reader->data.cursor += length;
	return octets;
}

static int32
take_int32(BatchReader *reader)
{
	uint32 value;

	memcpy(&value, take(reader, sizeof(value)), sizeof(value));
	return (int32) pg_ntoh32(value);
}

static int
take_int16(BatchReader *reader)
{
	uint16 value;

	memcpy(&value, take(reader, sizeof(value)), sizeof(value));
	return pg_ntoh16(value);
}

void
cmblock_batch_read(BatchReader *reader, const char *octets, int length)
{
	if (length > BATCH_MAX_OCTETS)
		ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("batch of changes is too large: %d octets", length),
				errdetail("At most %d octets are taken in one call.", BATCH_MAX_OCTETS));
	reader->data.data = unconstify(char *, octets);
	reader->data.len = length;
	reader->data.maxlen = length;
	reader->data.cursor = 0;
	reader->rows_left = 0;
	reader->next_table = 0;
}

bool
cmblock_batch_next_section(BatchReader *reader, BatchTable *table)
{
	char letter;
	int which = reader->next_table;

	if (reader->data.cursor == reader->data.len)
		return false;
	letter = *take(reader, 1);
	while (which < BATCH_TABLES && tables[which].letter != letter)
		which++;
	if (which == BATCH_TABLES)
		malformed(reader, "unknown table, or tables out of order");
	if (take_int16(reader) != tables[which].columns)
		malformed(reader, "wrong number of columns");
	reader->rows_left = take_int32(reader);
	if (reader->rows_left <= 0)
		malformed(reader, "wrong number of rows");
	reader->next_table = which + 1;
	*table = which;
	return true;
}

/*
 * Receive functions stop at the end of their buffer only if it is a buffer of its own, and some expect a zero
 * octet behind it: as COPY does, each value is copied out.
 */
static Datum
receive(BatchReader *reader, BatchCodec *codec, int column, StringInfo value)
{
	Datum datum;
	int length = value->len;

	value->cursor = 0;
	datum = ReceiveFunctionCall(&codec->function[column], value, codec->parameter[column],
								codec->modifier[column]);
	if (value->cursor != length)
		malformed(reader,
				  psprintf("column \"%s\" has octets left over", tables[codec->table].column[column]));
	return datum;
}

bool
cmblock_batch_next_row(BatchReader *reader, BatchCodec *codec, Datum *values, bool *nulls)
{
	StringInfoData value;

	if (reader->rows_left == 0)
		return false;
	reader->rows_left--;
	initStringInfo(&value);
	for (int i = 0; i < codec->columns; i++)
	{
		int column = codec->attribute[i] - 1;
		int32 length = take_int32(reader);

		nulls[column] = length == -1;
		if (length < -1)
			malformed(reader, "negative length");
		if (length >= 0)
		{
			const char *octets = take(reader, length);

			resetStringInfo(&value);
			appendBinaryStringInfo(&value, octets, length);
			values[column] = receive(reader, codec, i, &value);
		}
	}
	pfree(value.data);
	return true;
}
