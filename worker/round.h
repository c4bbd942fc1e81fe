/*
 * round.h
 *		Rounds: what is new for a neighbour goes to it in batches.
 */
#ifndef CMBLOCK_ROUND_H
#define CMBLOCK_ROUND_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "links.h"

typedef enum RoundStep
{
	ROUND_OK,
	ROUND_FAILED,    /* the link has, see its peer */
	ROUND_NO_GROUND, /* the extension is not there any more, or of another version */
} RoundStep;

/*
 * After a handshake, when the feed stands at the neighbour's cursor: goes on with the round that an earlier connection began, if
 * `progress`, which the neighbour kept for us, belongs to one that may go on. Raises errors. Inside cmblock_begin_work.
 */
extern void cmblock_round_resume(Link *link, const char *progress);

/*
 * Reads the next chunk, the first one of a new round if there is none, and sends it, or keeps it back when it is the last of several.
 * Only when nothing is held back and there is room in the window.
 */
extern RoundStep cmblock_round_next(Link *link, const Here *here, TimestampTz now);

/* Is there room for a batch on its way? */
extern bool cmblock_round_has_room(const Link *link);

/* How large the next batch may be. */
extern int cmblock_round_octets(const Link *link, const Here *here);

/*
 * A batch of that size is sent: how long it takes decides how large those after it are. `place`: where the round is behind it,
 * allocated in the link's context; NULL at its end, and for what belongs to no round.
 */
extern void cmblock_round_note_batch(Link *link, char *place, int octets, TimestampTz now);

/* Sends the batch that was kept back. Only when nothing is on its way. */
extern RoundStep cmblock_round_send_held(Link *link, const Here *here, TimestampTz now);

/* Begins a round whose one batch is empty and brings the cursor: all rows are there already. The feed has begun. */
extern RoundStep cmblock_round_send_cursor(Link *link, const Here *here, TimestampTz now);

/* Batches were acknowledged. True when the round has ended with it. */
extern bool cmblock_round_acknowledged(Link *link, const Here *here, TimestampTz now);

/* The connection is given up because the neighbour took too long. */
extern void cmblock_round_timed_out(Link *link);

/* Gives the round under way up: nothing is on its way any more. */
extern void cmblock_round_abandon(Link *link);

/* When the neighbour is to be asked whether what it took in is on its disk; DT_NOEND: not now. */
extern TimestampTz cmblock_confirmation_due(const Link *link);

#endif
