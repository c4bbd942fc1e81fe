/*
 * quick_decision.h
 *		The common cases of the decision, from the cache: no snapshot, no table.
 */
#ifndef CMBLOCK_QUICK_DECISION_H
#define CMBLOCK_QUICK_DECISION_H

#include "postgres.h"

#include "decision.h"

/*
 * The answer that cmblock_decide would give; false: ask that. `reason` is the first reason to refuse, or REASON_NONE. With
 * WORDS_NONE warnings are not looked for. With others, only what is allowed without a warning is answered: there are
 * no words here. `decision` says for whom it is, but has no findings.
 */
extern bool cmblock_decide_quickly(const AccessRequest *request, Wordiness words, AccessDecision *decision,
								   Reason *reason);

#endif
