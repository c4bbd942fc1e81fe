/*
 * scan.c
 *		Reading the extension's own tables from C, without SPI and without privilege checks.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "storage/procarray.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "scan.h"
#include "types.h"
#include "x509.h"

/*
 * GetLatestSnapshot refuses to work in parallel mode, where a query wants all its workers to see the same. A decision
 * wants the newest instead, so there the snapshot is taken directly, as GetTransactionSnapshot does in a worker for a
 * function that reads tables. The transaction's own changes are told apart by what the leader passed on.
 */
Snapshot
cmblock_newest_snapshot(void)
{
	static SnapshotData in_parallel = {.snapshot_type = SNAPSHOT_MVCC};

	return IsInParallelMode() ? GetSnapshotData(&in_parallel) : GetLatestSnapshot();
}

int
cmblock_column_number(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
			return attribute->attnum;
	}
	elog(ERROR, "column \"%s\" is missing", name);
}

Datum
cmblock_slot_column(TupleTableSlot *slot, TupleDesc desc, const char *name, bool *isnull)
{
	return slot_getattr(slot, cmblock_column_number(desc, name), isnull);
}

Datum
cmblock_lookup_column(IndexLookup *lookup, const char *name, bool *isnull)
{
	return cmblock_slot_column(lookup->slot, RelationGetDescr(lookup->table), name, isnull);
}

/*
 * What is stored out of line goes in by its pointer, which nothing else gets as long as the row is there. Rows have keys, so
 * none can take another away.
 */
void
cmblock_digest_row(TupleTableSlot *slot, unsigned char *digest)
{
	bool mine;
	HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, &mine);
	HeapTupleHeader header = tuple->t_data;
	unsigned char of_row[SHA256_OCTETS];

	/* The bitmap of nulls and the columns; how long the bitmap is, is seen from it being there. */
	cmblock_sha256(header->t_bits, tuple->t_len - offsetof(HeapTupleHeaderData, t_bits), of_row);
	of_row[0] ^= header->t_hoff;
	for (int i = 0; i < SHA256_OCTETS; i++)
		digest[i] ^= of_row[i];
	if (mine)
		heap_freetuple(tuple);
}

/*
 * REINDEX CONCURRENTLY may put another index in its place between the look at its name and the lock. Of that the lock brings
 * word, and the second look finds the other one. None of them goes away as long as the table is open.
 */
Relation
cmblock_open_index(CmblockRelation which)
{
	for (;;)
	{
		Oid oid = cmblock_relation(which);
		Relation index = index_open(oid, AccessShareLock);

		if (index->rd_index->indisvalid)
			return index;
		if (cmblock_relation(which) == oid)
			ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("index \"cmblock.%s\" is not valid", RelationGetRelationName(index)),
					errdetail(
						"It was not built to the end, or its removal was interrupted, so it may lack rows."),
					errhint("REINDEX INDEX cmblock.%s.", RelationGetRelationName(index)));
		index_close(index, AccessShareLock);
	}
}

/* Compares the leading column of an index with a key of its own type. */
static void
leading_column(ScanKeyData *entry, Relation index, StrategyNumber strategy, Datum key)
{
	Oid type = index->rd_opcintype[0];
	Oid operator= get_opfamily_member(index->rd_opfamily[0], type, type, strategy);

	ScanKeyEntryInitialize(entry, 0, 1, strategy, InvalidOid, index->rd_indcollation[0], get_opcode(operator),
						   key);
}

bool
cmblock_index_reaches(CmblockRelation table, CmblockRelation index, Datum key)
{
	Relation heap = table_open(cmblock_relation(table), AccessShareLock);
	Relation entries = cmblock_open_index(index);
	ScanKeyData from;
	IndexScanDesc scan;
	bool found;

	leading_column(&from, entries, BTGreaterEqualStrategyNumber, key);
	scan = cmblock_index_beginscan(heap, entries, GetActiveSnapshot(), 1, 0);
	index_rescan(scan, &from, 1, NULL, 0);
	found = index_getnext_tid(scan, ForwardScanDirection) != NULL;
	index_endscan(scan);
	index_close(entries, AccessShareLock);
	table_close(heap, AccessShareLock);
	return found;
}

bool
cmblock_index_lookup(IndexLookup *lookup, CmblockRelation table, CmblockRelation index, Datum key)
{
	ScanKeyData equal;

	lookup->table = table_open(cmblock_relation(table), AccessShareLock);
	lookup->index = cmblock_open_index(index);
	leading_column(&equal, lookup->index, BTEqualStrategyNumber, key);

	lookup->snapshot = RegisterSnapshot(cmblock_newest_snapshot());
	lookup->slot = table_slot_create(lookup->table, NULL);
	lookup->scan = cmblock_index_beginscan(lookup->table, lookup->index, lookup->snapshot, 1, 0);
	index_rescan(lookup->scan, &equal, 1, NULL, 0);
	return cmblock_index_lookup_next(lookup);
}

bool
cmblock_index_lookup_next(IndexLookup *lookup)
{
	return index_getnext_slot(lookup->scan, ForwardScanDirection, lookup->slot);
}

void
cmblock_index_lookup_end(IndexLookup *lookup)
{
	index_endscan(lookup->scan);
	ExecDropSingleTupleTableSlot(lookup->slot);
	UnregisterSnapshot(lookup->snapshot);
	index_close(lookup->index, AccessShareLock);
	table_close(lookup->table, AccessShareLock);
}
