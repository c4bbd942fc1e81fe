/*
 * compare_site.c
 *		The command that asks this database's replicator for a comparison with a neighbour, and waits for it.
 *
 * The replicator has the connection, repairs what differs, and writes the result to replication_link. The request goes through
 * shared memory, because this transaction's changes cannot be seen before it ends; the result is read with the newest snapshot.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "command.h"
#include "neighbour.h"
#include "scan.h"
#include "slots.h"

PG_FUNCTION_INFO_V1(cmblock_compare_site);

/* How often the result is looked for, and the request repeated if nobody took it. */
#define POLL_MS 20

/* A replicator that is not there after this time is not about to start. */
#define NO_REPLICATOR_MS 10000

static void
check_link(IndexLookup *lookup, bool found, SiteCode site)
{
	bool isnull = true;

	if (found)
		(void) cmblock_lookup_column(lookup, "server", &isnull);
	if (isnull)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("this site does not send to site %s", cmblock_site_code_string(site)),
				errdetail("A comparison goes over the link by which a site sends."),
				errhint("Run it at site %s, or see cmblock.link_site.", cmblock_site_code_string(site)));
	if (DatumGetBool(cmblock_lookup_column(lookup, "paused", &isnull)))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the link to site %s is paused", cmblock_site_code_string(site)),
				errhint("SELECT cmblock.resume_link('%s').", cmblock_site_code_string(site)));
}

static void
check_failure(IndexLookup *lookup, SiteCode site, TimestampTz asked_at)
{
	bool isnull;
	Datum at = cmblock_lookup_column(lookup, "last_error_at", &isnull);
	char *error;

	if (isnull || DatumGetTimestampTz(at) < asked_at)
		return;
	error = TextDatumGetCString(cmblock_lookup_column(lookup, "last_error", &isnull));
	ereport(ERROR, errcode(ERRCODE_CONNECTION_FAILURE),
			errmsg("could not compare with site %s", cmblock_site_code_string(site)), errdetail("%s.", error),
			errhint("View cmblock.replication_status has the state of the link."));
}

/* The result, if there is one that is new: a row of compare_site. */
static bool
read_result(SiteCode site, TimestampTz asked_at, TupleDesc desc, Datum *result)
{
	static const char *const columns[] = {"compared_rows",     "compared_different", "compared_sent",
										  "compared_taken",    "compared_conflicts", "compared_unrepaired",
										  "compared_examples", "compared_at"};
	IndexLookup lookup;
	Datum values[lengthof(columns) + 2];
	bool nulls[lengthof(columns) + 2] = {false};
	bool found =
		cmblock_index_lookup(&lookup, REL_REPLICATION_LINK, IDX_REPLICATION_LINK, SiteCodeGetDatum(site));
	bool isnull;
	Datum compared_at;
	bool done;

	check_link(&lookup, found, site);
	compared_at = cmblock_lookup_column(&lookup, "compared_at", &isnull);
	done = !isnull && DatumGetTimestampTz(compared_at) >= asked_at;
	if (done)
	{
		values[0] = SiteCodeGetDatum(site);
		for (int i = 0; i < lengthof(columns); i++)
			values[i + 2] = cmblock_lookup_column(&lookup, columns[i], &nulls[i + 2]);
		values[1] = BoolGetDatum(DatumGetInt64(values[3]) == 0);
		*result = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	}
	else
		check_failure(&lookup, site, asked_at);
	cmblock_index_lookup_end(&lookup);
	return done;
}

Datum
cmblock_compare_site(PG_FUNCTION_ARGS)
{
	SiteCode site = PG_GETARG_SITE_CODE(0);
	TimestampTz asked_at = GetCurrentTimestamp();
	Neighbour neighbour;
	TupleDesc desc;
	Datum result;
	bool asked = false;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	cmblock_require_arguments(fcinfo, 0);
	cmblock_find_neighbour(site, &neighbour);
	if (!cmblock_slots_available())
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("nothing is compared: cmblock is not preloaded"),
			errhint("Add shared_preload_libraries = 'cmblock' to postgresql.conf and restart the server."));
	if (RecoveryInProgress())
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("nothing is compared: this server is a standby"),
				errhint("Run the command on the primary server."));
	while (!read_result(site, asked_at, desc, &result))
	{
		if (!asked)
			asked = cmblock_slots_request_comparison(MyDatabaseId, site);
		if (!cmblock_slots_worker_runs(MyDatabaseId, WORKER_REPLICATOR) &&
			TimestampDifferenceExceeds(asked_at, GetCurrentTimestamp(), NO_REPLICATOR_MS))
			ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("nothing is compared: no replicator is running in this database"),
					errhint("View cmblock.replication_status says what to do."));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_DATUM(result);
}
