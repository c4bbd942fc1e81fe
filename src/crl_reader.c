/*
 * crl_reader.c
 *		Reading a CRL in place, by the rules of RFC 5280 sections 5.1 to 5.3 and Microsoft's extensions.
 *
 * Reading is done before the signature is checked, so everything here is said by somebody unknown. The header is
 * taken first, then the extensions, which come last in the CRL but decide how entries are read (a delta may remove,
 * an indirect CRL may name issuers), then every entry once. A Crl that was read without error can be walked
 * again as often as wanted; the walk then cannot fail.
 *
 * The rule numbers in comments are those of RFC 5280 where they have dots, else of this project's list of
 * rules for CRLs, which the tests name too.
 *
 * Failure: an error code, the offset, and the entry. Nothing is allocated, so nothing has to be freed.
 */
#include "crl_reader.h"

/* Object identifiers, content octets. id-ce is 2.5.29; the last octet tells them apart. */
#define ID_CE_SIZE 3
#define ID_CE_0 0x55
#define ID_CE_1 0x1d
#define CE_CRL_NUMBER 20
#define CE_REASON_CODE 21
#define CE_INVALIDITY_DATE 24
#define CE_DELTA_CRL_INDICATOR 27
#define CE_ISSUING_DISTRIBUTION_POINT 28
#define CE_CERTIFICATE_ISSUER 29
#define CE_AUTHORITY_KEY_IDENTIFIER 35
#define CE_FRESHEST_CRL 46

static const uint8_t ms_prefix[] = {0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x15}; /* 1.3.6.1.4.1.311.21 */
#define MS_CA_VERSION 1
#define MS_NEXT_PUBLISH 4

/* reasonCode as nearly every entry has it: a list of one extension, an ENUMERATED of one octet. */
static const uint8_t usual_reason[] = {0x30,           0x0a, 0x06, 0x03, ID_CE_0, ID_CE_1,
									   CE_REASON_CODE, 0x04, 0x03, 0x0a, 0x01};

/* The OIDs that one list of extensions has had so far. */
typedef struct SeenOids
{
	int count;
	DerSpan oid[CRL_MAX_EXTENSIONS];
} SeenOids;

typedef enum Seen
{
	SEEN_NEW,
	SEEN_TWICE,
	SEEN_TOO_MANY
} Seen;

static Seen
remember_oid(SeenOids *seen, DerSpan oid)
{
	int i;

	for (i = 0; i < seen->count; i++)
	{
		if (der_equal(seen->oid[i], oid))
			return SEEN_TWICE;
	}
	if (seen->count == CRL_MAX_EXTENSIONS)
		return SEEN_TOO_MANY;
	seen->oid[seen->count++] = oid;
	return SEEN_NEW;
}

/* Number below 2.5.29, or -1. */
static int
ce_number(DerSpan oid)
{
	return oid.size == ID_CE_SIZE && oid.data[0] == ID_CE_0 && oid.data[1] == ID_CE_1 ? oid.data[2] : -1;
}

/* Number below 1.3.6.1.4.1.311.21, or -1. */
static int
ms_number(DerSpan oid)
{
	return oid.size == sizeof(ms_prefix) + 1 && memcmp(oid.data, ms_prefix, sizeof(ms_prefix)) == 0
			   ? oid.data[sizeof(ms_prefix)]
			   : -1;
}

/* Extension ::= SEQUENCE { OID, critical BOOLEAN DEFAULT FALSE, OCTET STRING }; DER never writes a default. */
static bool
read_extension(DerSpan *list, DerSpan *oid, bool *critical, DerSpan *value)
{
	DerSpan extension;
	DerSpan boolean;

	*critical = false;
	if (!der_expect(list, DER_SEQUENCE, &extension) || !der_expect(&extension, DER_OID, oid) ||
		!cmblock_der_oid_is_valid(*oid))
		return false;
	if (der_peek(&extension) == DER_BOOLEAN &&
		(!der_expect(&extension, DER_BOOLEAN, &boolean) || !der_boolean(boolean, critical) || !*critical))
		return false;
	return der_expect(&extension, DER_OCTET_STRING, value) && extension.size == 0;
}

/* The whole value is one element of this tag. */
static bool
only_element(DerSpan value, uint8_t tag, DerSpan *content)
{
	return der_expect(&value, tag, content) && value.size == 0;
}

/* 0 <= n < 2^159, so at most 20 octets with a clear sign (rule 9). */
static bool
read_crl_number(DerSpan value, DerSpan *number)
{
	return only_element(value, DER_INTEGER, number) && der_integer_is_valid(*number) &&
		   number->data[0] < 0x80 && number->size <= CRL_MAX_NUMBER_OCTETS;
}

/* AuthorityKeyIdentifier ::= SEQUENCE { [0] key, [1] GeneralNames, [2] serial }, all of them optional. */
static bool
read_authority_key_id(DerSpan value, DerSpan *key_id)
{
	DerSpan list;
	DerSpan part;

	if (!only_element(value, DER_SEQUENCE, &list))
		return false;
	if (der_peek(&list) == DER_CONTEXT(0) && !der_expect(&list, DER_CONTEXT(0), key_id))
		return false;
	if (der_peek(&list) == DER_CONTEXT_CONSTRUCTED(1) &&
		(!der_expect(&list, DER_CONTEXT_CONSTRUCTED(1), &part) || !cmblock_der_general_names_are_valid(part)))
		return false;
	if (der_peek(&list) == DER_CONTEXT(2) &&
		(!der_expect(&list, DER_CONTEXT(2), &part) || !der_integer_is_valid(part)))
		return false;
	return list.size == 0;
}

/* CA Version: an INTEGER of 32 bits, not negative. */
static bool
read_ca_version(DerSpan value, uint32_t *version)
{
	DerSpan integer;
	size_t i;

	if (!only_element(value, DER_INTEGER, &integer) || !der_integer_is_valid(integer) ||
		integer.data[0] >= 0x80 || integer.size > 5 || (integer.size == 5 && integer.data[0] != 0))
		return false;
	*version = 0;
	for (i = 0; i < integer.size; i++)
		*version = (*version << 8) | integer.data[i];
	return true;
}

/*
 * ReasonFlags: a BIT STRING with named bits, so DER has no zero bits at its end. Nine bits are defined. A mask of
 * no reason would be a CRL that says nothing: refused.
 */
static bool
read_reason_flags(DerSpan content, uint16_t *reasons)
{
	unsigned unused;
	unsigned last;
	unsigned bits;
	int bit;

	if (content.size < 2 || content.size > 3 || content.data[0] > 7)
		return false;
	unused = content.data[0];
	last = content.data[content.size - 1];
	if ((last & ((1u << unused) - 1)) != 0 || (last & (1u << unused)) == 0)
		return false;
	bits = (unsigned) content.data[1] << 8 | (content.size == 3 ? content.data[2] : 0);
	*reasons = 0;
	for (bit = 0; bit < 16; bit++)
	{
		if (bits & (0x8000u >> bit))
			*reasons |= (uint16_t) (1u << bit);
	}
	return (*reasons & CRL_ALL_REASONS) != 0 && (*reasons & ~(CRL_ALL_REASONS | 1u)) == 0;
}

/* DistributionPointName ::= CHOICE { [0] GeneralNames, [1] RDN } */
static bool
read_point_name(DerSpan name, DerSpan *full_name, DerSpan *relative_name)
{
	if (der_peek(&name) == DER_CONTEXT_CONSTRUCTED(0))
		return der_expect(&name, DER_CONTEXT_CONSTRUCTED(0), full_name) && name.size == 0 &&
			   cmblock_der_general_names_are_valid(*full_name);
	return der_expect(&name, DER_CONTEXT_CONSTRUCTED(1), relative_name) && name.size == 0 &&
		   cmblock_der_rdn_is_valid(*relative_name);
}

/* An optional flag of the issuing distribution point: only TRUE is ever written. */
static bool
read_idp_flag(DerSpan *list, uint8_t tag, bool *flag)
{
	DerSpan content;

	*flag = false;
	return der_peek(list) != tag || (der_expect(list, tag, &content) && der_boolean(content, flag) && *flag);
}

/* Rules 10 and 29. */
static CrlError
read_idp(DerSpan value, CrlIdp *idp)
{
	DerSpan list;
	DerSpan part;

	idp->raw = value;
	idp->reasons = CRL_ALL_REASONS;
	if (!only_element(value, DER_SEQUENCE, &list))
		return CRLERR_BAD_IDP;
	if (list.size == 0)
		return CRLERR_EMPTY_IDP;
	if (der_peek(&list) == DER_CONTEXT_CONSTRUCTED(0) &&
		(!der_expect(&list, DER_CONTEXT_CONSTRUCTED(0), &part) ||
		 !read_point_name(part, &idp->full_name, &idp->relative_name)))
		return CRLERR_IDP_BAD_NAME;
	if (!read_idp_flag(&list, DER_CONTEXT(1), &idp->only_user) ||
		!read_idp_flag(&list, DER_CONTEXT(2), &idp->only_ca))
		return CRLERR_IDP_BAD_BOOLEAN;
	if (der_peek(&list) == DER_CONTEXT(3) &&
		(!der_expect(&list, DER_CONTEXT(3), &part) || !read_reason_flags(part, &idp->reasons)))
		return CRLERR_IDP_BAD_REASONS;
	if (!read_idp_flag(&list, DER_CONTEXT(4), &idp->indirect) ||
		!read_idp_flag(&list, DER_CONTEXT(5), &idp->only_attribute))
		return CRLERR_IDP_BAD_BOOLEAN;
	if (list.size != 0)
		return CRLERR_BAD_IDP;
	if (idp->only_user + idp->only_ca + idp->only_attribute > 1)
		return CRLERR_IDP_SEVERAL_ONLY;
	return CRLERR_NONE;
}

bool
cmblock_crl_open_points(DerSpan value, DerSpan *points)
{
	return only_element(value, DER_SEQUENCE, points);
}

bool
cmblock_crl_next_point(DerSpan *points, DerSpan *full_name)
{
	DerSpan point;
	DerSpan name;
	DerSpan ignored;

	full_name->data = NULL;
	full_name->size = 0;
	if (!der_expect(points, DER_SEQUENCE, &point))
		return false;
	if (der_peek(&point) == DER_CONTEXT_CONSTRUCTED(0) &&
		(!der_expect(&point, DER_CONTEXT_CONSTRUCTED(0), &name) ||
		 !read_point_name(name, full_name, &ignored)))
		return false;
	return true;
}

bool
cmblock_crl_next_uri(DerSpan *full_name, DerSpan *uri)
{
	uint8_t tag;

	while (der_read(full_name, &tag, uri))
	{
		if (tag == DER_CONTEXT(6))
			return true;
	}
	return false;
}

/* CRLDistributionPoints: at least one point, each of them well formed. */
static bool
points_are_valid(DerSpan value)
{
	DerSpan points;
	DerSpan full_name;

	if (cmblock_der_check(value, DER_MAX_DEPTH) != DER_CHECK_OK || !cmblock_crl_open_points(value, &points) ||
		points.size == 0)
		return false;
	while (points.size > 0)
	{
		if (!cmblock_crl_next_point(&points, &full_name))
			return false;
	}
	return true;
}

/* One extension of the CRL whose OID was not seen before. */
static CrlError
take_crl_extension(Crl *crl, DerSpan oid, bool critical, DerSpan value)
{
	switch (ce_number(oid))
	{
		case CE_CRL_NUMBER:
			if (critical)
				return CRLERR_NUMBER_CRITICAL;
			if (!read_crl_number(value, &crl->number))
				return CRLERR_BAD_NUMBER;
			crl->flags |= CRLFLAG_NUMBER;
			return CRLERR_NONE;
		case CE_DELTA_CRL_INDICATOR:
			if (!read_crl_number(value, &crl->base_number))
				return CRLERR_BAD_DELTA_INDICATOR;
			crl->flags |= CRLFLAG_DELTA;
			return CRLERR_NONE;
		case CE_ISSUING_DISTRIBUTION_POINT:
		{
			CrlError error = read_idp(value, &crl->idp);

			crl->flags |= CRLFLAG_IDP;
			if (crl->idp.indirect)
				crl->flags |= CRLFLAG_INDIRECT;
			return error;
		}
		case CE_AUTHORITY_KEY_IDENTIFIER:
			if (!read_authority_key_id(value, &crl->key_id))
				return CRLERR_BAD_AUTHORITY_KEY_ID;
			crl->authority_key_id = value;
			crl->flags |= CRLFLAG_AUTHORITY_KEY_ID;
			return CRLERR_NONE;
		case CE_FRESHEST_CRL:
			if (!points_are_valid(value))
				return CRLERR_BAD_FRESHEST_CRL;
			crl->freshest = value;
			crl->flags |= CRLFLAG_FRESHEST;
			return CRLERR_NONE;
		default:
			break;
	}
	switch (ms_number(oid))
	{
		case MS_CA_VERSION:
			if (!read_ca_version(value, &crl->ca_version))
				return CRLERR_BAD_CA_VERSION;
			crl->flags |= CRLFLAG_CA_VERSION;
			return CRLERR_NONE;
		case MS_NEXT_PUBLISH:
			if (!cmblock_der_read_time(&value, &crl->next_publish) || value.size != 0)
				return CRLERR_BAD_NEXT_PUBLISH;
			crl->flags |= CRLFLAG_NEXT_PUBLISH;
			return CRLERR_NONE;
		default:
			break;
	}
	return critical ? CRLERR_UNKNOWN_CRITICAL_EXTENSION : CRLERR_NONE;
}

static CrlError
read_crl_extensions(Crl *crl, DerSpan list)
{
	SeenOids seen;

	seen.count = 0;
	if (list.size == 0)
		return CRLERR_BAD_EXTENSIONS;
	while (list.size > 0)
	{
		DerSpan oid;
		DerSpan value;
		bool critical;
		Seen before;
		CrlError error;

		crl->error_offset = (size_t) (list.data - crl->der.data);
		if (!read_extension(&list, &oid, &critical, &value))
			return CRLERR_BAD_EXTENSIONS;
		before = remember_oid(&seen, oid);
		if (before != SEEN_NEW)
			return before == SEEN_TWICE ? CRLERR_DUPLICATE_EXTENSION : CRLERR_TOO_MANY_EXTENSIONS;
		error = take_crl_extension(crl, oid, critical, value);
		if (error != CRLERR_NONE)
			return error;
	}
	return CRLERR_NONE;
}

/* GeneralNames of a certificateIssuer extension: the Name of its directoryName (rule 30). */
static bool
read_certificate_issuer(DerSpan value, DerSpan *issuer)
{
	DerSpan names;
	DerSpan name;
	DerSpan content;
	uint8_t tag;

	if (!only_element(value, DER_SEQUENCE, &names) || !cmblock_der_general_names_are_valid(names))
		return false;
	while (der_read(&names, &tag, &name))
	{
		if (tag == DER_CONTEXT_CONSTRUCTED(4))
			return der_expect_whole(&name, DER_SEQUENCE, issuer, &content) && content.size > 0;
	}
	return false;
}

/* Rules 12 and 25: what is wrong with a reason never un-revokes anything. */
static void
take_reason(uint32_t crl_flags, unsigned code, CrlEntry *entry, uint32_t *found)
{
	if (code > CRLREASON_LAST || code == 7)
	{
		entry->reason = CRLREASON_BAD;
		*found |= CRLFLAG_BAD_REASON;
		return;
	}
	entry->reason = (uint8_t) code;
	if (code == CRLREASON_REMOVE_FROM_CRL)
	{
		if (crl_flags & CRLFLAG_DELTA)
			entry->removed = true;
		else
			*found |= CRLFLAG_REMOVE_IN_BASE;
	}
}

static CrlError
read_entry_extensions(uint32_t crl_flags, DerSpan list, CrlEntry *entry, DerSpan *issuer, uint32_t *found)
{
	SeenOids seen;

	if (list.size == sizeof(usual_reason) + 1 && memcmp(list.data, usual_reason, sizeof(usual_reason)) == 0)
	{
		take_reason(crl_flags, list.data[sizeof(usual_reason)], entry, found);
		return CRLERR_NONE;
	}

	seen.count = 0;
	if (list.size == 0)
		return CRLERR_BAD_ENTRY_EXTENSIONS;
	while (list.size > 0)
	{
		DerSpan oid;
		DerSpan value;
		DerSpan code;
		bool critical;
		Seen before;

		if (!read_extension(&list, &oid, &critical, &value))
			return CRLERR_BAD_ENTRY_EXTENSIONS;
		before = remember_oid(&seen, oid);
		if (before != SEEN_NEW)
			return before == SEEN_TWICE ? CRLERR_DUPLICATE_ENTRY_EXTENSION : CRLERR_TOO_MANY_ENTRY_EXTENSIONS;
		switch (ce_number(oid))
		{
			case CE_REASON_CODE:
				if (only_element(value, DER_ENUMERATED, &code) && code.size == 1)
					take_reason(crl_flags, code.data[0], entry, found);
				else
					take_reason(crl_flags, CRLREASON_BAD, entry, found);
				break;
			case CE_INVALIDITY_DATE:
				break; /* when the key may have been lost: changes no verdict */
			case CE_CERTIFICATE_ISSUER:
				if (!(crl_flags & CRLFLAG_INDIRECT))
					return CRLERR_ISSUER_IN_DIRECT_CRL;
				if (!read_certificate_issuer(value, issuer))
					return CRLERR_BAD_CERTIFICATE_ISSUER;
				break;
			default:
				if (critical)
				{
					entry->unknown_critical = true;
					*found |= CRLFLAG_UNKNOWN_CRITICAL_ENTRY;
				}
				break;
		}
	}
	return CRLERR_NONE;
}

/*
 * Take one entry. "issuer" gets the Name of its certificateIssuer extension, data NULL where there is none;
 * "found" collects flags.
 */
static inline CrlError
read_entry(const Crl *crl, DerSpan *list, CrlEntry *entry, DerSpan *issuer, uint32_t *found)
{
	DerSpan content;
	DerSpan extensions;

	entry->reason = CRLREASON_NONE;
	entry->removed = false;
	entry->unknown_critical = false;
	issuer->data = NULL;
	issuer->size = 0;

	if (!der_expect(list, DER_SEQUENCE, &content))
		return CRLERR_BAD_ENTRY;
	if (!der_expect(&content, DER_INTEGER, &entry->serial) || !der_integer_is_valid(entry->serial))
		return CRLERR_BAD_SERIAL;
	if (!cmblock_der_read_time(&content, &entry->revocation_date))
		return CRLERR_BAD_REVOCATION_DATE;
	if (content.size == 0)
		return CRLERR_NONE;
	if (!der_expect(&content, DER_SEQUENCE, &extensions) || content.size != 0)
		return CRLERR_BAD_ENTRY;
	if (crl->version == 1)
		return CRLERR_V1_WITH_ENTRY_EXTENSIONS;
	return read_entry_extensions(crl->flags, extensions, entry, issuer, found);
}

/* Ordinal of a certificate issuer that has been named, or -1. */
static int
issuer_ordinal(const Crl *crl, DerSpan name)
{
	uint32_t i;

	if (der_equal(crl->issuer, name))
		return 0;
	for (i = 0; i < crl->issuer_count; i++)
	{
		if (der_equal(crl->certificate_issuer[i], name))
			return (int) i + 1;
	}
	return -1;
}

/* Check every entry, and collect what an index must know. */
static CrlError
read_entries(Crl *crl, uint32_t max_entries)
{
	DerSpan list = crl->revoked;
	uint32_t found = 0;
	size_t short_octets = 0;

	while (list.size > 0)
	{
		CrlEntry entry;
		DerSpan issuer;
		CrlError error;

		crl->error_offset = (size_t) (list.data - crl->der.data);
		crl->error_entry = crl->entry_count;
		if (crl->entry_count == max_entries)
			return CRLERR_TOO_MANY_ENTRIES;
		error = read_entry(crl, &list, &entry, &issuer, &found);
		if (error != CRLERR_NONE)
			return error;
		crl->entry_count++;
		if (entry.serial.size > CRL_USUAL_SERIAL_OCTETS)
		{
			crl->long_serials++;
			crl->long_serial_octets += entry.serial.size;
		}
		else if (entry.serial.size > short_octets)
			short_octets = entry.serial.size;
		if (issuer.data != NULL && issuer_ordinal(crl, issuer) < 0)
		{
			if (crl->issuer_count == CRL_MAX_ISSUERS)
				return CRLERR_TOO_MANY_ISSUERS;
			crl->certificate_issuer[crl->issuer_count++] = issuer;
		}
	}
	crl->error_entry = -1;
	crl->short_serial_octets = (uint32_t) short_octets;
	crl->flags |= found;
	if (crl->long_serials > 0)
		crl->flags |= CRLFLAG_LONG_SERIAL;
	return CRLERR_NONE;
}

/* AlgorithmIdentifier ::= SEQUENCE { OID, parameters ANY OPTIONAL } */
static bool
algorithm_is_valid(DerSpan content)
{
	DerSpan oid;
	DerSpan parameters;
	uint8_t tag;

	if (!der_expect(&content, DER_OID, &oid) || !cmblock_der_oid_is_valid(oid) ||
		cmblock_der_check(content, DER_MAX_DEPTH) != DER_CHECK_OK)
		return false;
	return content.size == 0 || (der_read(&content, &tag, &parameters) && content.size == 0);
}

/* Version ::= INTEGER OPTIONAL: absent in v1, 1 in v2; DER never writes a 0 (rule 2). */
static bool
read_version(DerSpan *tbs, int *version)
{
	DerSpan content;

	*version = 1;
	if (der_peek(tbs) != DER_INTEGER)
		return der_peek(tbs) == DER_SEQUENCE;
	*version = 2;
	return der_expect(tbs, DER_INTEGER, &content) && content.size == 1 && content.data[0] == 1;
}

/* Name, and how deep it goes: a CRL must have an issuer (5.1.2.3). */
static CrlError
read_issuer(DerSpan *tbs, DerSpan *issuer)
{
	DerSpan content;

	if (!der_expect_whole(tbs, DER_SEQUENCE, issuer, &content) || content.size == 0)
		return CRLERR_BAD_ISSUER;
	if (cmblock_der_check(content, DER_MAX_DEPTH) == DER_CHECK_TOO_DEEP)
		return CRLERR_TOO_DEEP;
	return cmblock_der_name_is_valid(content) ? CRLERR_NONE : CRLERR_BAD_ISSUER;
}

/* TBSCertList: all but the entries and the extensions' content, whose lists are only found here. */
static CrlError
read_tbs(Crl *crl, DerSpan tbs, DerSpan *extensions)
{
	DerSpan algorithm;
	DerSpan content;
	CrlError error;

#define AT(span) (crl->error_offset = (size_t) ((span).data - crl->der.data))
	AT(tbs);
	if (!read_version(&tbs, &crl->version))
		return CRLERR_BAD_VERSION;
	AT(tbs);
	if (!der_expect_whole(&tbs, DER_SEQUENCE, &algorithm, &content) || !algorithm_is_valid(content))
		return CRLERR_BAD_SIGNATURE_ALGORITHM;
	if (!der_equal(algorithm, crl->signature_algorithm))
		return CRLERR_ALGORITHM_MISMATCH;
	AT(tbs);
	error = read_issuer(&tbs, &crl->issuer);
	if (error != CRLERR_NONE)
		return error;
	AT(tbs);
	if (!cmblock_der_read_time(&tbs, &crl->this_update))
		return CRLERR_BAD_THIS_UPDATE;
	AT(tbs);
	if (der_peek(&tbs) == DER_UTC_TIME || der_peek(&tbs) == DER_GENERALIZED_TIME)
	{
		if (!cmblock_der_read_time(&tbs, &crl->next_update))
			return CRLERR_BAD_NEXT_UPDATE;
		crl->flags |= CRLFLAG_NEXT_UPDATE;
	}
	AT(tbs);
	if (der_peek(&tbs) == DER_SEQUENCE)
	{
		if (!der_expect(&tbs, DER_SEQUENCE, &crl->revoked))
			return CRLERR_BAD_TBS;
		if (crl->revoked.size == 0)
			crl->flags |= CRLFLAG_EMPTY_LIST;
	}
	AT(tbs);
	if (der_peek(&tbs) == DER_CONTEXT_CONSTRUCTED(0))
	{
		if (crl->version == 1)
			return CRLERR_V1_WITH_EXTENSIONS;
		if (!der_expect(&tbs, DER_CONTEXT_CONSTRUCTED(0), &content) ||
			!only_element(content, DER_SEQUENCE, extensions))
			return CRLERR_BAD_EXTENSIONS;
	}
	AT(tbs);
#undef AT
	return tbs.size == 0 ? CRLERR_NONE : CRLERR_UNEXPECTED_ELEMENT;
}

CrlError
cmblock_crl_read(const uint8_t *der, size_t size, const CrlLimits *limits, Crl *crl)
{
	DerSpan rest;
	DerSpan outer;
	DerSpan tbs;
	DerSpan content;
	DerSpan extensions = {NULL, 0};
	CrlError error;

	memset(crl, 0, sizeof(*crl));
	crl->error_entry = -1;
	crl->der.data = der;
	crl->der.size = size;
	crl->idp.reasons = CRL_ALL_REASONS;

	/* Rule 1. An entry count and offsets fit 32 bits because lengths of DER here do. */
	if (size > limits->max_size || size > UINT32_MAX)
		return CRLERR_TOO_LARGE;
	if (size >= 2 && der[0] == DER_SEQUENCE && der[1] == 0x80)
		return CRLERR_INDEFINITE_LENGTH;
	rest = crl->der;
	if (!der_expect(&rest, DER_SEQUENCE, &outer))
		return CRLERR_NOT_DER;
	crl->error_offset = (size_t) (rest.data - der);
	if (rest.size != 0)
		return CRLERR_TRAILING_DATA;

	crl->error_offset = (size_t) (outer.data - der);
	if (!der_expect_whole(&outer, DER_SEQUENCE, &crl->tbs, &tbs))
		return CRLERR_BAD_TBS;
	crl->error_offset = (size_t) (outer.data - der);
	if (!der_expect_whole(&outer, DER_SEQUENCE, &crl->signature_algorithm, &content) ||
		!algorithm_is_valid(content))
		return CRLERR_BAD_SIGNATURE_ALGORITHM;
	crl->error_offset = (size_t) (outer.data - der);
	if (!der_expect(&outer, DER_BIT_STRING, &content) || content.size < 2 || content.data[0] != 0)
		return CRLERR_BAD_SIGNATURE_VALUE;
	crl->signature.data = content.data + 1;
	crl->signature.size = content.size - 1;
	crl->error_offset = (size_t) (outer.data - der);
	if (outer.size != 0)
		return CRLERR_TRAILING_DATA;

	error = read_tbs(crl, tbs, &extensions);
	if (error == CRLERR_NONE && extensions.data != NULL)
		error = read_crl_extensions(crl, extensions);
	if (error == CRLERR_NONE)
		error = read_entries(crl, limits->max_entries);
	return error;
}

void
cmblock_crl_walk(const Crl *crl, CrlWalk *walk)
{
	walk->crl = crl;
	walk->rest = crl->revoked;
	walk->issuer = 0;
}

bool
cmblock_crl_next(CrlWalk *walk, CrlEntry *entry)
{
	DerSpan issuer;
	uint32_t ignored = 0;

	if (walk->rest.size == 0 || read_entry(walk->crl, &walk->rest, entry, &issuer, &ignored) != CRLERR_NONE)
		return false;
	if (issuer.data != NULL)
		walk->issuer = (uint8_t) issuer_ordinal(walk->crl, issuer);
	entry->issuer = walk->issuer;
	return true;
}

int
cmblock_crl_number_compare(DerSpan a, DerSpan b)
{
	/* Not negative and in the fewest octets: the longer is the larger. */
	if (a.size != b.size)
		return a.size < b.size ? -1 : 1;
	return a.size == 0 ? 0 : memcmp(a.data, b.data, a.size);
}

/* Whole sentences, for errdetail. */
static const char *const error_texts[CRLERR_COUNT] = {
	[CRLERR_NONE] = "The CRL is well formed.",
	[CRLERR_TOO_LARGE] = "The CRL is larger than the limit.",
	[CRLERR_INDEFINITE_LENGTH] = "The CRL has an indefinite length, which BER allows and DER does not.",
	[CRLERR_NOT_DER] = "The data are not one DER sequence.",
	[CRLERR_TRAILING_DATA] = "There are data after the end of the CRL.",
	[CRLERR_TOO_DEEP] = "The CRL is nested too deeply.",
	[CRLERR_BAD_TBS] = "The signed part of the CRL is not a DER sequence.",
	[CRLERR_BAD_VERSION] = "The version is neither absent (v1) nor v2.",
	[CRLERR_V1_WITH_EXTENSIONS] = "The CRL has extensions, but is not of version 2.",
	[CRLERR_V1_WITH_ENTRY_EXTENSIONS] = "An entry has extensions, but the CRL is not of version 2.",
	[CRLERR_BAD_SIGNATURE_ALGORITHM] = "The signature algorithm is malformed.",
	[CRLERR_ALGORITHM_MISMATCH] =
		"The signature algorithm inside the signed part differs from the one outside.",
	[CRLERR_BAD_SIGNATURE_VALUE] = "The signature value is not a bit string of whole octets.",
	[CRLERR_BAD_ISSUER] = "The issuer name is malformed or empty.",
	[CRLERR_BAD_THIS_UPDATE] = "thisUpdate is not a valid time with seconds, without a fraction, in UTC.",
	[CRLERR_BAD_NEXT_UPDATE] = "nextUpdate is not a valid time with seconds, without a fraction, in UTC.",
	[CRLERR_UNEXPECTED_ELEMENT] = "The signed part has an element that does not belong there.",
	[CRLERR_BAD_EXTENSIONS] = "The CRL's extensions are malformed or an empty list.",
	[CRLERR_TOO_MANY_EXTENSIONS] = "The CRL has too many extensions.",
	[CRLERR_DUPLICATE_EXTENSION] = "An extension of the CRL occurs twice.",
	[CRLERR_UNKNOWN_CRITICAL_EXTENSION] = "The CRL has a critical extension that is not supported.",
	[CRLERR_BAD_NUMBER] = "The CRL number is not an integer from 0 to 2^159 - 1.",
	[CRLERR_NUMBER_CRITICAL] = "The CRL number is marked critical.",
	[CRLERR_BAD_IDP] = "The issuing distribution point is malformed.",
	[CRLERR_EMPTY_IDP] = "The issuing distribution point is empty.",
	[CRLERR_IDP_SEVERAL_ONLY] =
		"The issuing distribution point restricts the CRL to more than one kind of certificate.",
	[CRLERR_IDP_BAD_BOOLEAN] = "A flag of the issuing distribution point is not a DER boolean that is true.",
	[CRLERR_IDP_BAD_NAME] = "The distribution point name in the issuing distribution point is malformed.",
	[CRLERR_IDP_BAD_REASONS] =
		"onlySomeReasons of the issuing distribution point is malformed or names no known reason.",
	[CRLERR_BAD_DELTA_INDICATOR] = "The delta CRL indicator is not an integer from 0 to 2^159 - 1.",
	[CRLERR_BAD_AUTHORITY_KEY_ID] = "The authority key identifier is malformed.",
	[CRLERR_BAD_CA_VERSION] = "The CA version is not an integer of 32 bits.",
	[CRLERR_BAD_NEXT_PUBLISH] = "The time of the next publication is malformed.",
	[CRLERR_BAD_FRESHEST_CRL] = "The freshest CRL extension is malformed.",
	[CRLERR_TOO_MANY_ENTRIES] = "The CRL has more entries than the limit.",
	[CRLERR_BAD_ENTRY] = "An entry is malformed.",
	[CRLERR_BAD_SERIAL] = "The serial number of an entry is not a DER integer.",
	[CRLERR_BAD_REVOCATION_DATE] =
		"The revocation date of an entry is not a valid time with seconds, without a fraction, in UTC.",
	[CRLERR_BAD_ENTRY_EXTENSIONS] = "The extensions of an entry are malformed or an empty list.",
	[CRLERR_TOO_MANY_ENTRY_EXTENSIONS] = "An entry has too many extensions.",
	[CRLERR_DUPLICATE_ENTRY_EXTENSION] = "An extension of an entry occurs twice.",
	[CRLERR_ISSUER_IN_DIRECT_CRL] =
		"An entry names a certificate issuer, but the CRL is not an indirect one.",
	[CRLERR_BAD_CERTIFICATE_ISSUER] =
		"The certificate issuer of an entry is malformed or has no directory name.",
	[CRLERR_TOO_MANY_ISSUERS] = "The CRL names more certificate issuers than the limit.",
};

const char *
cmblock_crl_error_text(CrlError error)
{
	if ((unsigned) error >= CRLERR_COUNT)
		return "The CRL was refused for an unknown reason.";
	return error_texts[error];
}
