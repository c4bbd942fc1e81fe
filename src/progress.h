/*
 * progress.h
 *		How far a long command of a session has come: view progress.
 */
#ifndef CMBLOCK_PROGRESS_H
#define CMBLOCK_PROGRESS_H

#include "postgres.h"

typedef enum ProgressCommand
{
	PROGRESS_IMPORT_CRL,
	PROGRESS_CHECK_CRL,
	PROGRESS_VERIFY_HISTORY
} ProgressCommand;

typedef enum ProgressPhase
{
	WORK_READING,             /* octets */
	WORK_VERIFYING_SIGNATURE, /* octets */
	WORK_WAITING_FOR_SERIES,  /* nothing to count */
	WORK_INDEXING,            /* entries */
	WORK_COMPARING,           /* entries */
	WORK_STORING,             /* octets */
	WORK_ASKING_BEFORE,       /* certificates */
	WORK_ASKING_AFTER,        /* certificates */
	WORK_VERIFYING_CHAIN      /* events */
} ProgressPhase;

/*
 * A command begins. It ends with cmblock_progress_end, or with the transaction or subtransaction in which it began. A command that
 * another one runs shows its phases under the other's name.
 */
extern void cmblock_progress_begin(ProgressCommand command);
extern void cmblock_progress_end(void);

/* A phase of the command begins, in which so many things are to be done. Nothing when no command has begun. */
extern void cmblock_progress_phase(ProgressPhase phase, int64 total);

/* So many of them are done. Cheap enough for every single one. */
extern void cmblock_progress_done(int64 done);

/* Shared memory: for worker/init.c. */
extern Size cmblock_progress_size(void);
extern void cmblock_progress_startup(void);

#endif
