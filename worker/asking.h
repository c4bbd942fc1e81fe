/*
 * asking.h
 *		Takes questions (src/question.c) from site to site: asks each neighbour, and tells the one that asked.
 */
#ifndef CMBLOCK_ASKING_H
#define CMBLOCK_ASKING_H

#include "links.h"

/* Reads what is asked in this database, for the functions below. */
extern void cmblock_read_questions(void);

/* Was anything asked? */
extern bool cmblock_any_questions(void);

/*
 * Makes the next call that a ready link with nothing in flight has to make, if any: link->calling says so. Returns PEER_NOTHING or
 * PEER_FAILED.
 */
extern PeerEvent cmblock_call_link(Link *link, const PeerIdentity *who, TimestampTz now);

/* The call was answered. True when that is news that another link may have to pass on. */
extern bool cmblock_link_replied(Link *link);

/* Answers in place of a neighbour whose link is down or paused, in transactions of its own. True: another link may have to pass it on. */
extern bool cmblock_answer_for_link(Link *link);

#endif
