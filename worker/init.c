/*
 * init.c
 *		What happens when the library is loaded. It knows all subsystems, so it is above them, with the workers.
 *
 * It loads with and without shared_preload_libraries (pg_dump and pg_upgrade need the latter). The settings exist wherever it is
 * loaded, so that postgresql.conf can name them. Preloading adds shared memory, hooks and the background workers; without
 * it the site still guards, decides and records, but does not replicate by itself.
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "authority.h"
#include "cmblock.h"
#include "crl_cache.h"
#include "crl_import.h"
#include "crl_source.h"
#include "decision_cache.h"
#include "decision_statistics.h"
#include "history_check.h"
#include "incarnation.h"
#include "phase.h"
#include "progress.h"
#include "question.h"
#include "refusal_log.h"
#include "settings.h"
#include "shmem.h"
#include "slots.h"
#include "worker.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(cmblock_version);

/* Delay after which the postmaster starts a launcher that ended by an error. */
#define LAUNCHER_RESTART_SECONDS 5

int cmblock_connect_timeout = 10;
int cmblock_peer_timeout = 30;
int cmblock_retry_max = 60000;
int cmblock_batch_rows = 4000;
int cmblock_compare_interval = 86400;

static const ShmemUser shmem_users[] = {
	{cmblock_slots_size, cmblock_slots_startup},
	{cmblock_incarnation_size, cmblock_incarnation_startup},
	{cmblock_crl_cache_shmem_size, cmblock_crl_cache_startup},
	{cmblock_question_size, cmblock_question_startup},
	{cmblock_phase_size, cmblock_phase_startup},
	{cmblock_decision_cache_shmem_size, cmblock_decision_cache_startup},
	{cmblock_decision_statistics_size, cmblock_decision_statistics_startup},
	{cmblock_refusal_log_size, cmblock_refusal_log_startup},
	{cmblock_history_check_size, cmblock_history_check_startup},
	{cmblock_progress_size, cmblock_progress_startup},
};

static void
define_worker_settings(void)
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
_PG_init(void)
{
	cmblock_define_settings();
	cmblock_crl_cache_define_settings();
	cmblock_decision_cache_define_settings();
	cmblock_authority_init();
	cmblock_crl_import_init();
	cmblock_crl_source_define_settings();
	cmblock_refusal_log_define_settings();
	define_worker_settings();
	MarkGUCPrefixReserved("cmblock");

	if (!process_shared_preload_libraries_in_progress)
		return;
	cmblock_shmem_init(shmem_users, lengthof(shmem_users));
	cmblock_install_utility_hook();
	/* pg_upgrade has to be alone: what a worker wrote to the old server now would be missing in the new one. */
	if (!IsBinaryUpgrade)
		register_launcher();
}

Datum
cmblock_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(CMBLOCK_VERSION));
}
