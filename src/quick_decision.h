/*
 * quick_decision.h
 *		The common cases of the decision, from the cache: no snapshot, no table.
 */
#ifndef CMBLOCK_QUICK_DECISION_H
#define CMBLOCK_QUICK_DECISION_H

#include "postgres.h"

#include "decision.h"

typedef enum QuickAnswer
{
	QUICK_UNSURE,  /* ask cmblock_decide */
	QUICK_ALLOWED, /* and, if words are wanted, without a warning */
	QUICK_REFUSED
} QuickAnswer;

/*
 * The answer that cmblock_decide would give, or QUICK_UNSURE. With WORDS_NONE warnings are not looked for. `decision`
 * gets what says for whom it is, but no findings.
 */
extern QuickAnswer cmblock_decide_quickly(const AccessRequest *request, Wordiness words,
										  AccessDecision *decision);

#endif
