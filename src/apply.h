/*
 * apply.h
 *		Taking a batch of rows in.
 */
#ifndef CMBLOCK_APPLY_H
#define CMBLOCK_APPLY_H

#include "postgres.h"
#include "executor/tuptable.h"

#include "batch.h"
#include "writer.h"

/*
 * Decides about a row that came: `local` is the row here, locked, or NULL. True: it is written as it stands in `sent`, which
 * the function may have changed in place. NULL instead of a function: rows with a higher version are taken, and `arg` is the
 * Neighbour.
 */
typedef bool (*RowMerge)(BatchTable table, TupleTableSlot *sent, TupleTableSlot *local, void *arg);

/* Takes a batch in, adding to *applied and *ignored. Each row that is written goes through `check` first. Inside SPI. */
extern void cmblock_apply_batch(const char *octets, int length, RowCheck check, void *check_arg,
								RowMerge merge, void *merge_arg, int64 *applied, int64 *ignored);

#endif
