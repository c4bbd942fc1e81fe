/*
 * revocation_status.c
 *		The function revocation_status: the verdict on one certificate, with its evidence.
 *
 * Whatever is given gets an answer of three values: octets that are no certificate, and one of which nobody knows the
 * issuer, are unknown, each with its reason.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "records.h"
#include "revocation.h"
#include "scan.h"
#include "x509.h"

PG_FUNCTION_INFO_V1(cmblock_revocation_status);

/* ---------- the certificate asked about ---------- */

typedef struct Question
{
	Leaf leaf;
	CertificateRecord record;
	bool registered;
	CertificateFacts *facts; /* of one that is not */
	Snapshot snapshot;
	const char *reason; /* why it cannot be looked up */
	const char *detail;
} Question;

static X509 *
read_leaf(void *arg)
{
	Question *q = arg;
	bytea *der;

	if (q->facts)
		return q->facts->x509;
	der = cmblock_find_certificate_der(q->snapshot, q->leaf.sha256);
	return der ? cmblock_x509((const unsigned char *) VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der)) : NULL;
}

static void
find_by_thumbprint(Question *q, const unsigned char *octets, int length)
{
	int found = cmblock_find_certificate(q->snapshot, octets, length, &q->record, NULL);

	q->registered = found == 1;
	if (found == 1)
	{
		q->leaf.sha256 = q->record.sha256;
		q->leaf.serial = q->record.serial;
		return;
	}
	q->reason = "certificate_unknown";
	q->detail = found == 0
					? "No certificate with this thumbprint is registered."
					: "More than one registered certificate has this SHA-1 thumbprint. Ask by SHA-256.";
}

static void
find_certificate(Question *q, Datum argument)
{
	CertificateProblem problem = {0};
	bytea *input = cmblock_bounded_argument(argument);
	const bytea *der = NULL;
	unsigned char sha256[SHA256_OCTETS];
	int length = input ? VARSIZE_ANY_EXHDR(input) : 0;

	if (length == SHA1_OCTETS || length == SHA256_OCTETS)
	{
		find_by_thumbprint(q, (const unsigned char *) VARDATA_ANY(input), length);
		return;
	}
	if (input == NULL)
		problem.detail = psprintf("It has more than %d octets.", MAX_CERTIFICATE_OCTETS);
	else
		der = cmblock_certificate_der(input, &problem);
	/* The octets of a registered certificate were parsed when it was registered. */
	if (der)
	{
		cmblock_sha256(VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der), sha256);
		q->registered = cmblock_find_certificate(q->snapshot, sha256, SHA256_OCTETS, &q->record, NULL) > 0;
		if (!q->registered)
			q->facts = cmblock_read_certificate(der, &problem);
	}
	if (q->registered)
	{
		q->leaf.sha256 = q->record.sha256;
		q->leaf.serial = q->record.serial;
	}
	else if (q->facts)
	{
		q->leaf.sha256 = q->facts->sha256;
		q->leaf.serial = q->facts->serial;
	}
	else
	{
		q->reason = "certificate_malformed";
		q->detail = problem.detail;
	}
}

/* ---------- evidence ---------- */

static void
add_key(StringInfo json, const char *key)
{
	char last = json->data[json->len - 1];

	if (last != '{' && last != '[')
		appendStringInfoChar(json, ',');
	escape_json(json, key);
	appendStringInfoChar(json, ':');
}

static void
add_text(StringInfo json, const char *key, const char *value)
{
	if (value == NULL)
		return;
	add_key(json, key);
	escape_json(json, value);
}

static void
add_time(StringInfo json, const char *key, TimestampTz value)
{
	char buffer[MAXDATELEN + 1];

	JsonEncodeDateTime(buffer, TimestampTzGetDatum(value), TIMESTAMPTZOID, NULL);
	add_text(json, key, buffer);
}

static void
add_number(StringInfo json, const char *key, Numeric value)
{
	if (value == NULL)
		return;
	add_key(json, key);
	appendStringInfoString(json, DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value))));
}

static void
add_crl(StringInfo json, const char *key, const HeldCrl *crl)
{
	if (crl == NULL)
		return;
	add_key(json, key);
	appendStringInfoChar(json, '{');
	add_text(json, "sha256", cmblock_hex_string(crl->sha256, SHA256_OCTETS));
	add_number(json, "number", crl->number);
	add_number(json, "base_number", crl->base_number);
	add_time(json, "this_update", crl->this_update);
	if (crl->has_next_update)
		add_time(json, "next_update", crl->next_update);
	add_text(json, "source", crl->source);
	appendStringInfoChar(json, '}');
}

static void
add_element(StringInfo json, const ElementStatus *e)
{
	if (json->data[json->len - 1] == '}')
		appendStringInfoChar(json, ',');
	appendStringInfoChar(json, '{');
	add_text(json, "element", e->authority ? "authority" : "certificate");
	if (e->authority)
		add_text(json, "subject", e->authority->subject);
	add_text(json, "issuer", e->issuer->subject);
	add_text(json, "policy", cmblock_enum_label(ENUM_CRL_POLICY, e->issuer->policy));
	add_text(json, "status", cmblock_enum_label(ENUM_REVOCATION, e->status));
	add_text(json, "reason", cmblock_revocation_reason_name(e->reason));
	add_text(json, "detail", cmblock_element_detail(e));
	if (e->status == REVOCATION_REVOKED)
	{
		add_time(json, "revoked_at", e->revoked_at);
		add_text(json, "revocation_reason", cmblock_crl_reason_name(e->code));
	}
	add_crl(json, "crl", e->base);
	add_crl(json, "delta", e->delta);
	if (e->signer)
		add_text(json, "signer", cmblock_hex_string(e->signer->sha256, SHA256_OCTETS));
	appendStringInfoChar(json, '}');
}

static Datum
evidence(const RevocationAnswer *answer)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (int i = 0; i < answer->count; i++)
		add_element(&json, &answer->element[i]);
	appendStringInfoChar(&json, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* ---------- the row ---------- */

enum
{
	STATUS,
	REASON,
	DETAIL,
	REVOKED_AT,
	REVOCATION_REASON,
	CRL_SHA256,
	CRL_NUMBER,
	THIS_UPDATE,
	NEXT_UPDATE,
	DELTA_SHA256,
	DELTA_NUMBER,
	DELTA_THIS_UPDATE,
	DELTA_NEXT_UPDATE,
	SIGNER,
	SOURCE,
	AGE,
	EVIDENCE,
	COLUMNS
};

typedef struct Row
{
	Datum value[COLUMNS];
	bool null[COLUMNS];
} Row;

static void
set(Row *row, int column, Datum value)
{
	row->value[column] = value;
	row->null[column] = false;
}

static void
set_text(Row *row, int column, const char *value)
{
	if (value)
		set(row, column, CStringGetTextDatum(value));
}

/* Columns from `first` on: thumbprint, number, this and next update. */
static void
set_crl(Row *row, int first, const HeldCrl *crl)
{
	if (crl == NULL)
		return;
	set(row, first, PointerGetDatum(cmblock_make_thumbprint(crl->sha256, SHA256_OCTETS)));
	if (crl->number)
		set(row, first + 1, NumericGetDatum(crl->number));
	set(row, first + 2, TimestampTzGetDatum(crl->this_update));
	if (crl->has_next_update)
		set(row, first + 3, TimestampTzGetDatum(crl->next_update));
}

static void
fill_in(Row *row, const RevocationAnswer *answer, TimestampTz at)
{
	const ElementStatus *e = &answer->element[answer->deciding];
	const HeldCrl *newest =
		e->delta && (!e->base || e->delta->this_update > e->base->this_update) ? e->delta : e->base;

	set(row, STATUS, cmblock_enum_datum(ENUM_REVOCATION, answer->status));
	set_text(row, REASON,
			 answer->status == REVOCATION_REVOKED && e->authority
				 ? "ca_revoked"
				 : cmblock_revocation_reason_name(e->reason));
	set_text(row, DETAIL, cmblock_revocation_detail(answer));
	if (e->status == REVOCATION_REVOKED)
	{
		set(row, REVOKED_AT, TimestampTzGetDatum(e->revoked_at));
		set_text(row, REVOCATION_REASON, cmblock_crl_reason_name(e->code));
	}
	set_crl(row, CRL_SHA256, e->base);
	set_crl(row, DELTA_SHA256, e->delta);
	if (e->signer)
		set(row, SIGNER, PointerGetDatum(cmblock_make_thumbprint(e->signer->sha256, SHA256_OCTETS)));
	if (newest)
	{
		set_text(row, SOURCE, newest->source);
		set(row, AGE,
			DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(at),
								TimestampTzGetDatum(newest->this_update)));
	}
	set(row, EVIDENCE, evidence(answer));
}

/*
 * CAs take certificates that have expired off their CRLs (RFC 5280 3.3), so not to be listed says nothing of those. Nor is
 * anybody to rely on one before its time. What is revoked stays revoked.
 */
static void
limit_to_validity(const Question *q, TimestampTz at, Row *row)
{
	TimestampTz not_before = q->registered ? q->record.not_before : q->facts->not_before;
	TimestampTz not_after = q->registered ? q->record.not_after : q->facts->not_after;
	bool expired = at > not_after;

	if (!expired && at >= not_before)
		return;
	set(row, STATUS, cmblock_enum_datum(ENUM_REVOCATION, REVOCATION_UNKNOWN));
	set_text(row, REASON, expired ? "certificate_expired" : "certificate_not_yet_valid");
	set_text(row, DETAIL,
			 expired ? psprintf("It expired at %s, and CRLs do not list what has expired.",
								timestamptz_to_str(not_after))
					 : psprintf("It is valid only from %s on.", timestamptz_to_str(not_before)));
}

static void
answer_question(Question *q, TimestampTz at, Row *row)
{
	RevocationAnswer *answer = palloc(sizeof(RevocationAnswer));
	TrustChain chain;
	TrustResult trust;

	if (q->registered && q->record.revoked)
	{
		set(row, STATUS, cmblock_enum_datum(ENUM_REVOCATION, REVOCATION_REVOKED));
		set_text(row, REASON, "revoked_here");
		set_text(row, DETAIL, "This hierarchy revoked it when the mobile device that it was of was deleted.");
		set(row, REVOKED_AT, TimestampTzGetDatum(q->record.revoked_at));
		return;
	}
	set(row, STATUS, cmblock_enum_datum(ENUM_REVOCATION, REVOCATION_UNKNOWN));
	if (q->reason == NULL)
	{
		q->leaf.read = read_leaf;
		q->leaf.arg = q;
		trust = cmblock_trust_any_use(&q->leaf, at, &chain);
		if (trust == TRUST_OK)
		{
			cmblock_check_revocation(&q->leaf, &chain, at, false, answer);
			fill_in(row, answer, at);
			if (answer->status == REVOCATION_GOOD)
				limit_to_validity(q, at, row);
			return;
		}
		q->reason = "untrusted";
		q->detail = cmblock_trust_sentence(trust);
	}
	set_text(row, REASON, q->reason);
	set_text(row, DETAIL, q->detail);
}

Datum
cmblock_revocation_status(PG_FUNCTION_ARGS)
{
	Question q = {0};
	TimestampTz at;
	TupleDesc desc;
	Row row;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	at = PG_ARGISNULL(1) ? GetCurrentTransactionStartTimestamp() : PG_GETARG_TIMESTAMPTZ(1);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memset(&row, 0, sizeof(row));
	memset(row.null, true, sizeof(row.null));

	q.snapshot = RegisterSnapshot(cmblock_newest_snapshot());
	find_certificate(&q, PG_GETARG_DATUM(0));
	answer_question(&q, at, &row);
	UnregisterSnapshot(q.snapshot);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), row.value, row.null));
}
