/*
 * merge.h
 *		Making one row out of two: the one that came and the one that is here.
 */
#ifndef CMBLOCK_MERGE_H
#define CMBLOCK_MERGE_H

#include "postgres.h"
#include "executor/tuptable.h"

#include "types.h"

/* A column of client, certificate or site by name; the second is for those that are NOT NULL. */
extern Datum cmblock_slot_get(TupleTableSlot *slot, const char *name, bool *isnull);
extern Datum cmblock_slot_value(TupleTableSlot *slot, const char *name);

/* Changes a column of a virtual slot in place. */
extern void cmblock_slot_put(TupleTableSlot *slot, const char *name, Datum datum);

/* Is it blocked, or, a certificate, revoked by this hierarchy? */
extern bool cmblock_is_shut_out(TupleTableSlot *slot);

/* The block of one row, with who, when and why, and the revocation of a certificate become that of the other. */
extern void cmblock_copy_block(TupleTableSlot *to, TupleTableSlot *from);

/* Makes `sent` what `local` is, but for its block if `keep_block`: written by this site now, as that version. */
extern void cmblock_become_local(TupleTableSlot *sent, TupleTableSlot *local, bool keep_block, int64 version,
								 SiteCode here);

#endif
