/*
 * crl_reader_test.c
 *		The CRL reader: the shape of a CRL, times and entries. Extensions of the CRL: crl_extensions_test.c.
 */
#include "crl_expect.h"

static void
test_rule_1(void)
{
	CrlLimits small = limits;
	Bytes der = build_crl(usual_parts());
	Bytes nested = text("x");
	int i;
	size_t cut;
	bool all_refused = true;

	expect(CRLERR_NONE, der, "rule 1: a CRL in DER is read");
	expect(CRLERR_NOT_DER, nothing, "rule 1: no octets at all");
	expect(CRLERR_NOT_DER, text("-----BEGIN X509 CRL-----"), "rule 1: PEM is not DER");
	expect(CRLERR_TRAILING_DATA, CHANGED(after_crl, hex("00")), "rule 1: an octet after the CRL");
	expect(CRLERR_TRAILING_DATA, CHANGED(after_signature, hex("0500")),
		   "rule 1: an element after the signature");
	expect(CRLERR_INDEFINITE_LENGTH,
		   concat(hex("3080"), build_tbs(&(CrlParts){.version = integer(1)}), hex("0000")),
		   "rule 1: indefinite length");
	expect(CRLERR_BAD_TBS, sequence(concat(hex("3080"), hex("0000"))), "rule 1: indefinite length inside");
	expect(CRLERR_BAD_TBS, sequence(integer(1)), "rule 1: the signed part is not a sequence");
	expect(CRLERR_NOT_DER, hex("30840000000130"), "rule 1: a length in too many octets");
	expect(CRLERR_NOT_DER, hex("308105 0500050005"),
		   "rule 1: a length in the long form that fits the short one");
	expect(CRLERR_NOT_DER, hex("3085000000000100"), "rule 1: a length of five octets");
	expect(CRLERR_NOT_DER, hex("30FF00"), "rule 1: the reserved length");
	expect(CRLERR_NOT_DER, hex("3084FFFFFFFF00"), "rule 1: a length far beyond the data");
	expect(CRLERR_NOT_DER, hex("3F810100"), "rule 1: a tag number of several octets");

	for (cut = 0; cut < der.size; cut++)
	{
		uint8_t *copy = malloc(cut + 1);

		memcpy(copy, der.data, cut);
		all_refused &= cmblock_crl_read(copy, cut, &limits, &crl) != CRLERR_NONE;
		free(copy);
	}
	ok(all_refused, "rule 1: cut off anywhere, it is refused");

	small.max_size = der.size;
	ok(cmblock_crl_read(der.data, der.size, &small, &crl) == CRLERR_NONE, "rule 1: as large as the limit");
	small.max_size = der.size - 1;
	seen[CRLERR_TOO_LARGE] = true;
	ok(cmblock_crl_read(der.data, der.size, &small, &crl) == CRLERR_TOO_LARGE,
	   "rule 1: larger than the limit");

	der = with_entries(concat(serial_entry(integer(1)), serial_entry(integer(2)), serial_entry(integer(3))));
	small = limits;
	small.max_entries = 3;
	ok(cmblock_crl_read(der.data, der.size, &small, &crl) == CRLERR_NONE && crl.entry_count == 3,
	   "rule 1: as many entries as the limit");
	small.max_entries = 2;
	seen[CRLERR_TOO_MANY_ENTRIES] = true;
	ok(cmblock_crl_read(der.data, der.size, &small, &crl) == CRLERR_TOO_MANY_ENTRIES && crl.error_entry == 2,
	   "rule 1: more entries than the limit");

	for (i = 0; i < 40; i++)
		nested = wrap(0x30, nested);
	expect(CRLERR_TOO_DEEP, CHANGED(issuer, sequence(set(sequence(oid("550403"), nested)))),
		   "rule 1: nested more deeply than the limit");
}

static void
test_rule_2(void)
{
	CrlParts parts = usual_parts();

	ok(expect(CRLERR_NONE, build_crl(parts), "rule 2: version 2 with extensions") && crl.version == 2,
	   "rule 2: the version is told");
	parts.extensions = nothing;
	expect(CRLERR_NONE, build_crl(parts), "rule 2: version 2 without extensions");
	parts.version = nothing;
	ok(expect(CRLERR_NONE, build_crl(parts), "rule 2: version 1") && crl.version == 1,
	   "rule 2: the version is told");
	ok(crl.flags == CRLFLAG_NEXT_UPDATE, "rule 2: version 1 has no number");
	parts.revoked = sequence(reason_entry(1, 1));
	expect(CRLERR_V1_WITH_ENTRY_EXTENSIONS, build_crl(parts), "rule 2: version 1 with an entry's extension");
	parts.revoked = nothing;
	parts.extensions = extension(CRL_NUMBER, integer(1));
	expect(CRLERR_V1_WITH_EXTENSIONS, build_crl(parts), "rule 2: version 1 with extensions");
	expect(CRLERR_BAD_VERSION, CHANGED(version, integer(0)), "rule 2: version 1 written out");
	expect(CRLERR_BAD_VERSION, CHANGED(version, integer(2)), "rule 2: version 3");
	expect(CRLERR_BAD_VERSION, CHANGED(version, integer_hex("0001")), "rule 2: version 2 in two octets");
	expect(CRLERR_BAD_VERSION, CHANGED(version, wrap(0x04, hex("01"))),
		   "rule 2: a version that is no integer");
}

static void
test_rule_3(void)
{
	/* sha384WithRSAEncryption, and the same algorithm as usual without its NULL */
	expect(CRLERR_ALGORITHM_MISMATCH, CHANGED(outer_algorithm, hex("300D06092A864886F70D01010C0500")),
		   "rule 3: another algorithm outside");
	expect(CRLERR_ALGORITHM_MISMATCH, CHANGED(outer_algorithm, hex("300B06092A864886F70D01010B")),
		   "rule 3: the same algorithm, but other octets");
	expect(CRLERR_BAD_SIGNATURE_ALGORITHM, CHANGED(outer_algorithm, integer(1)),
		   "rule 3: no algorithm outside");
	expect(CRLERR_BAD_SIGNATURE_ALGORITHM, CHANGED(inner_algorithm, sequence(integer(1))),
		   "rule 3: no algorithm inside");
	expect(CRLERR_BAD_SIGNATURE_ALGORITHM,
		   CHANGED(inner_algorithm, sequence(oid("2A03"), hex("0500"), hex("0500"))),
		   "rule 3: an algorithm with two parameters");
	ok(expect(CRLERR_NONE, build_crl(usual_parts()), "rule 3: equal algorithms") &&
		   span_is(crl.signature_algorithm, hex(SHA256_WITH_RSA)),
	   "rule 3: the algorithm is told");
}

/* Rule 5 needs the signed octets and the signature just as they came. */
static void
test_rule_5(void)
{
	CrlParts parts = usual_parts();

	ok(expect(CRLERR_NONE, build_crl(parts), "rule 5: a signature") && span_is(crl.tbs, build_tbs(&parts)) &&
		   span_is(crl.signature, hex("01020304")),
	   "rule 5: the signed octets and the signature");
	expect(CRLERR_BAD_SIGNATURE_VALUE, CHANGED(signature, hex("03050101020304")),
		   "rule 5: a signature with spare bits");
	expect(CRLERR_BAD_SIGNATURE_VALUE, CHANGED(signature, hex("030100")), "rule 5: an empty signature");
	expect(CRLERR_BAD_SIGNATURE_VALUE, CHANGED(signature, hex("040401020304")),
		   "rule 5: a signature that is no bit string");
}

static void
test_times(void)
{
	static const struct
	{
		uint8_t tag;
		const char *time;
		int64_t seconds; /* as `date -u -d ... +%s` says */
	} good[] = {
		{0x17, "700101000000Z", 0},
		{0x17, "500101000000Z", -631152000},
		{0x17, "491231235959Z", 2524607999},
		{0x17, "000229120000Z", 951825600},
		{0x17, "261123004314Z", 1795394594},
		{0x18, "20500101000000Z", 2524608000},
		{0x18, "19700101000000Z", 0},
		{0x18, "20000229000000Z", 951782400},
		{0x18, "00000101000000Z", -62167219200},
		{0x18, "99991231235959Z", 253402300799},
		{0x18, "19000228235959Z", -2203891201},
	};
	static const struct
	{
		uint8_t tag;
		const char *time;
		const char *why;
	} bad[] = {
		{0x17, "2601010000Z", "UTCTime without seconds"},
		{0x17, "260101000000", "UTCTime without a zone"},
		{0x17, "260101000000+0000", "UTCTime with an offset"},
		{0x17, "260101000000z", "a small z"},
		{0x17, "261301000000Z", "month 13"},
		{0x17, "260001000000Z", "month 0"},
		{0x17, "260100000000Z", "day 0"},
		{0x17, "260431000000Z", "31 April"},
		{0x17, "260229000000Z", "29 February in a common year"},
		{0x17, "260101240000Z", "hour 24"},
		{0x17, "260101006000Z", "minute 60"},
		{0x17, "260101000060Z", "second 60"},
		{0x17, "26010100000 Z", "a blank"},
		{0x17, "-10101000000Z", "a sign"},
		{0x17, "", "an empty one"},
		{0x17, "20260101000000Z", "four digits for the year in UTCTime"},
		{0x18, "260101000000Z", "two digits for the year in GeneralizedTime"},
		{0x18, "20260101000000.5Z", "a fraction"},
		{0x18, "20260101000000", "GeneralizedTime without a zone"},
		{0x18, "20260101000000+0100", "GeneralizedTime with an offset"},
		{0x18, "202601010000Z", "GeneralizedTime without seconds"},
		{0x18, "21000229000000Z", "29 February 2100"},
	};
	char name[100];
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		Bytes content = text(good[i].time);
		int64_t seconds = 1;

		snprintf(name, sizeof(name), "rule 6: %s", good[i].time);
		if (!cmblock_der_time(good[i].tag, (DerSpan){content.data, content.size}, &seconds))
			seconds = INT64_MIN;
		is_number(seconds, good[i].seconds, name);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		Bytes time = wrap(bad[i].tag, text(bad[i].time));

		snprintf(name, sizeof(name), "rule 6: thisUpdate: %s", bad[i].why);
		expect(CRLERR_BAD_THIS_UPDATE, CHANGED(this_update, time), name);
		snprintf(name, sizeof(name), "rule 6: nextUpdate: %s", bad[i].why);
		expect(CRLERR_BAD_NEXT_UPDATE, CHANGED(next_update, time), name);
		snprintf(name, sizeof(name), "rule 6: revocation date: %s", bad[i].why);
		expect(CRLERR_BAD_REVOCATION_DATE, with_entries(sequence(integer(1), time)), name);
	}
	expect(CRLERR_BAD_THIS_UPDATE, CHANGED(this_update, wrap(0x0c, text("260101000000Z"))),
		   "rule 6: thisUpdate of another type");

	ok(expect(CRLERR_NONE, CHANGED(next_update, nothing),
			  "rule 18: the reader takes a CRL without nextUpdate") &&
		   !(crl.flags & CRLFLAG_NEXT_UPDATE),
	   "rule 18: and says that there is none");
	ok(expect(CRLERR_NONE, CHANGED(next_update, generalized("20600101000000Z")), "rule 6: GeneralizedTime") &&
		   (crl.flags & CRLFLAG_NEXT_UPDATE) && crl.next_update == 2840140800 &&
		   crl.this_update == 1767225600,
	   "rule 6: the times are told");
}

static void
test_rule_7(void)
{
	CrlParts parts = usual_parts();
	Bytes many = nothing;
	int i;

	expect(CRLERR_DUPLICATE_EXTENSION, with_extension(extension(CRL_NUMBER, integer(43))),
		   "rule 7: a known extension twice");
	expect(CRLERR_DUPLICATE_EXTENSION,
		   with_extension(
			   concat(extension(UNKNOWN_EXTENSION, integer(1)), extension(UNKNOWN_EXTENSION, integer(1)))),
		   "rule 7: an unknown extension twice");
	expect(CRLERR_UNKNOWN_CRITICAL_EXTENSION,
		   with_extension(critical_extension(UNKNOWN_EXTENSION, integer(1))),
		   "rule 7: an unknown critical extension");
	expect(CRLERR_NONE, with_extension(extension(UNKNOWN_EXTENSION, integer(1))),
		   "rule 7: an unknown extension");
	expect(CRLERR_BAD_EXTENSIONS,
		   CHANGED(extensions, sequence(oid(UNKNOWN_EXTENSION), hex("010100"), wrap(0x04, integer(1)))),
		   "rule 7: critical FALSE written out");
	expect(CRLERR_BAD_EXTENSIONS,
		   CHANGED(extensions, sequence(oid(UNKNOWN_EXTENSION), hex("010101"), wrap(0x04, integer(1)))),
		   "rule 7: critical neither true nor false");
	expect(CRLERR_BAD_EXTENSIONS, CHANGED(extensions, sequence(oid(UNKNOWN_EXTENSION))),
		   "rule 7: an extension without a value");
	expect(CRLERR_BAD_EXTENSIONS, CHANGED(extensions, sequence(oid("80"), wrap(0x04, integer(1)))),
		   "rule 7: an OID that is none");
	parts.extensions = nothing;
	parts.after_extensions = hex("A0023000");
	expect(CRLERR_BAD_EXTENSIONS, build_crl(parts), "rule 7: an empty list of extensions");
	expect(CRLERR_UNEXPECTED_ELEMENT, CHANGED(after_extensions, hex("0500")),
		   "rule 7: something after the extensions");
	expect(CRLERR_UNEXPECTED_ELEMENT, CHANGED(revoked, hex("0500")),
		   "rule 7: something before the extensions");

	for (i = 0; i < CRL_MAX_EXTENSIONS - 1; i++)
	{
		char id[8];

		snprintf(id, sizeof(id), "2A03%02X", i);
		many = concat(many, extension(id, integer(1)));
	}
	expect(CRLERR_NONE, with_extension(many), "rule 7: as many extensions as the limit");
	expect(CRLERR_TOO_MANY_EXTENSIONS, with_extension(concat(many, extension("2A0370", integer(1)))),
		   "rule 7: more extensions than the limit");
}

static void
test_rule_8(void)
{
	Bytes unknown = critical_extension(UNKNOWN_EXTENSION, integer(1));
	CrlWalk walk;
	CrlEntry entry;

	ok(expect(CRLERR_NONE,
			  with_entries(concat(serial_entry(integer(1)), extended_entry(integer(2), unknown))),
			  "rule 8: an entry with an unknown critical extension") &&
		   (crl.flags & CRLFLAG_UNKNOWN_CRITICAL_ENTRY) && crl.entry_count == 2,
	   "rule 8: what is listed stays, and the CRL is marked");
	cmblock_crl_walk(&crl, &walk);
	ok(cmblock_crl_next(&walk, &entry) && !entry.unknown_critical && cmblock_crl_next(&walk, &entry) &&
		   entry.unknown_critical && !entry.removed && !cmblock_crl_next(&walk, &entry),
	   "rule 8: the entry is marked too");
	ok(expect(CRLERR_NONE, with_entries(extended_entry(integer(2), extension(UNKNOWN_EXTENSION, integer(1)))),
			  "rule 8: an entry with an unknown extension that is not critical") &&
		   !(crl.flags & CRLFLAG_UNKNOWN_CRITICAL_ENTRY),
	   "rule 8: does not mark the CRL");
	ok(expect(CRLERR_NONE,
			  with_entries(extended_entry(integer(2), extension("551D17", oid("2A8648CE380202")))),
			  "rule 8: a hold instruction that is not critical") &&
		   !(crl.flags & CRLFLAG_UNKNOWN_CRITICAL_ENTRY),
	   "rule 8: is passed over");
	ok(expect(CRLERR_NONE,
			  with_entries(
				  extended_entry(integer(2), critical_extension("551D18", generalized("20250101000000Z")))),
			  "rule 8: a critical invalidity date") &&
		   !(crl.flags & CRLFLAG_UNKNOWN_CRITICAL_ENTRY),
	   "rule 8: is known");
	expect(CRLERR_DUPLICATE_ENTRY_EXTENSION,
		   with_entries(extended_entry(
			   integer(2), concat(extension("551D15", hex("0A0101")), extension("551D15", hex("0A0104"))))),
		   "rule 7: an entry's extension twice");
	expect(CRLERR_BAD_ENTRY_EXTENSIONS, with_entries(extended_entry(integer(2), nothing)),
		   "rule 7: an entry with an empty list of extensions");
	expect(CRLERR_BAD_ENTRY_EXTENSIONS, with_entries(extended_entry(integer(2), integer(1))),
		   "rule 7: an entry's extension that is none");
}

static void
test_rule_11(void)
{
	ok(expect(CRLERR_NONE, build_crl(usual_parts()), "rule 11: no list") && crl.entry_count == 0 &&
		   !(crl.flags & CRLFLAG_EMPTY_LIST),
	   "rule 11: nothing is revoked");
	ok(expect(CRLERR_NONE, with_entries(nothing), "rule 11: an empty list") && crl.entry_count == 0 &&
		   (crl.flags & CRLFLAG_EMPTY_LIST),
	   "rule 11: is flagged");
	expect(CRLERR_BAD_TBS, CHANGED(revoked, hex("3080")), "rule 11: a list of indefinite length");
	expect(CRLERR_BAD_ENTRY, with_entries(integer(1)), "rule 11: an entry that is none");
	expect(CRLERR_BAD_ENTRY, with_entries(sequence(integer(1), utc("260101000000Z"), integer(1))),
		   "rule 11: an entry with something after the date");
	expect(CRLERR_BAD_ENTRY,
		   with_entries(sequence(integer(1), utc("260101000000Z"),
								 sequence(extension(UNKNOWN_EXTENSION, integer(1))), hex("0500"))),
		   "rule 11: an entry with something after the extensions");
	expect(CRLERR_BAD_REVOCATION_DATE, with_entries(sequence(integer(1))),
		   "rule 11: an entry without a date");
	ok(crl.error_entry == 0 && crl.error_offset > 0, "rule 11: the error says which entry, and where");
}

static void
test_rule_12(void)
{
	CrlWalk walk;
	CrlEntry entry;
	Bytes many = nothing;
	int i;

	expect(
		CRLERR_NONE,
		with_entries(concat(serial_entry(integer(0)), serial_entry(integer_hex("FF")),
							serial_entry(integer_hex("00FF")), serial_entry(wrap(0x02, repeat(0x11, 20))))),
		"rule 12: zero, negative, and 20 octets");
	ok(!(crl.flags & CRLFLAG_LONG_SERIAL) && crl.short_serial_octets == 20,
	   "rule 12: none of these is too long");
	cmblock_crl_walk(&crl, &walk);
	ok(cmblock_crl_next(&walk, &entry) && span_is(entry.serial, hex("00")) &&
		   cmblock_crl_next(&walk, &entry) && span_is(entry.serial, hex("FF")) &&
		   cmblock_crl_next(&walk, &entry) && span_is(entry.serial, hex("00FF")) &&
		   entry.reason == CRLREASON_NONE && entry.revocation_date == 1767225600,
	   "rule 12: serials are all content octets, sign included");
	ok(expect(CRLERR_NONE,
			  with_entries(concat(serial_entry(wrap(0x02, repeat(0x11, 21))), serial_entry(integer(5)))),
			  "rule 12: a serial of 21 octets") &&
		   (crl.flags & CRLFLAG_LONG_SERIAL) && crl.long_serials == 1 && crl.long_serial_octets == 21 &&
		   crl.short_serial_octets == 1,
	   "rule 12: is flagged and counted");
	expect(CRLERR_BAD_SERIAL, with_entries(serial_entry(integer_hex("0005"))),
		   "rule 12: a zero octet too many");
	expect(CRLERR_BAD_SERIAL, with_entries(serial_entry(integer_hex("FF80"))),
		   "rule 12: a sign octet too many");
	expect(CRLERR_BAD_SERIAL, with_entries(serial_entry(integer_hex(""))), "rule 12: an empty serial");
	expect(CRLERR_BAD_SERIAL, with_entries(serial_entry(wrap(0x04, hex("05")))),
		   "rule 12: a serial of another type");

	for (i = 0; i <= 11; i++)
		many = concat(many, reason_entry((uint64_t) i, (uint8_t) i));
	expect(CRLERR_NONE, with_entries(many), "rule 12: reasons 0 to 11");
	ok((crl.flags & CRLFLAG_BAD_REASON) && (crl.flags & CRLFLAG_REMOVE_IN_BASE),
	   "rule 12: 7 and 11 are flagged");
	cmblock_crl_walk(&crl, &walk);
	for (i = 0; cmblock_crl_next(&walk, &entry); i++)
	{
		if (entry.removed || entry.reason != (i == 7 || i == 11 ? CRLREASON_BAD : i))
			break;
	}
	is_number(i, 12, "rule 12: all stay revoked, with the reasons that they have");

	expect(CRLERR_NONE,
		   with_entries(concat(extended_entry(integer(1), extension("551D15", integer(1))),
							   extended_entry(integer(2), extension("551D15", hex("0A020001"))),
							   extended_entry(integer(3), extension("551D15", hex(""))),
							   extended_entry(integer(4), extension("551D15", hex("0A010100"))),
							   extended_entry(integer(5), critical_extension("551D15", hex("0A0101"))))),
		   "rule 12: malformed reasons");
	cmblock_crl_walk(&crl, &walk);
	for (i = 0; cmblock_crl_next(&walk, &entry) && entry.reason == CRLREASON_BAD && !entry.removed; i++)
		;
	ok(i == 4 && entry.reason == 1 && (crl.flags & CRLFLAG_BAD_REASON),
	   "rule 12: stay revoked, and are flagged");
	many = nothing;
	for (i = 0; i <= CRL_MAX_EXTENSIONS; i++)
	{
		char id[8];

		snprintf(id, sizeof(id), "2A03%02X", i);
		many = concat(many, extension(id, integer(1)));
	}
	expect(CRLERR_TOO_MANY_ENTRY_EXTENSIONS, with_entries(extended_entry(integer(1), many)),
		   "rule 1: an entry with more extensions than the limit");
}

static void
test_issuer(void)
{
	expect(CRLERR_BAD_ISSUER, CHANGED(issuer, integer(1)), "rule 13: an issuer that is no name");
	expect(CRLERR_BAD_ISSUER, CHANGED(issuer, sequence(nothing)), "rule 13: an empty issuer");
	expect(CRLERR_BAD_ISSUER, CHANGED(issuer, sequence(set(nothing))), "rule 13: an empty part of the name");
	expect(CRLERR_BAD_ISSUER, CHANGED(issuer, sequence(set(sequence(oid("550403"))))),
		   "rule 13: an attribute without a value");
	expect(CRLERR_BAD_ISSUER, CHANGED(issuer, sequence(sequence(oid("550403"), wrap(0x0c, text("CA"))))),
		   "rule 13: a sequence where a set belongs");
	ok(expect(CRLERR_NONE, build_crl(usual_parts()), "rule 13: an issuer") &&
		   span_is(crl.issuer, common_name("CA")),
	   "rule 13: the issuer is told");
}

int
main(void)
{
	static const TestFunction tests[] = {test_rule_1, test_rule_2, test_rule_3,  test_rule_5,  test_times,
										 test_rule_7, test_rule_8, test_rule_11, test_rule_12, test_issuer};

	run_tests(tests, sizeof(tests) / sizeof(tests[0]));
	check_errors(CRLERR_NONE, CRLERR_UNKNOWN_CRITICAL_EXTENSION);
	check_errors(CRLERR_TOO_MANY_ENTRIES, CRLERR_DUPLICATE_ENTRY_EXTENSION);
	ok(cmblock_crl_error_text(CRLERR_COUNT) != NULL && cmblock_crl_error_text(-1) != NULL,
	   "even what is no error has a sentence");
	return done_testing();
}
