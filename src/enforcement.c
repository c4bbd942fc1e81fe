/*
 * enforcement.c
 *		Where is the current state of a client in force? Asked of the sites themselves, through any number of hops.
 *
 * enforcement and wait_for_enforcement put a question into shared memory (question.c); the replicator takes it to the
 * neighbours, which answer ask_enforcement at once for themselves and pass the question on, and call tell_enforcement with
 * what they hear. A site answers from the row as it is, so the answer also tells of a site that was restored from a
 * backup and lost it: no bookkeeping about what was sent could.
 *
 * A site speaks for itself only of what is on disk: what it says must not be undone by a crash.
 *
 * Nothing is written anywhere. A session that waits sleeps on a condition variable and can be interrupted.
 *
 * What a neighbour tells is checked as its rows are: a child may speak for itself and the sites below it, the parent for
 * all but this site and those below it.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "call.h"
#include "command.h"
#include "durable.h"
#include "neighbour.h"
#include "question.h"
#include "scan.h"
#include "site.h"
#include "slots.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(cmblock_enforcement);
PG_FUNCTION_INFO_V1(cmblock_wait_for_enforcement);
PG_FUNCTION_INFO_V1(cmblock_ask_enforcement);
PG_FUNCTION_INFO_V1(cmblock_tell_enforcement);

/* A waiting session renews its question this often: well within CMBLOCK_QUESTION_MS. */
#define RENEW_MS 20000

/* When all have answered and some are behind, they are asked again after this time. */
#define ASK_AGAIN_MS 250

/* ---------- what this site has ---------- */

typedef struct HereState
{
	int64 version;
	TimestampTz since; /* when the block state came into force here */
	SiteCode assigned_site;
	bool is_ours; /* changed by this transaction */
} HereState;

/* With the newest snapshot. False: the client is not known here. */
static bool
look_here(const Smsid *client, HereState *state)
{
	IndexLookup lookup;
	bool found = cmblock_index_lookup(&lookup, REL_CLIENT, IDX_CLIENT_SMSID, SmsidPGetDatum(client));

	if (found)
	{
		bool isnull;
		Datum since = cmblock_lookup_column(&lookup, "block_received_at", &isnull);

		if (isnull)
			since = cmblock_lookup_column(&lookup, "block_changed_at", &isnull);
		if (isnull)
			since = cmblock_lookup_column(&lookup, "registered_at", &isnull);
		state->since = DatumGetTimestampTz(since);
		state->version = DatumGetInt64(cmblock_lookup_column(&lookup, "version", &isnull));
		state->assigned_site = DatumGetSiteCode(cmblock_lookup_column(&lookup, "assigned_site", &isnull));
		state->is_ours = FullTransactionIdEquals(
			DatumGetFullTransactionId(cmblock_lookup_column(&lookup, "change_xid", &isnull)),
			GetTopFullTransactionIdIfAny());
	}
	cmblock_index_lookup_end(&lookup);
	return found;
}

static Answer
answer_here(const Smsid *client, SiteCode here)
{
	HereState state;
	Answer answer = {.site = here, .said_by = here, .word = ANSWER_OWN};

	if (look_here(client, &state))
	{
		answer.version = state.version;
		answer.received_at = state.since;
		cmblock_make_durable();
	}
	answer.heard_at = GetCurrentTimestamp();
	return answer;
}

/* ---------- an inquiry ---------- */

typedef struct SiteState
{
	SiteCode code;
	SiteKind kind;
	bool wanted;
	bool answered;
	Answer answer;
} SiteState;

typedef struct Inquiry
{
	Smsid client;
	SiteCode here;
	HereState state;
	int64 current;    /* the highest version heard of */
	SiteState *sites; /* by code */
	int count;
	uint64 question; /* 0: not asked yet */
	TimestampTz end;
	TimestampTz asked; /* when this question was first asked */
	TimestampTz renewed;
} Inquiry;

/* octets, so that the order is that of site_code */
static Statement live_sites = {"SELECT code, kind FROM cmblock.site WHERE retired_at IS NULL ORDER BY code",
							   {NULL}};

static void
read_sites(Inquiry *inquiry)
{
	MemoryContext context = CurrentMemoryContext;
	bool isnull;

	SPI_connect();
	inquiry->count = cmblock_execute(&live_sites, NULL, NULL);
	inquiry->sites = MemoryContextAllocZero(context, Max(inquiry->count, 1) * sizeof(SiteState));
	for (int i = 0; i < inquiry->count; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];

		inquiry->sites[i].code = DatumGetSiteCode(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
		inquiry->sites[i].kind = cmblock_enum_value(
			ENUM_SITE_KIND, DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull)));
		inquiry->sites[i].wanted = true;
	}
	SPI_finish();
}

static int
compare_site(const void *key, const void *site)
{
	SiteCode a = *(const SiteCode *) key;
	SiteCode b = ((const SiteState *) site)->code;

	return a < b ? -1 : a > b;
}

static SiteState *
find_site(const Inquiry *inquiry, SiteCode code)
{
	return bsearch(&code, inquiry->sites, inquiry->count, sizeof(SiteState), compare_site);
}

static void
note(Inquiry *inquiry, const Answer *answer)
{
	SiteState *site = find_site(inquiry, answer->site);

	if (!site || (site->answered && answer->word < site->answer.word))
		return;
	site->answered = true;
	site->answer = *answer;
	inquiry->current = Max(inquiry->current, answer->version);
}

static EnforcementState
state_of(const Inquiry *inquiry, const SiteState *site)
{
	if (!site->answered || site->answer.word == ANSWER_UNREACHABLE)
		return ENFORCEMENT_UNKNOWN;
	return site->answer.version >= inquiry->current ? ENFORCEMENT_ENFORCED : ENFORCEMENT_PENDING;
}

static void
refuse_to_ask(const Inquiry *inquiry, const SiteIdentity *here)
{
	const char *owner = cmblock_site_code_string(inquiry->state.assigned_site);

	if (here->kind == SITE_SECONDARY)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("a secondary site cannot ask the other sites"),
				errdetail("Site %s sends nothing.", cmblock_site_code_string(here->code)),
				errhint("Run the command at site %s.", owner));
	if (RecoveryInProgress())
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("a standby cannot ask the other sites"),
				errhint("Run the command on the primary server."));
	if (!cmblock_slots_available())
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("the other sites cannot be asked: cmblock is not preloaded"),
			errhint("Add shared_preload_libraries = 'cmblock' to postgresql.conf and restart the server."));
}

static void
begin(Inquiry *inquiry, const Smsid *client, const Interval *timeout)
{
	const SiteIdentity *here = cmblock_require_site();
	TimestampTz now = GetCurrentTimestamp();
	Answer answer;

	memset(inquiry, 0, sizeof(*inquiry));
	inquiry->client = *client;
	inquiry->here = here->code;
	if (!look_here(client, &inquiry->state))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("client %s is not known to this site", cmblock_smsid_string(client)),
				errhint("Check the id; table cmblock.client has the clients that this site knows."));
	inquiry->end = DatumGetTimestampTz(
		DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), PointerGetDatum(timeout)));
	read_sites(inquiry);
	answer = answer_here(client, here->code);
	note(inquiry, &answer);
	if (inquiry->count > 1)
		refuse_to_ask(inquiry, here);
}

/*
 * A site behind a neighbour to which nothing is sent cannot be asked from here, and no link will say so. $1: the
 * neighbour that asks, which speaks for what is behind it itself.
 */
static Statement without_link = {
	"SELECT s.code FROM cmblock.site s CROSS JOIN cmblock.this_site t LEFT JOIN cmblock.site p ON p.code = "
	"s.parent "
	"CROSS JOIN LATERAL (SELECT CASE WHEN s.parent = t.code THEN s.code WHEN p.parent = t.code THEN p.code "
	"ELSE t.parent END) first (hop) "
	"WHERE s.retired_at IS NULL AND s.code <> t.code AND hop IS DISTINCT FROM $1 AND NOT EXISTS "
	"(SELECT FROM cmblock.replication_link l WHERE l.neighbour = hop AND l.server IS NOT NULL)",
	{"site_code"}};

static void
answer_where_no_link(uint64 question, SiteCode here, SiteCode asker)
{
	Datum value = SiteCodeGetDatum(asker);
	Answer *answers;
	int count;

	SPI_connect();
	count = cmblock_execute(&without_link, &value, asker == NO_SITE ? "n" : NULL);
	answers = palloc0(Max(count, 1) * sizeof(Answer));
	for (int i = 0; i < count; i++)
	{
		bool isnull;

		answers[i].site =
			DatumGetSiteCode(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		answers[i].said_by = here;
		answers[i].word = ANSWER_UNREACHABLE;
	}
	if (cmblock_question_answer(question, answers, count) && count > 0)
		cmblock_slots_nudge(MyDatabaseId);
	SPI_finish();
}

static void
ask(Inquiry *inquiry)
{
	uint64 id = cmblock_question_ask(inquiry->question, &inquiry->client, NO_SITE, 0);

	if (id == 0)
		ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("too many sessions ask where a client is enforced"),
				errdetail("At most %d questions can be open on a server.", CMBLOCK_MAX_QUESTIONS),
				errhint("Try again later."));
	inquiry->renewed = GetCurrentTimestamp();
	if (id != inquiry->question)
	{
		inquiry->asked = inquiry->renewed;
		answer_where_no_link(id, inquiry->here, NO_SITE);
	}
	inquiry->question = id;
}

static void
collect(Inquiry *inquiry)
{
	Answer *answers;
	Answer own = answer_here(&inquiry->client, inquiry->here);
	int count = cmblock_question_answers(inquiry->question, &answers);

	note(inquiry, &own);
	for (int i = 0; i < count; i++)
		note(inquiry, &answers[i]);
	pfree(answers);
}

/* How it stands with the wanted sites. */
typedef struct Tally
{
	int wanted;
	int enforced;
	int answered;
	int behind; /* say themselves that they have an older version */
} Tally;

static Tally
tally(const Inquiry *inquiry)
{
	Tally tally = {0};

	for (int i = 0; i < inquiry->count; i++)
	{
		const SiteState *site = &inquiry->sites[i];
		EnforcementState state = state_of(inquiry, site);

		if (!site->wanted)
			continue;
		tally.wanted++;
		tally.answered += site->answered;
		tally.enforced += state == ENFORCEMENT_ENFORCED;
		tally.behind += state == ENFORCEMENT_PENDING && site->answer.word == ANSWER_OWN;
	}
	return tally;
}

/* Until all wanted sites have answered, or `until_enforced` all have the current version, or time is up. */
static Tally
inquire(Inquiry *inquiry, bool until_enforced)
{
	Tally now_stands = tally(inquiry);

	if (now_stands.enforced == now_stands.wanted)
		return now_stands;
	ask(inquiry);
	PG_TRY();
	{
		for (;;)
		{
			TimestampTz now;
			TimestampTz wake;
			bool again;

			cmblock_question_prepare_sleep(inquiry->question);
			collect(inquiry);
			now_stands = tally(inquiry);
			now = GetCurrentTimestamp();
			if ((until_enforced ? now_stands.enforced : now_stands.answered) == now_stands.wanted ||
				now >= inquiry->end)
				break;

			/* The sites that are behind were asked before the row came there. */
			again = until_enforced && now_stands.behind > 0;
			wake = TimestampTzPlusMilliseconds(inquiry->asked, ASK_AGAIN_MS);
			if (again && now >= wake)
			{
				cmblock_question_withdraw(inquiry->question);
				inquiry->question = 0;
				ask(inquiry);
				continue;
			}
			if (!again)
				wake = TimestampTzPlusMilliseconds(inquiry->renewed, RENEW_MS);
			if (!again && now >= wake)
				ask(inquiry);
			if (!cmblock_question_sleep(inquiry->question,
										TimestampDifferenceMilliseconds(now, Min(wake, inquiry->end)) + 1))
				ask(inquiry);
			CHECK_FOR_INTERRUPTS();
		}
	}
	PG_FINALLY();
	{
		cmblock_question_done_sleeping();
		cmblock_question_withdraw(inquiry->question);
	}
	PG_END_TRY();
	return now_stands;
}

/* ---------- enforcement ---------- */

static char *
explain(const Inquiry *inquiry, const SiteState *site)
{
	const char *by = cmblock_site_code_string(site->answer.said_by);

	if (!site->answered)
		return "It has not answered in time.";
	switch (site->answer.word)
	{
		case ANSWER_OWN:
			if (state_of(inquiry, site) == ENFORCEMENT_ENFORCED)
				return NULL;
			return site->answer.version == 0 ? "It does not know the client yet." : "It has an older state.";
		case ANSWER_RECORD:
			return psprintf("Site %s cannot reach it now; it acknowledged this state before.", by);
		case ANSWER_UNSENT:
			return psprintf("Site %s cannot reach it, and has not sent it this state yet.", by);
		case ANSWER_UNREACHABLE:
			return psprintf("Site %s cannot reach it, or the site above it.", by);
	}
	return NULL;
}

Datum
cmblock_enforcement(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Inquiry inquiry;

	cmblock_require_arguments(fcinfo, 0);
	begin(&inquiry, PG_GETARG_SMSID_P(0), PG_GETARG_INTERVAL_P(1));
	(void) inquire(&inquiry, false);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < inquiry.count; i++)
	{
		const SiteState *site = &inquiry.sites[i];
		EnforcementState state = state_of(&inquiry, site);
		bool is_known = state != ENFORCEMENT_UNKNOWN && site->answer.version > 0;
		bool is_since = state == ENFORCEMENT_ENFORCED && site->answer.received_at != 0;
		char *detail = explain(&inquiry, site);
		Datum values[7] = {
			SiteCodeGetDatum(site->code),
			cmblock_enum_datum(ENUM_SITE_KIND, site->kind),
			cmblock_enum_datum(ENUM_ENFORCEMENT_STATE, state),
			Int64GetDatum(site->answer.version),
			TimestampTzGetDatum(site->answer.received_at),
			TimestampTzGetDatum(site->answer.heard_at),
			detail ? CStringGetTextDatum(detail) : (Datum) 0,
		};
		bool nulls[7] = {false, false, false, !is_known, !is_since, !is_known, !detail};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---------- wait_for_enforcement ---------- */

static void
select_sites(Inquiry *inquiry, ArrayType *array)
{
	Datum *codes;
	bool *nulls;
	int count;

	deconstruct_array(array, ARR_ELEMTYPE(array), sizeof(SiteCode), true, TYPALIGN_INT, &codes, &nulls,
					  &count);
	if (count == 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no site to wait for is named"),
				errhint("Leave the argument \"sites\" out to wait for all."));
	for (int i = 0; i < inquiry->count; i++)
		inquiry->sites[i].wanted = false;
	for (int i = 0; i < count; i++)
	{
		SiteState *site = nulls[i] ? NULL : find_site(inquiry, DatumGetSiteCode(codes[i]));

		if (nulls[i])
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("a site to wait for cannot be null"));
		if (!site)
			ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("site %s is not in this hierarchy",
						   cmblock_site_code_string(DatumGetSiteCode(codes[i]))),
					errhint("Table cmblock.site has the sites; a retired one cannot be waited for."));
		site->wanted = true;
	}
}

static void
report_missing(const Inquiry *inquiry, Tally stands)
{
	StringInfoData missing;
	StringInfoData why;
	int listed = 0;

	initStringInfo(&missing);
	initStringInfo(&why);
	for (int i = 0; i < inquiry->count && listed < 20; i++)
	{
		const SiteState *site = &inquiry->sites[i];
		const char *detail = explain(inquiry, site);

		if (!site->wanted || state_of(inquiry, site) == ENFORCEMENT_ENFORCED)
			continue;
		appendStringInfo(&missing, "%s%s", listed > 0 ? ", " : "", cmblock_site_code_string(site->code));
		appendStringInfo(&why, "%s%s: %s", listed > 0 ? "\n" : "", cmblock_site_code_string(site->code),
						 detail);
		listed++;
	}
	if (listed < stands.wanted - stands.enforced)
		appendStringInfo(&missing, " and %d more", stands.wanted - stands.enforced - listed);
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("the current state of client %s is not known to be in force at %s",
				   cmblock_smsid_string(&inquiry->client), missing.data),
			errdetail("%s", why.data),
			errhint("View cmblock.attention says what is wrong with a link, at the site that sends. "
					"What is missing is sent as soon as it can be."));
}

Datum
cmblock_wait_for_enforcement(PG_FUNCTION_ARGS)
{
	Inquiry inquiry;
	Tally stands;

	cmblock_require_arguments(fcinfo, MAY_BE_NULL(2));
	begin(&inquiry, PG_GETARG_SMSID_P(0), PG_GETARG_INTERVAL_P(1));
	if (!PG_ARGISNULL(2))
		select_sites(&inquiry, PG_GETARG_ARRAYTYPE_P(2));
	if (inquiry.state.is_ours)
	{
		ereport(WARNING, errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("nothing to wait for yet: this transaction itself changed client %s",
					   cmblock_smsid_string(&inquiry.client)),
				errdetail("The change is sent to the other sites after COMMIT."),
				errhint("Commit first, then wait."));
		PG_RETURN_NULL();
	}
	stands = inquire(&inquiry, true);
	if (stands.enforced < stands.wanted)
		report_missing(&inquiry, stands);
	PG_RETURN_TIMESTAMPTZ(GetCurrentTimestamp());
}

/* ---------- the calls of the neighbours ---------- */

static void
check_caller(FunctionCallInfo fcinfo, Neighbour *neighbour)
{
	Call call;

	cmblock_read_call(fcinfo, &call);
	SPI_connect();
	cmblock_check_call(&call, neighbour);
	SPI_finish();
}

Datum
cmblock_ask_enforcement(PG_FUNCTION_ARGS)
{
	Neighbour neighbour;
	Answer answer;

	check_caller(fcinfo, &neighbour);
	answer = answer_here(PG_GETARG_SMSID_P(6), neighbour.here.code);
	/* A secondary site has nobody to ask. Where there is no room the sites behind stay unknown. */
	if (neighbour.here.kind != SITE_SECONDARY && cmblock_slots_available())
		answer_where_no_link(
			cmblock_question_ask(0, PG_GETARG_SMSID_P(6), neighbour.code, (uint64) PG_GETARG_INT64(5)),
			neighbour.here.code, neighbour.code);
	PG_RETURN_BYTEA_P(cmblock_answers_encode(&answer, 1));
}

/* Does the neighbour speak for this site? */
static bool
speaks_for(const Neighbour *neighbour, SiteCode code)
{
	SiteRow row;

	if (code == neighbour->code)
		return true;
	if (code == neighbour->here.code || !cmblock_lookup_site(code, &row))
		return false;
	if (neighbour->is_parent)
		return row.parent != neighbour->here.code;
	return row.parent == neighbour->code;
}

Datum
cmblock_tell_enforcement(PG_FUNCTION_ARGS)
{
	bytea *octets = PG_GETARG_BYTEA_PP(6);
	Neighbour neighbour;
	Answer *answers;
	SiteRow row;
	int count;
	int kept = 0;
	bool is_open;

	check_caller(fcinfo, &neighbour);
	count = cmblock_answers_read(VARDATA_ANY(octets), VARSIZE_ANY_EXHDR(octets), &answers);
	if (count < 0)
		ereport(ERROR, errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("malformed answers to a question"));
	for (int i = 0; i < count; i++)
	{
		/* A site that is not known here yet, since its row is still on the way, is nobody's: left out. */
		if (!cmblock_lookup_site(answers[i].site, &row))
			continue;
		if (!speaks_for(&neighbour, answers[i].site))
			ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("site %s does not speak for site %s", cmblock_site_code_string(neighbour.code),
						   cmblock_site_code_string(answers[i].site)));
		answers[kept++] = answers[i];
	}
	is_open = cmblock_question_answer((uint64) PG_GETARG_INT64(5), answers, kept);
	if (is_open)
		cmblock_slots_nudge(MyDatabaseId);
	PG_RETURN_BOOL(is_open);
}
