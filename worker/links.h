/*
 * links.h
 *		The links of this database as the replicator has them: read from replication_link, and state written back.
 */
#ifndef CMBLOCK_LINKS_H
#define CMBLOCK_LINKS_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "feed.h"
#include "incarnation.h"
#include "peer.h"
#include "phase.h"
#include "question.h"
#include "site.h"

typedef enum LinkState
{
	LINK_ACTIVE,
	LINK_DEGRADED,
	LINK_FAILED
} LinkState;

/* What a link has in flight that is no batch: a confirmation (replicator.c), or see asking.c. */
typedef enum LinkCall
{
	CALL_NONE,
	CALL_CONFIRM,
	CALL_ASK,
	CALL_TELL
} LinkCall;

/* A question, and which renewal of it. */
typedef struct Asked
{
	uint64 question;
	TimestampTz renewed;
} Asked;

typedef struct Comparison Comparison;

/* Batches that may be on their way to a neighbour, and about how large they are at most. */
#define LINK_WINDOW 4
#define LINK_BATCH_OCTETS (1024 * 1024)

typedef struct BatchAway
{
	char *
		place; /* how far the round is behind it (round.c), allocated in the link's context; NULL: at its end */
	int octets;
} BatchAway;

typedef struct Link
{
	dlist_node node;
	MemoryContext context;

	/* as the table has it */
	SiteCode neighbour;
	char code[4];
	char *server;
	bool paused;
	TimestampTz resend_requested; /* 0: not */
	LinkState state;
	int failures;
	bool seen; /* while the table is being read */

	/* at work */
	Peer peer;
	uint64 options_hash; /* of the options that the last connection was made with */
	Feed feed;
	TimestampTz next_try;
	uint32 changes; /* the counter (slots.h) before the last look for news */
	bool look;      /* look for news whatever the counter says */
	bool fresh;     /* connected since its success was last written down */
	bool in_round;
	TimestampTz
		resending;   /* what the round, or one not confirmed yet, is the answer to; 0: it is no resend */
	bool sent_any;   /* in this round */
	StringInfo held; /* the round's last batch, waiting until those before it are acknowledged */
	int held_rows;
	bool awaiting_last; /* the batch with the cursor is on its way */
	BatchAway away[LINK_WINDOW];
	int batches_away;
	char *
		reached; /* how far the round is with everything acknowledged; NULL: nothing is, or it is not known */
	TimestampTz waiting_since; /* for the acknowledgement that is next */
	int batch_octets;          /* how large batches are now */
	bool unconfirmed;          /* the neighbour took in more than is known to be on its disk */
	struct varlena *confirmed; /* pg_snapshot: what is; NULL: nothing is known */
	Comparison *comparison;    /* under way; NULL: none */
	bool verified;             /* in this run the neighbour has shown nothing that this site lost */
	bool compare_wanted;       /* somebody waits for a comparison */
	TimestampTz compare_after; /* counts as compared then, so that not all links are due at once */
	TimestampTz compared_at;   /* when the last one began; 0: never */
	uint32 ready;              /* what the socket is ready for: WL_SOCKET_... */
	int wait_position;         /* in the set of wait events; -1: not in it */
	uint32 waits_for;          /* what that place of the set waits for */

	/* questions: by their place */
	LinkCall calling;
	uint64 call_question;
	Asked asked[CMBLOCK_MAX_QUESTIONS];        /* of the neighbour */
	Asked answered_for[CMBLOCK_MAX_QUESTIONS]; /* in place of the neighbour */
	TimestampTz acknowledged_at;               /* when it was last known to have all of `confirmed` */

	/* as published (phase.c) */
	bool published;
	LinkPhase phase;
	int64 round_rows; /* rows of the round that were sent */
	int64 published_rows;

	/* to be written to the table */
	bool progress;
	int64 rows;
	int64 batches;
	int64 octets;
	TimestampTz written_at;
} Link;

/* This site, as strings for the calls. */
typedef struct Here
{
	SiteIdentity identity;
	char code[4];
	char hierarchy[40];
	char incarnation[INCARNATION_OCTETS]; /* and run */
	int links;
} Here;

/*
 * Reads the links that send into `links`: new ones are added, those that are gone are closed and freed. False when this
 * database is not a site or has none. Inside cmblock_begin_work.
 */
extern bool cmblock_read_links(dlist_head *links, Here *here);

/* The rest begin and end their own transaction, and only touch the link when the extension is gone meanwhile. */

/* Counts a failure, decides state and next attempt, writes both down; logs and notifies when the state changes. */
extern void cmblock_link_failed(Link *link, const Here *here, const char *sqlstate, const char *message,
								TimestampTz now);

/* All that was sent is confirmed: back to active, and progress is written down. */
extern void cmblock_link_succeeded(Link *link, const Here *here, TimestampTz now);

/* A batch of that size was acknowledged. It is written down with the next of the above, or when it is due. */
extern void cmblock_link_progressed(Link *link, int rows, int octets);

/* When progress that is not written down yet is to be; DT_NOEND: there is none. */
extern TimestampTz cmblock_link_write_due(const Link *link);

/* All of feed.since is on the neighbour's disk. */
extern void cmblock_link_confirmed(Link *link, TimestampTz now);

/* The connection ended: nothing is in flight, and all questions have to be asked again (asking.c). */
extern void cmblock_forget_calls(Link *link);

/* Says in shared memory what the link is doing, if that has changed. */
extern void cmblock_publish_phase(Link *link);

/* Who calls whom over the link. */
extern PeerIdentity cmblock_link_identity(const Link *link, const Here *here);

/* Gives up the round under way and the connection. */
extern void cmblock_disconnect_link(Link *link);

/* The same, and the link is freed. */
extern void cmblock_close_link(Link *link);

#endif
