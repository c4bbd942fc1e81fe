/*
 * der.h
 *		A strict, bounded reader of DER that copies nothing.
 *
 * A DerSpan is a piece of somebody else's buffer; reading takes elements off its front. Every function
 * answers true or false and never reads past the span, whatever the octets say, so a caller needs no
 * checks of its own beyond asking for the tag it wants. Refused: indefinite lengths, lengths that are not
 * written in the fewest octets, lengths of more than four octets, tag numbers above 30 (no certificate and
 * no CRL has one). Nothing here knows PostgreSQL or allocates, so that a fuzzer can drive it.
 *
 * The element reader is inline: a CRL of a million entries is some five million elements.
 */
#ifndef CMBLOCK_DER_H
#define CMBLOCK_DER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct DerSpan
{
	const uint8_t *data;
	size_t size;
} DerSpan;

#define DER_BOOLEAN 0x01
#define DER_INTEGER 0x02
#define DER_BIT_STRING 0x03
#define DER_OCTET_STRING 0x04
#define DER_NULL 0x05
#define DER_OID 0x06
#define DER_ENUMERATED 0x0a
#define DER_UTC_TIME 0x17
#define DER_GENERALIZED_TIME 0x18
#define DER_SEQUENCE 0x30
#define DER_SET 0x31

#define DER_CONSTRUCTED 0x20
#define DER_CONTEXT(n) (0x80 | (n))                    /* primitive [n] */
#define DER_CONTEXT_CONSTRUCTED(n) (0x80 | 0x20 | (n)) /* constructed [n] */

/* Nesting that names, algorithm parameters and extension values may have. */
#define DER_MAX_DEPTH 16

typedef enum DerCheck
{
	DER_CHECK_OK,
	DER_CHECK_BAD,
	DER_CHECK_TOO_DEEP
} DerCheck;

/* Take one element, whatever its tag. On false the span is as it was. */
static inline bool
der_read(DerSpan *in, uint8_t *tag, DerSpan *content)
{
	const uint8_t *p = in->data;
	size_t left = in->size;
	size_t length;

	if (left < 2 || (p[0] & 0x1f) == 0x1f)
		return false;
	length = p[1];
	if (length < 0x80)
	{
		p += 2;
		left -= 2;
	}
	else
	{
		size_t octets = length & 0x7f;
		size_t i;

		if (octets == 0 || octets > 4 || left - 2 < octets || p[2] == 0)
			return false;
		length = 0;
		for (i = 0; i < octets; i++)
			length = (length << 8) | p[2 + i];
		if (length < 0x80)
			return false;
		p += 2 + octets;
		left -= 2 + octets;
	}
	if (length > left)
		return false;

	*tag = in->data[0];
	content->data = p;
	content->size = length;
	in->data = p + length;
	in->size = left - length;
	return true;
}

/* The tag of the next element, or -1 where nothing is left. */
static inline int
der_peek(const DerSpan *in)
{
	return in->size > 0 ? in->data[0] : -1;
}

/* Take one element that must have this tag. */
static inline bool
der_expect(DerSpan *in, uint8_t tag, DerSpan *content)
{
	uint8_t found;

	return der_peek(in) == tag && der_read(in, &found, content);
}

/* The same, and give the whole element (tag, length and content) as well. */
static inline bool
der_expect_whole(DerSpan *in, uint8_t tag, DerSpan *whole, DerSpan *content)
{
	const uint8_t *start = in->data;

	if (!der_expect(in, tag, content))
		return false;
	whole->data = start;
	whole->size = (size_t) (in->data - start);
	return true;
}

/* Are these the content octets of an INTEGER or ENUMERATED: at least one, and none too many? */
static inline bool
der_integer_is_valid(DerSpan content)
{
	if (content.size == 0)
		return false;
	if (content.size == 1)
		return true;
	return !(content.data[0] == 0x00 && content.data[1] < 0x80) &&
		   !(content.data[0] == 0xff && content.data[1] >= 0x80);
}

static inline bool
der_equal(DerSpan a, DerSpan b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* DER knows two values of a BOOLEAN: 00 and FF. */
static inline bool
der_boolean(DerSpan content, bool *value)
{
	if (content.size != 1 || (content.data[0] != 0x00 && content.data[0] != 0xff))
		return false;
	*value = content.data[0] != 0;
	return true;
}

/* Is this the content of an OBJECT IDENTIFIER: whole subidentifiers, each in the fewest octets? */
extern bool cmblock_der_oid_is_valid(DerSpan content);

/*
 * UTCTime (years 1950 to 2049) or GeneralizedTime to seconds since 1970. Only the forms of RFC 5280 4.1.2.5:
 * seconds present, no fraction, Z, and a date and time that exist.
 */
extern bool cmblock_der_time(uint8_t tag, DerSpan content, int64_t *seconds);

/* Take a Time, of either kind. */
extern bool cmblock_der_read_time(DerSpan *in, int64_t *seconds);

/*
 * Is the whole span a run of well-formed elements, down to a depth? For parts that are kept as they are and
 * given to OpenSSL later. Universal types are checked as well: the primitive ones are primitive, BOOLEAN,
 * INTEGER, NULL and OBJECT IDENTIFIER have valid content.
 */
extern DerCheck cmblock_der_check(DerSpan span, int max_depth);

/* Is this the content of a Name (RDNSequence)? An empty one is well formed. */
extern bool cmblock_der_name_is_valid(DerSpan content);

/* Is this the content of GeneralNames: at least one, each of a known kind and well formed? */
extern bool cmblock_der_general_names_are_valid(DerSpan content);

/* Is this the content of an RDN (a SET of attributes, as in a name relative to the CRL issuer)? */
extern bool cmblock_der_rdn_is_valid(DerSpan content);

#endif
