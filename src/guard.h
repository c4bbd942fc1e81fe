/*
 * guard.h
 *		What the guard asks and says, for commands that ask before they write.
 */
#ifndef CMBLOCK_GUARD_H
#define CMBLOCK_GUARD_H

#include "postgres.h"

#include "compat.h"
#include "types.h"

/*
 * Refuses unless this site is set up, is a primary, and is `assigned`: the error names the site that can.
 * `what` is the object for the message, for instance "client GUID:...".
 */
extern void cmblock_require_assigned_here(SiteCode assigned, const char *what);

/* The error for a block of an ISV-proxied client. */
pg_noreturn extern void cmblock_refuse_isv_proxied(const char *what);

#endif
