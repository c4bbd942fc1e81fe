/*
 * statement.c
 *		SQL statements of the commands: prepared once a session, parameters by type name.
 *
 * The plan cache replans when a table changes, but a parameter's type is an OID that dies with DROP EXTENSION.
 * So a plan also remembers the generation of the extension's catalog entries, and when that has moved on the types are
 * looked up again. A plan whose types are still the same must stay: it may be running, with a trigger of the user's on the
 * table that has called the command again. Other types there are only when the tables are others, which cannot be
 * dropped while the statement runs.
 */
#include "postgres.h"

#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "statement.h"

static Oid
parameter_type(const char *name)
{
	int length = strlen(name);
	bool is_array = length > 2 && strcmp(name + length - 2, "[]") == 0;
	char *element = pnstrdup(name, is_array ? length - 2 : length);
	Oid type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(element),
							   ObjectIdGetDatum(PG_CATALOG_NAMESPACE));

	if (!OidIsValid(type))
		type = cmblock_type(element);
	return is_array ? get_array_type(type) : type;
}

/* The types of the parameters as they are now: are they those of the plan? */
static bool
look_up_types(Statement *statement, Oid *types, int *count)
{
	bool same = statement->plan != NULL;

	for (*count = 0; *count < MAX_PARAMETERS && statement->parameter[*count]; (*count)++)
	{
		types[*count] = parameter_type(statement->parameter[*count]);
		same = same && types[*count] == statement->type[*count];
	}
	return same;
}

static void
prepare(Statement *statement)
{
	Oid types[MAX_PARAMETERS];
	uint64 generation = cmblock_catalog_generation();
	int count;
	SPIPlanPtr plan;

	if (!look_up_types(statement, types, &count))
	{
		if (statement->plan)
		{
			SPI_freeplan(statement->plan);
			statement->plan = NULL;
		}
		plan = SPI_prepare(statement->sql, count, types);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare statement: %s", SPI_result_code_string(SPI_result));
		statement->plan = plan;
		memcpy(statement->type, types, sizeof(types[0]) * count);
	}
	statement->generation = generation;
}

/* SPI leaves its own memory current, which ends with SPI_finish; what the caller chose is current again afterwards. */
uint64
cmblock_execute(Statement *statement, Datum *values, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	int result;

	if (!statement->plan || statement->generation != cmblock_catalog_generation())
		prepare(statement);
	result = SPI_execute_plan(statement->plan, values, nulls, false, 0);
	MemoryContextSwitchTo(caller);
	if (result < 0)
		elog(ERROR, "statement failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}

uint64
cmblock_execute_as(Writer writer, Statement *statement, Datum *values, const char *nulls)
{
	Writer before = cmblock_set_writer(writer);
	volatile uint64 rows = 0;

	PG_TRY();
	{
		rows = cmblock_execute(statement, values, nulls);
	}
	PG_FINALLY();
	{
		cmblock_set_writer(before);
	}
	PG_END_TRY();
	return rows;
}

Datum
cmblock_result(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}
