/*
 * cmblock.c
 *		The library as a whole: what happens when it is loaded, and its settings.
 *
 * It loads with and without shared_preload_libraries (pg_dump and pg_upgrade need the latter). Preloading adds
 * shared memory and the background workers; without it the site still guards, decides and records, but does not
 * replicate by itself.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "authority.h"
#include "cmblock.h"
#include "crl_cache.h"
#include "crl_import.h"
#include "crl_source.h"
#include "decision_cache.h"
#include "refusal_log.h"
#include "worker.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(cmblock_version);

bool cmblock_restore = false;
int cmblock_rejoin_policy = REJOIN_REPORT;

static const struct config_enum_entry rejoin_policies[] = {
	{"report", REJOIN_REPORT, false},
	{"refuse", REJOIN_REFUSE, false},
	{NULL, 0, false},
};

static void
define_settings(void)
{
	DefineCustomBoolVariable(
		"cmblock.restore", "Lets a superuser's dump come back unchanged: the guard lets rows in as they are.",
		"Only for pg_restore and psql with a dump. The guard ignores it for anyone but a superuser.",
		&cmblock_restore, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"cmblock.rejoin_policy", "What happens when a client looks like a blocked client coming back.",
		"report: the registration is let in with a WARNING and shown in cmblock.suspected_rejoin; "
		"refuse: the registration fails, and requests with a blocked client's hardware id are refused.",
		&cmblock_rejoin_policy, REJOIN_REPORT, rejoin_policies, PGC_SUSET, 0, NULL, NULL, NULL);
}

void
_PG_init(void)
{
	define_settings();
	cmblock_crl_cache_define_settings();
	cmblock_decision_cache_define_settings();
	cmblock_authority_init();
	cmblock_crl_import_init();
	cmblock_crl_source_define_settings();
	cmblock_refusal_log_define_settings();
	cmblock_worker_init();
	MarkGUCPrefixReserved("cmblock");
}

Datum
cmblock_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(CMBLOCK_VERSION));
}
