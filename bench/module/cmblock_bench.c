/*
 * cmblock_bench.c
 *		What the benchmarks compare with and feed on; not a part of the extension.
 *
 * The yardsticks are C functions with the same arguments and results as the decisions, which do nothing: what a call costs
 * the server, whatever is called. The keys are numbers made into smsids and thumbprints, so that pgbench, whose
 * variables are numbers, can ask for any of a million clients. All that are compared pay for that alike.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(bench_nothing);
PG_FUNCTION_INFO_V1(bench_nothing_record);
PG_FUNCTION_INFO_V1(bench_smsid);
PG_FUNCTION_INFO_V1(bench_thumbprint);

/* The arguments of is_allowed, and its result. */
Datum
bench_nothing(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

/* The arguments of check_access, and a result like its own for a request that is allowed. */
Datum
bench_nothing_record(PG_FUNCTION_ARGS)
{
	TupleDesc desc = fcinfo->flinfo->fn_extra;
	Datum values[10] = {0};
	bool nulls[10] = {false, true, true, true, false, true, true, true, true, true};

	if (desc == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 10)
			elog(ERROR, "bench.nothing_record does not return cmblock.access_decision");
		fcinfo->flinfo->fn_extra = desc = BlessTupleDesc(desc);
		MemoryContextSwitchTo(caller);
	}
	values[0] = BoolGetDatum(true);
	nulls[4] = PG_ARGISNULL(0);
	values[4] = PG_GETARG_DATUM(0);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* Spreads the bits of a number (SplitMix64), as random identities are spread. */
static uint64
spread(uint64 x)
{
	x += UINT64CONST(0x9E3779B97F4A7C15);
	x = (x ^ (x >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return x ^ (x >> 31);
}

Datum
bench_smsid(PG_FUNCTION_ARGS)
{
	uint64 *octets = palloc(UUID_LEN);
	uint64 n = (uint64) PG_GETARG_INT64(0);

	octets[0] = spread(n * 2);
	octets[1] = spread(n * 2 + 1);
	PG_RETURN_POINTER(octets);
}

Datum
bench_thumbprint(PG_FUNCTION_ARGS)
{
	bytea *thumbprint = palloc(VARHDRSZ + 32);
	uint64 n = (uint64) PG_GETARG_INT64(0);
	uint64 word[4];

	for (int i = 0; i < 4; i++)
		word[i] = spread(~(n * 4 + i));
	SET_VARSIZE(thumbprint, VARHDRSZ + 32);
	memcpy(VARDATA(thumbprint), word, sizeof(word));
	PG_RETURN_BYTEA_P(thumbprint);
}
