/*
 * peer.h
 *		A connection to a neighbour site: never blocks, always has a deadline.
 */
#ifndef CMBLOCK_PEER_H
#define CMBLOCK_PEER_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "libpq-fe.h"

#include "connection.h"
#include "resolve.h"

#define PEER_ERROR_OCTETS 1024

typedef enum PeerPhase
{
	PEER_OFFLINE,
	PEER_RESOLVING,  /* the names of its hosts are being looked up */
	PEER_CONNECTING, /* libpq is connecting */
	PEER_OPENING,    /* the handshake is on its way */
	PEER_READY
} PeerPhase;

typedef enum PeerEvent
{
	PEER_NOTHING,
	PEER_RESOLVED,     /* go on with cmblock_peer_connect again */
	PEER_OPENED,       /* the handshake is done: see `cursor` */
	PEER_ANSWERED,     /* cmblock_peer_compare was answered: see `answer` */
	PEER_ACKNOWLEDGED, /* calls were answered: see `in_flight` */
	PEER_FAILED        /* offline again: see `error` and `sqlstate` */
} PeerEvent;

typedef struct Peer
{
	PeerPhase phase;
	PGconn *conn;
	uint32 wants;         /* WL_SOCKET_... to wait for */
	TimestampTz deadline; /* of the step under way, or DT_NOEND */
	int in_flight;        /* calls not answered */
	bool timed_out;       /* it failed because calls were not answered in time */
	char *cursor;         /* what the neighbour has by its own record, malloc'd; NULL: nothing */
	char *progress;       /* of the round under way, as it was sent along, malloc'd; NULL: none */
	char *cursor_run;     /* the run of this site that it was made in, malloc'd; NULL with the cursor */
	XLogRecPtr cursor_position;

	char *answers; /* to the last cmblock_peer_ask, malloc'd; NULL: none yet */
	int answers_length;

	PGresult *answer; /* to the last cmblock_peer_compare: whoever takes it clears it and sets NULL */

	/* private */
	Resolver *resolver;
	PostgresPollingStatusType poll;
	bool password_required;
	bool comparing; /* the answer to cmblock_peer_compare is to come */
	bool asking;    /* the reply to ask_enforcement is to come */
	int replies;    /* of the handshake, that have come */
	char notice[PEER_ERROR_OCTETS];
	char notice_sqlstate[6];

	/* After PEER_FAILED. Never holds a credential: libpq does not put one into a message. */
	char error[PEER_ERROR_OCTETS];
	char sqlstate[6];
} Peer;

/* Who calls whom: the arguments of every call. Strings, as they are sent. */
typedef struct PeerIdentity
{
	const char *hierarchy;
	const char *sender;
	const char *receiver;
	const char *incarnation;
} PeerIdentity;

/* Begins to connect; the options have room for three more. Returns PEER_NOTHING or PEER_FAILED. */
extern PeerEvent cmblock_peer_connect(Peer *peer, ConnectionOptions *options, TimestampTz now);

/* Goes on after the socket became ready (`ready`: WL_SOCKET_...), or time has passed (0). */
extern PeerEvent cmblock_peer_advance(Peer *peer, const PeerIdentity *who, uint32 ready, TimestampTz now);

/*
 * Sends a batch; `cursor` (text) and its position in the WAL with the last one of a round, else NULL. `repair`: whatever versions the
 * neighbour has. `progress` (or NULL) is for the neighbour to keep until there is a cursor. Returns PEER_NOTHING or PEER_FAILED.
 */
extern PeerEvent cmblock_peer_send(Peer *peer, const PeerIdentity *who, const char *batch, int length,
								   const char *cursor, XLogRecPtr position, bool repair, const char *progress,
								   TimestampTz now);

/* Questions that a comparison asks. */
typedef enum PeerQuestion
{
	PEER_COMPARE_ROWS,
	PEER_FETCH_ROWS
} PeerQuestion;

typedef struct PeerValue
{
	const char *octets; /* NULL: null */
	int length;         /* binary only */
	bool binary;
} PeerValue;

/* Asks, when nothing is in flight. The answer has one row, in binary. Returns PEER_NOTHING or PEER_FAILED. */
extern PeerEvent cmblock_peer_compare(Peer *peer, const PeerIdentity *who, PeerQuestion question,
									  const PeerValue *values, int count, TimestampTz now);

/* Asks when all that the neighbour has acknowledged is on its disk; that is its answer. Otherwise as the next two. */
extern PeerEvent cmblock_peer_confirm(Peer *peer, const PeerIdentity *who, TimestampTz now);

/*
 * Asks the neighbour which version of a client it has; the reply is in `answers`. Tells it what others answered. Not while
 * batches are in flight. Both return PEER_NOTHING or PEER_FAILED; PEER_ACKNOWLEDGED follows.
 */
extern PeerEvent cmblock_peer_ask(Peer *peer, const PeerIdentity *who, uint64 question, const char *client,
								  TimestampTz now);
extern PeerEvent cmblock_peer_tell(Peer *peer, const PeerIdentity *who, uint64 question, const char *answers,
								   int length, TimestampTz now);

extern void cmblock_peer_close(Peer *peer);

/* The socket to wait on; asked for anew each time, as libpq may change it while it connects. */
extern pgsocket cmblock_peer_socket(const Peer *peer);

/* False for violated constraints, whose DETAIL is the row: not for everybody who may read the state of a link. */
extern bool cmblock_detail_is_public(const char *sqlstate);

#endif
