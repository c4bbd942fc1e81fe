/*
 * reconcile.c
 *		What is to be done about a difference between this site and a neighbour, and taking rows back.
 *
 * A site that was set back asks its neighbours for what it has lost. "Lost" below says that this is such a comparison; without it, what
 * differs was changed by hand or by a fault. Whose row it is, is decided as in replication: this site's are those that are assigned here, and
 * the sites that it wrote.
 *
 * This site's rows. There and not here: taken back, from the parent always, from a child only when lost. Newer there: when lost,
 * it is what this site wrote before, and is taken as it is; but where this site has changed the row since, both sides
 * have, and a block of either side stays. Equal versions with other contents: the same. Everything else: the row here is sent.
 *
 * Rows of others are sent where replication would send them. A comparison can stand for a round, so whatever is newer here and may be
 * sent has to be sent; that includes a row that was handed over to the child and has not arrived.
 *
 * A block never goes away by the word of a child: a secondary site has authority over nothing. So a child that lies can add blocks, which
 * are on record, and nothing else.
 *
 * Everything that is taken back or merged is an event in block_event: recovered, or conflict.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "apply.h"
#include "catalog.h"
#include "compare.h"
#include "history.h"
#include "scan.h"

/* Is the row this site's to look after, by what is known here or there? */
static bool
is_ours(const Difference *difference, BatchTable table, const RowDigest *row)
{
	if (!row)
		return false;
	return table == BATCH_SITE ? row->origin == difference->neighbour.here.code
							   : row->assigned == difference->neighbour.here.code;
}

/* Did this site change the row after it was set back, not knowing what the neighbour has? */
static bool
changed_since(const Difference *difference, SiteCode origin, TimestampTz changed_at,
			  TimestampTz changed_there)
{
	return difference->lost && origin == difference->neighbour.here.code &&
		   (changed_at >= difference->lost_since || changed_at > changed_there);
}

/* This site's row, in whichever direction: as if it could be sent. */
static DifferenceAction
judge_ours(const Difference *difference, const RowDigest *here, const RowDigest *there)
{
	bool adds_block = there->blocked && !here->blocked;

	if (there->version > here->version && difference->lost)
		return DIFFERENCE_FETCH;
	if (there->version >= here->version)
		return adds_block ? DIFFERENCE_FETCH : DIFFERENCE_SEND;
	if (adds_block && difference->lost && here->changed_at >= difference->lost_since)
		return DIFFERENCE_FETCH;
	return DIFFERENCE_SEND;
}

/*
 * Towards the parent. It takes rows that this site wrote, no others: a row that was handed to this site and not changed since came through
 * the parent, and is sent by the site that wrote it.
 */
static DifferenceAction
judge_upwards(const Difference *difference, BatchTable table, const RowDigest *here, const RowDigest *there)
{
	SiteCode site = difference->neighbour.here.code;
	DifferenceAction action;

	if (!there)
		return here->origin == site ? DIFFERENCE_SEND : DIFFERENCE_NONE;
	if (!here)
		return is_ours(difference, table, there) || there->origin == site ? DIFFERENCE_FETCH : DIFFERENCE_NONE;
	if (!is_ours(difference, table, here))
	{
		if (difference->lost && there->version > here->version && is_ours(difference, table, there))
			return DIFFERENCE_FETCH;
		return here->origin == site && there->version < here->version ? DIFFERENCE_SEND : DIFFERENCE_NONE;
	}
	/* Another owner there: this site gave it away before it was set back, or the news is on its way here. */
	if (there->assigned != here->assigned && there->version > here->version)
		return difference->lost ? DIFFERENCE_FETCH : DIFFERENCE_NONE;
	action = judge_ours(difference, here, there);
	if (action == DIFFERENCE_SEND && here->origin != site)
		return there->version >= here->version ? DIFFERENCE_REPORT : DIFFERENCE_NONE;
	return action;
}

/*
 * Towards a child. It takes what it did not write itself and does not own. What it owns or wrote, it compares itself; after this site
 * was set back, what the child has newer of others comes from the parent.
 */
static DifferenceAction
judge_downwards(const Difference *difference, BatchTable table, const RowDigest *here, const RowDigest *there)
{
	const Neighbour *neighbour = &difference->neighbour;

	if (!there)
		return here->origin == neighbour->code ? DIFFERENCE_NONE : DIFFERENCE_SEND;
	if (!here)
	{
		if (there->origin == neighbour->code || there->assigned == neighbour->code)
			return DIFFERENCE_NONE;
		if (!difference->lost)
			return DIFFERENCE_REPORT;
		return there->origin == neighbour->here.code && (table == BATCH_SITE || is_ours(difference, table, there))
				   ? DIFFERENCE_FETCH
				   : DIFFERENCE_NONE;
	}
	if (here->origin == neighbour->code || there->assigned == neighbour->code)
		return DIFFERENCE_NONE;
	if (is_ours(difference, table, here) && (there->assigned == here->assigned || !difference->lost))
	{
		DifferenceAction action = judge_ours(difference, here, there);

		/* It gives back only what this site wrote. A block in a row that it cannot give back stays there, for people to see. */
		if (action == DIFFERENCE_FETCH &&
			(there->origin != neighbour->here.code || there->assigned != here->assigned))
			return DIFFERENCE_REPORT;
		return action;
	}
	return difference->lost && there->version > here->version ? DIFFERENCE_NONE : DIFFERENCE_SEND;
}

DifferenceAction
cmblock_judge_difference(const Difference *difference, BatchTable table, const RowDigest *here, const RowDigest *there)
{
	return difference->neighbour.is_parent ? judge_upwards(difference, table, here, there)
										   : judge_downwards(difference, table, here, there);
}

/* ---------- taking back ---------- */

typedef struct TakeBack
{
	const Difference *difference;
	int64 taken;
	int64 conflicts;
} TakeBack;

#define COLUMN(slot, name) cmblock_column_number((slot)->tts_tupleDescriptor, name)

static Datum
get(TupleTableSlot *slot, const char *name, bool *isnull)
{
	return slot_getattr(slot, COLUMN(slot, name), isnull);
}

static Datum
value(TupleTableSlot *slot, const char *name)
{
	bool isnull;

	return get(slot, name, &isnull);
}

static void
put(TupleTableSlot *slot, const char *name, Datum datum)
{
	int column = COLUMN(slot, name);

	slot->tts_values[column - 1] = datum;
	slot->tts_isnull[column - 1] = false;
}

static const char *const block_columns[] = {"blocked", "block_reason", "block_ticket", "block_changed_by",
											"block_changed_at"};

static bool
is_block_column(const char *name)
{
	for (int i = 0; i < lengthof(block_columns); i++)
		if (strcmp(name, block_columns[i]) == 0)
			return true;
	return false;
}

/* Makes `sent` the row here, but for its block if `keep_block`; a version of this site's that is newer than both. */
static void
become_local(TupleTableSlot *sent, TupleTableSlot *local, bool keep_block, SiteCode here)
{
	TupleDesc desc = sent->tts_tupleDescriptor;
	int64 version = Max(DatumGetInt64(value(sent, "version")), DatumGetInt64(value(local, "version"))) + 1;

	for (int i = 0; i < desc->natts; i++)
		if (!keep_block || !is_block_column(NameStr(TupleDescAttr(desc, i)->attname)))
			sent->tts_values[i] = slot_getattr(local, i + 1, &sent->tts_isnull[i]);
	put(sent, "version", Int64GetDatum(version));
	put(sent, "origin_site", SiteCodeGetDatum(here));
	put(sent, "changed_by", CStringGetTextDatum("cmblock"));
	put(sent, "changed_at", TimestampTzGetDatum(GetCurrentTimestamp()));
	put(sent, "change_xid", FullTransactionIdGetDatum(GetTopFullTransactionId()));
}

static void
copy_block(TupleTableSlot *to, TupleTableSlot *from)
{
	for (int i = 0; i < lengthof(block_columns); i++)
	{
		int column = COLUMN(to, block_columns[i]);

		to->tts_values[column - 1] = slot_getattr(from, column, &to->tts_isnull[column - 1]);
	}
}

static void
note(TakeBack *arg, BatchTable table, TupleTableSlot *row, BlockAction action, const char *what)
{
	if (action == ACTION_CONFLICT)
		arg->conflicts++;
	if (table != BATCH_SITE)
		cmblock_record_recovery(
			action, table == BATCH_CLIENT, row,
			psprintf("%s site %s", what, cmblock_site_code_string(arg->difference->neighbour.code)));
}

static bool
merge_rows(BatchTable table, TupleTableSlot *sent, TupleTableSlot *local, void *context)
{
	TakeBack *arg = context;
	const Difference *difference = arg->difference;
	SiteCode here = difference->neighbour.here.code;
	bool from_parent = difference->neighbour.is_parent;
	int64 version_there;
	int64 version_here;
	bool blocked_there = false;
	bool blocked_here = false;
	bool given_away;

	if (!local)
	{
		arg->taken++;
		note(arg, table, sent, ACTION_RECOVERED, "the row came back from");
		return true;
	}
	version_there = DatumGetInt64(value(sent, "version"));
	version_here = DatumGetInt64(value(local, "version"));
	if (table == BATCH_SITE)
		return version_there > version_here && ++arg->taken > 0;
	blocked_there = DatumGetBool(value(sent, "blocked"));
	blocked_here = DatumGetBool(value(local, "blocked"));
	given_away = DatumGetSiteCode(value(sent, "assigned_site")) != here;

	if (difference->lost && version_there > version_here)
	{
		bool both = changed_since(difference, DatumGetSiteCode(value(local, "origin_site")),
								  DatumGetTimestampTz(value(local, "changed_at")),
								  DatumGetTimestampTz(value(sent, "changed_at")));

		arg->taken++;
		if (given_away)
		{
			/* It belongs to another site: what was done to it here meanwhile cannot stand, and is said. */
			note(arg, table, sent,
				 both && blocked_here && !blocked_there ? ACTION_CONFLICT : ACTION_RECOVERED,
				 "the row came back as another site's, which alone can change its block, from");
			return true;
		}
		if (blocked_here && !blocked_there && (both || !from_parent))
		{
			copy_block(sent, local);
			put(sent, "version", Int64GetDatum(version_there + 1));
			put(sent, "origin_site", SiteCodeGetDatum(here));
			note(arg, table, sent, ACTION_CONFLICT, "the block was kept against the row of");
			return true;
		}
		note(arg, table, sent, both ? ACTION_CONFLICT : ACTION_RECOVERED,
			 both ? "both sides had changed; the block is that of" : "the row came back from");
		if (both)
		{
			put(sent, "version", Int64GetDatum(version_there + 1));
			put(sent, "origin_site", SiteCodeGetDatum(here));
		}
		return true;
	}
	if (!blocked_there || blocked_here || DatumGetSiteCode(value(local, "assigned_site")) != here ||
		(version_there < version_here && !difference->lost))
		return false;
	if (table == BATCH_CLIENT && DatumGetBool(value(local, "isv_proxied")))
		return false;
	become_local(sent, local, true, here);
	arg->taken++;
	note(arg, table, sent, ACTION_CONFLICT, "not blocked here, blocked at");
	return true;
}

/* A RowCheck: what a row may be that comes back. `arg` is the Difference. */
static void
check_taken_row(Relation relation, HeapTuple old_row, HeapTuple new_row, void *arg)
{
	const Difference *difference = arg;
	TupleDesc desc = RelationGetDescr(relation);
	SiteCode here = difference->neighbour.here.code;
	bool isnull;
	SiteCode origin =
		DatumGetSiteCode(heap_getattr(new_row, cmblock_column_number(desc, "origin_site"), desc, &isnull));
	SiteCode assigned = NO_SITE;

	if (RelationGetRelid(relation) != cmblock_relation(REL_SITE))
		assigned = DatumGetSiteCode(
			heap_getattr(new_row, cmblock_column_number(desc, "assigned_site"), desc, &isnull));
	if (difference->neighbour.is_parent || (origin == here && (assigned == here || assigned == NO_SITE)))
		return;
	ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("site %s gave back a row that is not this site's",
				   cmblock_site_code_string(difference->neighbour.code)),
			errdetail("Only rows that this site wrote and owns come back from a child."));
}

void
cmblock_take_back(const Difference *difference, const char *octets, int length, int64 *taken,
				  int64 *conflicts)
{
	TakeBack arg = {.difference = difference};
	int64 applied = 0;
	int64 ignored = 0;

	cmblock_history_begin_recovery();
	cmblock_apply_batch(octets, length, check_taken_row, unconstify(Difference *, difference), merge_rows,
						&arg, &applied, &ignored);
	*taken += arg.taken;
	*conflicts += arg.conflicts;
}
