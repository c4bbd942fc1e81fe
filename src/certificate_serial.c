/*
 * certificate_serial.c
 *		The type certificate_serial: the content octets of an X.509 serial number's INTEGER, sign included.
 *
 * Two serials are equal if their octets are: a CRL that writes 00FF does not revoke a certificate that carries
 * FF, whatever number a reader makes of them. Order is that of the signed numbers; of two spellings of one number
 * (007F and 7F, which DER forbids but the field has seen) the shorter comes first.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"

#include "compat.h"
#include "type_io.h"
#include "type_parse.h"
#include "types.h"

static const char hint[] = "Write 1 to 64 octets, two hexadecimal digits each; "
						   "spaces and colons may stand between octets.";
StaticAssertDecl(MAX_SERIAL_OCTETS == 64, "the hint says how many octets a serial may have");

struct varlena *
cmblock_make_serial(const unsigned char *octets, int length)
{
	const char *why;

	if (!cmblock_check_serial_length(length, MAX_SERIAL_OCTETS, &why))
		cmblock_refuse_octets("certificate_serial", why, hint);
	return cmblock_make_bytea(octets, length);
}

PG_FUNCTION_INFO_V1(cmblock_certificate_serial_in);
Datum
cmblock_certificate_serial_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	unsigned char octets[MAX_SERIAL_OCTETS];
	int length;
	const char *why;

	if (!cmblock_parse_serial(text, octets, MAX_SERIAL_OCTETS, &length, &why))
	{
		cmblock_refuse_text(fcinfo, "certificate_serial", text, why, hint);
		PG_RETURN_NULL();
	}
	PG_RETURN_POINTER(cmblock_make_serial(octets, length));
}

PG_FUNCTION_INFO_V1(cmblock_certificate_serial_out);
Datum
cmblock_certificate_serial_out(PG_FUNCTION_ARGS)
{
	struct varlena *serial = PG_GETARG_VARLENA_PP(0);

	PG_RETURN_CSTRING(
		cmblock_hex_string((const unsigned char *) VARDATA_ANY(serial), VARSIZE_ANY_EXHDR(serial)));
}

PG_FUNCTION_INFO_V1(cmblock_certificate_serial_recv);
Datum
cmblock_certificate_serial_recv(PG_FUNCTION_ARGS)
{
	int length;
	const unsigned char *octets = cmblock_message_octets((StringInfo) PG_GETARG_POINTER(0), &length);

	PG_RETURN_POINTER(cmblock_make_serial(octets, length));
}

PG_FUNCTION_INFO_V1(cmblock_certificate_serial_send);
Datum
cmblock_certificate_serial_send(PG_FUNCTION_ARGS)
{
	struct varlena *serial = PG_GETARG_VARLENA_PP(0);
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendbytes(&message, VARDATA_ANY(serial), VARSIZE_ANY_EXHDR(serial));
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

PG_FUNCTION_INFO_V1(cmblock_certificate_serial_from_bytea);
Datum
cmblock_certificate_serial_from_bytea(PG_FUNCTION_ARGS)
{
	bytea *octets = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_POINTER(
		cmblock_make_serial((const unsigned char *) VARDATA_ANY(octets), VARSIZE_ANY_EXHDR(octets)));
}

static bool
is_negative(const unsigned char *octets)
{
	return (octets[0] & 0x80) != 0;
}

/*
 * Compares as two's-complement numbers: the shorter is thought to be lengthened by its sign, and of equal length
 * and sign the octets decide.
 */
static int
compare_octets(const unsigned char *a, int a_length, const unsigned char *b, int b_length)
{
	bool negative = is_negative(a);
	unsigned char sign = negative ? 0xFF : 0x00;
	int order;

	if (negative != is_negative(b))
		return negative ? -1 : 1;
	for (int i = 0; i < a_length - b_length; i++)
	{
		if (a[i] != sign)
			return negative ? -1 : 1;
	}
	for (int i = 0; i < b_length - a_length; i++)
	{
		if (b[i] != sign)
			return negative ? 1 : -1;
	}
	order = memcmp(a + Max(a_length - b_length, 0), b + Max(b_length - a_length, 0), Min(a_length, b_length));
	return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static int
certificate_serial_compare(FunctionCallInfo fcinfo)
{
	struct varlena *a = PG_GETARG_VARLENA_PP(0);
	struct varlena *b = PG_GETARG_VARLENA_PP(1);
	int order = compare_octets((const unsigned char *) VARDATA_ANY(a), VARSIZE_ANY_EXHDR(a),
							   (const unsigned char *) VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b));

	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return order;
}

CMBLOCK_COMPARISONS(certificate_serial);

PG_FUNCTION_INFO_V1(cmblock_certificate_serial_hash);
Datum
cmblock_certificate_serial_hash(PG_FUNCTION_ARGS)
{
	struct varlena *serial = PG_GETARG_VARLENA_PP(0);
	Datum hash = hash_any((const unsigned char *) VARDATA_ANY(serial), VARSIZE_ANY_EXHDR(serial));

	PG_FREE_IF_COPY(serial, 0);
	return hash;
}

PG_FUNCTION_INFO_V1(cmblock_certificate_serial_hash_extended);
Datum
cmblock_certificate_serial_hash_extended(PG_FUNCTION_ARGS)
{
	struct varlena *serial = PG_GETARG_VARLENA_PP(0);
	Datum hash = hash_any_extended((const unsigned char *) VARDATA_ANY(serial), VARSIZE_ANY_EXHDR(serial),
								   PG_GETARG_INT64(1));

	PG_FREE_IF_COPY(serial, 0);
	return hash;
}

/* Nine decimal digits a limb, the lowest first; 2^(8n) has fewer than 2.41n + 1 digits, so n/3 + 1 limbs do. */
#define LIMB_BASE 1000000000
#define LIMBS (MAX_SERIAL_OCTETS / 3 + 1)

static void
multiply_and_add(uint32 *limbs, uint32 factor, uint32 summand)
{
	uint64 carry = summand;

	for (int i = 0; i < LIMBS; i++)
	{
		carry += (uint64) limbs[i] * factor;
		limbs[i] = (uint32) (carry % LIMB_BASE);
		carry /= LIMB_BASE;
	}
	Assert(carry == 0);
}

/* The signed number in decimal: a palloc'd string. A negative one's magnitude is its complement and one. */
static char *
decimal_string(const unsigned char *octets, int length)
{
	uint32 limbs[LIMBS] = {0};
	bool negative = is_negative(octets);
	StringInfoData text;
	int top = LIMBS - 1;

	for (int i = 0; i < length; i++)
		multiply_and_add(limbs, 256, negative ? octets[i] ^ 0xFF : octets[i]);
	if (negative)
		multiply_and_add(limbs, 1, 1);
	while (top > 0 && limbs[top] == 0)
		top--;
	initStringInfo(&text);
	appendStringInfo(&text, "%s%u", negative ? "-" : "", limbs[top]);
	while (top-- > 0)
		appendStringInfo(&text, "%09u", limbs[top]);
	return text.data;
}

PG_FUNCTION_INFO_V1(cmblock_certificate_serial_to_numeric);
Datum
cmblock_certificate_serial_to_numeric(PG_FUNCTION_ARGS)
{
	struct varlena *serial = PG_GETARG_VARLENA_PP(0);
	char *text = decimal_string((const unsigned char *) VARDATA_ANY(serial), VARSIZE_ANY_EXHDR(serial));

	return DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}
