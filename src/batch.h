/*
 * batch.h
 *		The encoding of a batch of rows that travels from site to site: docs/protocol.md, protocol 1.
 */
#ifndef CMBLOCK_BATCH_H
#define CMBLOCK_BATCH_H

#include "postgres.h"
#include "access/tupdesc.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

/* The protocol that this version speaks. */
#define CMBLOCK_PROTOCOL 1

/* The replicated tables, in the order in which a batch has them and in which they are applied. */
typedef enum BatchTable
{
	BATCH_SITE,
	BATCH_CLIENT,
	BATCH_CERTIFICATE
} BatchTable;

#define BATCH_TABLES (BATCH_CERTIFICATE + 1)
#define BATCH_MAX_COLUMNS 32

/* A receiver takes no larger batch, so that one call cannot eat its memory. */
#define BATCH_MAX_OCTETS (16 * 1024 * 1024)

/* How far a round has come, as text that only its sender understands, is shorter. */
#define BATCH_MAX_PROGRESS 16384

/* The columns that travel, in order; *count is their number. */
extern const char *const *cmblock_batch_columns(BatchTable table, int *count);

/* Appends a SELECT of these columns, and change_xid as the last, from the table with this name in schema cmblock. */
extern void cmblock_batch_select(StringInfo sql, BatchTable table, const char *name);

/* Binary functions of those columns. `send`: to encode with; else to decode with. */
typedef struct BatchCodec
{
	BatchTable table;
	int columns;
	FmgrInfo function[BATCH_MAX_COLUMNS];
	Oid parameter[BATCH_MAX_COLUMNS]; /* decoding: what the receive function wants to know */
	int32 modifier[BATCH_MAX_COLUMNS];
	int attribute[BATCH_MAX_COLUMNS]; /* column number in the descriptor */
} BatchCodec;

/* Finds the functions for the columns of `desc`, which has them by name. Lives in `context`. */
extern void cmblock_batch_codec(BatchCodec *codec, BatchTable table, TupleDesc desc, bool send,
								MemoryContext context);

typedef struct BatchWriter
{
	StringInfoData data;
	int rows;
	int section_table;   /* -1: none begun */
	int section_rows;    /* rows of the section so far */
	int section_rows_at; /* where that number is to be written */
} BatchWriter;

/* Writing: begin, add rows table by table in the order of BatchTable, finish. The text encoding must be UTF-8 (client_encoding). */
extern void cmblock_batch_begin(BatchWriter *writer);
extern void cmblock_batch_add(BatchWriter *writer, BatchCodec *codec, Datum *values, bool *nulls);
extern void cmblock_batch_finish(BatchWriter *writer);

typedef struct BatchReader
{
	StringInfoData data;
	int rows_left; /* of the section */
	int next_table;
} BatchReader;

/*
 * Reading, with every bound checked: whatever is wrong with the octets raises 08P01. next_section returns false after the
 * last one; then its rows are read with next_row, values and nulls by the column numbers of the codec's descriptor.
 */
extern void cmblock_batch_read(BatchReader *reader, const char *octets, int length);
extern bool cmblock_batch_next_section(BatchReader *reader, BatchTable *table);
extern bool cmblock_batch_next_row(BatchReader *reader, BatchCodec *codec, Datum *values, bool *nulls);

#endif
