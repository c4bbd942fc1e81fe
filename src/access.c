/*
 * access.c
 *		check_access, is_allowed and explain_access: the decision in SQL.
 *
 * All three make the same evaluation and differ in what they show of it. The first two take a plain answer from the cache
 * where there is one (quick_decision.c). They may not be called at all without
 * EXECUTE; with it, what they read needs no further privilege.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "decision.h"
#include "decision_statistics.h"
#include "quick_decision.h"
#include "refusal_log.h"

PG_FUNCTION_INFO_V1(cmblock_check_access);
PG_FUNCTION_INFO_V1(cmblock_is_allowed);
PG_FUNCTION_INFO_V1(cmblock_explain_access);

/* The arguments, which all three have in common. An explicit NULL means the default. */
static void
read_request(FunctionCallInfo fcinfo, AccessRequest *request)
{
	memset(request, 0, sizeof(*request));
	request->client = PG_ARGISNULL(0) ? NULL : PG_GETARG_SMSID_P(0);
	request->has_certificate = !PG_ARGISNULL(1);
	request->certificate = PG_GETARG_DATUM(1);
	request->transport =
		PG_ARGISNULL(2) ? TRANSPORT_HTTPS : cmblock_enum_value(ENUM_TRANSPORT, PG_GETARG_OID(2));
	request->kind =
		PG_ARGISNULL(3) ? REQUEST_POLICY : cmblock_enum_value(ENUM_REQUEST_KIND, PG_GETARG_OID(3));
	if (!PG_ARGISNULL(4) && VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(4)) > 0)
		request->hardware_id = PG_GETARG_TEXT_PP(4);
	request->at = PG_ARGISNULL(5) ? GetCurrentTransactionStartTimestamp() : PG_GETARG_TIMESTAMPTZ(5);
}

static const Finding *
first_refusal(const AccessDecision *decision)
{
	for (int i = 0; i < decision->count; i++)
		if (decision->finding[i].answer == ANSWER_REFUSED)
			return &decision->finding[i];
	return NULL;
}

/* A decision that somebody acts on: counted, and logged when it refuses; explain_access only explains one. */
static void
decide(const AccessRequest *request, Wordiness words, AccessDecision *decision)
{
	Reason reason;

	/* The log names all reasons. */
	if (cmblock_log_refusals && words == WORDS_NONE)
		words = WORDS_REFUSALS;
	if (!cmblock_decide_quickly(request, words, decision, &reason))
	{
		const Finding *refusal;

		cmblock_decide(request, words, decision);
		refusal = first_refusal(decision);
		reason = refusal ? refusal->reason : REASON_NONE;
	}
	cmblock_count_decision(request, reason);
	if (reason != REASON_NONE && cmblock_log_refusals)
		cmblock_log_refusal(request, decision);
}

Datum
cmblock_is_allowed(PG_FUNCTION_ARGS)
{
	AccessRequest request;
	AccessDecision decision;

	read_request(fcinfo, &request);
	decide(&request, WORDS_NONE, &decision);
	PG_RETURN_BOOL(decision.allowed);
}

/* ---------- check_access ---------- */

/* The reasons of the findings with this answer, each once, in order. */
static Datum
reasons_with(const AccessDecision *decision, StepAnswer answer)
{
	Datum names[MAX_FINDINGS];
	int count = 0;
	uint32 seen = 0;

	for (int i = 0; i < decision->count; i++)
	{
		const Finding *f = &decision->finding[i];

		if (f->answer != answer || (seen & (UINT32_C(1) << f->reason)))
			continue;
		seen |= UINT32_C(1) << f->reason;
		names[count++] = CStringGetTextDatum(cmblock_reason_name(f->reason));
	}
	return PointerGetDatum(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

#define DECISION_COLUMNS 10

Datum
cmblock_check_access(PG_FUNCTION_ARGS)
{
	AccessRequest request;
	AccessDecision d;
	const Finding *refusal;
	TupleDesc desc = fcinfo->flinfo->fn_extra;
	Datum values[DECISION_COLUMNS] = {0};
	bool nulls[DECISION_COLUMNS] = {0};

	if (desc == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
			desc->natts != DECISION_COLUMNS)
			elog(ERROR, "check_access does not return cmblock.access_decision");
		desc = BlessTupleDesc(desc);
		fcinfo->flinfo->fn_extra = desc;
		MemoryContextSwitchTo(caller);
	}
	read_request(fcinfo, &request);
	decide(&request, WORDS_REFUSALS, &d);
	refusal = first_refusal(&d);

	values[0] = BoolGetDatum(d.allowed);
	nulls[1] = refusal == NULL;
	if (refusal)
		values[1] = CStringGetTextDatum(cmblock_reason_name(refusal->reason));
	values[2] = reasons_with(&d, ANSWER_REFUSED);
	values[3] = cmblock_enum_datum(ENUM_ASSURANCE, d.assurance);
	nulls[4] = !d.has_client;
	values[4] = SmsidPGetDatum(&d.client);
	nulls[5] = !d.has_certificate;
	if (d.has_certificate)
		values[5] = PointerGetDatum(cmblock_make_thumbprint(d.certificate, SHA256_OCTETS));
	nulls[6] = d.site == NO_SITE;
	values[6] = SiteCodeGetDatum(d.site);
	nulls[7] = d.assigned_site == NO_SITE;
	values[7] = SiteCodeGetDatum(d.assigned_site);
	nulls[8] = refusal == NULL;
	if (refusal)
		values[8] = CStringGetTextDatum(refusal->detail);
	values[9] = reasons_with(&d, ANSWER_NOTED);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* ---------- explain_access ---------- */

Datum
cmblock_explain_access(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	AccessRequest request;
	AccessDecision d;

	InitMaterializedSRF(fcinfo, 0);
	read_request(fcinfo, &request);
	cmblock_decide(&request, WORDS_ALL, &d);
	for (int i = 0; i < d.count; i++)
	{
		const Finding *f = &d.finding[i];
		Datum values[5];
		bool nulls[5] = {0};

		values[0] = Int32GetDatum(f->step + 1);
		values[1] = CStringGetTextDatum(cmblock_step_question(f->step));
		values[2] = CStringGetTextDatum(cmblock_answer_name(f->answer));
		nulls[3] = f->reason == REASON_NONE;
		values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(cmblock_reason_name(f->reason));
		values[4] = CStringGetTextDatum(f->detail);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
