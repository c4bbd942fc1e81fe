/*
 * connection.c
 *		How to reach a neighbour: libpq's options from a foreign server and its user mapping.
 *
 * Credentials live where PostgreSQL keeps them for postgres_fdw: in the user mapping, a passfile, a service file
 * or a client certificate. They go from there to libpq as parameters, never through a string that could be logged.
 *
 * The replicator runs as the operating system's postgres, so a server that anybody may own must not let it in where
 * only that identity counts (peer authentication, .pgpass, a key file): if the owner is not a superuser, the user mapping needs a
 * password and the neighbour must have asked for it. That is postgres_fdw's rule too.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "connection.h"

PG_FUNCTION_INFO_V1(cmblock_fdw_validator);

/* ---------- options of a link ---------- */

static ForeignServer *
find_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (!server)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("server \"%s\" does not exist", name),
				errhint("Create it: CREATE SERVER %s FOREIGN DATA WRAPPER cmblock_fdw OPTIONS (host '...', "
						"dbname '...').",
						quote_identifier(name)));
	if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "cmblock_fdw") != 0)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("server \"%s\" is not a server of cmblock_fdw", name),
				errhint("Create one with FOREIGN DATA WRAPPER cmblock_fdw."));
	return server;
}

Oid
cmblock_server_oid(const char *server)
{
	return find_server(server)->serverid;
}

/* Options of the mapping of the server's owner, or else of PUBLIC's. */
static List *
mapping_options(const ForeignServer *server)
{
	HeapTuple mapping = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(server->owner),
										ObjectIdGetDatum(server->serverid));
	Datum options;
	bool isnull;
	List *list;

	if (!HeapTupleIsValid(mapping))
		mapping = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
								  ObjectIdGetDatum(server->serverid));
	if (!HeapTupleIsValid(mapping))
	{
		const char *owner = GetUserNameFromId(server->owner, false);

		ereport(
			ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
			errmsg("server \"%s\" has no user mapping for its owner \"%s\" nor for PUBLIC",
				   server->servername, owner),
			errhint("Create it: CREATE USER MAPPING FOR %s SERVER %s OPTIONS (user '...', password '...').",
					quote_identifier(owner), quote_identifier(server->servername)));
	}
	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, mapping, Anum_pg_user_mapping_umoptions, &isnull);
	list = isnull ? NIL : untransformRelOptions(options);
	ReleaseSysCache(mapping);
	return list;
}

void
cmblock_add_option(ConnectionOptions *options, const char *keyword, const char *value)
{
	options->keywords[options->count] = keyword;
	options->values[options->count] = value;
	options->count++;
	options->keywords[options->count] = NULL;
	options->values[options->count] = NULL;
}

ConnectionOptions *
cmblock_connection_options(const char *name, int spare)
{
	ForeignServer *server = find_server(name);
	List *all = list_concat(mapping_options(server), server->options);
	ConnectionOptions *options = palloc0(sizeof(ConnectionOptions));
	ListCell *cell;

	options->keywords = palloc((list_length(all) + spare + 1) * sizeof(char *));
	options->values = palloc((list_length(all) + spare + 1) * sizeof(char *));
	options->password_required = !superuser_arg(server->owner);
	foreach (cell, all)
	{
		DefElem *option = lfirst_node(DefElem, cell);
		const char *value = defGetString(option);

		if (strcmp(option->defname, "password") == 0 && value[0] != '\0')
			options->has_password = true;
		cmblock_add_option(options, option->defname, value);
	}
	return options;
}

/* ---------- the validator ---------- */

/* libpq's options, kept for the session: PQconndefaults allocates with malloc. */
static const PQconninfoOption *
libpq_options(void)
{
	static PQconninfoOption *known = NULL;

	if (!known)
		known = PQconndefaults();
	if (!known)
		ereport(ERROR, errcode(ERRCODE_FDW_OUT_OF_MEMORY), errmsg("out of memory"),
				errdetail("Could not get libpq's default connection options."));
	return known;
}

/* Options that the replicator sets itself, or that make no sense for it. */
static bool
is_ours(const char *keyword)
{
	static const char *const ours[] = {"client_encoding", "application_name", "fallback_application_name",
									   "replication"};

	for (int i = 0; i < lengthof(ours); i++)
		if (strcmp(keyword, ours[i]) == 0)
			return true;
	return false;
}

/* Whether an option may stand on the given kind of object: who one is belongs to the user mapping. */
static bool
is_valid(const PQconninfoOption *option, Oid catalog)
{
	bool is_identity = strcmp(option->keyword, "user") == 0 || strchr(option->dispchar, '*');
	bool is_either = strcmp(option->keyword, "sslcert") == 0 || strcmp(option->keyword, "sslkey") == 0 ||
					 strcmp(option->keyword, "passfile") == 0;

	if (strchr(option->dispchar, 'D') || is_ours(option->keyword))
		return false;
	if (catalog == UserMappingRelationId)
		return is_identity || is_either;
	if (catalog == ForeignServerRelationId)
		return !is_identity;
	return false;
}

static void
check_option(const char *name, Oid catalog)
{
	StringInfoData valid;
	Oid other = catalog == UserMappingRelationId ? ForeignServerRelationId : UserMappingRelationId;
	bool misplaced = false;

	for (const PQconninfoOption *option = libpq_options(); option->keyword; option++)
		if (strcmp(option->keyword, name) == 0 && is_valid(option, catalog))
			return;
		else if (strcmp(option->keyword, name) == 0)
			misplaced = is_valid(option, other);

	initStringInfo(&valid);
	for (const PQconninfoOption *option = libpq_options(); option->keyword; option++)
		if (is_valid(option, catalog))
			appendStringInfo(&valid, "%s%s", valid.len > 0 ? ", " : "", option->keyword);
	ereport(ERROR, errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("invalid option \"%s\"", name),
			misplaced ? errdetail("It belongs to the %s.",
								  other == UserMappingRelationId ? "user mapping" : "server")
					  : 0,
			valid.len > 0 ? errhint("Valid options here are: %s.", valid.data)
						  : errhint("There are no valid options here."));
}

Datum
cmblock_fdw_validator(PG_FUNCTION_ARGS)
{
	List *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid catalog = PG_GETARG_OID(1);
	ListCell *cell;

	foreach (cell, options)
		check_option(lfirst_node(DefElem, cell)->defname, catalog);
	PG_RETURN_VOID();
}
