/*
 * apply.c
 *		The receiving end of replication: open_link and apply_changes, which a neighbour calls.
 *
 * A call proves first who it is (call.c).
 *
 * A batch is applied row by row, in the order sites, clients, certificates, through the executor's entry points for
 * replication: the old row is found by primary key and locked, a row that is not newer is dropped, and the rest is
 * inserted or updated with all triggers and constraints. The guard trigger calls cmblock_check_authority with the locked
 * row. Anything wrong raises an error, which ends the caller's transaction: a batch is taken in whole or not at all.
 *
 * The cursor arrives with the last batch of a round and is stored in the same transaction. So a crash loses rows and cursor
 * together, and the sender, whose connection it ends, sends again what was lost. That is why batches commit asynchronously: a block is in
 * force here without waiting for the disk. It counts as acknowledged later, when open_link has said the cursor again, which
 * waits for the disk (durable.c).
 *
 * Two neighbours may insert the same row at the same time: one of them gets a unique violation, and tries again.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "apply.h"
#include "batch.h"
#include "call.h"
#include "catalog.h"
#include "compat.h"
#include "durable.h"
#include "incarnation.h"
#include "neighbour.h"
#include "scan.h"
#include "seizure.h"
#include "site.h"
#include "statement.h"
#include "types.h"
#include "writer.h"

PG_FUNCTION_INFO_V1(cmblock_open_link);
PG_FUNCTION_INFO_V1(cmblock_apply_changes);

/* ---------- open_link ---------- */

static Statement stored_cursor = {
	"SELECT snapshot, incarnation, position, progress FROM cmblock.replication_cursor WHERE neighbour = $1",
	{"site_code"}};

Datum
cmblock_open_link(PG_FUNCTION_ARGS)
{
	TupleDesc desc;
	Call call;
	Neighbour neighbour;
	Datum key;
	Datum values[6];
	bool nulls[6] = {false, false, true, true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cmblock_read_call(fcinfo, &call);
	SPI_connect();
	cmblock_check_call(&call, &neighbour);

	key = SiteCodeGetDatum(call.sender);
	if (cmblock_execute(&stored_cursor, &key, NULL) > 0)
	{
		for (int i = 0; i < 4; i++)
			values[2 + i] = cmblock_result(1 + i, &nulls[2 + i]);
		for (int i = 2; i < 6; i++)
			if (!nulls[i] && i != 4)
				values[i] = SPI_datumTransfer(values[i], false, -1);
	}
	SPI_finish();
	if (!nulls[2] || !nulls[5])
		cmblock_make_durable();

	values[0] = Int32GetDatum(CMBLOCK_PROTOCOL);
	values[1] = CStringGetTextDatum(cmblock_incarnation());
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---------- apply_changes: the rows of one table ---------- */

typedef struct Target
{
	Relation relation;
	EState *estate;
	EPQState epq;
	ResultRelInfo *info;
	Oid key_index;
	BatchCodec codec;
	TupleTableSlot *sent;
	TupleTableSlot *local;
	int version;
	int origin_site;
	int change_xid;
	int blocked; /* of a client, as are the next two; 0: no client */
	int block_changed_at;
	int block_received_at;
	List *kept; /* columns that do not travel: they stay as they are here */
	RowMerge merge;
	void *merge_arg;
} Target;

static const struct
{
	CmblockRelation table;
	CmblockRelation key;
} relations[BATCH_TABLES] = {
	[BATCH_SITE] = {REL_SITE, IDX_SITE_CODE},
	[BATCH_CLIENT] = {REL_CLIENT, IDX_CLIENT_SMSID},
	[BATCH_CERTIFICATE] = {REL_CERTIFICATE, IDX_CERTIFICATE_SHA256},
};

static List *
columns_that_stay(const Target *target)
{
	List *kept = NIL;

	for (int column = 1; column <= RelationGetNumberOfAttributes(target->relation); column++)
	{
		bool travels = column == target->change_xid;

		for (int i = 0; i < target->codec.columns; i++)
			travels |= target->codec.attribute[i] == column;
		if (!travels)
			kept = lappend_int(kept, column);
	}
	return kept;
}

static void
begin_table(Target *target, BatchTable table)
{
	TupleDesc desc;

	target->relation = table_open(cmblock_relation(relations[table].table), RowExclusiveLock);
	desc = RelationGetDescr(target->relation);
	target->key_index = cmblock_relation(relations[table].key);
	cmblock_batch_codec(&target->codec, table, desc, false, CurrentMemoryContext);
	target->version = cmblock_column_number(desc, "version");
	target->origin_site = cmblock_column_number(desc, "origin_site");
	target->change_xid = cmblock_column_number(desc, "change_xid");
	if (table == BATCH_CLIENT)
	{
		target->blocked = cmblock_column_number(desc, "blocked");
		target->block_changed_at = cmblock_column_number(desc, "block_changed_at");
		target->block_received_at = cmblock_column_number(desc, "block_received_at");
	}
	target->kept = columns_that_stay(target);

	target->estate = CreateExecutorState();
	target->info = makeNode(ResultRelInfo);
	InitResultRelInfo(target->info, target->relation, 0, NULL, 0);
	ExecOpenIndices(target->info, false);
	cmblock_evalplanqual_init(&target->epq, target->estate);
	target->sent = ExecInitExtraTupleSlot(target->estate, desc, &TTSOpsVirtual);
	target->local = table_slot_create(target->relation, &target->estate->es_tupleTable);
	AfterTriggerBeginQuery();
}

static void
end_table(Target *target)
{
	AfterTriggerEndQuery(target->estate);
	EvalPlanQualEnd(&target->epq);
	ExecCloseIndices(target->info);
	ExecResetTupleTable(target->estate->es_tupleTable, false);
	FreeExecutorState(target->estate);
	table_close(target->relation, NoLock);
}

/* Sites may be written by two sites at once, and the same winner has to be found everywhere. */
static bool
is_newer(const Target *target)
{
	bool isnull;
	int64 sent = DatumGetInt64(slot_getattr(target->sent, target->version, &isnull));
	int64 local = DatumGetInt64(slot_getattr(target->local, target->version, &isnull));

	if (sent != local || target->codec.table != BATCH_SITE)
		return sent > local;
	return DatumGetSiteCode(slot_getattr(target->sent, target->origin_site, &isnull)) >
		   DatumGetSiteCode(slot_getattr(target->local, target->origin_site, &isnull));
}

static void
keep_local_columns(Target *target, bool exists)
{
	ListCell *cell;

	foreach (cell, target->kept)
	{
		int column = lfirst_int(cell);

		target->sent->tts_isnull[column - 1] = true;
		if (exists)
			target->sent->tts_values[column - 1] =
				slot_getattr(target->local, column, &target->sent->tts_isnull[column - 1]);
	}
}

static bool
differs(const Target *target, int column)
{
	bool sent_null;
	bool local_null;
	Datum sent = slot_getattr(target->sent, column, &sent_null);
	Datum local = slot_getattr(target->local, column, &local_null);

	return sent_null != local_null || (!sent_null && sent != local);
}

/* A new state of block came: cmblock.enforcement says since when it has been here. */
static void
note_block(Target *target, bool exists)
{
	if (target->block_received_at == 0)
		return;
	if (exists && !differs(target, target->blocked) && !differs(target, target->block_changed_at))
		return;
	target->sent->tts_values[target->block_received_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	target->sent->tts_isnull[target->block_received_at - 1] = false;
}

/* Is the row in `sent`, perhaps changed, to take the place of the one here? */
static bool
is_wanted(Target *target)
{
	Neighbour *neighbour = target->merge_arg;

	if (cmblock_settle_registration(neighbour, target->codec.table, target->sent, target->local))
		return true;
	if (!is_newer(target))
		return cmblock_take_late_block(neighbour, target->codec.table, target->sent, target->local);
	if (target->codec.table == BATCH_SITE)
		cmblock_settle_site(neighbour, target->sent, target->local);
	else
		cmblock_meet_seizure(neighbour, target->codec.table, target->sent, target->local);
	return true;
}

/* Takes the row in `sent` in. False when it is not newer than what is here. */
static bool
apply_row(Target *target)
{
	bool exists;

	exists = RelationFindReplTupleByIndex(target->relation, target->key_index, LockTupleNoKeyExclusive,
										  target->sent, target->local);
	if (target->merge ? !target->merge(target->codec.table, target->sent, exists ? target->local : NULL,
									   target->merge_arg)
					  : exists && !is_wanted(target))
		return false;
	keep_local_columns(target, exists);
	note_block(target, exists);
	target->estate->es_output_cid = GetCurrentCommandId(true);
	if (exists)
		ExecSimpleRelationUpdate(target->info, target->estate, &target->epq, target->local, target->sent);
	else
		ExecSimpleRelationInsert(target->info, target->estate, target->sent);
	CommandCounterIncrement();
	return true;
}

static void
apply_section(BatchReader *reader, BatchTable table, RowMerge merge, void *merge_arg, int64 *applied,
			  int64 *ignored)
{
	Target target = {0};
	Datum xid = FullTransactionIdGetDatum(GetTopFullTransactionId());

	begin_table(&target, table);
	target.merge = merge;
	target.merge_arg = merge_arg;
	for (;;)
	{
		MemoryContext old;
		bool more;

		CHECK_FOR_INTERRUPTS();
		ExecClearTuple(target.sent);
		ResetPerTupleExprContext(target.estate);
		old = MemoryContextSwitchTo(GetPerTupleMemoryContext(target.estate));
		more =
			cmblock_batch_next_row(reader, &target.codec, target.sent->tts_values, target.sent->tts_isnull);
		MemoryContextSwitchTo(old);
		if (!more)
			break;
		target.sent->tts_values[target.change_xid - 1] = xid;
		target.sent->tts_isnull[target.change_xid - 1] = false;
		ExecStoreVirtualTuple(target.sent);
		if (apply_row(&target))
			(*applied)++;
		else
			(*ignored)++;
		if (!merge)
			((Neighbour *) merge_arg)->merged = false;
	}
	end_table(&target);
}

/* ---------- apply_changes ---------- */

void
cmblock_apply_batch(const char *octets, int length, RowCheck check, void *check_arg, RowMerge merge,
					void *merge_arg, int64 *applied, int64 *ignored)
{
	BatchReader reader;
	BatchTable table;
	Writer before;

	cmblock_batch_read(&reader, octets, length);
	before = cmblock_set_writer((Writer){.kind = WRITER_APPLY, .check = check, .check_arg = check_arg});
	PG_TRY();
	{
		while (cmblock_batch_next_section(&reader, &table))
			apply_section(&reader, table, merge, merge_arg, applied, ignored);
	}
	PG_FINALLY();
	{
		cmblock_set_writer(before);
	}
	PG_END_TRY();
}

/* A repair: the sender has compared, and its row is the right one whatever the version here. `arg` is the Neighbour. */
static bool
take_repair(BatchTable table, TupleTableSlot *sent, TupleTableSlot *local, void *arg)
{
	((Neighbour *) arg)->merged = false;
	if (table == BATCH_SITE && local)
		cmblock_settle_site(arg, sent, local);
	return true;
}

/* The cursor, the run that it was made in and its position belong together: without a new cursor the old ones stay. */
static Statement store_cursor = {
	"INSERT INTO cmblock.replication_cursor AS c "
	"(neighbour, incarnation, snapshot, position, received_at, rows_received, rows_ignored, "
	"batches_received, progress) "
	"VALUES ($1, $2, $3, $4, clock_timestamp(), $5, $6, 1, $7) "
	"ON CONFLICT (neighbour) DO UPDATE SET "
	"incarnation = CASE WHEN excluded.snapshot IS NULL THEN c.incarnation ELSE excluded.incarnation END, "
	"snapshot = coalesce(excluded.snapshot, c.snapshot), "
	"position = CASE WHEN excluded.snapshot IS NULL THEN c.position ELSE excluded.position END, "
	"received_at = excluded.received_at, rows_received = c.rows_received + excluded.rows_received, "
	"rows_ignored = c.rows_ignored + excluded.rows_ignored, batches_received = c.batches_received + 1, "
	"progress = CASE WHEN excluded.snapshot IS NULL THEN coalesce(excluded.progress, c.progress) END",
	{"site_code", "text", "pg_snapshot", "pg_lsn", "int8", "int8", "text"}};

Datum
cmblock_apply_changes(PG_FUNCTION_ARGS)
{
	TupleDesc desc;
	Call call;
	Neighbour neighbour;
	bytea *changes;
	bool has_cursor = !PG_ARGISNULL(6);
	int64 applied = 0;
	int64 ignored = 0;
	Datum values[7];
	char nulls[8] = "       ";
	bool none[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cmblock_read_call(fcinfo, &call);
	if (PG_ARGISNULL(5))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("changes cannot be null"));
	if (pg_get_client_encoding() != PG_UTF8)
		ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION),
				errmsg("changes are sent with client_encoding UTF8"),
				errdetail("This session has client_encoding %s.", pg_get_client_encoding_name()));

	SPI_connect();
	cmblock_check_call(&call, &neighbour);
	if (!PG_ARGISNULL(9) && toast_raw_datum_size(PG_GETARG_DATUM(9)) - VARHDRSZ >= BATCH_MAX_PROGRESS)
		ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("progress of a round has more than %d octets", BATCH_MAX_PROGRESS - 1));
	changes = PG_GETARG_BYTEA_PP(5);
	cmblock_apply_batch(VARDATA_ANY(changes), VARSIZE_ANY_EXHDR(changes), cmblock_check_authority, &neighbour,
						!PG_ARGISNULL(8) && PG_GETARG_BOOL(8) ? take_repair : NULL, &neighbour, &applied,
						&ignored);

	values[0] = SiteCodeGetDatum(call.sender);
	values[1] = PG_GETARG_DATUM(4);
	values[2] = has_cursor ? PG_GETARG_DATUM(6) : (Datum) 0;
	values[3] = PG_ARGISNULL(7) ? (Datum) 0 : PG_GETARG_DATUM(7);
	values[4] = Int64GetDatum(applied + ignored);
	values[5] = Int64GetDatum(ignored);
	if (!has_cursor)
		nulls[2] = 'n';
	values[6] = PG_ARGISNULL(9) ? (Datum) 0 : PG_GETARG_DATUM(9);
	if (PG_ARGISNULL(7))
		nulls[3] = 'n';
	if (PG_ARGISNULL(9))
		nulls[6] = 'n';
	cmblock_execute(&store_cursor, values, nulls);
	SPI_finish();

	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true,
							 0, false);
	values[0] = Int64GetDatum(applied);
	values[1] = Int64GetDatum(ignored);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, none)));
}
