/*
 * crl_index_build.c
 *		Making an index of a CRL. crl_index_layout.h says how it lies in memory.
 *
 * A slot of a large table is a cache miss and a TLB miss, and even a write waits for it in the end: stores leave a
 * processor in order. So entries are inserted in three steps, each a few entries behind the one before: the entry is
 * taken from the list and its tags are prefetched; its slot is chosen and prefetched; the slot is written. Because the
 * tags tell where a slot is free, slots are written and hardly ever read, and need not be cleared
 * beforehand: a slot whose tag is 0 is never looked at.
 *
 * Failure: nothing is allocated, and nothing can fail but a buffer that is too small, because the reader has counted and
 * measured everything.
 */
#include "crl_index_layout.h"

/* Entries between one step and the next. */
#define AHEAD 16

#if defined(__GNUC__)
#define PREFETCH_FOR_WRITE(p) __builtin_prefetch((p), 1)
#else
#define PREFETCH_FOR_WRITE(p) ((void) (p))
#endif

/* What is needed to find a place for everything. */
typedef struct Plan
{
	uint32_t serial_area;
	uint32_t slot_size;
	uint64_t group_count;
	uint64_t size;
	Region part[PART_COUNT];
	Region issuers;
	Region long_serials;
	Region tags;
	Region slots;
} Plan;

/* The parts as the reader gave them, in the order of Part. */
static void
crl_parts(const Crl *crl, DerSpan part[PART_COUNT])
{
	part[PART_ISSUER] = crl->issuer;
	part[PART_SIGNATURE_ALGORITHM] = crl->signature_algorithm;
	part[PART_NUMBER] = crl->number;
	part[PART_BASE_NUMBER] = crl->base_number;
	part[PART_AUTHORITY_KEY_ID] = crl->authority_key_id;
	part[PART_KEY_ID] = crl->key_id;
	part[PART_FRESHEST] = crl->freshest;
	part[PART_IDP] = crl->idp.raw;
	part[PART_IDP_FULL_NAME] = crl->idp.full_name;
	part[PART_IDP_RELATIVE_NAME] = crl->idp.relative_name;
}

/* Sizes cannot overflow 64 bits: a CRL has less than 2^32 octets and a slot less than 2^5. */
static void
make_plan(const Crl *crl, Plan *plan)
{
	DerSpan part[PART_COUNT];
	uint64_t at = sizeof(CrlIndexHeader);
	uint32_t i;

	memset(plan, 0, sizeof(*plan));
	crl_parts(crl, part);
	for (i = 0; i < PART_COUNT; i++)
	{
		if (part[i].data == NULL)
			continue;
		plan->part[i].offset = at;
		plan->part[i].size = part[i].size;
		at += part[i].size;
	}
	plan->issuers.offset = at;
	for (i = 0; i < crl->issuer_count; i++)
		plan->issuers.size += crl->certificate_issuer[i].size;
	at += plan->issuers.size;
	plan->long_serials.offset = at;
	plan->long_serials.size = crl->long_serial_octets + (uint64_t) crl->long_serials * LONG_LENGTH;
	at += plan->long_serials.size;

	plan->serial_area = crl->short_serial_octets;
	if (crl->long_serials > 0 && plan->serial_area < LONG_AREA)
		plan->serial_area = LONG_AREA;
	plan->slot_size = 1 + plan->serial_area + SLOT_DATE_OCTETS + 1 + (crl->issuer_count > 0);
	/* More slots than entries, so that one at least is always free. */
	plan->group_count = crl->entry_count == 0 ? 0 : crl->entry_count / GROUP_USUAL_LOAD + 1;
	at = (at + TABLE_ALIGNMENT - 1) / TABLE_ALIGNMENT * TABLE_ALIGNMENT;
	plan->tags.offset = at;
	plan->tags.size = plan->group_count * GROUP;
	at += plan->tags.size;
	plan->slots.offset = at;
	plan->slots.size = plan->group_count * GROUP * plan->slot_size;
	plan->size = at + plan->slots.size;
}

size_t
cmblock_crl_index_size(const Crl *crl)
{
	Plan plan;

	make_plan(crl, &plan);
	return (size_t) plan.size;
}

static void
put_date(uint8_t *p, int64_t seconds)
{
	int i;

	for (i = 0; i < SLOT_DATE_OCTETS; i++)
		p[i] = (uint8_t) ((uint64_t) seconds >> (8 * i));
}

static void
put_verdict(const CrlIndex *index, uint8_t *slot, const CrlEntry *entry)
{
	uint8_t *after = slot + 1 + index->serial_area;

	put_date(after, entry->revocation_date);
	after[SLOT_DATE_OCTETS] = (uint8_t) (entry->reason | (entry->removed ? STATUS_REMOVED : 0) |
										 (entry->unknown_critical ? STATUS_UNKNOWN_CRITICAL : 0));
}

/* A serial that is there already: revoked wins over removed, then the earlier date. */
static void
merge_entry(const CrlIndex *index, uint8_t *slot, const CrlEntry *entry)
{
	CrlEntry merged;
	CrlEntry held;

	if (!read_slot(index, slot, &held))
		return;
	if (held.removed != entry->removed)
		merged = held.removed ? *entry : held;
	else
		merged = entry->revocation_date < held.revocation_date ? *entry : held;
	merged.unknown_critical = held.unknown_critical || entry->unknown_critical;
	put_verdict(index, slot, &merged);
}

/* Is any tag that find_slot would meet this hash's? If not, the serial is not in the index. */
static inline bool
may_be_listed(const CrlIndex *index, uint64_t hash)
{
	uint64_t group = first_group(hash, index->group_count);
	uint64_t tries;

	for (tries = 0; tries < index->group_count; tries++)
	{
		uint64_t tags = group_tags(index, group);

		if (octets_equal(tags, slot_tag(hash)) != 0)
			return true;
		if (octets_equal(tags, 0) != 0)
			return false;
		if (++group == index->group_count)
			group = 0;
	}
	return false;
}

/* An entry on its way into the table. */
typedef struct PendingEntry
{
	CrlEntry entry;
	uint64_t hash;
	uint8_t *slot; /* where it goes; NULL if it was merged into another */
} PendingEntry;

/* What is under way while an index is built. */
typedef struct Builder
{
	CrlIndex index;
	CrlIndexHeader *header;
	uint8_t *tags;
	uint8_t *slots;
	uint8_t *long_serials;
	uint64_t long_end; /* where the next long serial goes */
	PendingEntry ring[2 * AHEAD];
	uint32_t taken;   /* entries that came from the list, */
	uint32_t claimed; /* of those, the ones that have got their slots, */
	uint32_t written; /* and of those, the ones that are in them */
} Builder;

/* Write one entry into its slot. There is room: the reader has measured all serials. */
static void
write_slot(Builder *builder, const PendingEntry *pending)
{
	const CrlIndex *index = &builder->index;
	const CrlEntry *entry = &pending->entry;
	uint8_t *slot = pending->slot;
	size_t size = entry->serial.size;

	if (size <= CRL_USUAL_SERIAL_OCTETS)
	{
		slot[0] = (uint8_t) size;
		memcpy(slot + 1, entry->serial.data, size);
	}
	else
	{
		uint32_t place = (uint32_t) builder->long_end;
		uint32_t octets = (uint32_t) size;
		uint32_t tag = long_tag(pending->hash);

		memcpy(builder->long_serials + place, &octets, sizeof(octets));
		memcpy(builder->long_serials + place + LONG_LENGTH, entry->serial.data, size);
		builder->long_end += LONG_LENGTH + size;
		slot[0] = SLOT_LONG;
		memcpy(slot + 1, &place, sizeof(place));
		memcpy(slot + 1 + sizeof(place), &tag, sizeof(tag));
	}
	if (index->has_issuers)
		slot[index->slot_size - 1] = entry->issuer;
	put_verdict(index, slot, entry);
}

static void
write_up_to(Builder *builder, uint32_t claimed)
{
	for (; builder->written < claimed; builder->written++)
	{
		const PendingEntry *pending = &builder->ring[builder->written % (2 * AHEAD)];

		if (pending->slot != NULL)
			write_slot(builder, pending);
	}
}

/* Third step: the slot has been prefetched. */
static void
write_next(Builder *builder)
{
	write_up_to(builder, builder->written + 1);
}

/*
 * Second step: the tags have been prefetched. Find the place of the next entry and claim it by its tag. False if there is
 * none, which the plan rules out.
 */
static bool
claim_next(Builder *builder)
{
	const CrlIndex *index = &builder->index;
	PendingEntry *pending = &builder->ring[builder->claimed % (2 * AHEAD)];
	const CrlEntry *entry = &pending->entry;
	const uint8_t *serial = entry->serial.data;
	size_t size = entry->serial.size;
	int64_t free_slot;
	int64_t found;

	/* Where find_slot would compare serials, the slots must have them. */
	if (may_be_listed(index, pending->hash))
		write_up_to(builder, builder->claimed);
	found = find_slot(index, serial, size, entry->issuer, pending->hash, &free_slot);
	builder->claimed++;
	if (found >= 0)
	{
		merge_entry(index, builder->slots + (uint64_t) found * index->slot_size, entry);
		pending->slot = NULL;
		return true;
	}
	if (free_slot < 0)
		return false;
	builder->tags[free_slot] = slot_tag(pending->hash);
	builder->header->distinct++;
	pending->slot = builder->slots + (uint64_t) free_slot * index->slot_size;
	PREFETCH_FOR_WRITE(pending->slot);
	PREFETCH_FOR_WRITE(pending->slot + index->slot_size - 1);
	return true;
}

/* First step: take an entry from the list. False at its end. */
static bool
take_next(Builder *builder, CrlWalk *walk)
{
	const CrlIndex *index = &builder->index;
	PendingEntry *pending = &builder->ring[builder->taken % (2 * AHEAD)];
	const CrlEntry *entry = &pending->entry;

	if (!cmblock_crl_next(walk, &pending->entry))
		return false;
	builder->taken++;
	pending->hash = hash_serial(index->key, entry->serial.data, entry->serial.size, entry->issuer);
	PREFETCH_FOR_WRITE(builder->tags + first_group(pending->hash, index->group_count) * GROUP);
	return true;
}

/* All entries of the CRL into the empty table. */
static bool
insert_all(const Crl *crl, Builder *builder)
{
	CrlWalk walk;

	cmblock_crl_walk(crl, &walk);
	while (take_next(builder, &walk))
	{
		if (builder->taken - builder->claimed == AHEAD && !claim_next(builder))
			return false;
		if (builder->taken - builder->written == 2 * AHEAD)
			write_next(builder);
	}
	while (builder->claimed < builder->taken)
	{
		if (!claim_next(builder))
			return false;
	}
	write_up_to(builder, builder->claimed);
	return builder->taken == crl->entry_count;
}

static void
put_facts(const Crl *crl, const Plan *plan, CrlIndexHeader *header)
{
	DerSpan part[PART_COUNT];
	uint8_t *to;
	uint32_t i;

	header->this_update = crl->this_update;
	header->next_update = crl->next_update;
	header->next_publish = crl->next_publish;
	header->flags = crl->flags;
	header->ca_version = crl->ca_version;
	header->crl_version = (uint32_t) crl->version;
	header->idp_reasons = crl->idp.reasons;
	header->idp_only_user = crl->idp.only_user;
	header->idp_only_ca = crl->idp.only_ca;
	header->idp_only_attribute = crl->idp.only_attribute;
	header->idp_indirect = crl->idp.indirect;
	header->listed = crl->entry_count;
	header->issuer_count = crl->issuer_count;

	crl_parts(crl, part);
	for (i = 0; i < PART_COUNT; i++)
	{
		header->part[i] = plan->part[i];
		if (part[i].size > 0)
			memcpy((uint8_t *) header + plan->part[i].offset, part[i].data, part[i].size);
	}
	to = (uint8_t *) header + plan->issuers.offset;
	for (i = 0; i < crl->issuer_count; i++)
	{
		memcpy(to, crl->certificate_issuer[i].data, crl->certificate_issuer[i].size);
		to += crl->certificate_issuer[i].size;
	}
}

/* Count what only the finished table knows: a removal may have lost against a revocation listed later. */
static uint32_t
count_removed(const CrlIndex *index)
{
	uint32_t removed = 0;
	uint64_t position = 0;
	CrlEntry entry;

	while (cmblock_crl_index_next(index, &position, &entry))
		removed += entry.removed;
	return removed;
}

bool
cmblock_crl_index_build(const Crl *crl, const uint8_t key[SIPHASH_KEY_OCTETS],
						const uint8_t sha256[CRL_SHA256_OCTETS], void *buffer, size_t size)
{
	CrlIndexHeader *header = buffer;
	Builder builder;
	Plan plan;

	make_plan(crl, &plan);
	if (size < plan.size || (uintptr_t) buffer % CRL_INDEX_ALIGNMENT != 0)
		return false;

	memset(buffer, 0, (size_t) plan.slots.offset);
	header->version = CRL_INDEX_VERSION;
	header->header_size = sizeof(CrlIndexHeader);
	header->size = plan.size;
	memcpy(header->sha256, sha256, CRL_SHA256_OCTETS);
	memcpy(header->key, key, SIPHASH_KEY_OCTETS);
	header->issuers = plan.issuers;
	header->long_serials = plan.long_serials;
	header->tags = plan.tags;
	header->slots = plan.slots;
	header->group_count = plan.group_count;
	header->slot_size = plan.slot_size;
	header->serial_area = plan.serial_area;
	put_facts(crl, &plan, header);
	/* With the magic it can be opened; nobody else sees the buffer before it is finished. */
	header->magic = CRL_INDEX_MAGIC;

	builder.header = header;
	builder.tags = (uint8_t *) buffer + plan.tags.offset;
	builder.slots = (uint8_t *) buffer + plan.slots.offset;
	builder.long_serials = (uint8_t *) buffer + plan.long_serials.offset;
	builder.long_end = 0;
	builder.taken = 0;
	builder.claimed = 0;
	builder.written = 0;
	if (!cmblock_crl_index_open(buffer, size, &builder.index) || !insert_all(crl, &builder))
	{
		header->magic = 0;
		return false;
	}
	if (crl->flags & CRLFLAG_DELTA)
		header->removed = count_removed(&builder.index);
	return true;
}
