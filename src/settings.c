/*
 * settings.c
 *		The settings that more than one subsystem reads; the others are where they are used.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "settings.h"

bool cmblock_restore = false;
int cmblock_rejoin_policy = REJOIN_REPORT;

static const struct config_enum_entry rejoin_policies[] = {
	{"report", REJOIN_REPORT, false},
	{"refuse", REJOIN_REFUSE, false},
	{NULL, 0, false},
};

void
cmblock_define_settings(void)
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
