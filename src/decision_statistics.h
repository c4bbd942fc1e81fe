/*
 * decision_statistics.h
 *		How many requests were allowed, and how many refused for which reason.
 */
#ifndef CMBLOCK_DECISION_STATISTICS_H
#define CMBLOCK_DECISION_STATISTICS_H

#include "postgres.h"

#include "port/atomics.h"

#include "decision.h"

#define DECISION_TRANSPORTS (TRANSPORT_HTTPS + 1)
#define DECISION_KINDS (REQUEST_OS_DEPLOYMENT + 1)
#define DECISION_REASONS (REASON_NOT_APPROVED + 1) /* REASON_NONE: allowed */
#define DECISION_COUNTERS (DECISION_TRANSPORTS * DECISION_KINDS * DECISION_REASONS)

/* The counters of this session: nobody else writes them. NULL until the first decision. */
extern pg_atomic_uint64 *cmblock_my_decisions;

/* Finds a place for them. */
extern void cmblock_decision_statistics_attach(void);

static inline int
cmblock_decision_counter(Transport transport, RequestKind kind, Reason reason)
{
	return ((int) transport * DECISION_KINDS + (int) kind) * DECISION_REASONS + (int) reason;
}

/* A decision has been made: with its first reason, or REASON_NONE. No lock, and no cache line that others write. */
static inline void
cmblock_count_decision(const AccessRequest *request, Reason reason)
{
	pg_atomic_uint64 *counter;

	if (unlikely(cmblock_my_decisions == NULL))
		cmblock_decision_statistics_attach();
	counter = &cmblock_my_decisions[cmblock_decision_counter(request->transport, request->kind, reason)];
	pg_atomic_write_u64(counter, pg_atomic_read_u64(counter) + 1);
}

/* Shared memory: for worker/init.c. */
extern Size cmblock_decision_statistics_size(void);
extern void cmblock_decision_statistics_startup(void);

#endif
