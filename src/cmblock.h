/*
 * cmblock.h
 *		Version, settings and the hooks of the library as a whole.
 */
#ifndef CMBLOCK_H
#define CMBLOCK_H

#include "postgres.h"
#include "fmgr.h"

/* The one place that holds the version; t/001_version.pl compares the other files with it. */
#define CMBLOCK_VERSION "1.0"

typedef enum RejoinPolicy
{
	REJOIN_REPORT,
	REJOIN_REFUSE
} RejoinPolicy;

/* cmblock.restore: superusers only; the guard lets rows in as they come */
extern bool cmblock_restore;

/* cmblock.rejoin_policy: what happens when a registration or request looks like a blocked client coming back */
extern int cmblock_rejoin_policy;

extern PGDLLEXPORT void _PG_init(void);

#endif
