/*
 * incarnation.h
 *		Which life of a database a snapshot of it belongs to, and whether this database was set back.
 */
#ifndef CMBLOCK_INCARNATION_H
#define CMBLOCK_INCARNATION_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#define INCARNATION_OCTETS 80

/* Shared memory: for worker/init.c. */
extern Size cmblock_incarnation_size(void);
extern void cmblock_incarnation_startup(void);

/*
 * The system identifier of the cluster, the timeline and the OID of the database, as text that stays until the next call. A
 * transaction number means something within one incarnation only. Not to be called in recovery.
 */
extern const char *cmblock_incarnation(void);

/*
 * The run: the incarnation and the start of the server that this process belongs to, noted in site_run if it is not there yet.
 * Marks the site as restored when the incarnation is not the one it last ran with and it has links. Needs shared memory; inside SPI.
 */
extern const char *cmblock_note_run(void);

/* What a neighbour's cursor says about this database. */
typedef enum CursorVerdict
{
	CURSOR_GOOD,     /* everything that it stands for is here */
	CURSOR_DOUBTFUL, /* probably; a comparison will show it */
	CURSOR_LOST      /* it stands for changes that this database does not have */
} CursorVerdict;

/*
 * Judges a cursor by the run that it was made in and the position in the WAL at that time. *lost_since: changes made here
 * from then on do not build on what the neighbour has. Inside SPI.
 */
extern CursorVerdict cmblock_judge_cursor(const char *run, XLogRecPtr position, TimestampTz *lost_since);

/* Marks the site as restored, or the contrary. Inside SPI. */
extern void cmblock_mark_restored(const char *why);
extern void cmblock_unmark_restored(void);

/* Refuses (55000) while this site is marked as restored, or runs as an incarnation that nobody has looked at. */
extern void cmblock_require_not_restored(void);

#endif
