/*
 * feed.h
 *		What is new for a neighbour: the rows between two snapshots, in chunks.
 */
#ifndef CMBLOCK_FEED_H
#define CMBLOCK_FEED_H

#include "postgres.h"

#include "access/xlogdefs.h"

#include "batch.h"
#include "types.h"

typedef struct Feed
{
	MemoryContext context; /* of what follows */
	SiteCode here;
	SiteCode neighbour;
	bool upward;           /* to the parent: only what this site wrote */
	struct varlena *since; /* pg_snapshot: what the neighbour has; NULL: nothing */
	XLogRecPtr position;   /* in the WAL when upto was taken: at or behind the commits in it */
	struct varlena *upto;  /* pg_snapshot: what it will have after this round; NULL: no round */

	/* where the round is */
	int table;      /* BATCH_TABLES: at the end */
	bool in_table;  /* last_xid and last_key are of this table */
	Datum last_xid; /* xid8 */
	Datum last_key;
	bool key_copied; /* last_key is allocated in context */
} Feed;

extern void cmblock_feed_init(Feed *feed, MemoryContext context, SiteCode here, SiteCode neighbour,
							  bool upward);

/*
 * What the neighbour has by its own record, as text; NULL for nothing. Inside cmblock_begin_work.
 */
extern void cmblock_feed_position(Feed *feed, const char *cursor);

/* Begins a round: takes the snapshot up to which it goes. Inside cmblock_begin_work. */
extern void cmblock_feed_begin(Feed *feed);

/*
 * Writes the next chunk into `writer`, at most max_rows rows and not much more than max_octets. True when the round ends with
 * it; the chunk may be empty then. Inside cmblock_begin_work, not necessarily that of cmblock_feed_begin.
 */
extern bool cmblock_feed_next(Feed *feed, BatchWriter *writer, int max_rows, int max_octets);

/* Where the round is, as text without line ends: so many words. palloc'd. */
#define FEED_PLACE_WORDS 5
extern char *cmblock_feed_place(const Feed *feed);

/*
 * Goes on with a round at such a place. False: it is none of a round from the present cursor. Raises errors when the words make no sense.
 * Inside cmblock_begin_work, with no round under way.
 */
extern bool cmblock_feed_resume(Feed *feed, char **words);

/* Waits until what the round's snapshot calls finished is on disk: before anything of the round is sent. */
extern void cmblock_feed_make_durable(const Feed *feed);

/* Text of the cursor that goes with the last chunk: palloc'd. */
extern char *cmblock_feed_cursor(const Feed *feed);

/* The round was acknowledged, or had nothing: the neighbour has everything up to its snapshot. */
extern void cmblock_feed_finish(Feed *feed);

/* Gives the round up. */
extern void cmblock_feed_abandon(Feed *feed);

#endif
