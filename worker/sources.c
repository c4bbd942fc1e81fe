/*
 * sources.c
 *		The refresher's transactions: which sources there are, and what came of a fetch.
 *
 * A CRL is taken in and its source's row is changed in one transaction. What is wrong with a CRL comes back in words;
 * should anything be raised instead, that transaction is rolled back and another one notes the words, so that one
 * source cannot end the process that the others need. When that fails as well, the process ends with an error and is
 * started again: then the trouble is this database's and not the source's.
 *
 * The refresher waits for no other session for long. Somebody may have asked for a fetch, or taken a CRL of the same series in, and have left the
 * transaction open; the other sources must not wait for that.
 *
 * Sources of one series: the healthy ones share their next attempt, and only the first is asked then. When it fails,
 * its neighbour is due already and asked at once. One that has failed goes its own way until it works again.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "crl_import.h"
#include "crl_points.h"
#include "crl_source.h"
#include "schedule.h"
#include "sources.h"
#include "statement.h"
#include "worker.h"

/* How long a row, or a series of CRLs, is waited for. */
#define LOCK_WAIT "2s"

static Datum
octets_datum(const unsigned char *octets)
{
	return PointerGetDatum(cmblock_make_thumbprint(octets, SHA256_OCTETS));
}

static Datum
scope_datum(const unsigned char *octets)
{
	return PointerGetDatum(cmblock_make_bytea(octets, SHA256_OCTETS));
}

static char *
text_or_null(HeapTuple tuple, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(tuple, SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* ---------- which sources there are ---------- */

/* The named ones as a JSON array: a set of rows in one parameter. Addresses are printable ASCII, and are escaped. */
static Datum
named_as_json(List *named)
{
	StringInfoData json;
	ListCell *cell;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	foreach (cell, named)
	{
		const NamedSource *source = lfirst(cell);

		appendStringInfo(&json, "%s{\"authority\": \"%s\", \"delta\": %s, \"origin\": \"%s\", \"url\": \"",
						 json.len > 1 ? "," : "", cmblock_hex_string(source->authority, SHA256_OCTETS),
						 source->delta ? "true" : "false", source->origin);
		for (const char *p = source->url; *p; p++)
			appendStringInfo(&json, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
		appendStringInfoString(&json, "\"}");
	}
	appendStringInfoChar(&json, ']');
	return CStringGetTextDatum(json.data);
}

#define NAMED                                                                                                \
	"WITH named AS (SELECT * FROM json_to_recordset($1::json)"                                               \
	" AS n(authority cmblock.thumbprint, delta boolean, origin cmblock.crl_origin, url text)) "

/* A row that goes: nobody names it any more and no administrator added it, or its CA is not in the trust list. */
#define IS_OBSOLETE                                                                                          \
	"(s.origin <> 'configured' AND NOT EXISTS (SELECT FROM named n "                                         \
	"WHERE s.authority = n.authority AND s.url = n.url AND s.delta = n.delta) "                              \
	"OR NOT EXISTS (SELECT FROM cmblock.certificate_authority a WHERE a.sha256 = s.authority))"

/* For the rest of the transaction. */
static void
limit_lock_waits(void)
{
	(void) set_config_option("lock_timeout", LOCK_WAIT, PGC_SUSET, PGC_S_OVERRIDE, GUC_ACTION_LOCAL, true, 0,
							 false);
}

void
cmblock_follow_sources(void)
{
	static Statement differs = {
		NAMED "SELECT EXISTS (SELECT FROM named n WHERE NOT EXISTS (SELECT FROM cmblock.crl_source s "
			  "WHERE s.authority = n.authority AND s.url = n.url AND s.delta = n.delta)) "
			  "OR EXISTS (SELECT FROM cmblock.crl_source s WHERE " IS_OBSOLETE ")",
		{"text"}};
	static Statement drop = {NAMED "DELETE FROM cmblock.crl_source s WHERE " IS_OBSOLETE, {"text"}};
	static Statement add = {
		NAMED "INSERT INTO cmblock.crl_source (authority, url, delta, origin) "
			  "SELECT n.authority, n.url, n.delta, n.origin FROM named n ON CONFLICT DO NOTHING",
		{"text"}};
	Datum named = named_as_json(cmblock_named_sources());
	bool isnull;

	limit_lock_waits();
	cmblock_execute(&differs, &named, NULL);
	if (!DatumGetBool(cmblock_result(1, &isnull)))
		return;
	cmblock_execute(&drop, &named, NULL);
	cmblock_execute(&add, &named, NULL);
}

void
cmblock_read_sources(SourceList *list)
{
	/* The tag is only worth sending while what it stands for is held. */
	static Statement read = {"SELECT s.id, s.url, s.delta, s.scope, s.failures, s.next_attempt, "
							 "CASE WHEN c.sha256 IS NOT NULL THEN s.etag END, "
							 "CASE WHEN c.sha256 IS NOT NULL THEN s.last_modified END, s.last_attempt "
							 "FROM cmblock.crl_source s LEFT JOIN cmblock.crl c ON c.sha256 = s.crl "
							 "WHERE s.enabled AND s.url ~* '^(https?|file)://' "
							 "ORDER BY s.failures, s.origin, s.id",
							 {NULL}};
	MemoryContext target = CurrentMemoryContext;
	uint64 count = cmblock_execute(&read, NULL, NULL);

	list->count = (int) Min(count, INT_MAX);
	list->source = MemoryContextAllocZero(target, mul_size(sizeof(Source), count + 1));
	for (int i = 0; i < list->count; i++)
	{
		Source *source = &list->source[i];
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(target);
		bool isnull;
		Datum value;

		source->id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		source->url = text_or_null(tuple, 2);
		source->delta = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull));
		value = SPI_getbinval(tuple, desc, 4, &isnull);
		if (!isnull)
		{
			bytea *scope = DatumGetByteaPP(value);

			source->has_scope = VARSIZE_ANY_EXHDR(scope) == SHA256_OCTETS;
			if (source->has_scope)
				memcpy(source->scope, VARDATA_ANY(scope), SHA256_OCTETS);
		}
		source->failures = DatumGetInt32(SPI_getbinval(tuple, desc, 5, &isnull));
		value = SPI_getbinval(tuple, desc, 6, &isnull);
		source->next_attempt = isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
		source->etag = text_or_null(tuple, 7);
		source->last_modified = text_or_null(tuple, 8);
		value = SPI_getbinval(tuple, desc, 9, &isnull);
		source->last_attempt = isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
		MemoryContextSwitchTo(old);
	}
}

/* ---------- what came of a fetch ---------- */

/* The outcomes, by their names in enum crl_fetch_outcome. */
#define NOT_FETCHED "not_fetched"
#define REJECTED "rejected"
#define UNCHANGED "unchanged"

typedef struct Settlement
{
	const Fetch *fetch;
	TimestampTz started;
	const char *outcome;
	const char *error; /* NULL: it went well */
	bool has_crl;      /* a CRL that may be compared with the next one */
	unsigned char crl[SHA256_OCTETS];
	unsigned char scope[SHA256_OCTETS];
	double build_ms;
	CrlTimes times;
} Settlement;

/* The row, locked. False: somebody has removed the source meanwhile, or changed it, so that this fetch is nobody's. */
static bool
lock_source(const Fetch *fetch, bool *delta, Datum *authority, char **subject, int *failures)
{
	static Statement lock = {"SELECT s.delta, s.authority, a.subject, s.failures FROM cmblock.crl_source s "
							 "JOIN cmblock.certificate_authority a ON a.sha256 = s.authority "
							 "WHERE s.id = $1 AND s.url = $2 AND s.enabled FOR UPDATE OF s",
							 {"int8", "text"}};
	Datum values[2] = {Int64GetDatum(fetch->tag), CStringGetTextDatum(fetch->url)};
	bool isnull;

	if (cmblock_execute(&lock, values, NULL) == 0)
		return false;
	*delta = DatumGetBool(cmblock_result(1, &isnull));
	*authority = cmblock_result(2, &isnull);
	*subject = TextDatumGetCString(cmblock_result(3, &isnull));
	*failures = DatumGetInt32(cmblock_result(4, &isnull));
	return true;
}

/* The times of the CRL that the source gave last and that is still what the server has. */
static void
read_times(int64 id, CrlTimes *times)
{
	static Statement read = {"SELECT c.this_update, c.next_update, c.next_publish FROM cmblock.crl_source s "
							 "JOIN cmblock.crl c ON c.sha256 = s.crl WHERE s.id = $1",
							 {"int8"}};
	Datum value = Int64GetDatum(id);
	bool isnull;

	times->this_update = times->next_update = times->next_publish = DT_NOEND;
	if (cmblock_execute(&read, &value, NULL) == 0)
		return;
	value = cmblock_result(1, &isnull);
	if (!isnull)
		times->this_update = DatumGetTimestampTz(value);
	value = cmblock_result(2, &isnull);
	if (!isnull)
		times->next_update = DatumGetTimestampTz(value);
	value = cmblock_result(3, &isnull);
	if (!isnull)
		times->next_publish = DatumGetTimestampTz(value);
}

/* Is the CRL one of the source's CA? By name: a CA with several keys has a certificate for each. */
static bool
is_of_authority(const CrlTaking *taking, Datum authority)
{
	static Statement same = {
		"SELECT EXISTS (SELECT FROM cmblock.certificate_authority a, cmblock.certificate_authority b "
		"WHERE a.sha256 = $1 AND b.sha256 = $2 AND a.subject = "
		"b.subject) "
		"OR EXISTS (SELECT FROM cmblock.crl c WHERE c.sha256 = $3 AND c.signer "
		"= $2)",
		{"thumbprint", "thumbprint", "thumbprint"}};
	Datum values[3] = {octets_datum(taking->authority), authority, octets_datum(taking->sha256)};
	bool isnull;

	cmblock_execute(&same, values, NULL);
	return DatumGetBool(cmblock_result(1, &isnull));
}

/* Error pages come with status 200 often enough to deserve a sentence of their own. */
static const char *
not_a_crl(const Fetch *fetch)
{
	static const char pem[] = "-----BEGIN";

	if (fetch->size == 0)
		return "The server sent an empty file.";
	if (fetch->body[0] == 0x30)
		return NULL;
	for (size_t i = 0; i + strlen(pem) <= fetch->size && i < 64 * 1024; i++)
		if (memcmp(fetch->body + i, pem, strlen(pem)) == 0)
			return NULL;
	if (fetch->content_type[0] != '\0')
		return psprintf("The server sent something of type \"%s\" that is no CRL.", fetch->content_type);
	return "The file is no CRL.";
}

/* A CRL that was held already is not judged again: its row knows the rest. */
static void
complete(CrlTaking *taking)
{
	static Statement find = {"SELECT scope, authority::bytea FROM cmblock.crl WHERE sha256 = $1",
							 {"thumbprint"}};
	Datum key = octets_datum(taking->sha256);
	bool isnull;

	if (cmblock_execute(&find, &key, NULL) == 0)
		elog(ERROR, "the CRL that was just found is gone");
	memcpy(taking->scope, VARDATA_ANY(DatumGetByteaPP(cmblock_result(1, &isnull))), SHA256_OCTETS);
	memcpy(taking->authority, VARDATA_ANY(DatumGetByteaPP(cmblock_result(2, &isnull))), SHA256_OCTETS);
}

static const char *
sentence_of(const CrlTaking *taking)
{
	char *text =
		psprintf("%s.%s%s", taking->message, taking->detail ? " " : "", taking->detail ? taking->detail : "");

	text[0] = pg_toupper(text[0]);
	return text;
}

/*
 * Takes the CRL in, inside the transaction. A CRL of the wrong kind or CA is a refusal too: then the caller must roll back what
 * was done here.
 */
static void
take_in(Settlement *s, bool delta, Datum authority, const char *subject)
{
	TimestampTz before = GetCurrentTimestamp();
	CrlTaking taking;

	s->outcome = REJECTED;
	s->error = not_a_crl(s->fetch);
	if (s->error)
		return;
	cmblock_take_in_crl(cmblock_make_bytea(s->fetch->body, s->fetch->size), s->fetch->url, &taking);
	if (taking.outcome != CRLOUT_REFUSED && !taking.has_scope)
		complete(&taking);

	if (taking.outcome == CRLOUT_REFUSED)
		s->error = sentence_of(&taking);
	else if (taking.is_delta != delta)
		s->error = delta ? "The server sent a full CRL where a delta CRL is expected."
						 : "The server sent a delta CRL where a full CRL is expected.";
	else if (!is_of_authority(&taking, authority))
		s->error = psprintf("The CRL is one of \"%s\" and not of \"%s\".", taking.issuer, subject);
	if (s->error)
		return;

	s->outcome = cmblock_crl_outcome_name(taking.outcome);
	/* When it was held back before, the sentence that says why is there already. */
	if (taking.outcome == CRLOUT_HELD_BACK && taking.has_scope)
		s->error = taking.detail;
	s->has_crl = true;
	memcpy(s->crl, taking.sha256, SHA256_OCTETS);
	memcpy(s->scope, taking.scope, SHA256_OCTETS);
	s->times.this_update = taking.this_update;
	s->times.next_update = taking.has_next_update ? taking.next_update : DT_NOEND;
	s->times.next_publish = taking.has_next_publish ? taking.next_publish : DT_NOEND;
	s->build_ms = (double) (GetCurrentTimestamp() - before) / 1000;
	if (taking.outcome == CRLOUT_ACCEPTED)
		ereport(LOG,
				errmsg("cmblock: %s CRL %s of \"%s\" is in force, with %d %s",
					   taking.is_delta ? "delta" : "full", taking.number ? taking.number : "without number",
					   taking.issuer, taking.entries, taking.entries == 1 ? "entry" : "entries"),
				errdetail("It was fetched from %s.", s->fetch->url));
}

/* Did the fetch bring a CRL that can be used, also if it is to be let in first? */
static bool
went_well(const Settlement *s)
{
	return strcmp(s->outcome, NOT_FETCHED) != 0 && strcmp(s->outcome, REJECTED) != 0;
}

/* State changes are logged, retries are not. */
static void
log_change(const Settlement *s, const char *subject, int failures)
{
	if (went_well(s) && failures > 0)
		ereport(LOG, errmsg("cmblock: CRLs of \"%s\" can be fetched again", subject),
				errdetail("The source is %s.", s->fetch->url));
	else if (!went_well(s) && failures == 0)
		ereport(
			LOG, errmsg("cmblock: CRLs of \"%s\" could not be fetched", subject),
			errdetail("The source is %s: %s", s->fetch->url, s->error),
			errhint("What is held stays in force. View cmblock.crl_status has the state of each source."));
}

static void
note_failure(const Settlement *s, const char *subject, int failures)
{
	static Statement note = {
		"UPDATE cmblock.crl_source SET last_attempt = $2, last_outcome = $3::cmblock.crl_fetch_outcome, "
		"failures = failures + 1, last_error = $4, last_error_at = clock_timestamp(), fetch_ms = $5, "
		"next_attempt = CASE WHEN requested_at > $2 THEN NULL ELSE $6 END WHERE id = $1",
		{"int8", "timestamptz", "text", "text", "int8", "timestamptz"}};
	TimestampTz next = cmblock_next_try(GetCurrentTimestamp(), failures + 1, s->fetch->retry_after,
										cmblock_crl_refresh_interval, pg_prng_double(&pg_global_prng_state));
	Datum values[6] = {Int64GetDatum(s->fetch->tag),          TimestampTzGetDatum(s->started),
					   CStringGetTextDatum(s->outcome),       CStringGetTextDatum(s->error),
					   Int64GetDatum(s->fetch->milliseconds), TimestampTzGetDatum(next)};

	cmblock_execute(&note, values, NULL);
	log_change(s, subject, failures);
}

/* A field that the server left empty is null. */
static Datum
field(const char *text, char *null)
{
	*null = text[0] == '\0' ? 'n' : ' ';
	return CStringGetTextDatum(text);
}

static void
note_success(const Settlement *s, const char *subject, int failures)
{
	static Statement unchanged = {
		"UPDATE cmblock.crl_source SET last_attempt = $2, last_outcome = 'unchanged', last_success = "
		"clock_timestamp(), failures = 0, fetch_ms = $3, "
		"next_attempt = CASE WHEN requested_at > $2 THEN NULL ELSE $4 END WHERE id = $1",
		{"int8", "timestamptz", "int8", "timestamptz"}};
	static Statement changed = {
		"UPDATE cmblock.crl_source SET last_attempt = $2, last_outcome = $5::cmblock.crl_fetch_outcome, "
		"last_success = clock_timestamp(), failures = 0, fetch_ms = $3, "
		"next_attempt = CASE WHEN requested_at > $2 THEN NULL ELSE $4 END, last_error = coalesce($6, "
		"last_error), "
		"last_error_at = CASE WHEN $6 IS NULL THEN last_error_at ELSE clock_timestamp() END, crl = $7, scope "
		"= $8, "
		"bytes = $9, build_ms = CASE WHEN $5 = 'unchanged' THEN build_ms ELSE $10 END, etag = $11, "
		"last_modified = $12 WHERE id = $1",
		{"int8", "timestamptz", "int8", "timestamptz", "text", "text", "thumbprint", "bytea", "int8",
		 "float8", "text", "text"}};
	/* Whoever holds one of the others may be waiting for the one that we hold: those are left out. */
	static Statement others = {
		"UPDATE cmblock.crl_source SET next_attempt = $2 WHERE id IN (SELECT o.id FROM cmblock.crl_source o "
		"WHERE o.id <> $1 AND o.failures = 0 AND o.enabled AND o.next_attempt IS NOT NULL AND (o.scope, "
		"o.delta) = "
		"(SELECT s.scope, s.delta FROM cmblock.crl_source s WHERE s.id = $1) FOR UPDATE SKIP LOCKED)",
		{"int8", "timestamptz"}};
	TimestampTz next = cmblock_next_fetch(GetCurrentTimestamp(), &s->times, cmblock_crl_refresh_interval,
										  pg_prng_double(&pg_global_prng_state));
	Datum values[12] = {Int64GetDatum(s->fetch->tag), TimestampTzGetDatum(s->started),
						Int64GetDatum(s->fetch->milliseconds), TimestampTzGetDatum(next)};
	Datum neighbours[2] = {Int64GetDatum(s->fetch->tag), TimestampTzGetDatum(next)};
	char nulls[13] = "            ";

	if (s->has_crl)
	{
		values[4] = CStringGetTextDatum(s->outcome);
		values[5] = field(s->error ? s->error : "", &nulls[5]);
		values[6] = octets_datum(s->crl);
		values[7] = scope_datum(s->scope);
		values[8] = Int64GetDatum((int64) s->fetch->size);
		values[9] = Float8GetDatum(s->build_ms);
		values[10] = field(s->fetch->new_etag, &nulls[10]);
		values[11] = field(s->fetch->new_modified, &nulls[11]);
		cmblock_execute(&changed, values, nulls);
	}
	else
		cmblock_execute(&unchanged, values, NULL);
	cmblock_execute(&others, neighbours, NULL);
	log_change(s, subject, failures);
}

/*
 * One transaction: the CRL, if there is one and nothing was wrong with it so far, and the row. False when what was done
 * must not stay; s then has the words for the next attempt.
 */
static bool
settle(Settlement *s)
{
	bool delta;
	Datum authority;
	char *subject;
	int failures;

	if (!lock_source(s->fetch, &delta, &authority, &subject, &failures))
		return true;
	if (!s->outcome)
	{
		take_in(s, delta, authority, subject);
		if (!went_well(s))
			return false;
	}
	if (!went_well(s))
		note_failure(s, subject, failures);
	else
	{
		if (!s->has_crl)
			read_times(s->fetch->tag, &s->times);
		note_success(s, subject, failures);
	}
	return true;
}

/* What was raised, in words that outlive the transaction. Not for the source to blame: the CRL as such was not judged. */
static void
note_error(Settlement *s, const ErrorData *error)
{
	s->outcome = NOT_FETCHED;
	s->has_crl = false;
	s->error = psprintf("The CRL could not be taken in: %s%s%s", error->message, error->detail ? ". " : ".",
						error->detail ? error->detail : "");
}

static void
log_lock(const Fetch *fetch, const ErrorData *error)
{
	ereport(LOG, errmsg("cmblock: what was fetched from %s waits for a lock of another session", fetch->url),
			errdetail("It gave way: %s.", error->message),
			errhint("Look for a session that is idle in a transaction. The other sources do not wait."));
}

typedef enum Settled
{
	SETTLED,
	SETTLE_AGAIN, /* nothing was done: s has the words for the next attempt */
	SETTLE_LOCKED
} Settled;

/* Our locks are gone with the transaction, so a deadlock is over as well. */
static bool
is_of_locks(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* One transaction. An extension that is not there, or not ours, has nothing to be settled. */
static Settled
try_to_settle(Settlement *s, bool first, bool last)
{
	MemoryContext context = CurrentMemoryContext;
	volatile Settled result = SETTLED;

	if (cmblock_begin_work() != GROUND_READY)
		return SETTLED;
	PG_TRY();
	{
		(void) set_config_option("lock_timeout", LOCK_WAIT, PGC_SUSET, PGC_S_OVERRIDE, GUC_ACTION_LOCAL, true,
								 0, false);
		if (settle(s))
			cmblock_end_work();
		else
		{
			/* The words are in the transaction's memory. */
			s->error = MemoryContextStrdup(context, s->error);
			cmblock_abort_work();
			result = SETTLE_AGAIN;
		}
	}
	PG_CATCH();
	{
		ErrorData *error;

		if (last && !is_of_locks(geterrcode()))
			PG_RE_THROW();
		error = cmblock_abort_work_for_error(context);
		if (is_of_locks(error->sqlerrcode))
		{
			if (first)
				log_lock(s->fetch, error);
			result = SETTLE_LOCKED;
		}
		else
		{
			note_error(s, error);
			result = SETTLE_AGAIN;
		}
	}
	PG_END_TRY();
	return result;
}

bool
cmblock_settle_fetch(const Fetch *fetch, TimestampTz started, bool first)
{
	Settlement s = {.fetch = fetch, .started = started};
	Settled settled;

	if (fetch->outcome == FETCH_FAILED)
	{
		s.outcome = NOT_FETCHED;
		s.error = fetch->error;
	}
	else if (fetch->outcome == FETCH_NOT_MODIFIED)
		s.outcome = UNCHANGED;

	settled = try_to_settle(&s, first, false);
	if (settled == SETTLE_AGAIN)
		settled = try_to_settle(&s, first, true);
	if (settled == SETTLE_AGAIN)
		elog(ERROR, "a failed fetch could not be noted");
	return settled != SETTLE_LOCKED;
}
