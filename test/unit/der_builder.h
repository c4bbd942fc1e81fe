/*
 * der_builder.h
 *		Writes DER, and what only looks like DER, for unit tests: openssl refuses to make most of it.
 *
 *		sequence(integer(5), hex("0500"))
 *
 * All results live in one arena until builder_reset().
 */
#ifndef CMBLOCK_TEST_DER_BUILDER_H
#define CMBLOCK_TEST_DER_BUILDER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Bytes
{
	const uint8_t *data;
	size_t size;
} Bytes;

static uint8_t builder_arena[32 << 20];
static size_t builder_used = 0;

static const Bytes nothing = {NULL, 0};
static const Bytes builder_end = {NULL, SIZE_MAX};

static inline void
builder_reset(void)
{
	builder_used = 0;
}

static uint8_t *
builder_room(size_t size)
{
	uint8_t *room = builder_arena + builder_used;

	if (size > sizeof(builder_arena) - builder_used)
	{
		printf("Bail out! the builder's arena is full\n");
		exit(2);
	}
	builder_used += size;
	return room;
}

static inline Bytes
bytes(const void *data, size_t size)
{
	Bytes result = {memcpy(builder_room(size), data, size), size};

	return result;
}

static inline Bytes
text(const char *string)
{
	return bytes(string, strlen(string));
}

/* Hexadecimal digits; blanks between octets. */
static inline Bytes
hex(const char *digits)
{
	uint8_t *room = builder_room(strlen(digits) / 2 + 1);
	Bytes result = {room, 0};
	unsigned octet;

	for (; *digits != '\0'; digits++)
	{
		if (*digits == ' ')
			continue;
		if (sscanf(digits, "%2x", &octet) != 1)
			break;
		room[result.size++] = (uint8_t) octet;
		digits++;
	}
	return result;
}

static inline Bytes
repeat(uint8_t octet, size_t count)
{
	Bytes result = {memset(builder_room(count), octet, count), count};

	return result;
}

static Bytes
join(const Bytes *parts)
{
	size_t size = 0;
	uint8_t *room;
	Bytes result;
	int i;

	for (i = 0; parts[i].size != SIZE_MAX; i++)
		size += parts[i].size;
	room = builder_room(size);
	result.data = room;
	result.size = size;
	for (i = 0; parts[i].size != SIZE_MAX; i++)
	{
		if (parts[i].size > 0)
			memcpy(room, parts[i].data, parts[i].size);
		room += parts[i].size;
	}
	return result;
}

static Bytes
wrap(uint8_t tag, Bytes content)
{
	uint8_t header[6] = {tag};
	size_t size = 2;
	int octets = 0;
	uint8_t *room;
	Bytes result;

	if (content.size < 0x80)
		header[1] = (uint8_t) content.size;
	else
	{
		while (content.size >> (8 * octets) != 0)
			octets++;
		header[1] = (uint8_t) (0x80 | octets);
		while (octets-- > 0)
			header[size++] = (uint8_t) (content.size >> (8 * octets));
	}
	room = builder_room(size + content.size);
	memcpy(room, header, size);
	if (content.size > 0)
		memcpy(room + size, content.data, content.size);
	result.data = room;
	result.size = size + content.size;
	return result;
}

#define concat(...) join((const Bytes[]){__VA_ARGS__, builder_end})
#define element(tag, ...) wrap((tag), concat(__VA_ARGS__))
#define sequence(...) element(0x30, __VA_ARGS__)
#define set(...) element(0x31, __VA_ARGS__)

static inline Bytes
integer(uint64_t value)
{
	uint8_t octets[9];
	int size = 1;
	int i;

	while (size < 8 && value >> (8 * size - 1) != 0)
		size++;
	if (size == 8 && value >> 63 != 0)
		size = 9;
	for (i = 0; i < size; i++)
		octets[i] = size - 1 - i >= 8 ? 0 : (uint8_t) (value >> (8 * (size - 1 - i)));
	return wrap(0x02, bytes(octets, (size_t) size));
}

static inline Bytes
integer_hex(const char *digits)
{
	return wrap(0x02, hex(digits));
}

static inline Bytes
utc(const char *time)
{
	return wrap(0x17, text(time));
}

static inline Bytes
generalized(const char *time)
{
	return wrap(0x18, text(time));
}

static inline Bytes
oid(const char *digits)
{
	return wrap(0x06, hex(digits));
}

/* A Name with a single attribute, the common name. */
static inline Bytes
common_name(const char *name)
{
	return sequence(set(sequence(oid("550403"), wrap(0x0c, text(name)))));
}

/* An extension: the OID in hexadecimal, and its value. */
static inline Bytes
extension(const char *id, Bytes value)
{
	return sequence(oid(id), wrap(0x04, value));
}

static inline Bytes
critical_extension(const char *id, Bytes value)
{
	return sequence(oid(id), hex("0101FF"), wrap(0x04, value));
}

static inline Bytes
serial_entry(Bytes serial)
{
	return sequence(serial, utc("260101000000Z"));
}

/* An entry with one extension more. */
static inline Bytes
extended_entry(Bytes serial, Bytes extensions)
{
	return sequence(serial, utc("260101000000Z"), wrap(0x30, extensions));
}

static inline Bytes
reason_entry(uint64_t serial, uint8_t reason)
{
	return extended_entry(integer(serial), extension("551D15", wrap(0x0a, bytes(&reason, 1))));
}

/* All parts of a CRL, each of which a test may replace. */
typedef struct CrlParts
{
	Bytes version;
	Bytes inner_algorithm;
	Bytes issuer;
	Bytes this_update;
	Bytes next_update;
	Bytes revoked;
	Bytes extensions; /* the content of the list; nothing: no list */
	Bytes after_extensions;
	Bytes outer_algorithm;
	Bytes signature;
	Bytes after_signature;
	Bytes after_crl;
} CrlParts;

#define SHA256_WITH_RSA "300D06092A864886F70D01010B0500"
#define CRL_NUMBER "551D14"
#define DELTA_INDICATOR "551D1B"
#define ISSUING_POINT "551D1C"
#define CERTIFICATE_ISSUER "551D1D"
#define AUTHORITY_KEY_ID "551D23"
#define FRESHEST_CRL "551D2E"
#define CA_VERSION "2B060104018237 1501"
#define NEXT_PUBLISH "2B060104018237 1504"
#define UNKNOWN_EXTENSION "2A0304"

/* A v2 CRL, number 42, without entries. */
static CrlParts
usual_parts(void)
{
	CrlParts parts = {
		.version = integer(1),
		.inner_algorithm = hex(SHA256_WITH_RSA),
		.issuer = common_name("CA"),
		.this_update = utc("260101000000Z"),
		.next_update = utc("260108000000Z"),
		.extensions = extension(CRL_NUMBER, integer(42)),
		.outer_algorithm = hex(SHA256_WITH_RSA),
		.signature = hex("03050001020304"),
	};

	return parts;
}

static inline Bytes
build_tbs(const CrlParts *parts)
{
	Bytes extensions = parts->extensions.size > 0 ? element(0xa0, wrap(0x30, parts->extensions)) : nothing;

	return sequence(parts->version, parts->inner_algorithm, parts->issuer, parts->this_update,
					parts->next_update, parts->revoked, extensions, parts->after_extensions);
}

static inline Bytes
build_crl(CrlParts parts)
{
	return concat(sequence(build_tbs(&parts), parts.outer_algorithm, parts.signature, parts.after_signature),
				  parts.after_crl);
}

#endif
