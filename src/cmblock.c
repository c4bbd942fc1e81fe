/*
 * cmblock.c
 *		The library as a whole: what happens when it is loaded.
 *
 * It loads with and without shared_preload_libraries (pg_dump and pg_upgrade need the latter). Preloading adds
 * shared memory and the background workers; without it the site still guards, decides and records, but does not
 * replicate by itself.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
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
	if (process_shared_preload_libraries_in_progress)
		cmblock_shmem_init(shmem_users, lengthof(shmem_users));
	cmblock_worker_init();
	MarkGUCPrefixReserved("cmblock");
}

Datum
cmblock_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(CMBLOCK_VERSION));
}
