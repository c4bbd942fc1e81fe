/*
 * crl_cache_view.c
 *		The cache of CRLs as SQL shows it: views crl_cache and crl_cache_total.
 *
 * Shared memory serves all databases of the server, so their CRLs are shown as well; CRLs are public. Local rows
 * are those of the session that asks.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "crl_cache.h"
#include "crl_local.h"
#include "crl_shared.h"
#include "types.h"
#include "x509.h"

PG_FUNCTION_INFO_V1(cmblock_crl_cache_entries);
PG_FUNCTION_INFO_V1(cmblock_crl_cache_totals);

/* One row; index is NULL where there is none to look into. */
static void
put_entry(ReturnSetInfo *result, const char *place, const char *state, const SharedCrl *crl,
		  const CrlIndex *index)
{
	Datum values[12];
	bool nulls[12] = {0};
	int i = 0;

	values[i++] = CStringGetTextDatum(place);
	values[i++] = PointerGetDatum(cmblock_make_thumbprint(crl->sha256, CRL_SHA256_OCTETS));
	values[i++] = CStringGetTextDatum(state);
	nulls[i] = nulls[i + 1] = !index;
	if (index)
	{
		CrlIndexCounts counts;
		Crl facts;

		cmblock_crl_index_facts(index, &facts);
		cmblock_crl_index_counts(index, &counts);
		values[i] = CStringGetTextDatum(cmblock_name_text(facts.issuer.data, facts.issuer.size));
		values[i + 1] = Int64GetDatum(counts.listed);
	}
	i += 2;
	values[i++] = Int64GetDatum(crl->bytes);
	values[i++] = Int64GetDatum(crl->hits);
	values[i++] = Int64GetDatum(crl->builds);
	nulls[i] = crl->builds == 0;
	values[i++] = Float8GetDatum(crl->build_ms);
	values[i++] = Int64GetDatum(crl->pins);
	nulls[i] = crl->builds == 0;
	values[i++] = TimestampTzGetDatum(crl->built_at);
	nulls[i] = crl->last_used == 0; /* retired */
	values[i++] = TimestampTzGetDatum(crl->last_used);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_shared_entries(ReturnSetInfo *result)
{
	SharedCrl *crl = palloc(CRL_SHARED_SLOTS * sizeof(SharedCrl));
	int count = cmblock_crl_shared_list(crl);

	for (int i = 0; i < count; i++)
	{
		const CrlIndex *index = NULL;
		CrlPin pin = {0};

		/* It may have been evicted since the list was made: then it is left out. */
		if (crl[i].state == SHARED_READY && !(index = cmblock_crl_peek(crl[i].sha256, &pin)))
			continue;
		put_entry(result, "shared",
				  crl[i].state == SHARED_READY      ? "ready"
				  : crl[i].state == SHARED_BUILDING ? "building"
													: "too large",
				  &crl[i], index);
		cmblock_crl_unpin(&pin);
	}
	pfree(crl);
}

static void
put_local_entries(ReturnSetInfo *result)
{
	HASH_SEQ_STATUS walk;
	LocalCrl *local;

	if (!cmblock_crl_local_walk(&walk))
		return;
	while ((local = hash_seq_search(&walk)) != NULL)
	{
		SharedCrl crl = {.bytes = local->size,
						 .hits = local->hits,
						 .pins = local->pins,
						 .builds = 1,
						 .build_ms = local->build_ms,
						 .built_at = local->built_at,
						 .last_used = local->last_used};

		memcpy(crl.sha256, local->sha256, CRL_SHA256_OCTETS);
		put_entry(result, "local", "ready", &crl, &local->index);
	}
}

Datum
cmblock_crl_cache_entries(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (cmblock_crl_shared_available())
		put_shared_entries(result);
	put_local_entries(result);
	return (Datum) 0;
}

/* Failed builds, waits and refusals are known of shared memory only. */
static void
put_totals(ReturnSetInfo *result, const char *place, const SharedTotals *totals, bool shared)
{
	Datum values[10];
	bool nulls[10] = {0};

	values[0] = CStringGetTextDatum(place);
	values[1] = Int64GetDatum(totals->size);
	values[2] = Int64GetDatum(totals->used);
	values[3] = Int64GetDatum(totals->hits);
	values[4] = Int64GetDatum(totals->builds);
	values[5] = Float8GetDatum(totals->build_ms);
	values[6] = Int64GetDatum(totals->evictions);
	values[7] = Int64GetDatum(totals->failed_builds);
	values[8] = Int64GetDatum(totals->waits);
	values[9] = Int64GetDatum(totals->no_room);
	nulls[7] = nulls[8] = nulls[9] = !shared;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
cmblock_crl_cache_totals(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SharedTotals totals;
	LocalTotals local;

	InitMaterializedSRF(fcinfo, 0);
	if (cmblock_crl_shared_available())
	{
		cmblock_crl_shared_totals(&totals);
		put_totals(result, "shared", &totals, true);
	}
	cmblock_crl_local_totals(&local);
	totals = (SharedTotals){.size = (uint64) cmblock_crl_cache_size * 1024,
							.used = local.used,
							.hits = local.hits,
							.builds = local.builds,
							.build_ms = local.build_ms,
							.evictions = local.evictions};
	put_totals(result, "local", &totals, false);
	return (Datum) 0;
}
