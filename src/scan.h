/*
 * scan.h
 *		Reading the extension's own tables from C, without SPI and without privilege checks.
 */
#ifndef CMBLOCK_SCAN_H
#define CMBLOCK_SCAN_H

#include "postgres.h"
#include "access/genam.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "catalog.h"

/*
 * The newest snapshot there is: what committed before this call is seen, also inside a REPEATABLE READ transaction,
 * and so are this transaction's own changes. It is overwritten by the next call: register it.
 */
extern Snapshot cmblock_newest_snapshot(void);

/*
 * Opens an index, with AccessShareLock, while its table is open. An error when it does not have all rows: to be silent about a
 * missing one could let somebody in.
 */
extern Relation cmblock_open_index(CmblockRelation index);

typedef struct IndexLookup
{
	Relation table;
	Relation index;
	IndexScanDesc scan;
	Snapshot snapshot;
	TupleTableSlot *slot;
} IndexLookup;

/*
 * Finds the first row whose leading index column equals key, with the newest snapshot. True when there is one: its
 * columns can be read until cmblock_index_lookup_end, which must be called in either case.
 */
extern bool cmblock_index_lookup(IndexLookup *lookup, CmblockRelation table, CmblockRelation index,
								 Datum key);
extern bool cmblock_index_lookup_next(IndexLookup *lookup);
extern void cmblock_index_lookup_end(IndexLookup *lookup);

/*
 * Has the index an entry whose leading column is this or greater? Of a row that is visible or not: false is certain, true is not. Looks at
 * no row, so it costs a fraction of a query.
 */
extern bool cmblock_index_reaches(CmblockRelation table, CmblockRelation index, Datum key);

/* A column of the row by name. By-reference values point into the row. */
extern Datum cmblock_lookup_column(IndexLookup *lookup, const char *name, bool *isnull);
extern Datum cmblock_slot_column(TupleTableSlot *slot, TupleDesc desc, const char *name, bool *isnull);

/* Mixes the row into a digest of SHA256_OCTETS that names the contents of its table, in whatever order they are read. */
extern void cmblock_digest_row(TupleTableSlot *slot, unsigned char *digest);

/* Number of a column of one of our tables; an error when it is not there. */
extern int cmblock_column_number(TupleDesc desc, const char *name);

#endif
