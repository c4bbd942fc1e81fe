/*
 * link.c
 *		The links of this site: whom it sends to, and whose calls it accepts.
 *
 * link_site and accept_link are the two ends of one direction, each said at its own site. Both are kept in one row
 * a neighbour of replication_link; the replicator reads it and writes its own state beside it. Each command wakes the replicator
 * when it commits, or has it started.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "command.h"
#include "compat.h"
#include "connection.h"
#include "neighbour.h"
#include "slots.h"
#include "statement.h"
#include "types.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(cmblock_link_site);
PG_FUNCTION_INFO_V1(cmblock_accept_link);
PG_FUNCTION_INFO_V1(cmblock_unlink_site);
PG_FUNCTION_INFO_V1(cmblock_reinitialize_link);
PG_FUNCTION_INFO_V1(cmblock_pause_link);
PG_FUNCTION_INFO_V1(cmblock_resume_link);
PG_FUNCTION_INFO_V1(cmblock_replication_worker);

/* ---------- link_site ---------- */

/* A new server may lead to another database: what the state was before says nothing about it. */
static Statement set_server = {
	"INSERT INTO cmblock.replication_link (neighbour, server) VALUES ($1, $2) "
	"ON CONFLICT (neighbour) DO UPDATE SET server = excluded.server, paused = false, state = 'active', "
	"failures = 0, next_retry_at = NULL, acknowledged = NULL, linked_by = session_user, "
	"linked_at = statement_timestamp()",
	{"site_code", "name"}};

static void
check_server(const char *server)
{
	Oid oid = cmblock_server_oid(server);
	AclResult result = cmblock_server_usage(oid, GetOuterUserId());

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FOREIGN_SERVER, server);
}

Datum
cmblock_link_site(PG_FUNCTION_ARGS)
{
	Neighbour neighbour;
	Datum values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};

	cmblock_begin_command(fcinfo, 0);
	cmblock_find_neighbour(PG_GETARG_SITE_CODE(0), &neighbour);
	if (neighbour.here.kind == SITE_SECONDARY)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("a secondary site sends nothing"),
				errdetail("This is %s, a secondary site: it has no clients of its own.",
						  cmblock_site_code_string(neighbour.here.code)),
				errhint("Here, accept the link from the parent: SELECT cmblock.accept_link('%s', 'role').",
						cmblock_site_code_string(neighbour.code)));
	check_server(NameStr(*PG_GETARG_NAME(1)));

	SPI_connect();
	cmblock_execute(&set_server, values, NULL);
	SPI_finish();
	cmblock_wake_links_at_commit();
	if (!cmblock_slots_available())
		ereport(
			WARNING, errmsg("nothing is sent: cmblock is not preloaded"),
			errhint("Add shared_preload_libraries = 'cmblock' to postgresql.conf and restart the server."));
	PG_RETURN_VOID();
}

/* ---------- accept_link ---------- */

static Statement role_of_another = {
	"SELECT neighbour FROM cmblock.replication_link WHERE peer_role = $2 AND neighbour <> $1",
	{"site_code", "name"}};

static Statement set_role = {"INSERT INTO cmblock.replication_link (neighbour, peer_role) VALUES ($1, $2) "
							 "ON CONFLICT (neighbour) DO UPDATE SET peer_role = excluded.peer_role",
							 {"site_code", "name"}};

static Statement grant_peer = {"SELECT cmblock.grant_privilege($1, 'replication_peer')", {"name"}};

static Statement revoke_peer = {
	"SELECT cmblock.revoke_privilege(l.peer_role, 'replication_peer') "
	"FROM cmblock.replication_link l JOIN pg_catalog.pg_roles r ON r.rolname = l.peer_role "
	"WHERE l.neighbour = $1",
	{"site_code"}};

Datum
cmblock_accept_link(PG_FUNCTION_ARGS)
{
	Neighbour neighbour;
	Datum values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	const char *role;

	cmblock_begin_command(fcinfo, 0);
	role = NameStr(*PG_GETARG_NAME(1));
	cmblock_find_neighbour(PG_GETARG_SITE_CODE(0), &neighbour);
	if (!neighbour.is_parent && neighbour.here.kind != SITE_CENTRAL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a secondary site sends nothing"),
				errdetail("Site %s is a secondary site.", cmblock_site_code_string(neighbour.code)),
				errhint("Send to it instead: SELECT cmblock.link_site('%s', 'server').",
						cmblock_site_code_string(neighbour.code)));
	(void) get_role_oid(role, false);

	SPI_connect();
	if (cmblock_execute(&role_of_another, values, NULL) > 0)
	{
		bool isnull;
		SiteCode other = DatumGetSiteCode(cmblock_result(1, &isnull));

		ereport(ERROR, errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("role \"%s\" is accepted for site %s already", role, cmblock_site_code_string(other)),
				errdetail("The role is what tells the neighbours apart."),
				errhint("Give each neighbour a login role of its own."));
	}
	cmblock_execute(&revoke_peer, values, NULL);
	cmblock_execute(&set_role, values, NULL);
	cmblock_execute(&grant_peer, values + 1, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ---------- the rest ---------- */

static Statement delete_link = {"DELETE FROM cmblock.replication_link WHERE neighbour = $1", {"site_code"}};
static Statement delete_cursor = {"DELETE FROM cmblock.replication_cursor WHERE neighbour = $1",
								  {"site_code"}};

static void
no_link(SiteCode neighbour)
{
	ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
			errmsg("there is no link to site %s", cmblock_site_code_string(neighbour)),
			errhint("View cmblock.replication_status has the links of this site."));
}

Datum
cmblock_unlink_site(PG_FUNCTION_ARGS)
{
	Datum neighbour = PG_GETARG_DATUM(0);
	uint64 found;

	cmblock_begin_command(fcinfo, 0);
	SPI_connect();
	cmblock_execute(&revoke_peer, &neighbour, NULL);
	found = cmblock_execute(&delete_link, &neighbour, NULL);
	found += cmblock_execute(&delete_cursor, &neighbour, NULL);
	SPI_finish();
	if (found == 0)
		no_link(PG_GETARG_SITE_CODE(0));
	cmblock_wake_links_at_commit();
	PG_RETURN_VOID();
}

/* One UPDATE of a link that sends, and a wake-up. */
static void
change_link(FunctionCallInfo fcinfo, Statement *change)
{
	Datum neighbour = PG_GETARG_DATUM(0);

	cmblock_begin_command(fcinfo, 0);
	SPI_connect();
	if (cmblock_execute(change, &neighbour, NULL) == 0)
		no_link(DatumGetSiteCode(neighbour));
	SPI_finish();
	cmblock_wake_links_at_commit();
}

Datum
cmblock_reinitialize_link(PG_FUNCTION_ARGS)
{
	static Statement change = {
		"UPDATE cmblock.replication_link SET resend_requested = clock_timestamp(), next_retry_at = NULL "
		"WHERE neighbour = $1 AND server IS NOT NULL",
		{"site_code"}};

	change_link(fcinfo, &change);
	PG_RETURN_VOID();
}

Datum
cmblock_pause_link(PG_FUNCTION_ARGS)
{
	static Statement change = {"UPDATE cmblock.replication_link SET paused = true, next_retry_at = NULL "
							   "WHERE neighbour = $1 AND server IS NOT NULL",
							   {"site_code"}};

	change_link(fcinfo, &change);
	PG_RETURN_VOID();
}

Datum
cmblock_resume_link(PG_FUNCTION_ARGS)
{
	static Statement change = {"UPDATE cmblock.replication_link SET paused = false, next_retry_at = NULL "
							   "WHERE neighbour = $1 AND server IS NOT NULL",
							   {"site_code"}};

	change_link(fcinfo, &change);
	PG_RETURN_VOID();
}

Datum
cmblock_replication_worker(PG_FUNCTION_ARGS)
{
	const char *state = "running";

	if (!cmblock_slots_available())
		state = "not preloaded";
	else if (!cmblock_slots_launcher_runs())
		state = "no launcher";
	else if (!cmblock_slots_worker_runs(MyDatabaseId, WORKER_REPLICATOR))
		state = "not running";
	PG_RETURN_TEXT_P(cstring_to_text(state));
}
