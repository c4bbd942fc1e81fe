/*
 * crl_command.c
 *		The commands on CRLs: import_crl, check_crl, accept_crl, remove_crl, reset_crl_scope.
 *
 * The work is in crl_import.c, which refuses in words; here a refusal becomes an error. check_crl takes the CRL in within
 * a subtransaction, asks for every certificate that it could change, before and after, and rolls back: what it says is
 * what would happen, and not a second opinion.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "command.h"
#include "compat.h"
#include "crl_import.h"
#include "progress.h"
#include "revocation.h"
#include "statement.h"
#include "types.h"
#include "x509.h"

PG_FUNCTION_INFO_V1(cmblock_import_crl);
PG_FUNCTION_INFO_V1(cmblock_check_crl);
PG_FUNCTION_INFO_V1(cmblock_accept_crl);
PG_FUNCTION_INFO_V1(cmblock_remove_crl);
PG_FUNCTION_INFO_V1(cmblock_reset_crl_scope);

/* ---------- the answer ---------- */

static Datum
numeric_datum(const char *digits)
{
	return DirectFunctionCall3(numeric_in, CStringGetDatum(digits), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

/* A row of type crl_import. */
static Datum
import_row(FunctionCallInfo fcinfo, const CrlTaking *taking)
{
	TupleDesc desc;
	Datum values[11];
	bool nulls[11] = {false};
	Datum *warnings = palloc(sizeof(Datum) * Max(1, list_length(taking->warnings)));
	ListCell *cell;
	int count = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	foreach (cell, taking->warnings)
		warnings[count++] = CStringGetTextDatum(lfirst(cell));
	nulls[4] = taking->number == NULL;
	nulls[5] = taking->base_number == NULL;
	nulls[7] = !taking->has_next_update;
	nulls[9] = taking->detail == NULL;
	values[0] = PointerGetDatum(cmblock_make_thumbprint(taking->sha256, SHA256_OCTETS));
	values[1] = CStringGetTextDatum(cmblock_crl_outcome_name(taking->outcome));
	values[2] = CStringGetTextDatum(taking->is_delta ? "delta" : "base");
	values[3] = CStringGetTextDatum(taking->issuer);
	values[4] = nulls[4] ? (Datum) 0 : numeric_datum(taking->number);
	values[5] = nulls[5] ? (Datum) 0 : numeric_datum(taking->base_number);
	values[6] = TimestampTzGetDatum(taking->this_update);
	values[7] = TimestampTzGetDatum(taking->next_update);
	values[8] = Int32GetDatum(taking->entries);
	values[9] = nulls[9] ? (Datum) 0 : CStringGetTextDatum(taking->detail);
	values[10] = PointerGetDatum(construct_array(warnings, count, TEXTOID, -1, false, TYPALIGN_INT));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static void
raise_refusal(const CrlTaking *taking)
{
	ereport(ERROR, errcode(taking->sqlstate), errmsg("%s", taking->message),
			taking->detail ? errdetail("%s", taking->detail) : 0,
			taking->hint ? errhint("%s", taking->hint) : 0);
}

Datum
cmblock_import_crl(PG_FUNCTION_ARGS)
{
	CrlTaking taking;

	cmblock_begin_command(fcinfo, 0);
	cmblock_take_in_crl(PG_GETARG_BYTEA_PP(0), "import_crl", &taking);
	if (taking.outcome == CRLOUT_REFUSED)
		raise_refusal(&taking);
	if (taking.outcome == CRLOUT_HELD_BACK)
		ereport(WARNING, errcode(ERRCODE_WARNING), errmsg("the CRL of \"%s\" is held back", taking.issuer),
				errdetail("%s", taking.detail), taking.hint ? errhint("%s", taking.hint) : 0);
	PG_RETURN_DATUM(import_row(fcinfo, &taking));
}

/* ---------- the dry run ---------- */

typedef struct KnownCertificate
{
	unsigned char sha256[SHA256_OCTETS];
	struct varlena *serial;
	bytea *der;
	Datum client;
	bool has_client;
	char *subject;
	Revocation before;
	Revocation after;
} KnownCertificate;

static X509 *
read_known(void *arg)
{
	const bytea *der = ((KnownCertificate *) arg)->der;

	return cmblock_x509((const unsigned char *) VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der));
}

static Revocation
ask(KnownCertificate *known, TimestampTz at)
{
	Leaf leaf = {.sha256 = known->sha256, .serial = known->serial, .read = read_known, .arg = known};
	RevocationAnswer *answer = palloc(sizeof(RevocationAnswer));
	TrustChain chain;

	if (cmblock_trust_any_use(&leaf, at, &chain) != TRUST_OK)
		return REVOCATION_UNKNOWN;
	cmblock_check_revocation(&leaf, &chain, at, false, answer);
	return answer->status;
}

/*
 * The certificates that this site knows, deleted and expired ones left out, whose issuer is the CRL's; all of them where the
 * CRL speaks of CAs or of other issuers, too. Inside SPI; the list is the caller's.
 */
static List *
known_certificates(const CrlTaking *taking, bool all, MemoryContext context)
{
	static Statement find = {"SELECT sha256, serial, der, client, subject FROM cmblock.certificate"
							 " WHERE deleted_at IS NULL AND revoked_at IS NULL AND not_after > now() AND NOT self_signed"
							 " AND ($2 OR issuer = $1) ORDER BY subject, sha256",
							 {"text", "bool"}};
	Datum values[2] = {CStringGetTextDatum(taking->issuer), BoolGetDatum(all)};
	uint64 rows = cmblock_execute(&find, values, NULL);
	MemoryContext caller = MemoryContextSwitchTo(context);
	List *known = NIL;

	for (uint64 i = 0; i < rows; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		KnownCertificate *k = palloc0(sizeof(KnownCertificate));
		bool isnull;
		Datum client;

		memcpy(k->sha256, VARDATA_ANY(PG_DETOAST_DATUM_PACKED(SPI_getbinval(row, desc, 1, &isnull))),
			   SHA256_OCTETS);
		k->serial = PG_DETOAST_DATUM_COPY(SPI_getbinval(row, desc, 2, &isnull));
		k->der = DatumGetByteaPCopy(SPI_getbinval(row, desc, 3, &isnull));
		client = SPI_getbinval(row, desc, 4, &isnull);
		k->has_client = !isnull;
		if (k->has_client)
		{
			Smsid *copy = palloc(sizeof(Smsid));

			*copy = *DatumGetSmsidP(client);
			k->client = SmsidPGetDatum(copy);
		}
		k->subject = TextDatumGetCString(SPI_getbinval(row, desc, 5, &isnull));
		known = lappend(known, k);
	}
	MemoryContextSwitchTo(caller);
	return known;
}

/* Does some CA of the trust list have this CRL's issuer above it, or does the CRL speak of other issuers? */
static bool
concerns_others(const JudgedCrl *judged)
{
	const TrustList *list = cmblock_trust_list();

	if (judged->crl.flags & CRLFLAG_INDIRECT)
		return true;
	for (int i = 0; i < list->count; i++)
		for (int p = -1; (p = bms_next_member(list->authority[i].parents, p)) >= 0;)
			if (strcmp(list->authority[p].subject, judged->taking->issuer) == 0)
				return true;
	return false;
}

static void
ask_all(List *known, TimestampTz at, bool after)
{
	MemoryContext one =
		AllocSetContextCreate(CurrentMemoryContext, "cmblock check_crl", ALLOCSET_DEFAULT_SIZES);
	ListCell *cell;

	cmblock_progress_phase(after ? WORK_ASKING_AFTER : WORK_ASKING_BEFORE, list_length(known));
	foreach (cell, known)
	{
		KnownCertificate *k = lfirst(cell);
		MemoryContext caller = MemoryContextSwitchTo(one);
		Revocation status;

		CHECK_FOR_INTERRUPTS();
		cmblock_progress_done(foreach_current_index(cell));
		status = ask(k, at);
		if (after)
			k->after = status;
		else
			k->before = status;
		MemoryContextSwitchTo(caller);
		MemoryContextReset(one);
	}
	MemoryContextDelete(one);
}

/* Takes the CRL in, asks for the certificates, and takes everything back. */
static List *
try_crl(const bytea *input, CrlTaking *taking)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	TimestampTz now = GetCurrentTimestamp();
	JudgedCrl *judged = palloc(sizeof(JudgedCrl));
	List *volatile known;

	if (!cmblock_read_crl(input, judged, taking))
		return NIL;
	SPI_connect();
	known = known_certificates(taking, concerns_others(judged), context);
	SPI_finish();
	ask_all(known, now, false);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		cmblock_take_in_crl(input, "check_crl", taking);
		if (taking->outcome == CRLOUT_ACCEPTED)
			ask_all(known, now, true);
	}
	PG_CATCH();
	{
		/* Whoever catches the error further up expects the subtransaction that is his. */
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return taking->outcome == CRLOUT_ACCEPTED ? known : NIL;
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

Datum
cmblock_check_crl(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CrlTaking taking;
	List *known;
	Datum values[8] = {0};
	bool nulls[8];
	ListCell *cell;
	bool refused;

	cmblock_require_arguments(fcinfo, 0);
	cmblock_progress_begin(PROGRESS_CHECK_CRL);
	cmblock_progress_phase(WORK_READING, VARSIZE_ANY_EXHDR(PG_GETARG_BYTEA_PP(0)));
	known = try_crl(PG_GETARG_BYTEA_PP(0), &taking);
	cmblock_progress_end();
	refused = taking.outcome == CRLOUT_REFUSED;

	InitMaterializedSRF(fcinfo, 0);
	memset(nulls, true, sizeof(nulls));
	values[0] = CStringGetTextDatum("crl");
	values[1] = CStringGetTextDatum(cmblock_crl_outcome_name(taking.outcome));
	nulls[0] = nulls[1] = false;
	values[2] = text_or_null(refused ? psprintf("%s: %s", taking.message, taking.detail ? taking.detail : "")
									 : taking.detail,
							 &nulls[2]);
	values[5] = text_or_null(taking.issuer, &nulls[5]);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	foreach (cell, taking.warnings)
	{
		values[1] = CStringGetTextDatum("warning");
		values[2] = text_or_null(lfirst(cell), &nulls[2]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}

	foreach (cell, known)
	{
		KnownCertificate *k = lfirst(cell);

		if (k->before == k->after)
			continue;
		memset(nulls, false, sizeof(nulls));
		values[0] = CStringGetTextDatum("certificate");
		values[1] = CStringGetTextDatum("changes");
		values[2] = text_or_null(NULL, &nulls[2]);
		values[3] = PointerGetDatum(cmblock_make_thumbprint(k->sha256, SHA256_OCTETS));
		values[4] = k->client;
		nulls[4] = !k->has_client;
		values[5] = CStringGetTextDatum(k->subject);
		values[6] = cmblock_enum_datum(ENUM_REVOCATION, k->before);
		values[7] = cmblock_enum_datum(ENUM_REVOCATION, k->after);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---------- held back, removed, reset ---------- */

static char *
hex_of(const struct varlena *value)
{
	return cmblock_hex_string((const unsigned char *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

static void
refuse_unknown_crl(const struct varlena *sha256)
{
	ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
			errmsg("no CRL with the thumbprint %s is held", hex_of(sha256)),
			errhint("Table cmblock.crl has those that are held, with their thumbprints."));
}

Datum
cmblock_accept_crl(PG_FUNCTION_ARGS)
{
	/* The series is locked first, as import_crl does. */
	static Statement lock = {
		"SELECT s.number >= c.number OR s.this_update > c.this_update FROM cmblock.crl_scope s"
		" JOIN cmblock.crl c ON c.scope = s.scope WHERE c.sha256 = $1 FOR UPDATE OF s",
		{"thumbprint"}};
	static Statement find = {
		"SELECT state, issuer, number, this_update, next_update, entries, is_delta, base_number "
		"FROM cmblock.crl WHERE sha256 = $1",
		{"thumbprint"}};
	static Statement accept = {"UPDATE cmblock.crl SET state = 'current' WHERE sha256 = $1", {"thumbprint"}};
	struct varlena *sha256;
	Datum key;
	MemoryContext caller = CurrentMemoryContext;
	CrlTaking taking = {.outcome = CRLOUT_ACCEPTED};
	bool is_old;
	bool isnull;
	Datum value;

	cmblock_begin_command(fcinfo, 0);
	sha256 = PG_GETARG_VARLENA_PP(0);
	key = PointerGetDatum(sha256);
	SPI_connect();
	is_old = cmblock_execute(&lock, &key, NULL) > 0 && DatumGetBool(cmblock_result(1, &isnull)) && !isnull;
	if (cmblock_execute(&find, &key, NULL) == 0)
		refuse_unknown_crl(sha256);
	MemoryContextSwitchTo(caller);
	memcpy(taking.sha256, VARDATA_ANY(sha256), Min(VARSIZE_ANY_EXHDR(sha256), SHA256_OCTETS));
	taking.issuer = TextDatumGetCString(cmblock_result(2, &isnull));
	value = cmblock_result(3, &isnull);
	taking.number = isnull ? NULL : DatumGetCString(DirectFunctionCall1(numeric_out, value));
	taking.this_update = DatumGetTimestampTz(cmblock_result(4, &isnull));
	taking.next_update = DatumGetTimestampTz(cmblock_result(5, &isnull));
	taking.has_next_update = !isnull;
	taking.entries = DatumGetInt32(cmblock_result(6, &isnull));
	taking.is_delta = DatumGetBool(cmblock_result(7, &isnull));
	value = cmblock_result(8, &isnull);
	taking.base_number = isnull ? NULL : DatumGetCString(DirectFunctionCall1(numeric_out, value));
	if (cmblock_enum_value(ENUM_CRL_STATE, DatumGetObjectId(cmblock_result(1, &isnull))) == CRL_CURRENT)
		taking.outcome = CRLOUT_UNCHANGED;
	else if (is_old)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the CRL of \"%s\" is older than one that was taken in since", taking.issuer),
				errhint("Remove it with cmblock.remove_crl."));
	else
	{
		cmblock_execute(&accept, &key, NULL);
		cmblock_settle_crl(taking.sha256);
	}
	SPI_finish();
	PG_RETURN_DATUM(import_row(fcinfo, &taking));
}

Datum
cmblock_remove_crl(PG_FUNCTION_ARGS)
{
	static Statement remove = {"DELETE FROM cmblock.crl WHERE sha256 = $1", {"thumbprint"}};
	Datum key = PG_GETARG_DATUM(0);

	cmblock_begin_command(fcinfo, 0);
	SPI_connect();
	if (cmblock_execute(&remove, &key, NULL) == 0)
		refuse_unknown_crl(PG_GETARG_VARLENA_PP(0));
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
cmblock_reset_crl_scope(PG_FUNCTION_ARGS)
{
	static Statement reset = {"DELETE FROM cmblock.crl_scope WHERE scope = $1", {"bytea"}};
	Datum key = PG_GETARG_DATUM(0);

	cmblock_begin_command(fcinfo, 0);
	SPI_connect();
	if (cmblock_execute(&reset, &key, NULL) == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("no CRL of the series %s was ever taken in", hex_of(PG_GETARG_VARLENA_PP(0))),
				errhint("Table cmblock.crl_scope has the series that this site knows."));
	SPI_finish();
	PG_RETURN_VOID();
}
