/*
 * crl_import.c
 *		Taking a CRL in: compared with what its series had before, put into the cache and made current.
 *
 * A series is what one key of one issuer publishes for one issuing distribution point, full and delta CRLs. Its row in
 * crl_scope is the mark of how far it has come, and the lock: whoever takes a CRL of the series in holds that row, so two
 * sessions cannot both pass the comparison. The expensive parts (reading, verifying, indexing for the cache) happen
 * before the lock is taken.
 *
 * Numbers and times never go back within a series (rule 21), whatever became of the rows of crl; the mark stays when a CRL
 * is removed, and only reset_crl_scope takes it away. A full CRL replaces the one before. Of the deltas the newest
 * stays, and below it the newest that applies to the full CRL at hand, since a delta may come before its base.
 *
 * Failure: whatever raises here rolls the caller's transaction back, and the cache then holds a CRL that no row names, which
 * is evicted sooner or later.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "crl_cache.h"
#include "crl_import.h"
#include "progress.h"
#include "statement.h"
#include "types.h"

bool cmblock_clients_check_crl = true;
int cmblock_crl_max_size = 262144;
int cmblock_crl_shrink_entries = 2;
int cmblock_crl_shrink_percent = 10;

void
cmblock_crl_import_init(void)
{
	DefineCustomBoolVariable(
		"cmblock.clients_check_crl", "Windows clients check the CRL for the certificates of site systems.",
		"The site's property; cmblock.crl_checking tells it. Macs always check, mobile devices never.",
		&cmblock_clients_check_crl, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("cmblock.crl_max_size", "Size up to which a CRL is taken in.", NULL,
							&cmblock_crl_max_size, 262144, 1, 1000000, PGC_SUSET, GUC_UNIT_KB, NULL, NULL,
							NULL);
	DefineCustomIntVariable("cmblock.crl_shrink_entries",
							"A full CRL is held back when more entries than this have vanished from it ...",
							"... and more than cmblock.crl_shrink_percent of them.",
							&cmblock_crl_shrink_entries, 2, 0, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"cmblock.crl_shrink_percent",
		"A full CRL is held back when more than this share of its entries has vanished ...",
		"... and more than cmblock.crl_shrink_entries of them. 100 lets every CRL in.",
		&cmblock_crl_shrink_percent, 10, 0, 100, PGC_SUSET, 0, NULL, NULL, NULL);
}

const char *
cmblock_crl_outcome_name(CrlOutcome outcome)
{
	static const char *const names[] = {
		[CRLOUT_ACCEPTED] = "accepted",
		[CRLOUT_UNCHANGED] = "unchanged",
		[CRLOUT_HELD_BACK] = "held_back",
		[CRLOUT_REFUSED] = "refused",
	};

	return names[outcome];
}

/* ---------- values for statements ---------- */

static Datum
thumbprint_datum(const unsigned char *octets)
{
	return PointerGetDatum(cmblock_make_thumbprint(octets, SHA256_OCTETS));
}

static Datum
bytea_datum(const void *data, size_t size)
{
	return PointerGetDatum(cmblock_make_bytea(data, size));
}

static Datum
numeric_datum(const char *digits)
{
	return DirectFunctionCall3(numeric_in, CStringGetDatum(digits), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

static Datum
texts_datum(List *texts)
{
	Datum *values = palloc(sizeof(Datum) * Max(1, list_length(texts)));
	ListCell *cell;
	int count = 0;

	foreach (cell, texts)
		values[count++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/* ---------- is it here already? ---------- */

/* Inside SPI. True with the outcome when there is nothing left to do. */
static bool
is_here(CrlTaking *taking)
{
	static Statement find = {"SELECT state FROM cmblock.crl WHERE sha256 = $1", {"thumbprint"}};
	Datum key = thumbprint_datum(taking->sha256);
	bool isnull;

	if (cmblock_execute(&find, &key, NULL) == 0)
		return false;
	if (cmblock_enum_value(ENUM_CRL_STATE, DatumGetObjectId(cmblock_result(1, &isnull))) == CRL_CURRENT)
		taking->outcome = CRLOUT_UNCHANGED;
	else
	{
		taking->outcome = CRLOUT_HELD_BACK;
		taking->detail = "It was held back before.";
	}
	return true;
}

/* ---------- the mark: rule 21 ---------- */

static const char reset_hint[] =
	"If the CA was restored from a backup, a PKI administrator can let its numbers begin again: "
	"SELECT cmblock.reset_crl_scope('\\x%s').";

static bool
refuse_old(CrlTaking *taking, const char *message, char *detail)
{
	return cmblock_refuse_crl(taking, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message, detail,
							  psprintf(reset_hint, cmblock_hex_string(taking->scope, SHA256_OCTETS)));
}

/* Compares with what the series had: false after a refusal. Columns `first`, +1, +2 of the result are the mark. */
static bool
is_newer(CrlTaking *taking, int first)
{
	const char *kind = taking->is_delta ? "delta CRL" : "CRL";
	bool no_mark;
	bool no_number;
	bool isnull;
	TimestampTz mark_time = DatumGetTimestampTz(cmblock_result(first + 1, &no_mark));
	Datum mark_number = cmblock_result(first, &no_number);
	struct varlena *mark_sha256;
	int compared = 1;

	if (no_mark)
		return true;
	mark_sha256 = PG_DETOAST_DATUM_PACKED(cmblock_result(first + 2, &isnull));
	if (memcmp(VARDATA_ANY(mark_sha256), taking->sha256, SHA256_OCTETS) == 0)
		return true;
	if (taking->number && !no_number)
		compared =
			DatumGetInt32(DirectFunctionCall2(numeric_cmp, numeric_datum(taking->number), mark_number));
	else if (taking->this_update == mark_time)
		compared = 0;
	if (compared < 0)
		return refuse_old(
			taking, psprintf("the %s of \"%s\" is older than one that was held before", kind, taking->issuer),
			psprintf("Its number is %s, and number %s was taken in before (rule 21).", taking->number,
					 DatumGetCString(DirectFunctionCall1(numeric_out, mark_number))));
	if (taking->this_update < mark_time)
		return refuse_old(
			taking, psprintf("the %s of \"%s\" is older than one that was held before", kind, taking->issuer),
			psprintf("Its this update is %s, and one of %s was taken in before (rule 21).",
					 pstrdup(timestamptz_to_str(taking->this_update)),
					 pstrdup(timestamptz_to_str(mark_time))));
	if (compared == 0)
		return refuse_old(
			taking,
			psprintf("the CA published two different %ss of \"%s\" under one number", kind, taking->issuer),
			psprintf("Number %s was taken in before as %s (rule 21).",
					 taking->number ? taking->number : "none",
					 cmblock_hex_string((unsigned char *) VARDATA_ANY(mark_sha256), SHA256_OCTETS)));
	return true;
}

/* Inside SPI. Locks the series; false after a refusal. */
static bool
lock_series(JudgedCrl *judged)
{
	static Statement add = {
		"INSERT INTO cmblock.crl_scope (scope, issuer, signer_key, partition) VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (scope) DO NOTHING",
		{"bytea", "text", "thumbprint", "text"}};
	static Statement lock = {
		"SELECT number, this_update, sha256, delta_number, delta_this_update, delta_sha256"
		" FROM cmblock.crl_scope WHERE scope = $1 FOR UPDATE",
		{"bytea"}};
	CrlTaking *taking = judged->taking;
	Datum values[4] = {bytea_datum(taking->scope, SHA256_OCTETS), CStringGetTextDatum(taking->issuer),
					   thumbprint_datum(judged->signer_key),
					   judged->partition ? CStringGetTextDatum(judged->partition) : (Datum) 0};

	cmblock_progress_phase(WORK_WAITING_FOR_SERIES, 0);
	cmblock_execute(&add, values, judged->partition ? NULL : "   n");
	if (cmblock_execute(&lock, values, NULL) == 0)
		elog(ERROR, "the series of a CRL vanished while it was taken in");
	(void) cmblock_result(taking->is_delta ? 5 : 2, &judged->begins_series);
	if (!taking->is_delta && judged->begins_series)
		(void) cmblock_result(5, &judged->begins_series);
	return is_newer(taking, taking->is_delta ? 4 : 1);
}

/* ---------- storing ---------- */

/* A statement that deletes CRLs and returns their digests: the cache need not keep them. */
static void
drop(Statement *statement, Datum *key)
{
	uint64 count = cmblock_execute(statement, key, NULL);

	for (uint64 i = 0; i < count; i++)
	{
		bool isnull;
		Datum sha256 = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		cmblock_crl_retire((const uint8 *) VARDATA_ANY(DatumGetByteaPP(sha256)));
	}
}

void
cmblock_settle_crl(const unsigned char *sha256)
{
	static Statement mark_base = {
		"UPDATE cmblock.crl_scope s SET number = coalesce(c.number, s.number), this_update = c.this_update,"
		" sha256 = c.sha256 FROM cmblock.crl c WHERE c.sha256 = $1 AND NOT c.is_delta AND s.scope = c.scope",
		{"thumbprint"}};
	static Statement mark_delta = {
		"UPDATE cmblock.crl_scope s SET delta_number = c.number, delta_this_update = c.this_update,"
		" delta_next_update = c.next_update, delta_sha256 = c.sha256"
		" FROM cmblock.crl c WHERE c.sha256 = $1 AND c.is_delta AND s.scope = c.scope",
		{"thumbprint"}};
	static Statement drop_bases = {"DELETE FROM cmblock.crl o USING cmblock.crl c"
								   " WHERE c.sha256 = $1 AND o.scope = c.scope AND o.sha256 <> c.sha256 AND "
								   "NOT o.is_delta AND NOT c.is_delta RETURNING o.sha256",
								   {"thumbprint"}};
	static Statement drop_deltas = {
		"DELETE FROM cmblock.crl o USING cmblock.crl c"
		" WHERE c.sha256 = $1 AND o.scope = c.scope AND o.is_delta"
		" AND (o.number <= (SELECT b.number FROM cmblock.crl b"
		"                   WHERE b.scope = c.scope AND NOT b.is_delta AND b.state = 'current')"
		"      OR o.sha256 NOT IN ("
		"  (SELECT d.sha256 FROM cmblock.crl d WHERE d.scope = c.scope AND d.is_delta ORDER BY d.number DESC "
		"LIMIT 1)"
		"  UNION ALL"
		"  (SELECT d.sha256 FROM cmblock.crl d JOIN cmblock.crl b ON b.scope = d.scope AND NOT b.is_delta"
		"   AND b.state = 'current' AND d.base_number <= b.number"
		"   WHERE d.scope = c.scope AND d.is_delta ORDER BY d.number DESC LIMIT 1)))"
		" RETURNING o.sha256",
		{"thumbprint"}};
	Datum key = thumbprint_datum(sha256);

	cmblock_execute(&mark_base, &key, NULL);
	cmblock_execute(&mark_delta, &key, NULL);
	drop(&drop_bases, &key);
	drop(&drop_deltas, &key);
}

static void
insert_crl(const JudgedCrl *judged, CrlState state, const char *source)
{
	static Statement insert = {
		"INSERT INTO cmblock.crl (sha256, state, issuer, authority, signer, signer_key, scope, is_delta, "
		"number,"
		" base_number, this_update, next_update, next_publish, entries, partition, freshest,"
		" unknown_critical_entry, ca_version, warnings, source, issuer_der, idp, der, imported_by, "
		"imported_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, "
		"$21, $22,"
		" $23, session_user, now())",
		{"thumbprint",  "crl_state", "text",    "thumbprint", "thumbprint",  "thumbprint",
		 "bytea",       "bool",      "numeric", "numeric",    "timestamptz", "timestamptz",
		 "timestamptz", "int4",      "text",    "text[]",     "bool",        "int8",
		 "text[]",      "text",      "bytea",   "bytea",      "bytea"}};
	const CrlTaking *taking = judged->taking;
	const Crl *crl = &judged->crl;
	Datum values[23];
	char nulls[23];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = thumbprint_datum(taking->sha256);
	values[1] = cmblock_enum_datum(ENUM_CRL_STATE, state);
	values[2] = CStringGetTextDatum(taking->issuer);
	values[3] = thumbprint_datum(taking->authority);
	values[4] = thumbprint_datum(judged->signer_sha256);
	values[5] = thumbprint_datum(judged->signer_key);
	values[6] = bytea_datum(taking->scope, SHA256_OCTETS);
	values[7] = BoolGetDatum(taking->is_delta);
	values[10] = TimestampTzGetDatum(taking->this_update);
	values[13] = Int32GetDatum(taking->entries);
	values[15] = texts_datum(judged->freshest);
	values[16] = BoolGetDatum((crl->flags & CRLFLAG_UNKNOWN_CRITICAL_ENTRY) != 0);
	values[18] = texts_datum(taking->warnings);
	values[19] = CStringGetTextDatum(source);
	values[20] = bytea_datum(crl->issuer.data, crl->issuer.size);
	values[22] = PointerGetDatum(judged->der);
#define OPTIONAL(place, present, value)                                                                      \
	do                                                                                                       \
	{                                                                                                        \
		nulls[place] = (present) ? ' ' : 'n';                                                                \
		values[place] = (present) ? (value) : (Datum) 0;                                                     \
	} while (0)
	OPTIONAL(8, taking->number, numeric_datum(taking->number));
	OPTIONAL(9, taking->base_number, numeric_datum(taking->base_number));
	OPTIONAL(11, taking->has_next_update, TimestampTzGetDatum(taking->next_update));
	OPTIONAL(12, taking->has_next_publish, TimestampTzGetDatum(taking->next_publish));
	OPTIONAL(14, judged->partition, CStringGetTextDatum(judged->partition));
	OPTIONAL(17, crl->flags & CRLFLAG_CA_VERSION, Int64GetDatum(crl->ca_version));
	OPTIONAL(21, crl->flags & CRLFLAG_IDP, bytea_datum(crl->idp.raw.data, crl->idp.raw.size));
#undef OPTIONAL
	cmblock_execute(&insert, values, nulls);
}

/* Is the delta's news in the full CRL at hand already (rule 26)? Then its mark is all that is kept. */
static bool
is_superseded(const CrlTaking *taking)
{
	static Statement find = {"SELECT number >= $2, number FROM cmblock.crl"
							 " WHERE scope = $1 AND NOT is_delta AND state = 'current'",
							 {"bytea", "numeric"}};
	static Statement mark = {"UPDATE cmblock.crl_scope SET delta_number = $2, delta_this_update = $3, "
							 "delta_next_update = $4, delta_sha256 = $5"
							 " WHERE scope = $1",
							 {"bytea", "numeric", "timestamptz", "timestamptz", "thumbprint"}};
	Datum values[5] = {bytea_datum(taking->scope, SHA256_OCTETS), numeric_datum(taking->number),
					   TimestampTzGetDatum(taking->this_update), TimestampTzGetDatum(taking->next_update),
					   thumbprint_datum(taking->sha256)};
	bool isnull;

	if (cmblock_execute(&find, values, NULL) == 0 || !DatumGetBool(cmblock_result(1, &isnull)) || isnull)
		return false;
	cmblock_execute(&mark, values, taking->has_next_update ? NULL : "   n ");
	return true;
}

/*
 * After reset_crl_scope numbers begin again, and deltas of the time before would look newer than all that comes. Where a
 * series begins for the first time there are none.
 */
static void
drop_forgotten_deltas(const CrlTaking *taking)
{
	static Statement forget = {"DELETE FROM cmblock.crl WHERE scope = $1 AND is_delta RETURNING sha256",
							   {"bytea"}};
	Datum scope = bytea_datum(taking->scope, SHA256_OCTETS);

	drop(&forget, &scope);
}

/* Inside SPI, with the series locked. */
static void
store(const JudgedCrl *judged, const char *source)
{
	CrlTaking *taking = judged->taking;

	if (taking->is_delta && is_superseded(taking))
	{
		taking->outcome = CRLOUT_UNCHANGED;
		taking->warnings = lappend(taking->warnings, "A full CRL that is held has all that is in it.");
		return;
	}
	cmblock_progress_phase(WORK_INDEXING, taking->entries);
	cmblock_crl_preload(taking->sha256, &judged->crl);
	cmblock_progress_phase(WORK_COMPARING, taking->entries);
	taking->detail = taking->is_delta ? NULL : cmblock_crl_shrinks(judged);
	taking->outcome = taking->detail ? CRLOUT_HELD_BACK : CRLOUT_ACCEPTED;
	cmblock_progress_phase(WORK_STORING, VARSIZE_ANY_EXHDR(judged->der));
	if (taking->outcome == CRLOUT_HELD_BACK)
	{
		insert_crl(judged, CRL_HELD_BACK, source);
		taking->hint =
			psprintf("If the CA meant it, a PKI administrator lets it in: SELECT cmblock.accept_crl('%s').",
					 cmblock_hex_string(taking->sha256, SHA256_OCTETS));
		return;
	}
	if (judged->begins_series)
		drop_forgotten_deltas(taking);
	insert_crl(judged, CRL_CURRENT, source);
	cmblock_settle_crl(taking->sha256);
}

void
cmblock_take_in_crl(const bytea *input, const char *source, CrlTaking *taking)
{
	MemoryContext caller = CurrentMemoryContext;
	JudgedCrl *judged = palloc(sizeof(JudgedCrl));

	cmblock_progress_begin(PROGRESS_IMPORT_CRL);
	cmblock_progress_phase(WORK_READING, VARSIZE_ANY_EXHDR(input));
	if (!cmblock_read_crl(input, judged, taking))
	{
		cmblock_progress_end();
		return;
	}
	SPI_connect();
	/* What is said of the CRL outlives SPI's own memory. */
	MemoryContextSwitchTo(caller);
	if (!is_here(taking) && cmblock_judge_crl(judged) && lock_series(judged) && !is_here(taking))
		store(judged, source);
	SPI_finish();
	cmblock_progress_end();
}
