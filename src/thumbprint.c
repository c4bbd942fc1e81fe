/*
 * thumbprint.c
 *		The type thumbprint: the SHA-1 or SHA-256 of a certificate.
 *
 * Order is that of the octets, as in bytea; a SHA-1 that begins a SHA-256 comes before it.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "libpq/pqformat.h"

#include "compat.h"
#include "type_io.h"
#include "type_parse.h"
#include "types.h"

static const char hint[] = "Write 40 hexadecimal digits (SHA-1) or 64 (SHA-256); "
						   "spaces and colons may stand between octets.";

struct varlena *
cmblock_make_thumbprint(const unsigned char *octets, int length)
{
	const char *why;

	if (!cmblock_check_thumbprint_length(length, &why))
		cmblock_refuse_octets("thumbprint", why, hint);
	return cmblock_make_bytea(octets, length);
}

PG_FUNCTION_INFO_V1(cmblock_thumbprint_in);
Datum
cmblock_thumbprint_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	unsigned char octets[SHA256_OCTETS];
	int length;
	const char *why;

	if (!cmblock_parse_thumbprint(text, octets, &length, &why))
	{
		cmblock_refuse_text(fcinfo, "thumbprint", text, why, hint);
		PG_RETURN_NULL();
	}
	PG_RETURN_POINTER(cmblock_make_thumbprint(octets, length));
}

PG_FUNCTION_INFO_V1(cmblock_thumbprint_out);
Datum
cmblock_thumbprint_out(PG_FUNCTION_ARGS)
{
	struct varlena *thumbprint = PG_GETARG_VARLENA_PP(0);

	PG_RETURN_CSTRING(
		cmblock_hex_string((const unsigned char *) VARDATA_ANY(thumbprint), VARSIZE_ANY_EXHDR(thumbprint)));
}

PG_FUNCTION_INFO_V1(cmblock_thumbprint_recv);
Datum
cmblock_thumbprint_recv(PG_FUNCTION_ARGS)
{
	int length;
	const unsigned char *octets = cmblock_message_octets((StringInfo) PG_GETARG_POINTER(0), &length);

	PG_RETURN_POINTER(cmblock_make_thumbprint(octets, length));
}

PG_FUNCTION_INFO_V1(cmblock_thumbprint_send);
Datum
cmblock_thumbprint_send(PG_FUNCTION_ARGS)
{
	struct varlena *thumbprint = PG_GETARG_VARLENA_PP(0);
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendbytes(&message, VARDATA_ANY(thumbprint), VARSIZE_ANY_EXHDR(thumbprint));
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

PG_FUNCTION_INFO_V1(cmblock_thumbprint_from_bytea);
Datum
cmblock_thumbprint_from_bytea(PG_FUNCTION_ARGS)
{
	bytea *octets = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_POINTER(
		cmblock_make_thumbprint((const unsigned char *) VARDATA_ANY(octets), VARSIZE_ANY_EXHDR(octets)));
}

static int
thumbprint_compare(FunctionCallInfo fcinfo)
{
	struct varlena *a = PG_GETARG_VARLENA_PP(0);
	struct varlena *b = PG_GETARG_VARLENA_PP(1);
	int a_length = VARSIZE_ANY_EXHDR(a);
	int b_length = VARSIZE_ANY_EXHDR(b);
	int order = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(a_length, b_length));

	if (order == 0)
		order = (a_length > b_length) - (a_length < b_length);
	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return order;
}

CMBLOCK_COMPARISONS(thumbprint);

PG_FUNCTION_INFO_V1(cmblock_thumbprint_hash);
Datum
cmblock_thumbprint_hash(PG_FUNCTION_ARGS)
{
	struct varlena *thumbprint = PG_GETARG_VARLENA_PP(0);
	Datum hash = hash_any((const unsigned char *) VARDATA_ANY(thumbprint), VARSIZE_ANY_EXHDR(thumbprint));

	PG_FREE_IF_COPY(thumbprint, 0);
	return hash;
}

PG_FUNCTION_INFO_V1(cmblock_thumbprint_hash_extended);
Datum
cmblock_thumbprint_hash_extended(PG_FUNCTION_ARGS)
{
	struct varlena *thumbprint = PG_GETARG_VARLENA_PP(0);
	Datum hash = hash_any_extended((const unsigned char *) VARDATA_ANY(thumbprint),
								   VARSIZE_ANY_EXHDR(thumbprint), PG_GETARG_INT64(1));

	PG_FREE_IF_COPY(thumbprint, 0);
	return hash;
}
