/*
 * reconcile.c
 *		What is to be done about a difference between this site and a neighbour, and taking rows back.
 *
 * A site that was set back asks its neighbours for what it has lost. "Lost" below says that this is such a comparison; without it, what
 * differs was changed by hand or by a fault. Whose row it is, is decided as in replication: this site's are those that are assigned here, and
 * the sites that it wrote.
 *
 * This site's rows. There and not here: taken back, if nobody else brings them. Newer there: when lost, it is what this site wrote before, and is
 * taken as it is; but where this site has changed the row since, both sides have, and a block of either side stays. Else, and for equal versions
 * with other contents, the row here is written anew with a higher version, which replication carries to every site; a block that only the parent
 * has stays. If the parent has a newer row that is another site's, it is that site's: there are never two owners for long. When lost, an older
 * row of the parent's says so as well: this site gave it away, and what it did with it since does not count.
 *
 * Rows of others are sent where replication would send them. A comparison can stand for a round, so whatever is newer here and may be
 * sent has to be sent; that includes a row that was handed over to the child and has not arrived.
 *
 * A child that has a newer row which was its own by what this site knows, and says that it is another's now: this site was set back to before
 * the hand-over. It is taken on the word of the one that has lost by it; else the new owner's rows would be refused for ever.
 *
 * "Blocked" here is also a certificate that this hierarchy revoked, because the mobile device that it was of was deleted.
 *
 * A block never goes away by the word of a child: a secondary site has authority over nothing. So a child that lies to a site that was set
 * back can add blocks, which are on record, and nothing else.
 *
 * Everything that is taken back or merged is an event in block_event: recovered, or conflict.
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "catalog.h"
#include "compare.h"
#include "history.h"
#include "merge.h"
#include "seizure.h"
#include "version.h"

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

/* The higher version wins, and of two sites that wrote one version the higher code, as when a row is sent. */
static DifferenceAction
judge_site_upwards(const Difference *difference, const RowDigest *here, const RowDigest *there)
{
	SiteCode site = difference->neighbour.here.code;

	if (there->version > here->version)
		return there->origin == site ? DIFFERENCE_FETCH : DIFFERENCE_NONE;
	if (there->version == here->version && there->origin > here->origin)
		return DIFFERENCE_NONE;
	return here->origin == site ? DIFFERENCE_SEND : DIFFERENCE_NONE;
}

/* Towards the parent: it takes rows that this site wrote, no others. What others wrote it sends itself. */
static DifferenceAction
judge_upwards(const Difference *difference, BatchTable table, const RowDigest *here, const RowDigest *there)
{
	SiteCode site = difference->neighbour.here.code;
	bool written_here;

	if (!there)
		return here->origin == site ? DIFFERENCE_SEND : DIFFERENCE_NONE;
	written_here = there->origin == site;
	if (!here)
		return written_here ? DIFFERENCE_FETCH : DIFFERENCE_NONE;
	if (table == BATCH_SITE)
		return judge_site_upwards(difference, here, there);
	/* Given away before this site was set back, whatever it did with it since. */
	if (there->assigned != site &&
		changed_since(difference, here->origin, here->changed_at, there->changed_at))
		return DIFFERENCE_FETCH;
	if (here->version > there->version)
	{
		if (difference->lost && there->blocked && !here->blocked && is_ours(difference, table, here) &&
			here->changed_at >= difference->lost_since)
			return DIFFERENCE_FETCH;
		return here->origin == site ? DIFFERENCE_SEND : DIFFERENCE_NONE;
	}
	/* One version, two owners: somebody's hand. What this site has not written is the parent's to say. */
	if (here->version == there->version && here->assigned != there->assigned &&
		is_ours(difference, table, here) && here->origin == site)
		return DIFFERENCE_REPORT;
	return written_here || is_ours(difference, table, here) ? DIFFERENCE_FETCH : DIFFERENCE_NONE;
}

/* Only the child has it. */
static DifferenceAction
judge_missing(const Difference *difference, BatchTable table, const RowDigest *there)
{
	const Neighbour *neighbour = &difference->neighbour;

	if (there->origin == neighbour->code || there->assigned == neighbour->code)
		return DIFFERENCE_NONE;
	if (!difference->lost)
		return DIFFERENCE_REPORT;
	return there->origin == neighbour->here.code && (table == BATCH_SITE || is_ours(difference, table, there))
			   ? DIFFERENCE_FETCH
			   : DIFFERENCE_NONE;
}

/* This site's row, towards a child, which can give back only what this site wrote. */
static DifferenceAction
judge_ours(const Difference *difference, const RowDigest *here, const RowDigest *there)
{
	bool adds_block = there->blocked && !here->blocked;
	bool wanted =
		there->version > here->version ||
		(adds_block && (there->version == here->version || here->changed_at >= difference->lost_since));

	if (!difference->lost || !wanted)
		return DIFFERENCE_SEND;
	if (there->origin == difference->neighbour.here.code && there->assigned == here->assigned)
		return DIFFERENCE_FETCH;
	/* Given away before this site was set back: the parent knows. A block that cannot be given back stays for people to see. */
	if (there->assigned != here->assigned)
		return DIFFERENCE_NONE;
	return adds_block ? DIFFERENCE_REPORT : DIFFERENCE_SEND;
}

/*
 * Towards a child. It takes what it did not write itself and does not own; what it owns or wrote, it compares itself. After this site
 * was set back, what the child has newer of others comes from the parent.
 */
static DifferenceAction
judge_downwards(const Difference *difference, BatchTable table, const RowDigest *here, const RowDigest *there)
{
	SiteCode child = difference->neighbour.code;

	if (!there)
		return here->origin == child ? DIFFERENCE_NONE : DIFFERENCE_SEND;
	if (!here)
		return judge_missing(difference, table, there);
	if (table != BATCH_SITE && here->assigned == child && there->assigned != child &&
		there->origin != child && there->version > here->version)
		return DIFFERENCE_FETCH;
	if (here->origin == child || there->assigned == child)
		return DIFFERENCE_NONE;
	if (there->version == here->version && there->assigned != here->assigned)
		return DIFFERENCE_REPORT;
	/* A block made before the child learned that the client was taken from it (seizure.c): it sends it itself. */
	if (there->origin == child && there->blocked && !here->blocked)
		return DIFFERENCE_REPORT;
	if (is_ours(difference, table, here))
		return judge_ours(difference, here, there);
	if (!difference->lost || there->version <= here->version)
		return DIFFERENCE_SEND;
	/* What this site did with a row that it had given away is given up (take_others): there, too. */
	return there->origin == difference->neighbour.here.code && difference->neighbour.here.kind == SITE_PRIMARY
			   ? DIFFERENCE_SEND
			   : DIFFERENCE_NONE;
}

DifferenceAction
cmblock_judge_difference(const Difference *difference, BatchTable table, const RowDigest *here,
						 const RowDigest *there)
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

/* What a row that came and the row here have to do with each other. */
typedef struct Pair
{
	TupleTableSlot *sent;
	TupleTableSlot *local;
	int64 version_there;
	int64 version_here;
	bool blocked_there;
	bool blocked_here;
	SiteCode origin_there;
	SiteCode origin_here;
	SiteCode assigned_there;
	SiteCode assigned_here;
} Pair;

static Pair
pair_of(TupleTableSlot *sent, TupleTableSlot *local)
{
	return (Pair){.sent = sent,
				  .local = local,
				  .version_there = DatumGetInt64(cmblock_slot_value(sent, "version")),
				  .version_here = DatumGetInt64(cmblock_slot_value(local, "version")),
				  .blocked_there = cmblock_is_shut_out(sent),
				  .blocked_here = cmblock_is_shut_out(local),
				  .origin_there = DatumGetSiteCode(cmblock_slot_value(sent, "origin_site")),
				  .origin_here = DatumGetSiteCode(cmblock_slot_value(local, "origin_site")),
				  .assigned_there = DatumGetSiteCode(cmblock_slot_value(sent, "assigned_site")),
				  .assigned_here = DatumGetSiteCode(cmblock_slot_value(local, "assigned_site"))};
}

/* A version of this site's that is newer than both. */
static void
write_anew(Pair *p, BatchTable table, TakeBack *arg)
{
	bool keep_block = p->blocked_there && !p->blocked_here && cmblock_can_be_blocked(table, p->local);

	cmblock_become_local(p->sent, p->local, keep_block, Max(p->version_there, p->version_here) + 1,
						 arg->difference->neighbour.here.code);
	arg->taken += keep_block;
	note(arg, table, p->sent, ACTION_CONFLICT,
		 keep_block ? "not blocked here, blocked at"
					: "the row here was written anew, because it differed from that of");
}

/* It is newer there: this site wrote it, and has lost it. */
static void
take_lost(Pair *p, BatchTable table, TakeBack *arg)
{
	const Difference *difference = arg->difference;
	bool both = changed_since(difference, p->origin_here,
							  DatumGetTimestampTz(cmblock_slot_value(p->local, "changed_at")),
							  DatumGetTimestampTz(cmblock_slot_value(p->sent, "changed_at")));
	bool keeps_block = p->blocked_here && !p->blocked_there && cmblock_can_be_blocked(table, p->sent) &&
					   (both || !difference->neighbour.is_parent);

	arg->taken++;
	if (keeps_block)
		cmblock_copy_block(p->sent, p->local);
	if (both || keeps_block)
	{
		cmblock_slot_put(p->sent, "version", Int64GetDatum(p->version_there + 1));
		cmblock_slot_put(p->sent, "origin_site", SiteCodeGetDatum(difference->neighbour.here.code));
	}
	if (keeps_block)
		note(arg, table, p->sent, ACTION_CONFLICT, "the block was kept against the row of");
	else
		note(arg, table, p->sent, both ? ACTION_CONFLICT : ACTION_RECOVERED,
			 both ? "both sides had changed; the block is that of" : "the row came back from");
}

/* Handed over to this site, which has lost that it was another's. */
static void
take_handed_over(Pair *p, BatchTable table, TakeBack *arg)
{
	bool kept = cmblock_keep_unsent_block(&arg->difference->neighbour, table, p->sent, p->local);

	arg->taken++;
	if (kept)
		cmblock_slot_put(p->sent, "version", Int64GetDatum(p->version_there + 1));
	note(arg, table, p->sent, kept ? ACTION_CONFLICT : ACTION_RECOVERED,
		 kept ? "the block was kept against the row of" : "the row came back from");
}

/*
 * A row that is another site's, here or there, by the word of the parent, or of the child that was its owner by what is known here.
 */
static bool
take_others(Pair *p, BatchTable table, TakeBack *arg)
{
	const Neighbour *neighbour = &arg->difference->neighbour;
	SiteCode here = neighbour->here.code;
	bool both = changed_since(arg->difference, p->origin_here,
							  DatumGetTimestampTz(cmblock_slot_value(p->local, "changed_at")),
							  DatumGetTimestampTz(cmblock_slot_value(p->sent, "changed_at")));
	bool given_away = both && neighbour->is_parent && p->assigned_there != here;

	if (p->version_there < p->version_here && !given_away)
		return false;
	if (p->version_there == p->version_here && !given_away &&
		!(neighbour->is_parent && (p->origin_there == here || p->origin_here != here)))
		return false;
	if (!neighbour->is_parent && p->assigned_here != neighbour->code)
		return false;
	arg->taken++;
	/* Who wrote it is the child's word, too: not to be passed on in another site's name. */
	if (!neighbour->is_parent)
		cmblock_slot_put(p->sent, "origin_site", SiteCodeGetDatum(here));
	if (p->assigned_here == here && cmblock_versions_seized(p->version_here, p->version_there) &&
		(both || !arg->difference->lost) && cmblock_keep_unsent_block(neighbour, table, p->sent, p->local))
		note(arg, table, p->sent, ACTION_CONFLICT,
			 "seized; the block that was made here meanwhile is passed on to");
	else
		/* What was done here to another site's row cannot stand, and is said. */
		note(arg, table, p->sent,
			 both && p->blocked_here && !p->blocked_there ? ACTION_CONFLICT : ACTION_RECOVERED,
			 p->assigned_there == here ? "the row came back from"
									   : "the row came back as another site's from");
	return true;
}

static bool
merge_site(TupleTableSlot *sent, TupleTableSlot *local, TakeBack *arg)
{
	int64 version_there = DatumGetInt64(cmblock_slot_value(sent, "version"));

	if (version_there <= DatumGetInt64(cmblock_slot_value(local, "version")))
		return false;
	if (arg->difference->lost)
		arg->taken++;
	else
		cmblock_become_local(sent, local, false, version_there + 1, arg->difference->neighbour.here.code);
	return true;
}

static bool
merge_rows(BatchTable table, TupleTableSlot *sent, TupleTableSlot *local, void *context)
{
	TakeBack *arg = context;
	bool lost = arg->difference->lost;
	SiteCode here = arg->difference->neighbour.here.code;
	Pair p;

	if (!local)
	{
		arg->taken++;
		note(arg, table, sent, ACTION_RECOVERED, "the row came back from");
		return true;
	}
	if (table == BATCH_SITE)
		return merge_site(sent, local, arg);
	p = pair_of(sent, local);
	if (p.assigned_here != here || p.assigned_there != here)
		return take_others(&p, table, arg);
	if (lost && p.version_there > p.version_here)
		take_lost(&p, table, arg);
	else if (p.version_there > p.version_here && p.origin_there != here)
		take_handed_over(&p, table, arg);
	else if (p.version_there >= p.version_here || (lost && p.blocked_there && !p.blocked_here))
		write_anew(&p, table, arg);
	else
		return false;
	return true;
}

/* May a row come back from a child? What this site wrote and owns; and what was the child's own, and is another's now. */
static bool
may_give_back(const Neighbour *child, Relation relation, HeapTuple old_row, HeapTuple new_row)
{
	SiteCode here = child->here.code;
	bool written_here = cmblock_row_site(relation, new_row, "origin_site") == here;
	SiteCode assigned;

	if (RelationGetRelid(relation) == cmblock_relation(REL_SITE))
		return written_here;
	assigned = cmblock_row_site(relation, new_row, "assigned_site");
	if (written_here && assigned == here)
		return true;
	return old_row && cmblock_row_site(relation, old_row, "assigned_site") == child->code &&
		   assigned != here && cmblock_is_primary(assigned);
}

/* A RowCheck. `arg` is the Difference. */
static void
check_taken_row(Relation relation, HeapTuple old_row, HeapTuple new_row, void *arg)
{
	const Neighbour *neighbour = &((const Difference *) arg)->neighbour;

	cmblock_check_version(neighbour, relation, new_row);
	if (!neighbour->is_parent && !may_give_back(neighbour, relation, old_row, new_row))
		ereport(
			ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("site %s gave back a row that is not this site's",
				   cmblock_site_code_string(neighbour->code)),
			errdetail("Rows come back from a child when this site wrote and owns them, or when they were the "
					  "child's own."));
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
