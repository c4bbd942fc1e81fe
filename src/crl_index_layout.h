/*
 * crl_index_layout.h
 *		How an index lies in memory: for the two files that build it and look things up in it.
 *
 * Layout
 *		header | parts of the CRL kept as they are | serials longer than 20 octets | tags | slots
 *
 *		The slots are a hash table in groups of eight, at most three quarters full. An entry lies in its slot
 *		itself, because a table of offsets to entries would cost one more cache miss a lookup. All slots of one
 *		index have the same size: the longest of its usual serials decides.
 *
 *			1	octets of the serial; 255 is a serial longer than 20 octets
 *			n	the serial; of a long one, its place among the long serials, and 32 bits of its hash
 *			5	revocation date in seconds since 1970, two's complement, lowest octet first: all years fit
 *			1	reason and flags
 *			1	issuer ordinal, in an index of a CRL that names certificate issuers
 *
 *		Each slot has a tag of one octet: 0 for a free slot, else eight bits of the hash. The eight tags of a group
 *		are compared at once in a 64-bit word. Tags of a million entries are 1.3 MB and stay in a processor's cache,
 *		so a serial that is not listed, which is what nearly every lookup finds, mostly costs no access to
 *		memory, and a listed one a single one.
 *
 *		With serials of 20 octets that is 37.3 octets an entry; an indirect CRL has 38.7.
 *
 *		Numbers in the header are in the machine's byte order: an index never leaves the machine.
 *
 * Hash
 *		SipHash-1-3 over all octets of the serial, with a random key for each index. The low half chooses the group
 *		(by multiplication, so that the table may have any size), the highest octet is the tag. A full group
 *		sends its entries to the next. Serials are compared octet by octet.
 *
 * Failure
 *		The reader of an index checks every offset, so that damaged memory gives wrong
 *		answers at worst, and never a crash or an endless loop.
 */
#ifndef CMBLOCK_CRL_INDEX_LAYOUT_H
#define CMBLOCK_CRL_INDEX_LAYOUT_H

#include "crl_index.h"

#define CRL_INDEX_MAGIC UINT64_C(0x78646e696c726331) /* "1crlindx" */
#define CRL_INDEX_VERSION 1

/* Where something lies, from the start of the buffer; offset 0 where it is absent. */
typedef struct Region
{
	uint64_t offset;
	uint64_t size;
} Region;

/* The parts that are kept as they are. */
typedef enum Part
{
	PART_ISSUER,
	PART_SIGNATURE_ALGORITHM,
	PART_NUMBER,
	PART_BASE_NUMBER,
	PART_AUTHORITY_KEY_ID,
	PART_KEY_ID,
	PART_FRESHEST,
	PART_IDP,
	PART_IDP_FULL_NAME,
	PART_IDP_RELATIVE_NAME,
	PART_COUNT
} Part;

struct CrlIndexHeader
{
	uint64_t magic;
	uint32_t version;
	uint32_t header_size;
	uint64_t size;
	uint8_t sha256[CRL_SHA256_OCTETS];
	uint8_t key[SIPHASH_KEY_OCTETS];

	int64_t this_update;
	int64_t next_update;
	int64_t next_publish;
	uint32_t flags;
	uint32_t ca_version;
	uint32_t crl_version;
	uint16_t idp_reasons;
	uint8_t idp_only_user;
	uint8_t idp_only_ca;
	uint8_t idp_only_attribute;
	uint8_t idp_indirect;
	uint8_t unused[2];

	uint32_t listed;
	uint32_t distinct;
	uint32_t removed;
	uint32_t issuer_count;
	Region part[PART_COUNT];
	Region issuers; /* Names, one after the other */
	Region long_serials;
	Region tags;
	Region slots;
	uint64_t group_count;
	uint32_t slot_size;
	uint32_t serial_area;
};

#define SLOT_LONG 0xff
#define LONG_AREA 8   /* a long serial's place and 32 bits of hash */
#define LONG_LENGTH 4 /* octets of the length before a long serial */
#define SLOT_DATE_OCTETS 5
#define TABLE_ALIGNMENT 64 /* a cache line */

#define STATUS_REASON 0x0f
#define STATUS_REMOVED 0x10
#define STATUS_UNKNOWN_CRITICAL 0x20

#define GROUP 8            /* slots whose tags are compared at once */
#define GROUP_USUAL_LOAD 6 /* entries for which a group is reckoned */

static inline uint64_t
hash_serial(SipKey key, const uint8_t *serial, size_t size, uint8_t issuer)
{
	return siphash(1, 3, key, serial, size) ^ (issuer * UINT64_C(0x9e3779b97f4a7c15));
}

/* The group where a search begins: the low half of the hash, scaled to the number of groups. */
static inline uint64_t
first_group(uint64_t hash, uint64_t group_count)
{
	return ((hash & UINT32_MAX) * group_count) >> 32;
}

/* The highest octet of the hash, which has no part in choosing the group; 0 is for free slots. */
static inline uint8_t
slot_tag(uint64_t hash)
{
	uint8_t tag = (uint8_t) (hash >> 56);

	return tag == 0 ? 1 : tag;
}

/* What is kept with a long serial, so that others are seldom compared with it. */
static inline uint32_t
long_tag(uint64_t hash)
{
	return (uint32_t) (hash >> 32);
}

/* Eight tags, the first in the lowest octet. */
static inline uint64_t
group_tags(const CrlIndex *index, uint64_t group)
{
	return siphash_little_endian(index->tags + group * GROUP);
}

/* The high bit of each octet of "word" that equals "octet", exactly. */
static inline uint64_t
octets_equal(uint64_t word, uint8_t octet)
{
	const uint64_t low_bits = UINT64_C(0x7f7f7f7f7f7f7f7f);
	uint64_t differs = word ^ (octet * UINT64_C(0x0101010101010101));

	return ~(((differs & low_bits) + low_bits) | differs | low_bits);
}

/* Number of the lowest octet that octets_equal found; "found" is not 0. */
static inline unsigned
lowest_octet(uint64_t found)
{
#if defined(__GNUC__)
	return (unsigned) __builtin_ctzll(found) / 8;
#else
	unsigned n = 0;

	for (; (found & 0xff) == 0; found >>= 8)
		n++;
	return n;
#endif
}

static inline int64_t
get_date(const uint8_t *p)
{
	uint64_t bits = 0;
	int i;

	for (i = SLOT_DATE_OCTETS - 1; i >= 0; i--)
		bits = bits << 8 | p[i];
	/* Bit 39 is the sign. */
	return (int64_t) (bits ^ (UINT64_C(1) << 39)) - (INT64_C(1) << 39);
}

/* The serial that a slot holds; false if the slot is damaged. */
static inline bool
slot_serial(const CrlIndex *index, const uint8_t *slot, DerSpan *serial)
{
	if (slot[0] != SLOT_LONG)
	{
		serial->data = slot + 1;
		serial->size = slot[0];
		return slot[0] <= index->serial_area;
	}
	else
	{
		uint32_t place;
		uint32_t size;

		if (index->serial_area < LONG_AREA)
			return false;
		memcpy(&place, slot + 1, sizeof(place));
		if (place > index->long_serial_octets || index->long_serial_octets - place < LONG_LENGTH)
			return false;
		memcpy(&size, index->long_serials + place, sizeof(size));
		if (size > index->long_serial_octets - place - LONG_LENGTH)
			return false;
		serial->data = index->long_serials + place + LONG_LENGTH;
		serial->size = size;
		return true;
	}
}

/* Does a slot whose tag fits hold this serial of this issuer? */
static inline bool
slot_matches(const CrlIndex *index, const uint8_t *slot, const uint8_t *serial, size_t size, uint8_t issuer,
			 uint64_t hash)
{
	if (index->has_issuers && slot[index->slot_size - 1] != issuer)
		return false;
	if (size <= CRL_USUAL_SERIAL_OCTETS)
		return slot[0] == size && size <= index->serial_area && memcmp(slot + 1, serial, size) == 0;
	else
	{
		uint32_t tag;
		DerSpan held;

		if (slot[0] != SLOT_LONG || !slot_serial(index, slot, &held))
			return false;
		memcpy(&tag, slot + 1 + sizeof(uint32_t), sizeof(tag));
		return tag == long_tag(hash) && held.size == size && memcmp(held.data, serial, size) == 0;
	}
}

/*
 * Number of the slot that holds this serial, or -1. Then *free_slot, if the caller gave it, is the free slot where it
 * belongs, or -1 if there is none, which only damage can bring about.
 */
static inline int64_t
find_slot(const CrlIndex *index, const uint8_t *serial, size_t size, uint8_t issuer, uint64_t hash,
		  int64_t *free_slot)
{
	uint64_t group = first_group(hash, index->group_count);
	uint8_t tag = slot_tag(hash);
	uint64_t tries;

	for (tries = 0; tries < index->group_count; tries++)
	{
		uint64_t tags = group_tags(index, group);
		uint64_t candidates = octets_equal(tags, tag);
		uint64_t free_slots = octets_equal(tags, 0);

		for (; candidates != 0; candidates &= candidates - 1)
		{
			uint64_t slot = group * GROUP + lowest_octet(candidates);

			if (slot_matches(index, index->slots + slot * index->slot_size, serial, size, issuer, hash))
				return (int64_t) slot;
		}
		if (free_slots != 0)
		{
			if (free_slot != NULL)
				*free_slot = (int64_t) (group * GROUP + lowest_octet(free_slots));
			return -1;
		}
		if (++group == index->group_count)
			group = 0;
	}
	if (free_slot != NULL)
		*free_slot = -1;
	return -1;
}

static inline bool
read_slot(const CrlIndex *index, const uint8_t *slot, CrlEntry *entry)
{
	const uint8_t *after = slot + 1 + index->serial_area;

	if (!slot_serial(index, slot, &entry->serial))
		return false;
	entry->revocation_date = get_date(after);
	entry->reason = after[SLOT_DATE_OCTETS] & STATUS_REASON;
	entry->removed = (after[SLOT_DATE_OCTETS] & STATUS_REMOVED) != 0;
	entry->unknown_critical = (after[SLOT_DATE_OCTETS] & STATUS_UNKNOWN_CRITICAL) != 0;
	entry->issuer = index->has_issuers ? after[SLOT_DATE_OCTETS + 1] : 0;
	return true;
}

#endif
