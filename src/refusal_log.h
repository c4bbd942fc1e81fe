/*
 * refusal_log.h
 *		Refusals in the server log, a line each, and not more than the administrator wants.
 */
#ifndef CMBLOCK_REFUSAL_LOG_H
#define CMBLOCK_REFUSAL_LOG_H

#include "postgres.h"

#include "decision.h"

/* cmblock.log_refusals */
extern bool cmblock_log_refusals;

/* The request was refused: writes a line, or counts it as left out. The decision has its findings. */
extern void cmblock_log_refusal(const AccessRequest *request, const AccessDecision *decision);

/* Settings of this part. */
extern void cmblock_refusal_log_define_settings(void);

/* Shared memory: for worker/init.c. */
extern Size cmblock_refusal_log_size(void);
extern void cmblock_refusal_log_startup(void);

#endif
