/*
 * crl_fuzz.c
 *		libFuzzer target over the CRL reader, the index and the PEM helper.
 *
 * Any input may be refused, none may crash, and one that is accepted is held to what the parts promise each other: a walk
 * gives as many entries as were counted, every listed serial is found in the index with the verdict that a plain
 * walk over the list gives, a serial that is not listed is not found, and the facts that come back out
 * of the index are those that went in. Then the index itself is damaged, at places that the input chooses, and used.
 *
 * The first octet of an input chooses what the rest is: a CRL, PEM, or an index.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crl_index.h"
#include "crl_reader.h"
#include "pem.h"

#define MAX_SIZE (1 << 20)
#define MAX_ENTRIES 5000

/* More entries than this are not compared with each other: that takes quadratic time. */
#define MAX_COMPARED 300

static void
require(bool good, const char *what)
{
	if (!good)
	{
		fprintf(stderr, "crl_fuzz: broken promise: %s\n", what);
		abort();
	}
}

static bool
same_span(DerSpan a, DerSpan b)
{
	return (a.data == NULL) == (b.data == NULL) && der_equal(a, b);
}

static void
compare_facts(const Crl *a, const Crl *b)
{
	uint32_t i;

	require(a->version == b->version && a->this_update == b->this_update &&
				a->next_update == b->next_update && a->next_publish == b->next_publish &&
				a->flags == b->flags && a->ca_version == b->ca_version && a->entry_count == b->entry_count,
			"numbers of the header");
	require(same_span(a->issuer, b->issuer) && same_span(a->signature_algorithm, b->signature_algorithm) &&
				same_span(a->number, b->number) && same_span(a->base_number, b->base_number) &&
				same_span(a->authority_key_id, b->authority_key_id) && same_span(a->key_id, b->key_id) &&
				same_span(a->freshest, b->freshest),
			"parts of the header");
	require(same_span(a->idp.raw, b->idp.raw) && same_span(a->idp.full_name, b->idp.full_name) &&
				same_span(a->idp.relative_name, b->idp.relative_name) && a->idp.reasons == b->idp.reasons &&
				a->idp.only_user == b->idp.only_user && a->idp.only_ca == b->idp.only_ca &&
				a->idp.only_attribute == b->idp.only_attribute && a->idp.indirect == b->idp.indirect,
			"issuing distribution point");
	require(a->issuer_count == b->issuer_count, "number of certificate issuers");
	for (i = 0; i < a->issuer_count; i++)
		require(same_span(a->certificate_issuer[i], b->certificate_issuer[i]), "certificate issuers");
}

/* What the list says of a serial, by going through all of it. */
static bool
verdict_by_walk(const Crl *crl, DerSpan serial, uint8_t issuer, CrlEntry *verdict)
{
	CrlWalk walk;
	CrlEntry entry;
	bool found = false;

	cmblock_crl_walk(crl, &walk);
	while (cmblock_crl_next(&walk, &entry))
	{
		bool unknown_critical = found && verdict->unknown_critical;

		if (entry.issuer != issuer || !der_equal(entry.serial, serial))
			continue;
		if (!found || (verdict->removed && !entry.removed) ||
			(verdict->removed == entry.removed && entry.revocation_date < verdict->revocation_date))
			*verdict = entry;
		verdict->unknown_critical = verdict->unknown_critical || entry.unknown_critical || unknown_critical;
		found = true;
	}
	return found;
}

static void
compare_entries(const Crl *crl, const CrlIndex *index)
{
	CrlWalk walk;
	CrlEntry listed;
	CrlEntry held;
	CrlEntry expected;
	CrlIndexCounts counts;
	uint64_t position = 0;
	uint32_t n = 0;
	uint32_t removed = 0;

	cmblock_crl_walk(crl, &walk);
	while (cmblock_crl_next(&walk, &listed))
	{
		uint8_t other[256];

		require(cmblock_crl_index_find(index, listed.serial.data, listed.serial.size, listed.issuer, &held),
				"a listed serial is found");
		require(der_equal(held.serial, listed.serial) && held.issuer == listed.issuer, "it is that serial");
		if (n++ < MAX_COMPARED)
		{
			require(verdict_by_walk(crl, listed.serial, listed.issuer, &expected), "the walk is repeatable");
			require(held.removed == expected.removed && held.reason == expected.reason &&
						held.revocation_date == expected.revocation_date &&
						held.unknown_critical == expected.unknown_critical,
					"the verdict is that of the list");
		}
		/* Another serial that begins alike. */
		if (listed.serial.size < sizeof(other))
		{
			DerSpan span = {other, listed.serial.size + 1};

			memcpy(other, listed.serial.data, listed.serial.size);
			other[listed.serial.size] = 0;
			if (n < MAX_COMPARED && !verdict_by_walk(crl, span, listed.issuer, &expected))
				require(!cmblock_crl_index_find(index, span.data, span.size, listed.issuer, NULL),
						"a serial that is not listed is not found");
		}
	}
	require(n == crl->entry_count, "as many entries as counted");

	n = 0;
	while (cmblock_crl_index_next(index, &position, &held))
	{
		n++;
		removed += held.removed;
	}
	cmblock_crl_index_counts(index, &counts);
	require(n == counts.distinct && counts.listed == crl->entry_count && removed == counts.removed,
			"counts of the index");
}

/* Use an index that may be damaged: only memory errors and endless loops count here. */
static void
use_index(const void *buffer, size_t size, const uint8_t *data, size_t data_size)
{
	CrlIndex index;
	CrlEntry entry;
	Crl facts;
	uint64_t position = 0;
	uint32_t sum = 0;
	size_t i;

	if (!cmblock_crl_index_open(buffer, size, &index))
		return;
	cmblock_crl_index_facts(&index, &facts);
	while (cmblock_crl_index_next(&index, &position, &entry))
	{
		/* Read what the entry says is its serial. */
		for (i = 0; i < entry.serial.size; i++)
			sum += entry.serial.data[i];
		sum += cmblock_crl_index_find(&index, entry.serial.data, entry.serial.size, entry.issuer, &entry);
	}
	if (data_size > 0)
		sum += cmblock_crl_index_find(&index, data, data_size, (uint8_t) sum, &entry);
	for (i = 0; i < facts.issuer.size; i++)
		sum += facts.issuer.data[i];
	if (sum == UINT32_MAX)
		fprintf(stderr, "unlikely\n");
}

static void
damage_index(void *buffer, size_t size, const uint8_t *data, size_t data_size)
{
	uint8_t *octets = buffer;
	size_t i;

	for (i = 0; i + 2 < data_size && i < 30; i += 3)
	{
		/* The header is most of a small index, and the most interesting part of any. */
		octets[((size_t) data[i] << 8 | data[i + 1]) % size] ^= data[i + 2];
		use_index(buffer, size, data, data_size > 40 ? 40 : data_size);
	}
}

static void
fuzz_crl(const uint8_t *data, size_t size)
{
	const CrlLimits limits = {MAX_SIZE, MAX_ENTRIES};
	static const uint8_t key[SIPHASH_KEY_OCTETS] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
	static const uint8_t sha256[CRL_SHA256_OCTETS] = {7};
	CrlError error;
	Crl crl;
	Crl facts;
	CrlIndex index;
	DerSpan points;
	DerSpan names;
	DerSpan uri;
	size_t index_size;
	void *buffer;

	error = cmblock_crl_read(data, size, &limits, &crl);
	require(error < CRLERR_COUNT && cmblock_crl_error_text(error) != NULL, "an error with a text");
	require(crl.error_offset <= size, "an offset within the input");
	if (error != CRLERR_NONE)
		return;

	if (crl.freshest.data != NULL)
	{
		require(cmblock_crl_open_points(crl.freshest, &points), "freshestCRL can be opened");
		while (cmblock_crl_next_point(&points, &names))
		{
			while (cmblock_crl_next_uri(&names, &uri))
				require(uri.data >= data && uri.size <= (size_t) (data + size - uri.data),
						"a URI within the input");
		}
	}

	index_size = cmblock_crl_index_size(&crl);
	buffer = malloc(index_size);
	require(buffer != NULL, "malloc");
	require(!cmblock_crl_index_build(&crl, key, sha256, buffer, index_size - 1),
			"no index in too small a buffer");
	require(cmblock_crl_index_build(&crl, key, sha256, buffer, index_size),
			"an index in a buffer of its size");
	require(cmblock_crl_index_open(buffer, index_size, &index), "an index that can be opened");
	require(memcmp(cmblock_crl_index_sha256(&index), sha256, sizeof(sha256)) == 0, "the digest");
	cmblock_crl_index_facts(&index, &facts);
	compare_facts(&crl, &facts);
	compare_entries(&crl, &index);
	/* The end of the input is the signature, which nothing else has looked at. */
	damage_index(buffer, index_size, crl.signature.data, crl.signature.size);
	free(buffer);
}

static void
fuzz_pem(const uint8_t *data, size_t size)
{
	uint8_t *out = malloc(size + 1);
	size_t out_size;

	require(out != NULL, "malloc");
	if (cmblock_pem_decode(data, size, "X509 CRL", out, &out_size) == PEM_DECODED)
	{
		require(out_size <= size, "PEM that does not grow");
		fuzz_crl(out, out_size);
	}
	free(out);
}

/* An input that is an index as a whole, in memory that is aligned as one. */
static void
fuzz_index(const uint8_t *data, size_t size)
{
	void *buffer = malloc(size + 1);

	require(buffer != NULL, "malloc");
	memcpy(buffer, data, size);
	use_index(buffer, size, data, size > 20 ? 20 : size);
	free(buffer);
}

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	switch (data[0])
	{
		case 'P':
			fuzz_pem(data + 1, size - 1);
			break;
		case 'I':
			fuzz_index(data + 1, size - 1);
			break;
		case '-':
			fuzz_pem(data, size);
			break;
		case DER_SEQUENCE:
			/* So that a CRL is a seed as it is. */
			fuzz_crl(data, size);
			break;
		default:
			fuzz_crl(data + 1, size - 1);
			break;
	}
	return 0;
}
