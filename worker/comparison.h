/*
 * comparison.h
 *		Comparing this database with a neighbour's over a link, and repairing what differs.
 */
#ifndef CMBLOCK_COMPARISON_H
#define CMBLOCK_COMPARISON_H

#include "postgres.h"

#include "links.h"

/*
 * Begins a comparison on a ready link with nothing on its way. `lost`: the neighbour has changes of this site that this site has
 * lost; lost_since as cmblock_judge_cursor has it. `cursor`: the link has no valid cursor, so one is to be sent at the end. Inside cmblock_begin_work.
 */
extern void cmblock_comparison_begin(Link *link, const Here *here, bool lost, TimestampTz lost_since,
									 bool cursor);

typedef enum ComparisonStep
{
	COMPARISON_MORE,    /* a range is settled: the link may send news before the next one */
	COMPARISON_WAITS,   /* for the neighbour, or the link has failed */
	COMPARISON_ERROR,   /* the link has to be failed, with peer.error and peer.sqlstate */
	COMPARISON_FINISHED /* the result is written down; the link goes on */
} ComparisonStep;

/* Goes on: after cmblock_comparison_begin, and whenever the neighbour has answered. Not inside a transaction. */
extern ComparisonStep cmblock_comparison_step(Link *link, const Here *here, const PeerIdentity *who,
											  TimestampTz now);

/* Is it between two ranges, and can news go first? */
extern bool cmblock_comparison_can_pause(const Link *link);

/* Does the end of this comparison have to carry a cursor? */
extern bool cmblock_comparison_brings_cursor(const Link *link);

extern void cmblock_comparison_end(Link *link);

#endif
