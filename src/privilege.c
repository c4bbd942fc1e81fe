/*
 * privilege.c
 *		Who may do what: five kinds of user, each granted and revoked by one call.
 *
 * The privileges themselves are PostgreSQL's own GRANTs on functions, views and tables, so that \dp shows them and
 * pg_dump keeps them. The lists below are the only place that says which kind of user needs what;
 * sql/privileges.sql checks that every function of the schema is in one of them or is left to the owner.
 *
 * Nothing notes which kinds a role was made: a role has a kind when it has all of that kind's privileges. So what is
 * revoked stops short of what another kind of the role needs. A kind that is wholly inside the revoked one cannot be
 * told from a part of it, and goes with it: taking away too much is the safe mistake.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "catalog.h"
#include "command.h"

PG_FUNCTION_INFO_V1(cmblock_grant_privilege);
PG_FUNCTION_INFO_V1(cmblock_revoke_privilege);

/* What a kind of user may call and read: names in schema cmblock, ending with NULL. */
typedef struct Privilege
{
	const char *name;
	const char *functions[32];
	const char *relations[32];
} Privilege;

static const Privilege privileges[] = {
	{"block_changer",
	 {"block_client", "unblock_client", "block_clients", "block_certificate", "unblock_certificate",
	  "register_client", "register_certificate", "delete_client", "reassign_client", "check_access",
	  "is_allowed", "explain_access", "verify_block_history", "revocation_status", "crl_checking",
	  "enforcement", "wait_for_enforcement", "decision_cache"},
	 {"blocked_not_revoked", "revoked_not_blocked", "blocked_client", "blocked_certificate", "block_history",
	  "suspected_rejoin", "this_site", "site", "client", "certificate"}},
	{"pki_administrator",
	 {"add_certificate_authority", "remove_certificate_authority", "set_crl_policy", "import_crl",
	  "check_crl", "accept_crl", "remove_crl", "reset_crl_scope", "revocation_status", "crl_checking",
	  "add_crl_distribution_point", "remove_crl_distribution_point", "refresh_crls", "refresher_state",
	  "crl_cache_entries", "crl_cache_totals"},
	 {"this_site", "certificate_authority", "certificate", "blocked_not_revoked", "revoked_not_blocked",
	  "crl", "crl_scope", "crl_source", "crl_status", "crl_cache", "crl_cache_total"}},
	{"site_system",
	 {"check_access", "is_allowed", "explain_access", "revocation_status", "crl_checking", "decision_cache"},
	 {NULL}},
	{"replication_peer",
	 {"open_link", "apply_changes", "ask_enforcement", "tell_enforcement", "compare_rows", "fetch_rows"},
	 {NULL}},
	{"reader",
	 {"verify_block_history", "replication_worker", "link_phase", "enforcement", "wait_for_enforcement",
	  "refresher_state", "revocation_status", "crl_checking", "crl_cache_entries", "crl_cache_totals",
	  "decision_counts", "decision_cache", "history_check", "attention_items", "running_commands", "version",
	  "report"},
	 {"blocked_client", "blocked_certificate", "block_history", "suspected_rejoin", "replication_status",
	  "this_site", "site", "client", "certificate", "block_event", "certificate_authority",
	  "blocked_not_revoked", "revoked_not_blocked", "crl", "crl_scope", "crl_source", "crl_status",
	  "crl_cache", "crl_cache_total", "decision_statistics", "progress", "site_status",
	  "attention"}},
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

static bool
is_listed(const char *name, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(*list, name) == 0)
			return true;
	return false;
}

static bool
is_inside(const char *const *part, const char *const *whole)
{
	for (; *part; part++)
		if (!is_listed(*part, whole))
			return false;
	return true;
}

static Datum
text_array(const char *const *list, int *count)
{
	Datum elements[lengthof(privileges[0].functions)];

	for (*count = 0; list[*count]; (*count)++)
		elements[*count] = CStringGetTextDatum(list[*count]);
	return PointerGetDatum(construct_array(elements, *count, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Was all of this kind granted to the role itself? Inside SPI; the caller's search_path is safe. */
static bool
has_kind(Oid role, const Privilege *kind)
{
	int functions;
	int relations;
	bool isnull;
	Oid types[3] = {OIDOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum values[3] = {ObjectIdGetDatum(role), text_array(kind->functions, &functions),
					   text_array(kind->relations, &relations)};

	if (SPI_execute_with_args(
			"SELECT (SELECT count(DISTINCT f.proname) FROM pg_proc f, aclexplode(f.proacl) a"
			"         WHERE f.pronamespace = 'cmblock'::regnamespace AND f.proname = ANY ($2)"
			"           AND a.grantee = $1 AND a.privilege_type = 'EXECUTE')"
			"     + (SELECT count(DISTINCT r.relname) FROM pg_class r, aclexplode(r.relacl) a"
			"         WHERE r.relnamespace = 'cmblock'::regnamespace AND r.relname = ANY ($3)"
			"           AND a.grantee = $1 AND a.privilege_type = 'SELECT')",
			3, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read privileges");
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) ==
		   functions + relations;
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
	const char *role;
	const Privilege *privilege;
	const char *verb = grant ? "GRANT" : "REVOKE";
	const char *preposition = grant ? "TO" : "FROM";
	const Privilege *kept[lengthof(privileges)];
	int nkept = 0;
	Oid role_oid;

	cmblock_begin_command(fcinfo, 0);
	role = quote_identifier(NameStr(*PG_GETARG_NAME(0)));
	privilege = find_privilege(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	/* An unknown role is said here, once, before anything changes. */
	role_oid = get_role_oid(NameStr(*PG_GETARG_NAME(0)), false);

	SPI_connect();
	for (int i = 0; i < lengthof(privileges) && !grant; i++)
		if (has_kind(role_oid, &privileges[i]) &&
			!(is_inside(privileges[i].functions, privilege->functions) &&
			  is_inside(privileges[i].relations, privilege->relations)))
			kept[nkept++] = &privileges[i];

	/* The schema alone opens nothing, and other kinds may need it: it is not taken away again. */
	if (grant)
		run(psprintf("GRANT USAGE ON SCHEMA cmblock TO %s", role));
	for (int i = 0; privilege->functions[i]; i++)
	{
		bool needed = false;

		for (int k = 0; k < nkept; k++)
			needed = needed || is_listed(privilege->functions[i], kept[k]->functions);
		if (!needed)
			run(psprintf("%s EXECUTE ON FUNCTION cmblock.%s %s %s", verb, privilege->functions[i],
						 preposition, role));
	}
	for (int i = 0; privilege->relations[i]; i++)
	{
		bool needed = false;

		for (int k = 0; k < nkept; k++)
			needed = needed || is_listed(privilege->relations[i], kept[k]->relations);
		if (!needed)
			run(psprintf("%s SELECT ON cmblock.%s %s %s", verb, privilege->relations[i], preposition, role));
	}
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
