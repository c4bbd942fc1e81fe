/*
 * worker.h
 *		The background workers: entry points, settings, and the transactions they run.
 */
#ifndef CMBLOCK_WORKER_H
#define CMBLOCK_WORKER_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "site.h"

/* Registered with the postmaster. */
extern PGDLLEXPORT void cmblock_launcher_main(Datum arg);
extern PGDLLEXPORT void cmblock_replicator_main(Datum database);
extern PGDLLEXPORT void cmblock_refresher_main(Datum database);

/* Watches commands that need a database to themselves, and COMMIT PREPARED. */
extern void cmblock_install_utility_hook(void);

/* Settings. */
extern int cmblock_connect_timeout; /* s */
extern int cmblock_peer_timeout;    /* s */
extern int cmblock_retry_max;       /* ms */
extern int cmblock_batch_rows;
extern int cmblock_compare_interval; /* s; 0: never by itself */

/* What ALTER DATABASE, ALTER ROLE or postgresql.conf say must not change what a worker's statements mean, or end them. */
extern void cmblock_pin_settings(void);

/* What a transaction of a worker found. */
typedef enum WorkerGround
{
	GROUND_READY,         /* inside a transaction and SPI: end it with cmblock_end_work */
	GROUND_GONE,          /* the extension is not there any more: no transaction */
	GROUND_OTHER_VERSION, /* the extension's SQL is of another version than this library: no transaction */
} WorkerGround;

/*
 * Begins a transaction: locks the extension against DROP and ALTER, checks that it is still the one that this process
 * started with, and connects to SPI with a snapshot.
 */
extern WorkerGround cmblock_begin_work(void);
extern void cmblock_end_work(void);

/* Gives up the transaction, if there is one. */
extern void cmblock_abort_work(void);

/* The same in PG_CATCH: returns the error, in `context`, which is current then. */
extern ErrorData *cmblock_abort_work_for_error(MemoryContext context);

#endif
