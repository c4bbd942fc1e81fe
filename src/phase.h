/*
 * phase.h
 *		What a link is doing at this moment: for people, kept in shared memory.
 */
#ifndef CMBLOCK_PHASE_H
#define CMBLOCK_PHASE_H

#include "postgres.h"

#include "types.h"

typedef enum LinkPhase
{
	PHASE_CONNECTING,
	PHASE_HANDSHAKE,
	PHASE_FIRST_SYNCHRONISATION,
	PHASE_SENDING,
	PHASE_COMPARING,
	PHASE_IDLE,
	PHASE_WAITING_TO_RETRY,
	PHASE_PAUSED
} LinkPhase;

/* Shared memory: for worker/init.c. */
extern Size cmblock_phase_size(void);
extern void cmblock_phase_startup(void);

/* The replicator says what a link of its database is doing, and how many rows of the round it has sent. Until it ends. */
extern void cmblock_phase_publish(SiteCode neighbour, LinkPhase phase, int64 rows);

/* Does the link to this neighbour have a connection, by what the replicator said last? */
extern bool cmblock_phase_connected(SiteCode neighbour);

#endif
