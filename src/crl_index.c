/*
 * crl_index.c
 *		Looking things up in an index. crl_index_layout.h says how it lies in memory, crl_index_build.c makes it.
 */
#include "crl_index_layout.h"

static bool
region_is_valid(Region region, uint64_t size)
{
	return region.offset <= size && region.size <= size - region.offset;
}

bool
cmblock_crl_index_open(const void *buffer, size_t size, CrlIndex *index)
{
	const CrlIndexHeader *header = buffer;
	const uint8_t *base = buffer;
	DerSpan names;
	DerSpan name;
	DerSpan ignored;
	uint32_t i;

	if ((uintptr_t) buffer % CRL_INDEX_ALIGNMENT != 0 || size < sizeof(CrlIndexHeader) ||
		header->magic != CRL_INDEX_MAGIC || header->version != CRL_INDEX_VERSION ||
		header->header_size != sizeof(CrlIndexHeader) || header->size > size ||
		header->size < sizeof(CrlIndexHeader))
		return false;
	for (i = 0; i < PART_COUNT; i++)
	{
		if (!region_is_valid(header->part[i], header->size))
			return false;
	}
	if (!region_is_valid(header->issuers, header->size) ||
		!region_is_valid(header->long_serials, header->size) ||
		!region_is_valid(header->tags, header->size) || !region_is_valid(header->slots, header->size))
		return false;

	if (header->issuer_count > CRL_MAX_ISSUERS || header->serial_area > CRL_USUAL_SERIAL_OCTETS ||
		header->slot_size != 1 + header->serial_area + SLOT_DATE_OCTETS + 1 + (header->issuer_count > 0) ||
		header->group_count > UINT32_MAX || header->tags.size != header->group_count * GROUP ||
		header->slots.size != header->group_count * GROUP * header->slot_size)
		return false;
	names.data = base + header->issuers.offset;
	names.size = header->issuers.size;
	for (i = 0; i < header->issuer_count; i++)
	{
		if (!der_expect_whole(&names, DER_SEQUENCE, &name, &ignored))
			return false;
	}
	if (names.size != 0)
		return false;

	index->header = header;
	index->tags = base + header->tags.offset;
	index->slots = base + header->slots.offset;
	index->group_count = header->group_count;
	index->slot_size = header->slot_size;
	index->serial_area = header->serial_area;
	index->has_issuers = header->issuer_count > 0;
	index->key = siphash_key(header->key);
	index->long_serials = base + header->long_serials.offset;
	index->long_serial_octets = header->long_serials.size;
	return true;
}

const uint8_t *
cmblock_crl_index_sha256(const CrlIndex *index)
{
	return index->header->sha256;
}

void
cmblock_crl_index_counts(const CrlIndex *index, CrlIndexCounts *counts)
{
	counts->listed = index->header->listed;
	counts->distinct = index->header->distinct;
	counts->removed = index->header->removed;
	counts->size = index->header->size;
}

static DerSpan
part_span(const CrlIndexHeader *header, Part part)
{
	DerSpan span = {NULL, 0};

	if (header->part[part].offset != 0)
	{
		span.data = (const uint8_t *) header + header->part[part].offset;
		span.size = (size_t) header->part[part].size;
	}
	return span;
}

void
cmblock_crl_index_facts(const CrlIndex *index, Crl *crl)
{
	const CrlIndexHeader *header = index->header;
	DerSpan names;
	DerSpan ignored;
	uint32_t i;

	memset(crl, 0, offsetof(Crl, certificate_issuer));
	crl->error_entry = -1;
	crl->version = (int) header->crl_version;
	crl->this_update = header->this_update;
	crl->next_update = header->next_update;
	crl->next_publish = header->next_publish;
	crl->flags = header->flags;
	crl->ca_version = header->ca_version;
	crl->issuer = part_span(header, PART_ISSUER);
	crl->signature_algorithm = part_span(header, PART_SIGNATURE_ALGORITHM);
	crl->number = part_span(header, PART_NUMBER);
	crl->base_number = part_span(header, PART_BASE_NUMBER);
	crl->authority_key_id = part_span(header, PART_AUTHORITY_KEY_ID);
	crl->key_id = part_span(header, PART_KEY_ID);
	crl->freshest = part_span(header, PART_FRESHEST);
	crl->idp.raw = part_span(header, PART_IDP);
	crl->idp.full_name = part_span(header, PART_IDP_FULL_NAME);
	crl->idp.relative_name = part_span(header, PART_IDP_RELATIVE_NAME);
	crl->idp.reasons = header->idp_reasons;
	crl->idp.only_user = header->idp_only_user != 0;
	crl->idp.only_ca = header->idp_only_ca != 0;
	crl->idp.only_attribute = header->idp_only_attribute != 0;
	crl->idp.indirect = header->idp_indirect != 0;
	crl->entry_count = header->listed;

	names.data = (const uint8_t *) header + header->issuers.offset;
	names.size = header->issuers.size;
	for (i = 0; i < header->issuer_count; i++)
	{
		if (!der_expect_whole(&names, DER_SEQUENCE, &crl->certificate_issuer[i], &ignored))
			break;
	}
	crl->issuer_count = i;
}

bool
cmblock_crl_index_find(const CrlIndex *index, const uint8_t *serial, size_t size, uint8_t issuer,
					   CrlEntry *entry)
{
	int64_t slot;

	/* Without certificate issuers there is only the CRL's own. */
	if (size == 0 || (issuer != 0 && !index->has_issuers))
		return false;
	slot = find_slot(index, serial, size, issuer, hash_serial(index->key, serial, size, issuer), NULL);
	if (slot < 0)
		return false;
	return entry == NULL || read_slot(index, index->slots + (uint64_t) slot * index->slot_size, entry);
}

bool
cmblock_crl_index_next(const CrlIndex *index, uint64_t *position, CrlEntry *entry)
{
	while (*position < index->group_count * GROUP)
	{
		uint64_t slot = (*position)++;

		if (index->tags[slot] != 0 && read_slot(index, index->slots + slot * index->slot_size, entry))
			return true;
	}
	return false;
}
