/*
 * init.c
 *		What the workers set up when the library is loaded.
 *
 * The settings exist wherever the library is loaded, so that postgresql.conf can name them; launcher and hooks
 * only when it is preloaded.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"

#include "worker.h"

/* Delay after which the postmaster starts a launcher that ended by an error. */
#define LAUNCHER_RESTART_SECONDS 5

int cmblock_connect_timeout = 10;
int cmblock_peer_timeout = 30;
int cmblock_retry_max = 60000;
int cmblock_batch_rows = 4000;
int cmblock_compare_interval = 86400;

static void
define_settings(void)
{
	DefineCustomIntVariable("cmblock.connect_timeout",
							"How long to wait for a connection to a neighbour site.", NULL,
							&cmblock_connect_timeout, 10, 1, 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"cmblock.peer_timeout", "How long to wait for a neighbour site that makes no progress.",
		"The neighbour gives up a batch after the same time, for instance when it waits for a lock.",
		&cmblock_peer_timeout, 30, 1, 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"cmblock.retry_max", "The longest delay between two attempts to reach a neighbour site.",
		"The delay begins at one second and doubles with each failure, with some randomness.",
		&cmblock_retry_max, 60000, 10, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("cmblock.batch_rows",
							"The most rows that are sent to a neighbour site in one batch.",
							"Each batch is a transaction of the neighbour's.", &cmblock_batch_rows, 4000, 1,
							100000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"cmblock.compare_interval",
		"How often this site compares its rows with those of each neighbour site.",
		"Differences are repaired and reported. 0: only compare_site does it, and a site that was restored.",
		&cmblock_compare_interval, 86400, 0, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

static void
register_launcher(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = LAUNCHER_RESTART_SECONDS;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "cmblock");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "cmblock_launcher_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "cmblock launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "cmblock launcher");
	RegisterBackgroundWorker(&worker);
}

void
cmblock_worker_init(void)
{
	define_settings();
	if (!process_shared_preload_libraries_in_progress)
		return;
	cmblock_install_utility_hook();
	/* pg_upgrade has to be alone: what a worker wrote to the old server now would be missing in the new one. */
	if (!IsBinaryUpgrade)
		register_launcher();
}
