/*
 * history.h
 *		Events of the block history that no statement of a user made.
 */
#ifndef CMBLOCK_HISTORY_H
#define CMBLOCK_HISTORY_H

#include "postgres.h"
#include "executor/tuptable.h"

#include "catalog.h"
#include "types.h"

/*
 * This transaction takes rows of this site back from a neighbour: the trigger does not record them, since who did what when is in the
 * rows. What is to be on record is recorded with cmblock_record_recovery. Ends with the transaction.
 */
extern void cmblock_history_begin_recovery(void);

/* Records an event about a row as it is going to be. The end of the history is held until the transaction ends. */
extern void cmblock_record_recovery(BlockAction action, bool is_client, TupleTableSlot *row,
									const char *reason);

/* Rows that this transaction takes from `from` for `to` are recorded as seized, with this reason and ticket (either may be NULL). */
extern void cmblock_history_note_seizure(SiteCode from, SiteCode to, const char *reason, const char *ticket);

#endif
