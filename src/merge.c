/*
 * merge.c
 *		Making one row out of two: the one that came and the one that is here.
 *
 * The slots have the descriptor of client or certificate. What came is a virtual slot, changed in place; its values may point
 * into the other one, which holds a locked row until both are done with.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "merge.h"
#include "scan.h"

/* What keeps a client or certificate out. The last one is a certificate's alone: it is a block that is never lifted. */
static const char *const block_columns[] = {"blocked",          "block_reason",     "block_ticket",
											"block_changed_by", "block_changed_at", "revoked_at"};

static int
column_of(TupleTableSlot *slot, const char *name)
{
	return cmblock_column_number(slot->tts_tupleDescriptor, name);
}

static bool
has_column(TupleTableSlot *slot, const char *name)
{
	TupleDesc desc = slot->tts_tupleDescriptor;

	for (int i = 0; i < desc->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return true;
	return false;
}

Datum
cmblock_slot_get(TupleTableSlot *slot, const char *name, bool *isnull)
{
	return slot_getattr(slot, column_of(slot, name), isnull);
}

Datum
cmblock_slot_value(TupleTableSlot *slot, const char *name)
{
	bool isnull;

	return cmblock_slot_get(slot, name, &isnull);
}

void
cmblock_slot_put(TupleTableSlot *slot, const char *name, Datum datum)
{
	int column = column_of(slot, name);

	slot->tts_values[column - 1] = datum;
	slot->tts_isnull[column - 1] = false;
}

static bool
is_block_column(const char *name)
{
	for (int i = 0; i < lengthof(block_columns); i++)
		if (strcmp(name, block_columns[i]) == 0)
			return true;
	return false;
}

bool
cmblock_is_shut_out(TupleTableSlot *slot)
{
	bool isnull = true;

	if (has_column(slot, "revoked_at"))
		(void) cmblock_slot_get(slot, "revoked_at", &isnull);
	return !isnull || DatumGetBool(cmblock_slot_value(slot, "blocked"));
}

void
cmblock_copy_block(TupleTableSlot *to, TupleTableSlot *from)
{
	for (int i = 0; i < lengthof(block_columns); i++)
	{
		int column;

		if (!has_column(to, block_columns[i]))
			continue;
		column = column_of(to, block_columns[i]);
		to->tts_values[column - 1] = slot_getattr(from, column, &to->tts_isnull[column - 1]);
	}
}

void
cmblock_become_local(TupleTableSlot *sent, TupleTableSlot *local, bool keep_block, int64 version,
					 SiteCode here)
{
	TupleDesc desc = sent->tts_tupleDescriptor;

	for (int i = 0; i < desc->natts; i++)
		if (!keep_block || !is_block_column(NameStr(TupleDescAttr(desc, i)->attname)))
			sent->tts_values[i] = slot_getattr(local, i + 1, &sent->tts_isnull[i]);
	cmblock_slot_put(sent, "version", Int64GetDatum(version));
	cmblock_slot_put(sent, "origin_site", SiteCodeGetDatum(here));
	cmblock_slot_put(sent, "changed_by", CStringGetTextDatum("cmblock"));
	cmblock_slot_put(sent, "changed_at", TimestampTzGetDatum(GetCurrentTimestamp()));
	cmblock_slot_put(sent, "change_xid", FullTransactionIdGetDatum(GetTopFullTransactionId()));
}
