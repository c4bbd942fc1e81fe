/*
 * statement.h
 *		SQL statements of the commands: prepared once a session, parameters by type name.
 */
#ifndef CMBLOCK_STATEMENT_H
#define CMBLOCK_STATEMENT_H

#include "postgres.h"
#include "executor/spi.h"

#include "writer.h"

#define MAX_PARAMETERS 24

typedef struct Statement
{
	const char *sql;
	const char
		*parameter[MAX_PARAMETERS]; /* type names, of schema cmblock or pg_catalog; "x[]" is an array */
	/* private */
	SPIPlanPtr plan;
	Oid type[MAX_PARAMETERS];
	uint64 generation;
} Statement;

/*
 * Runs the statement inside SPI_connect ... SPI_finish and returns the number of rows; nulls may be NULL when no
 * parameter is null, else 'n' marks a null. The result is in SPI_tuptable, of the statement's own context.
 */
extern uint64 cmblock_execute(Statement *statement, Datum *values, const char *nulls);

/* The same, and to the guard what the statement writes is this writer's. */
extern uint64 cmblock_execute_as(Writer writer, Statement *statement, Datum *values, const char *nulls);

/* One column of the first row of the last result. */
extern Datum cmblock_result(int column, bool *isnull);

#endif
