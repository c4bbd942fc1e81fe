/*
 * sources.h
 *		The refresher's transactions: which sources there are, and what came of a fetch.
 */
#ifndef CMBLOCK_SOURCES_H
#define CMBLOCK_SOURCES_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "fetch.h"
#include "types.h"

/* A source that is to be fetched from, as table crl_source had it. */
typedef struct Source
{
	int64 id;
	char *url;
	bool delta;
	bool has_scope; /* of the CRL that it gave last */
	unsigned char scope[SHA256_OCTETS];
	int failures;
	TimestampTz last_attempt; /* DT_NOBEGIN: never */
	TimestampTz next_attempt; /* DT_NOBEGIN: at once */
	char *etag;               /* what the server called the CRL that is held, or NULL */
	char *last_modified;
} Source;

typedef struct SourceList
{
	int count;
	Source *source; /* in the order in which they are to be tried */
} SourceList;

/*
 * Brings crl_source up to date with what certificates and CRLs name. Inside a transaction of cmblock_begin_work. Writes only if
 * something has changed. Raises lock_not_available where another session holds a row that has to go.
 */
extern void cmblock_follow_sources(void);

/* Reads crl_source, inside a transaction of cmblock_begin_work; the list is in the current memory context. */
extern void cmblock_read_sources(SourceList *list);

/*
 * Takes in what a fetch brought and notes how it went, in transactions of its own; none is open before or after. False: another
 * session holds a lock that this needs, and nothing was done; the caller tries again later. `first` is the first try, which tells
 * the log of that.
 */
extern bool cmblock_settle_fetch(const Fetch *fetch, TimestampTz started, bool first);

#endif
