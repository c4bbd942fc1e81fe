/*
 * site.h
 *		Who this database is, and what it knows of the other sites.
 */
#ifndef CMBLOCK_SITE_H
#define CMBLOCK_SITE_H

#include "postgres.h"
#include "utils/uuid.h"

#include "catalog.h"
#include "types.h"

typedef struct SiteIdentity
{
	SiteCode code;
	SiteKind kind;
	SiteCode parent; /* NO_SITE at the top of the hierarchy */
	pg_uuid_t hierarchy;
	char incarnation[80]; /* that it last ran with; empty: none noted */
	bool is_restored;     /* to an earlier state, and has not compared with its neighbours yet */
} SiteIdentity;

/* This site, or NULL when setup_site has not been called. Valid until the next call. Cheap: cached. */
extern const SiteIdentity *cmblock_this_site(void);

/* The same, but an error (55000) that says what to do when the site is not set up. */
extern const SiteIdentity *cmblock_require_site(void);

typedef struct SiteRow
{
	SiteCode code;
	SiteKind kind;
	SiteCode parent; /* NO_SITE: none, or not known here yet */
	bool retired;
	int64 version;
} SiteRow;

/* Looks a site up with the newest snapshot; false when this site does not know it. */
extern bool cmblock_lookup_site(SiteCode code, SiteRow *row);

/* The same; an error (42704) if it is not there, or is retired. */
extern void cmblock_require_live_site(SiteCode code, SiteRow *row);

/* An error (22023) if it is not a primary site: no other has clients. */
extern void cmblock_require_site_for_clients(const SiteRow *row);

#endif
