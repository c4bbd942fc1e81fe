/*
 * history.h
 *		The block history: events that no statement of a user made, and following its chain.
 */
#ifndef CMBLOCK_HISTORY_H
#define CMBLOCK_HISTORY_H

#include "postgres.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"

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

/* ---------- the chain ---------- */

#define HISTORY_HASH_OCTETS 32

/* An event, and all that came before it. */
typedef struct HistoryEnd
{
	int64 id; /* 0: before the first one; its hash is zeros */
	uint8 hash[HISTORY_HASH_OCTETS];
} HistoryEnd;

/*
 * Verifies at most so many events that follow on `end`, and moves it to the last that is as it should be. Returns what is wrong with the
 * next one, in words, and its id; NULL when nothing is.
 */
extern char *cmblock_follow_history(Snapshot snapshot, int64 events, HistoryEnd *end, int64 *first_broken);

/* The newest event up to this id, as its row says. False: there is none. */
extern bool cmblock_find_event(Snapshot snapshot, int64 id, HistoryEnd *found);

#endif
