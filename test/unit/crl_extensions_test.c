/*
 * crl_extensions_test.c
 *		The CRL reader: what it knows of a CRL's extensions, RFC 5280's and Microsoft's, and indirect CRLs.
 */
#include "crl_expect.h"

static void
test_rule_9(void)
{
	ok(expect(CRLERR_NONE, build_crl(usual_parts()), "rule 9: a number") && (crl.flags & CRLFLAG_NUMBER) &&
		   span_is(crl.number, hex("2A")),
	   "rule 9: the number is told");
	ok(expect(CRLERR_NONE, with_only_extensions(extension(UNKNOWN_EXTENSION, integer(1))),
			  "rule 9: the reader takes a v2 CRL without a number") &&
		   !(crl.flags & CRLFLAG_NUMBER),
	   "rule 9: and says that there is none");
	expect(CRLERR_NONE, with_only_extensions(extension(CRL_NUMBER, integer(0))), "rule 9: number 0");
	expect(CRLERR_NONE,
		   with_only_extensions(extension(CRL_NUMBER, wrap(0x02, concat(hex("7F"), repeat(0xff, 19))))),
		   "rule 9: number 2^159 - 1");
	expect(CRLERR_BAD_NUMBER,
		   with_only_extensions(extension(CRL_NUMBER, wrap(0x02, concat(hex("0080"), repeat(0, 19))))),
		   "rule 9: number 2^159");
	expect(CRLERR_BAD_NUMBER, with_only_extensions(extension(CRL_NUMBER, integer_hex("FF"))),
		   "rule 9: number -1");
	expect(CRLERR_BAD_NUMBER, with_only_extensions(extension(CRL_NUMBER, integer_hex("0005"))),
		   "rule 9: a number with a zero octet too many");
	expect(CRLERR_BAD_NUMBER, with_only_extensions(extension(CRL_NUMBER, integer_hex(""))),
		   "rule 9: an empty number");
	expect(CRLERR_BAD_NUMBER, with_only_extensions(extension(CRL_NUMBER, wrap(0x0a, hex("05")))),
		   "rule 9: an ENUMERATED for a number");
	expect(CRLERR_BAD_NUMBER, with_only_extensions(extension(CRL_NUMBER, concat(integer(5), hex("00")))),
		   "rule 9: something after the number");
	expect(CRLERR_NUMBER_CRITICAL, with_only_extensions(critical_extension(CRL_NUMBER, integer(5))),
		   "rule 9: a critical number");

	ok(cmblock_crl_number_compare((DerSpan){(const uint8_t *) "\x7f", 1},
								  (DerSpan){(const uint8_t *) "\0\x80", 2}) < 0,
	   "rule 9: 127 < 128");
	ok(cmblock_crl_number_compare((DerSpan){(const uint8_t *) "\0\xff", 2},
								  (DerSpan){(const uint8_t *) "\1\0", 2}) < 0,
	   "rule 9: 255 < 256");
	ok(cmblock_crl_number_compare((DerSpan){(const uint8_t *) "\5", 1},
								  (DerSpan){(const uint8_t *) "\5", 1}) == 0,
	   "rule 9: 5 = 5");
}

static Bytes
uri_names(const char *uri)
{
	return element(0xa0, wrap(0x86, text(uri)));
}

static void
test_rule_10(void)
{
	static const struct
	{
		const char *content;
		CrlError error;
		const char *name;
	} flags[] = {
		{"", CRLERR_EMPTY_IDP, "empty"},
		{"8101FF", CRLERR_NONE, "only user certificates"},
		{"8201FF", CRLERR_NONE, "only CA certificates"},
		{"8501FF", CRLERR_NONE, "only attribute certificates"},
		{"8401FF", CRLERR_NONE, "indirect"},
		{"8101FF 8401FF", CRLERR_NONE, "only user certificates, indirect"},
		{"8101FF 8201FF", CRLERR_IDP_SEVERAL_ONLY, "only user and CA certificates"},
		{"8101FF 8501FF", CRLERR_IDP_SEVERAL_ONLY, "only user and attribute certificates"},
		{"8201FF 8501FF", CRLERR_IDP_SEVERAL_ONLY, "only CA and attribute certificates"},
		{"810101", CRLERR_IDP_BAD_BOOLEAN, "a boolean that is neither"},
		{"810100", CRLERR_IDP_BAD_BOOLEAN, "a boolean FALSE written out"},
		{"8100", CRLERR_IDP_BAD_BOOLEAN, "an empty boolean"},
		{"8102FFFF", CRLERR_IDP_BAD_BOOLEAN, "a boolean of two octets"},
		{"840142", CRLERR_IDP_BAD_BOOLEAN, "indirect neither true nor false"},
		{"8201FF 8101FF", CRLERR_BAD_IDP, "flags in the wrong order"},
		{"8101FF 8101FF", CRLERR_BAD_IDP, "a flag twice"},
		{"8101FF 0500", CRLERR_BAD_IDP, "something that does not belong there"},
		{"8601FF", CRLERR_BAD_IDP, "an unknown field"},
		{"A000", CRLERR_IDP_BAD_NAME, "an empty distribution point name"},
		{"A002A000", CRLERR_IDP_BAD_NAME, "no full name"},
		{"A002A100", CRLERR_IDP_BAD_NAME, "an empty relative name"},
		{"A003A00186", CRLERR_IDP_BAD_NAME, "a name that is cut off"},
		{"A004A0028901", CRLERR_IDP_BAD_NAME, "a name of an unknown kind"},
		{"A004A2028601", CRLERR_IDP_BAD_NAME, "neither full nor relative"},
	};
	size_t i;
	char name[120];
	Bytes relative = sequence(oid("550403"), wrap(0x0c, text("partition 1")));

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
	{
		snprintf(name, sizeof(name), "rule 10: issuing distribution point: %s", flags[i].name);
		expect(flags[i].error, with_idp(hex(flags[i].content)), name);
	}
	expect(CRLERR_BAD_IDP, with_extension(critical_extension(ISSUING_POINT, integer(1))),
		   "rule 10: issuing distribution point that is no sequence");
	expect(CRLERR_NONE, with_extension(extension(ISSUING_POINT, hex("30038101FF"))),
		   "rule 10: issuing distribution point that is not critical");

	expect(CRLERR_NONE, with_idp(concat(element(0xa0, uri_names("http://a/1")), hex("8101FF 8401FF"))),
		   "rule 10: all that may stand together");
	ok((crl.flags & CRLFLAG_IDP) && (crl.flags & CRLFLAG_INDIRECT) && crl.idp.only_user && !crl.idp.only_ca &&
		   !crl.idp.only_attribute && crl.idp.indirect && crl.idp.reasons == CRL_ALL_REASONS,
	   "rule 10: the flags are told");
	ok(span_is(crl.idp.full_name, wrap(0x86, text("http://a/1"))) && crl.idp.relative_name.data == NULL,
	   "rule 28: the full name is told");
	ok(expect(CRLERR_NONE, with_idp(element(0xa0, wrap(0xa1, relative))), "rule 28: a relative name") &&
		   span_is(crl.idp.relative_name, relative) && crl.idp.full_name.data == NULL,
	   "rule 28: the relative name is told");
}

/* Names of every kind that GeneralNames has. */
static void
test_general_names(void)
{
	Bytes other = element(0xa0, oid("2A03"), element(0xa0, wrap(0x0c, text("x"))));

	expect(CRLERR_NONE,
		   with_idp(element(0xa0, element(0xa0, other, wrap(0x81, text("a@b")), wrap(0x82, text("c.d")),
										  wrap(0xa4, common_name("X")), wrap(0x86, text("ldap:///")),
										  hex("87047F000001"), hex("88022A03")))),
		   "rule 28: names of every kind");
	expect(CRLERR_IDP_BAD_NAME, with_idp(element(0xa0, element(0xa0, wrap(0xa4, integer(1))))),
		   "rule 28: a directory name that is none");
	expect(CRLERR_IDP_BAD_NAME, with_idp(element(0xa0, element(0xa0, hex("880180")))),
		   "rule 28: a registered id that is no OID");
	expect(CRLERR_IDP_BAD_NAME, with_idp(element(0xa0, element(0xa0, element(0xa0, integer(1))))),
		   "rule 28: another name without a type");
	expect(CRLERR_IDP_BAD_NAME,
		   with_idp(element(0xa0, concat(uri_names("http://a/1"), uri_names("http://a/2")))),
		   "rule 28: two distribution point names");
}

static void
test_rule_14(void)
{
	Bytes key_id = sequence(wrap(0x80, hex("A1B2C3")));
	Bytes all =
		sequence(wrap(0x80, hex("A1")), element(0xa1, wrap(0xa4, common_name("Root"))), hex("820107"));

	ok(expect(CRLERR_NONE, with_extension(extension(AUTHORITY_KEY_ID, key_id)),
			  "rule 14: a key identifier") &&
		   (crl.flags & CRLFLAG_AUTHORITY_KEY_ID) && span_is(crl.authority_key_id, key_id) &&
		   span_is(crl.key_id, hex("A1B2C3")),
	   "rule 14: it is told, raw and read");
	expect(CRLERR_NONE, with_extension(extension(AUTHORITY_KEY_ID, all)), "rule 14: with issuer and serial");
	ok(expect(CRLERR_NONE, with_extension(extension(AUTHORITY_KEY_ID, sequence(nothing))),
			  "rule 14: empty") &&
		   crl.key_id.data == NULL,
	   "rule 14: without a key identifier");
	expect(CRLERR_BAD_AUTHORITY_KEY_ID, with_extension(extension(AUTHORITY_KEY_ID, wrap(0x04, hex("A1")))),
		   "rule 14: a key identifier that is no sequence");
	expect(CRLERR_BAD_AUTHORITY_KEY_ID,
		   with_extension(extension(AUTHORITY_KEY_ID, sequence(hex("820107"), hex("8001A1")))),
		   "rule 14: fields in the wrong order");
	expect(CRLERR_BAD_AUTHORITY_KEY_ID,
		   with_extension(extension(AUTHORITY_KEY_ID, concat(key_id, hex("00")))),
		   "rule 14: something after it");
	expect(CRLERR_BAD_AUTHORITY_KEY_ID, with_extension(extension(AUTHORITY_KEY_ID, sequence(hex("8200")))),
		   "rule 14: an empty serial");
}

static void
test_microsoft(void)
{
	ok(expect(CRLERR_NONE, with_extension(extension(CA_VERSION, integer(0x20003))), "rule 17: CA version") &&
		   (crl.flags & CRLFLAG_CA_VERSION) && crl.ca_version == 0x20003,
	   "rule 17: certificate 3, key 2");
	ok(expect(CRLERR_NONE, with_extension(extension(CA_VERSION, integer(0xffffffff))),
			  "rule 17: the largest") &&
		   crl.ca_version == 0xffffffff,
	   "rule 17: is told");
	expect(CRLERR_BAD_CA_VERSION, with_extension(extension(CA_VERSION, integer(0x100000000))),
		   "rule 17: too large");
	expect(CRLERR_BAD_CA_VERSION, with_extension(extension(CA_VERSION, integer_hex("FF"))),
		   "rule 17: negative");
	expect(CRLERR_BAD_CA_VERSION, with_extension(extension(CA_VERSION, wrap(0x04, hex("00")))),
		   "rule 17: another type");
	ok(expect(CRLERR_NONE, with_extension(extension(NEXT_PUBLISH, utc("260105000000Z"))),
			  "rule 20: next publish") &&
		   (crl.flags & CRLFLAG_NEXT_PUBLISH) && crl.next_publish == 1767571200 &&
		   crl.next_update == 1767830400,
	   "rule 20: is told, and is not nextUpdate");
	expect(CRLERR_BAD_NEXT_PUBLISH, with_extension(extension(NEXT_PUBLISH, utc("2601050000Z"))),
		   "rule 20: next publish without seconds");
	expect(CRLERR_BAD_NEXT_PUBLISH,
		   with_extension(extension(NEXT_PUBLISH, concat(utc("260105000000Z"), hex("00")))),
		   "rule 20: something after it");
}

static void
test_deltas(void)
{
	Bytes delta = critical_extension(DELTA_INDICATOR, integer(40));
	Bytes idp = sequence(element(0xa0, uri_names("http://a/1")));
	CrlWalk walk;
	CrlEntry entry;

	ok(expect(CRLERR_NONE, with_extension(delta), "rule 22: a delta") && (crl.flags & CRLFLAG_DELTA) &&
		   span_is(crl.base_number, hex("28")) && span_is(crl.number, hex("2A")),
	   "rule 22: is marked as one");
	ok(expect(CRLERR_NONE, with_extension(extension(DELTA_INDICATOR, integer(40))),
			  "rule 22: one that is not critical") &&
		   (crl.flags & CRLFLAG_DELTA),
	   "rule 22: is a delta all the same");
	expect(CRLERR_BAD_DELTA_INDICATOR, with_extension(critical_extension(DELTA_INDICATOR, integer_hex("FF"))),
		   "rule 22: a negative base");
	expect(CRLERR_BAD_DELTA_INDICATOR, with_extension(critical_extension(DELTA_INDICATOR, hex("0500"))),
		   "rule 22: a base that is no number");
	ok(expect(CRLERR_NONE, with_extension(critical_extension(ISSUING_POINT, idp)),
			  "rule 23: an issuing distribution point") &&
		   span_is(crl.idp.raw, idp),
	   "rule 23: is told as it stands");

	expect(CRLERR_NONE, with_both(delta, concat(reason_entry(1, 8), reason_entry(2, 6))),
		   "rule 25: a delta that removes");
	cmblock_crl_walk(&crl, &walk);
	ok(cmblock_crl_next(&walk, &entry) && entry.removed && cmblock_crl_next(&walk, &entry) &&
		   !entry.removed && entry.reason == CRLREASON_CERTIFICATE_HOLD &&
		   !(crl.flags & CRLFLAG_REMOVE_IN_BASE),
	   "rule 25: removes the one; the one on hold is revoked");
	ok(expect(CRLERR_NONE, with_entries(reason_entry(1, 8)), "rule 25: removeFromCRL in a base") &&
		   (crl.flags & CRLFLAG_REMOVE_IN_BASE),
	   "rule 25: is flagged");
	cmblock_crl_walk(&crl, &walk);
	ok(cmblock_crl_next(&walk, &entry) && !entry.removed, "rule 25: and stays revoked");
}

static void
test_rule_26(void)
{
	Bytes point =
		sequence(element(0xa0, element(0xa0, wrap(0x86, text("ldap:///x")), wrap(0x86, text("http://d/1")))));
	Bytes nameless = sequence(element(0xa2, wrap(0xa4, common_name("Other"))));
	DerSpan points;
	DerSpan names;
	DerSpan uri;

	expect(CRLERR_NONE, with_extension(extension(FRESHEST_CRL, sequence(nameless, point))),
		   "rule 26: freshestCRL");
	ok((crl.flags & CRLFLAG_FRESHEST) && cmblock_crl_open_points(crl.freshest, &points) &&
		   cmblock_crl_next_point(&points, &names) && names.size == 0 && !cmblock_crl_next_uri(&names, &uri),
	   "rule 26: a point without a name");
	ok(cmblock_crl_next_point(&points, &names) && cmblock_crl_next_uri(&names, &uri) &&
		   span_is(uri, text("ldap:///x")) && cmblock_crl_next_uri(&names, &uri) &&
		   span_is(uri, text("http://d/1")) && !cmblock_crl_next_uri(&names, &uri) &&
		   !cmblock_crl_next_point(&points, &names),
	   "rule 26: a point with two URIs");
	expect(CRLERR_BAD_FRESHEST_CRL, with_extension(extension(FRESHEST_CRL, sequence(nothing))),
		   "rule 26: without points");
	expect(CRLERR_BAD_FRESHEST_CRL, with_extension(extension(FRESHEST_CRL, sequence(integer(1)))),
		   "rule 26: a point that is none");
	expect(CRLERR_BAD_FRESHEST_CRL,
		   with_extension(extension(FRESHEST_CRL, sequence(sequence(hex("A002A000"))))),
		   "rule 26: a point with an empty name");
}

static void
test_rule_29(void)
{
	static const struct
	{
		const char *field;
		CrlError error;
		unsigned reasons;
		const char *name;
	} masks[] = {
		{"83020640", CRLERR_NONE, 0x0002, "keyCompromise"},
		{"83020460", CRLERR_IDP_BAD_REASONS, 0, "a zero bit at the end"},
		{"83020560", CRLERR_NONE, 0x0006, "keyCompromise and cACompromise"},
		{"8303077F80", CRLERR_NONE, CRL_ALL_REASONS, "all of them"},
		{"830307FF80", CRLERR_NONE, CRL_ALL_REASONS | 1, "all, and the one that is not used"},
		{"83020780", CRLERR_IDP_BAD_REASONS, 0, "only the one that is not used"},
		{"830100", CRLERR_IDP_BAD_REASONS, 0, "none"},
		{"83020541", CRLERR_IDP_BAD_REASONS, 0, "padding that is not zero"},
		{"83020840", CRLERR_IDP_BAD_REASONS, 0, "eight bits of padding"},
		{"8300", CRLERR_IDP_BAD_REASONS, 0, "an empty bit string"},
		{"8303067FC0", CRLERR_IDP_BAD_REASONS, 0, "a reason that there is not"},
		{"83040740000080", CRLERR_IDP_BAD_REASONS, 0, "three octets"},
	};
	size_t i;
	char name[100];

	for (i = 0; i < sizeof(masks) / sizeof(masks[0]); i++)
	{
		snprintf(name, sizeof(name), "rule 29: onlySomeReasons: %s", masks[i].name);
		if (expect(masks[i].error, with_idp(hex(masks[i].field)), name) && masks[i].error == CRLERR_NONE)
			is_number(crl.idp.reasons, masks[i].reasons, name);
	}
}

static Bytes
issuer_entry(uint64_t serial, const char *name)
{
	return extended_entry(integer(serial),
						  critical_extension(CERTIFICATE_ISSUER, sequence(wrap(0xa4, common_name(name)))));
}

static void
test_rule_30(void)
{
	static const uint8_t expected[] = {0, 1, 1, 2, 1, 0};
	Bytes indirect = critical_extension(ISSUING_POINT, hex("30038401FF"));
	Bytes many = nothing;
	CrlWalk walk;
	CrlEntry entry;
	size_t i;

	expect(CRLERR_ISSUER_IN_DIRECT_CRL, with_entries(issuer_entry(1, "A")),
		   "rule 30: a certificate issuer in a direct CRL");
	expect(CRLERR_ISSUER_IN_DIRECT_CRL,
		   with_both(critical_extension(ISSUING_POINT, hex("30038101FF")), issuer_entry(1, "A")),
		   "rule 30: with an issuing distribution point that does not say indirect");
	expect(
		CRLERR_NONE,
		with_both(indirect, concat(serial_entry(integer(1)), issuer_entry(2, "A"), serial_entry(integer(3)),
								   issuer_entry(4, "B"), issuer_entry(5, "A"), issuer_entry(6, "CA"))),
		"rule 30: an indirect CRL");
	ok(crl.issuer_count == 2 && span_is(crl.certificate_issuer[0], common_name("A")) &&
		   span_is(crl.certificate_issuer[1], common_name("B")),
	   "rule 30: its certificate issuers, each once");
	cmblock_crl_walk(&crl, &walk);
	for (i = 0; cmblock_crl_next(&walk, &entry) && i < sizeof(expected) && entry.issuer == expected[i]; i++)
		;
	is_number((long long) i, sizeof(expected), "rule 30: an issuer holds for the entries that follow");

	expect(CRLERR_BAD_CERTIFICATE_ISSUER,
		   with_both(indirect,
					 extended_entry(integer(1), critical_extension(CERTIFICATE_ISSUER, sequence(nothing)))),
		   "rule 30: no name at all");
	expect(CRLERR_BAD_CERTIFICATE_ISSUER,
		   with_both(indirect,
					 extended_entry(integer(1), critical_extension(CERTIFICATE_ISSUER,
																   sequence(wrap(0x82, text("dns")))))),
		   "rule 30: no directory name");
	expect(CRLERR_BAD_CERTIFICATE_ISSUER,
		   with_both(indirect,
					 extended_entry(integer(1), critical_extension(CERTIFICATE_ISSUER, hex("3004A4023000")))),
		   "rule 30: an empty directory name");

	for (i = 0; i < CRL_MAX_ISSUERS; i++)
	{
		char name[16];

		snprintf(name, sizeof(name), "issuer %zu", i);
		many = concat(many, issuer_entry(i, name));
	}
	ok(expect(CRLERR_NONE, with_both(indirect, many), "rule 30: as many issuers as the limit") &&
		   crl.issuer_count == CRL_MAX_ISSUERS,
	   "rule 30: all are held");
	expect(CRLERR_TOO_MANY_ISSUERS, with_both(indirect, concat(many, issuer_entry(999, "one more"))),
		   "rule 30: more issuers than the limit");
}

int
main(void)
{
	static const TestFunction tests[] = {test_rule_9,  test_rule_10,   test_general_names,
										 test_rule_14, test_microsoft, test_deltas,
										 test_rule_26, test_rule_29,   test_rule_30};

	run_tests(tests, sizeof(tests) / sizeof(tests[0]));
	check_errors(CRLERR_BAD_NUMBER, CRLERR_BAD_FRESHEST_CRL);
	check_errors(CRLERR_ISSUER_IN_DIRECT_CRL, CRLERR_TOO_MANY_ISSUERS);
	return done_testing();
}
