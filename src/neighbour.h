/*
 * neighbour.h
 *		What a neighbour may send: the rules, and who a neighbour is.
 */
#ifndef CMBLOCK_NEIGHBOUR_H
#define CMBLOCK_NEIGHBOUR_H

#include "postgres.h"
#include "access/htup.h"
#include "utils/relcache.h"

#include "site.h"

typedef struct Neighbour
{
	SiteIdentity here;
	SiteCode code;
	bool is_parent; /* else it is a site directly below this one */
	bool
		merged; /* the row at hand was made here, out of two, and its authority has been looked at (seizure.c) */
} Neighbour;

/*
 * Fills in who `code` is to this site. An error (22023) when it is neither this site's parent nor a site
 * directly below it, or is retired.
 */
extern void cmblock_find_neighbour(SiteCode code, Neighbour *neighbour);

/*
 * A RowCheck (guard.h) with a Neighbour as its argument: raises 42501, naming row, neighbour and rule, when the
 * neighbour has no authority over the row. Only for rows that are newer than what is here: an old version does no harm and
 * may well be sent again when a link starts anew.
 */
extern void cmblock_check_authority(Relation relation, HeapTuple old_row, HeapTuple new_row, void *neighbour);

/* The rule about versions alone. */
extern void cmblock_check_version(const Neighbour *neighbour, Relation relation, HeapTuple new_row);

/* A column of a row that is a site code; NO_SITE for a null. */
extern SiteCode cmblock_row_site(Relation relation, HeapTuple row, const char *column);

/* Is this a primary site of the hierarchy, by what is known here? */
extern bool cmblock_is_primary(SiteCode code);

#endif
