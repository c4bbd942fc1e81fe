/*
 * writer.h
 *		Who is writing the guarded tables at this moment, in this process.
 *
 * A variable of this process, set only by C code around its own statements: see cmblock_execute_as. No setting,
 * role or session_replication_role reaches it.
 */
#ifndef CMBLOCK_WRITER_H
#define CMBLOCK_WRITER_H

#include "postgres.h"
#include "access/htup.h"
#include "utils/relcache.h"

typedef enum WriterKind
{
	WRITER_USER,     /* a statement of a user: the guard checks and stamps */
	WRITER_COMMAND,  /* a command of cmblock: may also write site, this_site, block_event */
	WRITER_HANDOVER, /* reassign_client: may also change the assigned site */
	WRITER_SEIZURE,  /* seize_clients: may also change it where this site is not the owner */
	WRITER_APPLY     /* a neighbour's changes: versions come from there; `check` says whether it may */
} WriterKind;

/*
 * Called for each row that a neighbour's batch writes, after the row it replaces was locked.
 * old_row is NULL for an insert. Raises an error when the neighbour has no authority over the row.
 */
typedef void (*RowCheck)(Relation relation, HeapTuple old_row, HeapTuple new_row, void *arg);

typedef struct Writer
{
	WriterKind kind;
	RowCheck check; /* WRITER_APPLY only */
	void *check_arg;
} Writer;

/*
 * Makes `writer` the one in force and returns the one before, which the caller must put back in PG_FINALLY.
 */
extern Writer cmblock_set_writer(Writer writer);
#define cmblock_writer(k) ((Writer){.kind = (k)})

extern const Writer *cmblock_current_writer(void);

#endif
