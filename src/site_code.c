/*
 * site_code.c
 *		The type site_code: three characters A-Z 0-9 in a four-byte value.
 *
 * The characters are packed so that the order of the numbers is the order of the codes; no code is above
 * 0x5A5A5A, so signed and unsigned comparison agree. In binary a code travels as its three characters, which
 * does not depend on this packing.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "libpq/pqformat.h"
#include "utils/sortsupport.h"

#include "compat.h"
#include "type_io.h"
#include "type_parse.h"
#include "types.h"

#define SITE_CODE_LENGTH 3

static const char hint[] = "A site code has three characters, each A to Z or 0 to 9; "
						   "AUX, CON, NUL, PRN, SMS and ENV are reserved.";

static void
unpack(SiteCode code, char *text)
{
	text[0] = (char) (code >> 16 & 0xFF);
	text[1] = (char) (code >> 8 & 0xFF);
	text[2] = (char) (code & 0xFF);
}

char *
cmblock_site_code_string(SiteCode code)
{
	char *text = palloc(SITE_CODE_LENGTH + 1);

	unpack(code, text);
	text[SITE_CODE_LENGTH] = '\0';
	return text;
}

PG_FUNCTION_INFO_V1(cmblock_site_code_in);
Datum
cmblock_site_code_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	SiteCode code = NO_SITE;
	const char *why;

	if (!cmblock_parse_site_code(text, &code, &why))
		cmblock_refuse_text(fcinfo, "site_code", text, why, hint);
	PG_RETURN_SITE_CODE(code);
}

PG_FUNCTION_INFO_V1(cmblock_site_code_out);
Datum
cmblock_site_code_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(cmblock_site_code_string(PG_GETARG_SITE_CODE(0)));
}

PG_FUNCTION_INFO_V1(cmblock_site_code_recv);
Datum
cmblock_site_code_recv(PG_FUNCTION_ARGS)
{
	int length;
	const unsigned char *octets = cmblock_message_octets((StringInfo) PG_GETARG_POINTER(0), &length);
	char text[SITE_CODE_LENGTH + 1];
	SiteCode code;
	const char *why;

	if (length != SITE_CODE_LENGTH)
		cmblock_refuse_octets("site_code", "It does not have three octets.", hint);
	memcpy(text, octets, SITE_CODE_LENGTH);
	text[SITE_CODE_LENGTH] = '\0';
	if (!cmblock_parse_site_code(text, &code, &why))
		cmblock_refuse_octets("site_code", why, hint);
	PG_RETURN_SITE_CODE(code);
}

PG_FUNCTION_INFO_V1(cmblock_site_code_send);
Datum
cmblock_site_code_send(PG_FUNCTION_ARGS)
{
	StringInfoData message;
	char text[SITE_CODE_LENGTH];

	unpack(PG_GETARG_SITE_CODE(0), text);
	pq_begintypsend(&message);
	pq_sendbytes(&message, text, SITE_CODE_LENGTH);
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

static int
site_code_compare(FunctionCallInfo fcinfo)
{
	SiteCode a = PG_GETARG_SITE_CODE(0);
	SiteCode b = PG_GETARG_SITE_CODE(1);

	return (a > b) - (a < b);
}

CMBLOCK_COMPARISONS(site_code);

/* The server's own comparator for integers, since the sort code has a fast path for it. */
PG_FUNCTION_INFO_V1(cmblock_site_code_sortsupport);
Datum
cmblock_site_code_sortsupport(PG_FUNCTION_ARGS)
{
	((SortSupport) PG_GETARG_POINTER(0))->comparator = ssup_datum_int32_cmp;
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(cmblock_site_code_hash);
Datum
cmblock_site_code_hash(PG_FUNCTION_ARGS)
{
	return hash_uint32(PG_GETARG_SITE_CODE(0));
}

PG_FUNCTION_INFO_V1(cmblock_site_code_hash_extended);
Datum
cmblock_site_code_hash_extended(PG_FUNCTION_ARGS)
{
	return hash_uint32_extended(PG_GETARG_SITE_CODE(0), PG_GETARG_INT64(1));
}

PG_FUNCTION_INFO_V1(cmblock_site_code_smaller);
Datum
cmblock_site_code_smaller(PG_FUNCTION_ARGS)
{
	PG_RETURN_SITE_CODE(Min(PG_GETARG_SITE_CODE(0), PG_GETARG_SITE_CODE(1)));
}

PG_FUNCTION_INFO_V1(cmblock_site_code_larger);
Datum
cmblock_site_code_larger(PG_FUNCTION_ARGS)
{
	PG_RETURN_SITE_CODE(Max(PG_GETARG_SITE_CODE(0), PG_GETARG_SITE_CODE(1)));
}
