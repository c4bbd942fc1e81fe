/*
 * types.c
 *		What the four data types share: how bad input is refused, and hexadecimal output.
 */
#include "postgres.h"

#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "storage/shmem.h"

#include "compat.h"
#include "type_io.h"
#include "types.h"

/* Enough for the longest good value with separators; more of a bad one only fills the log. */
#define MAX_QUOTED_OCTETS 200

/*
 * Refuses text input with its SQLSTATE, quoting the text (cut at a character's end) and saying why. On servers
 * with soft errors it may return, and the caller returns a null Datum.
 */
void
cmblock_refuse_text(FunctionCallInfo fcinfo, const char *type, const char *text, const char *why,
					const char *hint)
{
	size_t length = strnlen(text, MAX_QUOTED_OCTETS + 1);
	bool cut = length > MAX_QUOTED_OCTETS;
	int shown = cut ? Min(pg_mbcliplen(text, length, MAX_QUOTED_OCTETS), MAX_QUOTED_OCTETS) : (int) length;

	cmblock_errsave(fcinfo->context, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
									  errmsg("invalid input syntax for type %s: \"%.*s%s\"", type, shown,
											 text, cut ? "..." : ""),
									  errdetail("%s", why), errhint("%s", hint)));
}

/* Refuses octets that come in binary, from a client or through a cast. */
void
cmblock_refuse_octets(const char *type, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION), errmsg("invalid binary value for type %s", type),
			 errdetail("%s", why), hint ? errhint("%s", hint) : 0));
}

/* The whole rest of a binary message, not copied. */
const unsigned char *
cmblock_message_octets(StringInfo message, int *length)
{
	*length = message->len - message->cursor;
	return (const unsigned char *) pq_getmsgbytes(message, *length);
}

bytea *
cmblock_make_bytea(const void *octets, size_t size)
{
	bytea *value = palloc(add_size(size, VARHDRSZ));

	SET_VARSIZE(value, VARHDRSZ + size);
	memcpy(VARDATA(value), octets, size);
	return value;
}

char *
cmblock_hex_string(const unsigned char *octets, int length)
{
	static const char digits[] = "0123456789ABCDEF";
	char *text = palloc(add_size(mul_size(length, 2), 1));
	char *end = text;

	for (int i = 0; i < length; i++)
	{
		*end++ = digits[octets[i] >> 4];
		*end++ = digits[octets[i] & 0x0F];
	}
	*end = '\0';
	return text;
}
