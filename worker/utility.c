/*
 * utility.c
 *		Watches commands that need a database to themselves, and some that the replicator must hear of.
 *
 * A replicator is a session of its database, so DROP DATABASE, ALTER DATABASE ... RENAME or SET TABLESPACE, and
 * CREATE DATABASE ... TEMPLATE would fail for it. They stop it first, and it stays away until their transaction ends:
 * if the command failed, the launcher then starts it again. Only for a user who may do such a thing, the owner; for others
 * the command is left to fail as it does.
 *
 * COMMIT PREPARED wakes the replicator, since the transaction's own flags ended with PREPARE. So do commands about
 * servers and user mappings: whoever corrects a password wants to see it work now.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#include "compat.h"
#include "slots.h"
#include "wake.h"
#include "worker.h"

/* As long as PostgreSQL itself waits for other sessions to leave a database. */
#define HOLD_MS 5000

static ProcessUtility_hook_type previous_hook = NULL;

static const char *
option_string(List *options, const char *name)
{
	ListCell *cell;

	foreach (cell, options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0 && option->arg)
			return defGetString(option);
	}
	return NULL;
}

/* The database that the command needs to itself, or NULL. */
static const char *
database_wanted(Node *command)
{
	switch (nodeTag(command))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) command)->dbname;
		case T_RenameStmt:
			if (((RenameStmt *) command)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) command)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			if (option_string(((AlterDatabaseStmt *) command)->options, "tablespace"))
				return ((AlterDatabaseStmt *) command)->dbname;
			return NULL;
		case T_CreatedbStmt:
			return option_string(((CreatedbStmt *) command)->options, "template");
		default:
			return NULL;
	}
}

static void
stop_replicator(const char *name)
{
	Oid database = get_database_oid(name, true);

	if (!OidIsValid(database) || database == MyDatabaseId || !cmblock_owns_database(database))
		return;
	cmblock_release_at_end(database);
	(void) cmblock_slots_hold(database, HOLD_MS);
}

static bool
changes_servers(Node *command)
{
	switch (nodeTag(command))
	{
		case T_CreateForeignServerStmt:
		case T_AlterForeignServerStmt:
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_DropUserMappingStmt:
			return true;
		default:
			return false;
	}
}

/* The workers are to see at once that their extension is gone. */
static bool
drops_extension(Node *command)
{
	return IsA(command, DropStmt) && ((DropStmt *) command)->removeType == OBJECT_EXTENSION;
}

static bool
commits_prepared(Node *command)
{
	return IsA(command, TransactionStmt) && ((TransactionStmt *) command)->kind == TRANS_STMT_COMMIT_PREPARED;
}

static void
utility(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
		ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	/* Read now: the command's tree belongs to whoever runs it. */
	bool is_server_change = changes_servers(statement->utilityStmt);
	bool is_drop_extension = drops_extension(statement->utilityStmt);
	bool is_commit_prepared = commits_prepared(statement->utilityStmt);
	const char *database = database_wanted(statement->utilityStmt);

	if (database && cmblock_slots_available() && IsTransactionState())
		stop_replicator(database);

	if (previous_hook)
		previous_hook(statement, query, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context, params, environment, dest,
								completion);

	if (is_server_change || is_drop_extension)
		cmblock_wake_links_at_commit();
	if (is_drop_extension)
		cmblock_wake_refresher_at_commit();
	if (is_commit_prepared)
		cmblock_wake_now();
}

void
cmblock_install_utility_hook(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
