/*
 * crl_index_test.c
 *		The index of a CRL: what is found in it and what is not, equal serials, indirect CRLs, long serials, size.
 */
#include "crl_index.h"

#include "crl_expect.h"

static const uint8_t key[SIPHASH_KEY_OCTETS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t sha256[CRL_SHA256_OCTETS] = {0xab, 0xcd};

static CrlIndex index_of_crl;
static void *buffer;
static size_t buffer_size;

/* Index the CRL in "crl" after reading it. */
static bool
build(Bytes der)
{
	free(buffer);
	buffer = NULL;
	if (cmblock_crl_read(der.data, der.size, &limits, &crl) != CRLERR_NONE)
		return false;
	buffer_size = cmblock_crl_index_size(&crl);
	buffer = malloc(buffer_size);
	return cmblock_crl_index_build(&crl, key, sha256, buffer, buffer_size) &&
		   cmblock_crl_index_open(buffer, buffer_size, &index_of_crl);
}

static bool
find(Bytes serial, uint8_t issuer, CrlEntry *entry)
{
	return cmblock_crl_index_find(&index_of_crl, serial.data, serial.size, issuer, entry);
}

static void
test_siphash(void)
{
	/* Appendix A of the paper, and vectors 0 to 8 of its reference implementation: data 00 01 02 ... */
	static const uint64_t expected_24[] = {
		UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd), UINT64_C(0x0d6c8009d9a94f5a),
		UINT64_C(0x85676696d7fb7e2d), UINT64_C(0xcf2794e0277187b7), UINT64_C(0x18765564cd99a68d),
		UINT64_C(0xcbc9466e58fee3ce), UINT64_C(0xab0200f58b01d137), UINT64_C(0x93f5f5799a932462),
	};
	uint8_t data[64];
	uint8_t zeros[SIPHASH_KEY_OCTETS];
	uint64_t both[2];
	size_t i;
	bool equal = true;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t) i;
	for (i = 0; i < sizeof(expected_24) / sizeof(expected_24[0]); i++)
		equal &= siphash(2, 4, siphash_key(key), data, i) == expected_24[i];
	ok(equal, "SipHash-2-4 of 0 to 8 octets is the reference's");
	ok(siphash(2, 4, siphash_key(key), data, 15) == UINT64_C(0xa129ca6149be45e5),
	   "SipHash-2-4 of 15 octets is the paper's");
	/* What Python 3.11, whose strings are hashed so, gives for bytes(range(n)) under PYTHONHASHSEED=0: a zero key. */
	memset(zeros, 0, sizeof(zeros));
	ok(siphash(1, 3, siphash_key(zeros), data, 8) == UINT64_C(0xead411e67ebe2eea) &&
		   siphash(1, 3, siphash_key(zeros), data, 20) == UINT64_C(0x639e355ae68c0100) &&
		   siphash(1, 3, siphash_key(zeros), data, 33) == UINT64_C(0x7fb71d24dfa4c9f6),
	   "SipHash-1-3 is Python's");
	/* Vectors 0 and 1 of the reference implementation's for 128 bits. */
	siphash_double(2, 4, siphash_key(key), data, 0, both);
	ok(both[0] == UINT64_C(0xe6a825ba047f81a3) && both[1] == UINT64_C(0x930255c71472f66d),
	   "SipHash-2-4 of two words is the reference's");
	siphash_double(2, 4, siphash_key(key), data, 1, both);
	ok(both[0] == UINT64_C(0x44af996bd8c187da) && both[1] == UINT64_C(0x45fc229b11597634),
	   "also where there is data");
}

static void
test_find(void)
{
	CrlEntry entry;
	CrlIndexCounts counts;
	Bytes der = with_entries(concat(serial_entry(integer(0)), serial_entry(integer_hex("FF")),
									serial_entry(integer_hex("00FF")), reason_entry(7, 4),
									sequence(wrap(0x02, repeat(0x11, 20)), generalized("21060207062816Z")),
									sequence(integer(8), generalized("00000101000000Z")),
									sequence(integer(9), generalized("99991231235959Z"))));

	ok(build(der), "an index is built and opened");
	ok(find(hex("00"), 0, NULL) && find(hex("FF"), 0, NULL) && find(hex("00FF"), 0, NULL),
	   "rule 12: zero, -1 and 255 are found");
	ok(!find(hex("0000"), 0, NULL) && !find(hex("FE"), 0, NULL) && !find(hex("FF00"), 0, NULL) &&
		   !find(hex("01"), 0, NULL) && !find(nothing, 0, NULL),
	   "rule 12: what is not listed is not");
	ok(find(hex("07"), 0, &entry) && entry.reason == 4 && !entry.removed && entry.issuer == 0 &&
		   entry.revocation_date == 1767225600 && span_is(entry.serial, hex("07")),
	   "reason, date and serial of an entry");
	ok(find(hex("00"), 0, &entry) && entry.reason == CRLREASON_NONE, "an entry without a reason");
	ok(find(repeat(0x11, 20), 0, &entry) && entry.revocation_date == INT64_C(4294967296),
	   "a date beyond 32 bits, of a serial of 20 octets");
	ok(!find(repeat(0x11, 19), 0, NULL) && !find(repeat(0x11, 21), 0, NULL),
	   "and not with an octet less or more");
	ok(find(hex("08"), 0, &entry) && entry.revocation_date == -62167219200, "the earliest date");
	ok(find(hex("09"), 0, &entry) && entry.revocation_date == 253402300799, "the latest date");
	ok(!find(hex("07"), 1, NULL), "rule 30: a direct CRL has no other issuer");
	cmblock_crl_index_counts(&index_of_crl, &counts);
	ok(counts.listed == 7 && counts.distinct == 7 && counts.removed == 0 && counts.size == buffer_size,
	   "counts");
	ok(memcmp(cmblock_crl_index_sha256(&index_of_crl), sha256, sizeof(sha256)) == 0, "the digest is kept");

	ok(build(build_crl(usual_parts())) && !find(hex("07"), 0, NULL), "rule 11: no list, nothing found");
	ok(build(with_entries(nothing)) && !find(hex("07"), 0, NULL), "rule 11: an empty list, nothing found");
}

static void
test_equal_serials(void)
{
	Bytes delta = critical_extension(DELTA_INDICATOR, integer(40));
	Bytes early = sequence(integer(5), utc("250101000000Z"), sequence(extension("551D15", hex("0A0101"))));
	Bytes late = sequence(integer(5), utc("260101000000Z"), sequence(extension("551D15", hex("0A0104"))));
	Bytes unknown = extended_entry(integer(5), critical_extension(UNKNOWN_EXTENSION, integer(1)));
	CrlEntry entry;
	CrlIndexCounts counts;

	ok(build(with_entries(concat(late, early))) && find(hex("05"), 0, &entry) && entry.reason == 1 &&
		   entry.revocation_date == 1735689600,
	   "rule 12: the earlier date wins");
	ok(build(with_entries(concat(early, late))) && find(hex("05"), 0, &entry) && entry.reason == 1 &&
		   entry.revocation_date == 1735689600,
	   "rule 12: in whatever order");
	cmblock_crl_index_counts(&index_of_crl, &counts);
	ok(counts.listed == 2 && counts.distinct == 1, "rule 12: two entries, one serial");
	ok(build(with_both(delta, concat(reason_entry(5, 8), late))) && find(hex("05"), 0, &entry) &&
		   !entry.removed && entry.reason == 4,
	   "rule 12: revoked wins over removed");
	ok(build(with_both(delta, concat(late, reason_entry(5, 8)))) && find(hex("05"), 0, &entry) &&
		   !entry.removed && entry.reason == 4,
	   "rule 12: in whatever order");
	cmblock_crl_index_counts(&index_of_crl, &counts);
	ok(counts.removed == 0, "rule 25: nothing is removed then");
	ok(build(with_both(delta, concat(reason_entry(5, 8), reason_entry(6, 8), late))),
	   "rule 25: a delta that removes");
	cmblock_crl_index_counts(&index_of_crl, &counts);
	ok(counts.removed == 1 && find(hex("06"), 0, &entry) && entry.removed,
	   "rule 25: the removed serial is marked");
	ok(build(with_entries(concat(early, unknown))) && find(hex("05"), 0, &entry) && entry.unknown_critical &&
		   entry.reason == 1,
	   "rule 8: an unknown critical extension of either stays marked");
}

static void
test_long_serials(void)
{
	Bytes first = concat(hex("01"), repeat(0x22, 40));
	Bytes second = concat(hex("02"), repeat(0x22, 40));
	Bytes huge = concat(hex("03"), repeat(0x33, 70000));
	CrlEntry entry;

	ok(build(with_entries(concat(serial_entry(wrap(0x02, first)), serial_entry(integer(5)),
								 serial_entry(wrap(0x02, second)), serial_entry(wrap(0x02, huge)),
								 serial_entry(wrap(0x02, first))))),
	   "rule 12: serials of more than 20 octets");
	ok(find(first, 0, &entry) && span_is(entry.serial, first) && find(second, 0, &entry) &&
		   span_is(entry.serial, second) && find(huge, 0, &entry) && span_is(entry.serial, huge) &&
		   find(hex("05"), 0, &entry) && span_is(entry.serial, hex("05")),
	   "rule 12: are found, and so are short ones beside them");
	ok(!find(concat(hex("03"), repeat(0x22, 40)), 0, NULL) && !find(repeat(0x22, 21), 0, NULL),
	   "rule 12: others are not");
}

static void
test_indirect(void)
{
	Bytes indirect = critical_extension(ISSUING_POINT, hex("30038401FF"));
	Bytes a = critical_extension(CERTIFICATE_ISSUER, sequence(wrap(0xa4, common_name("A"))));
	Bytes b = critical_extension(CERTIFICATE_ISSUER, sequence(wrap(0xa4, common_name("B"))));
	CrlEntry entry;
	Crl facts;

	ok(build(with_both(
		   indirect, concat(serial_entry(integer(1)), extended_entry(integer(1), a), serial_entry(integer(2)),
							extended_entry(integer(1), concat(extension("551D15", hex("0A0105")), b))))),
	   "rule 30: an indirect CRL");
	ok(find(hex("01"), 0, &entry) && entry.issuer == 0 && find(hex("01"), 1, &entry) && entry.issuer == 1 &&
		   entry.reason == CRLREASON_NONE && find(hex("01"), 2, &entry) && entry.issuer == 2 &&
		   entry.reason == 5,
	   "rule 30: the same serial of three issuers");
	ok(find(hex("02"), 1, NULL) && !find(hex("02"), 0, NULL) && !find(hex("02"), 2, NULL) &&
		   !find(hex("02"), 3, NULL),
	   "rule 30: a serial of one of them");
	cmblock_crl_index_facts(&index_of_crl, &facts);
	ok(facts.issuer_count == 2 && span_is(facts.certificate_issuer[0], common_name("A")) &&
		   span_is(facts.certificate_issuer[1], common_name("B")) && facts.idp.indirect,
	   "rule 30: the issuers' names are kept");
}

/* Everything that a verdict needs, with the DER gone. */
static void
test_facts(void)
{
	Bytes idp =
		sequence(element(0xa0, element(0xa0, wrap(0x86, text("http://a/1")))), hex("8101FF 83020640"));
	Bytes key_id = sequence(wrap(0x80, hex("A1B2")));
	Bytes freshest = sequence(sequence(element(0xa0, element(0xa0, wrap(0x86, text("http://d/1"))))));
	CrlParts parts = usual_parts();
	Bytes der;
	uint8_t *copy;
	Crl facts;

	parts.extensions = concat(
		parts.extensions, critical_extension(ISSUING_POINT, idp), extension(AUTHORITY_KEY_ID, key_id),
		extension(FRESHEST_CRL, freshest), extension(CA_VERSION, integer(0x10002)),
		extension(NEXT_PUBLISH, utc("260105000000Z")), critical_extension(DELTA_INDICATOR, integer(41)));
	der = build_crl(parts);
	copy = malloc(der.size);
	memcpy(copy, der.data, der.size);
	der.data = copy;
	ok(build(der), "an index with all facts");
	free(copy);
	cmblock_crl_index_facts(&index_of_crl, &facts);
	ok(facts.version == 2 && facts.this_update == 1767225600 && facts.next_update == 1767830400 &&
		   facts.next_publish == 1767571200 && facts.ca_version == 0x10002 && facts.flags == crl.flags,
	   "times, version, flags");
	ok(span_is(facts.issuer, common_name("CA")) && span_is(facts.number, hex("2A")) &&
		   span_is(facts.base_number, hex("29")) && span_is(facts.authority_key_id, key_id) &&
		   span_is(facts.key_id, hex("A1B2")) && span_is(facts.freshest, freshest) &&
		   span_is(facts.signature_algorithm, hex(SHA256_WITH_RSA)),
	   "issuer, numbers, keys, freshest CRL, algorithm");
	ok(span_is(facts.idp.raw, idp) && span_is(facts.idp.full_name, wrap(0x86, text("http://a/1"))) &&
		   facts.idp.relative_name.data == NULL && facts.idp.only_user && !facts.idp.only_ca &&
		   !facts.idp.only_attribute && !facts.idp.indirect && facts.idp.reasons == 0x0002,
	   "the issuing distribution point");
	ok(build(build_crl(usual_parts())), "an index with few facts");
	cmblock_crl_index_facts(&index_of_crl, &facts);
	ok(facts.idp.raw.data == NULL && facts.base_number.data == NULL && facts.key_id.data == NULL &&
		   facts.freshest.data == NULL && facts.idp.reasons == CRL_ALL_REASONS && facts.issuer_count == 0,
	   "what the CRL has not, the index has not");
}

static void
test_buffers(void)
{
	uint8_t *moved;
	CrlIndex other;
	uint64_t position = 0;
	CrlEntry entry;
	size_t size;
	bool refused = true;

	build(with_entries(concat(serial_entry(integer(1)), serial_entry(integer(2)))));
	moved = malloc(buffer_size + 8);
	memcpy(moved, buffer, buffer_size);
	ok(cmblock_crl_index_open(moved, buffer_size + 8, &other) &&
		   cmblock_crl_index_find(&other, (const uint8_t *) "\2", 1, 0, &entry) &&
		   entry.serial.data > moved && entry.serial.data < moved + buffer_size,
	   "an index may be moved, and lie in a larger buffer");
	ok(cmblock_crl_index_next(&other, &position, &entry) &&
		   cmblock_crl_index_next(&other, &position, &entry) &&
		   !cmblock_crl_index_next(&other, &position, &entry),
	   "its entries can be walked");
	for (size = 0; size < buffer_size; size++)
		refused &= !cmblock_crl_index_open(moved, size, &other);
	ok(refused, "an index that is cut off is refused");
	memmove(moved + 1, moved, buffer_size);
	ok(!cmblock_crl_index_open(moved + 1, buffer_size, &other), "a buffer that is not aligned is refused");
	ok(!cmblock_crl_index_build(&crl, key, sha256, moved + 1, buffer_size), "also for building");
	ok(!cmblock_crl_index_build(&crl, key, sha256, moved, buffer_size - 1),
	   "a buffer that is too small is refused");
	memset(moved, 0, buffer_size);
	ok(!cmblock_crl_index_open(moved, buffer_size, &other), "a buffer without an index is refused");
	free(moved);
}

/* Entries with serials of 20 octets, all different. */
static Bytes
many_entries(uint32_t count, Bytes before)
{
	static uint8_t list[100000 * 39 + 1000];
	uint8_t *p = list;
	uint32_t i;

	memcpy(p, before.data, before.size);
	p += before.size;
	for (i = 0; i < count; i++)
	{
		memcpy(p, "\x30\x25\x02\x14\x40\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11", 20);
		p[20] = (uint8_t) (i >> 24);
		p[21] = (uint8_t) (i >> 16);
		p[22] = (uint8_t) (i >> 8);
		p[23] = (uint8_t) i;
		memcpy(p + 24,
			   "\x17\x0d"
			   "260101000000Z",
			   15);
		p += 39;
	}
	return (Bytes){list, (size_t) (p - list)};
}

static void
test_size(void)
{
	const CrlLimits large = {16 << 20, 1000000};
	const uint32_t count = 100000;
	Bytes first;
	CrlParts parts = usual_parts();
	Bytes der;
	CrlIndex large_index;
	void *memory;
	size_t size;
	uint32_t i;
	uint32_t found = 0;
	uint32_t wrong = 0;
	uint8_t serial[20];

	parts.revoked = wrap(0x30, many_entries(count, text("")));
	der = build_crl(parts);
	ok(cmblock_crl_read(der.data, der.size, &large, &crl) == CRLERR_NONE && crl.entry_count == count,
	   "a CRL of 100000 entries");
	size = cmblock_crl_index_size(&crl);
	ok(size <= (size_t) count * 40, "takes at most 40 octets an entry");
	printf("#   %.2f octets an entry\n", (double) size / count);
	memory = malloc(size);
	ok(cmblock_crl_index_build(&crl, key, sha256, memory, size) &&
		   cmblock_crl_index_open(memory, size, &large_index),
	   "and can be built");
	memcpy(serial, "\x40\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11", 16);
	for (i = 0; i < 2 * count; i++)
	{
		serial[16] = (uint8_t) (i >> 24);
		serial[17] = (uint8_t) (i >> 16);
		serial[18] = (uint8_t) (i >> 8);
		serial[19] = (uint8_t) i;
		if (cmblock_crl_index_find(&large_index, serial, sizeof(serial), 0, NULL))
		{
			found++;
			wrong += i >= count;
		}
	}
	ok(found == count && wrong == 0, "all of its serials are found, and no others");
	free(memory);

	builder_reset();
	parts = usual_parts();
	parts.extensions = concat(parts.extensions, critical_extension(ISSUING_POINT, hex("30038401FF")));
	first = extended_entry(integer(1),
						   critical_extension(CERTIFICATE_ISSUER, sequence(wrap(0xa4, common_name("A")))));
	parts.revoked = wrap(0x30, many_entries(count, first));
	der = build_crl(parts);
	ok(cmblock_crl_read(der.data, der.size, &large, &crl) == CRLERR_NONE && crl.issuer_count == 1 &&
		   cmblock_crl_index_size(&crl) <= (size_t) count * 40,
	   "an indirect one takes at most 40 octets an entry, too");
	printf("#   %.2f octets an entry\n", (double) cmblock_crl_index_size(&crl) / count);
}

int
main(void)
{
	static const TestFunction tests[] = {test_siphash,  test_find,  test_equal_serials, test_long_serials,
										 test_indirect, test_facts, test_buffers,       test_size};

	run_tests(tests, sizeof(tests) / sizeof(tests[0]));
	free(buffer);
	return done_testing();
}
