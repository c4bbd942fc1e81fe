/*
 * privilege.c
 *		Who may do what: five kinds of user, each granted and revoked by one call.
 *
 * The privileges themselves are PostgreSQL's own GRANTs on functions, views and tables, so that \dp shows them and
 * pg_dump keeps them. The lists below are the only place that says which kind of user needs what;
 * sql/privileges.sql checks that every function of the schema is in one of them or is left to the owner.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "catalog.h"

PG_FUNCTION_INFO_V1(cmblock_grant_privilege);
PG_FUNCTION_INFO_V1(cmblock_revoke_privilege);

/* What a kind of user may call and read: names in schema cmblock, ending with NULL. */
typedef struct Privilege
{
	const char *name;
	const char *functions[24];
	const char *relations[24];
} Privilege;

static const Privilege privileges[] = {
	{"block_changer",
	 {"block_client", "unblock_client", "block_clients", "block_certificate", "unblock_certificate",
	  "register_client", "register_certificate", "delete_client", "reassign_client", "check_access",
	  "is_allowed", "explain_access", "verify_block_history"},
	 {"blocked_client", "blocked_certificate", "block_history", "suspected_rejoin", "this_site", "site",
	  "client", "certificate"}},
	{"pki_administrator",
	 {"add_certificate_authority", "remove_certificate_authority"},
	 {"this_site", "certificate_authority", "certificate"}},
	{"site_system", {"check_access", "is_allowed", "explain_access"}, {NULL}},
	{"replication_peer", {"open_link", "apply_changes"}, {NULL}},
	{"reader",
	 {"verify_block_history", "replication_worker"},
	 {"blocked_client", "blocked_certificate", "block_history", "suspected_rejoin", "replication_status",
	  "this_site", "site", "client", "certificate", "block_event", "certificate_authority"}},
};

static const Privilege *
find_privilege(const char *name)
{
	StringInfoData known;

	initStringInfo(&known);
	for (int i = 0; i < lengthof(privileges); i++)
	{
		if (strcmp(privileges[i].name, name) == 0)
			return &privileges[i];
		appendStringInfo(&known, "%s%s", i > 0 ? ", " : "", privileges[i].name);
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown kind of user: \"%s\"", name),
			errdetail("The kinds are: %s.", known.data));
}

static void
run(const char *statement)
{
	if (SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not execute: %s", statement);
}

static void
change_privilege(FunctionCallInfo fcinfo, bool grant)
{
	const char *role = quote_identifier(NameStr(*PG_GETARG_NAME(0)));
	const Privilege *privilege = find_privilege(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	const char *verb = grant ? "GRANT" : "REVOKE";
	const char *preposition = grant ? "TO" : "FROM";

	/* An unknown role is said here, once, before anything changes. */
	(void) get_role_oid(NameStr(*PG_GETARG_NAME(0)), false);

	SPI_connect();
	/* The schema alone opens nothing, and other kinds may need it: it is not taken away again. */
	if (grant)
		run(psprintf("GRANT USAGE ON SCHEMA cmblock TO %s", role));
	for (int i = 0; privilege->functions[i]; i++)
		run(psprintf("%s EXECUTE ON FUNCTION cmblock.%s %s %s", verb, privilege->functions[i], preposition,
					 role));
	for (int i = 0; privilege->relations[i]; i++)
		run(psprintf("%s SELECT ON cmblock.%s %s %s", verb, privilege->relations[i], preposition, role));
	SPI_finish();
}

Datum
cmblock_grant_privilege(PG_FUNCTION_ARGS)
{
	change_privilege(fcinfo, true);
	PG_RETURN_VOID();
}

Datum
cmblock_revoke_privilege(PG_FUNCTION_ARGS)
{
	change_privilege(fcinfo, false);
	PG_RETURN_VOID();
}
