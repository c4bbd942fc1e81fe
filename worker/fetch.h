/*
 * fetch.h
 *		Fetching files from http, https and file addresses, several at once, none of them able to hold the others up.
 */
#ifndef CMBLOCK_FETCH_H
#define CMBLOCK_FETCH_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Transfers at any one time; each may hold cmblock.crl_max_size in memory. */
#define MAX_FETCHES 8

typedef enum FetchOutcome
{
	FETCH_UNDER_WAY,
	FETCH_RECEIVED,
	FETCH_NOT_MODIFIED, /* the server says that what we have is what it has */
	FETCH_FAILED
} FetchOutcome;

/* One transfer. What is allocated is malloc'd: parts of it are made in callbacks, where nothing may be raised. */
typedef struct Fetch
{
	/* Set by the caller of cmblock_fetch_start. */
	char *url;
	char *etag; /* of the copy we have, or NULL */
	char *last_modified;
	int64 tag; /* the caller's */

	/* The answer. */
	FetchOutcome outcome;
	unsigned char *body; /* FETCH_RECEIVED: what came, never more than cmblock.crl_max_size */
	size_t size;
	char error[512];          /* FETCH_FAILED: a sentence; printable, without anything of the body in it */
	char new_etag[256];       /* FETCH_RECEIVED: the server's names for this version, or "" */
	char new_modified[64];    /* Last-Modified, as it was sent */
	char content_type[64];    /* as it was sent, cut */
	int retry_after;          /* seconds that the server asks for before the next try, or 0 */
	int64 milliseconds;       /* that it took */
	struct FetchState *state; /* private */
} Fetch;

/* Milliseconds by a clock that nobody sets: for how long something takes or is waited for. */
extern int64 cmblock_fetch_clock(void);

/* Opens the library behind it, once a process. */
extern void cmblock_fetch_init(void);

/* Starts a transfer, whose end cmblock_fetch_done reports. NULL when MAX_FETCHES are under way. */
extern Fetch *cmblock_fetch_start(const char *url, const char *etag, const char *last_modified, int64 tag);
extern int cmblock_fetch_count(void);

/*
 * Sleeps until a transfer ends, the process's latch is set or the time is over, while it moves all transfers along.
 * Outside of transactions. The latch is reset; interrupts are the caller's business.
 */
extern void cmblock_fetch_wait(long timeout_ms);

/* A transfer that has ended, each once, or NULL. The caller gives it back with cmblock_fetch_free. */
extern Fetch *cmblock_fetch_done(void);
extern void cmblock_fetch_free(Fetch *fetch);

/* Ends all transfers, without a report. */
extern void cmblock_fetch_abandon(void);

/* Does a file address lead to a file below cmblock.crl_file_directory? Reads it. In fetch_file.c. */
extern void cmblock_fetch_file(Fetch *fetch);

#endif
