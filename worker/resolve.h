/*
 * resolve.h
 *		Addresses of the hosts of a connection, found without blocking.
 */
#ifndef CMBLOCK_RESOLVE_H
#define CMBLOCK_RESOLVE_H

#include "postgres.h"

#include "connection.h"

/* So many names are resolved at a time: each is a process. */
#define RESOLVE_AT_ONCE 8

typedef struct Resolver Resolver;

typedef enum ResolveStep
{
	RESOLVE_WAITS, /* for its descriptor to become readable */
	RESOLVE_DONE,
	RESOLVE_FAILED
} ResolveStep;

/* Do the options name a host that has to be looked up? */
extern bool cmblock_resolve_needed(const ConnectionOptions *options);

/* How many are under way. */
extern int cmblock_resolve_count(void);

/* Begins. NULL: out of memory, files or processes. To be freed. */
extern Resolver *cmblock_resolve_begin(const ConnectionOptions *options);

/* Goes on, without blocking. When it has failed, `message` of so many octets says why. */
extern ResolveStep cmblock_resolve_advance(Resolver *resolver, char *message, int size);

/* What to wait for; another one after each step. */
extern int cmblock_resolve_descriptor(const Resolver *resolver);

/*
 * When done: appends host, hostaddr and port, which replace those of the options, with room for three. They point into the resolver. Where
 * the system has no program for it nothing is appended, and libpq looks the names up itself.
 */
extern void cmblock_resolve_apply(const Resolver *resolver, ConnectionOptions *options);

extern void cmblock_resolve_free(Resolver *resolver);

#endif
