/*
 * command.c
 *		What every command asks first.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_proc.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "command.h"

static const char *
name_of_argument(Oid function, int n)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	char **names;
	bool no_names;
	bool no_modes;
	Datum all;
	Datum modes;
	const char *name = NULL;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	all = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proargnames, &no_names);
	modes = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proargmodes, &no_modes);
	if (!no_names && n < get_func_input_arg_names(all, no_modes ? (Datum) 0 : modes, &names))
		name = names[n];
	ReleaseSysCache(tuple);
	return name ? name : psprintf("%d", n + 1);
}

void
cmblock_require_arguments(FunctionCallInfo fcinfo, uint32 optional)
{
	Oid function = fcinfo->flinfo->fn_oid;

	for (int i = 0; i < PG_NARGS(); i++)
		if (PG_ARGISNULL(i) && !(optional & MAY_BE_NULL(i)))
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument \"%s\" of %s cannot be null", name_of_argument(function, i),
						   get_func_name(function)));
}

void
cmblock_begin_command(FunctionCallInfo fcinfo, uint32 optional)
{
	cmblock_require_arguments(fcinfo, optional);
	if (XactReadOnly)
		ereport(ERROR, errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				errmsg("cannot execute %s in a read-only transaction", get_func_name(fcinfo->flinfo->fn_oid)),
				RecoveryInProgress()
					? errhint("This server is a standby. Run the command on the primary server.")
					: 0);
}
