/*
 * crl_judge.c
 *		What can be said of a CRL that came from outside, by itself and the trust list: is it one, and who signed it?
 *
 * The octets come from a network. Their size is bounded before anything looks at them, the strict reader judges their
 * shape, and only then is a signature verified: over the raw octets, with each key that could have made it. Nothing
 * is believed of a CRL before that. Refusals are sentences and no errors, because the refresher has to go on and put them
 * where an administrator reads them.
 */
#include "postgres.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "crl_import.h"
#include "crl_verify.h"
#include "progress.h"
#include "pem.h"
#include "x509.h"

/* Far above what fits into a bytea: the size is the bound, and this is one of its own for the list. */
#define MAX_ENTRIES 50000000

/* A CA may back-date its CRLs; ours may be the clock that is late (rule 18). */
#define CLOCK_SKEW (10 * SECS_PER_MINUTE * USECS_PER_SEC)

bool
cmblock_refuse_crl(CrlTaking *taking, int sqlstate, const char *message, const char *detail, const char *hint)
{
	taking->outcome = CRLOUT_REFUSED;
	taking->sqlstate = sqlstate;
	taking->message = message;
	taking->detail = detail;
	taking->hint = hint;
	return false;
}

static bool
refuse_bad(CrlTaking *taking, const char *detail)
{
	return cmblock_refuse_crl(
		taking, ERRCODE_INVALID_PARAMETER_VALUE, "invalid CRL", detail,
		"Fetch it again from the CA. If it stays like this, the CA has to publish another one.");
}

static void
warn(CrlTaking *taking, const char *sentence)
{
	taking->warnings = lappend(taking->warnings, pstrdup(sentence));
}

/* ---------- reading ---------- */

/* DER out of DER or PEM; NULL after a refusal. */
static const bytea *
unwrap(const bytea *input, CrlTaking *taking)
{
	size_t size = VARSIZE_ANY_EXHDR(input);
	const uint8_t *data = (const uint8_t *) VARDATA_ANY(input);
	size_t decoded;
	PemResult result;
	bytea *der;

	/* PEM is a third longer than what it holds. */
	if (size / 1024 > (size_t) cmblock_crl_max_size * 3 / 2)
	{
		refuse_bad(taking, psprintf("It has %zu octets; cmblock.crl_max_size allows %d kB.", size,
									cmblock_crl_max_size));
		return NULL;
	}
	if (size > 0 && data[0] == DER_SEQUENCE)
		return input;
	der = palloc_extended(VARHDRSZ + size, MCXT_ALLOC_HUGE);
	result = cmblock_pem_decode(data, size, "X509 CRL", (uint8_t *) VARDATA(der), &decoded);
	ERR_clear_error();
	if (result == PEM_DECODED)
	{
		SET_VARSIZE(der, VARHDRSZ + decoded);
		return der;
	}
	pfree(der);
	refuse_bad(taking, result == PEM_NOT_PEM ? "It is neither DER, which begins with octet 30, nor PEM."
											 : cmblock_pem_error_text(result));
	return NULL;
}

/* Decimal digits of a number of 20 octets or less. */
static char *
decimal(DerSpan number)
{
	BIGNUM *value = BN_bin2bn(number.data, (int) number.size, NULL);
	char *digits = value ? BN_bn2dec(value) : NULL;
	char *copy = digits ? pstrdup(digits) : NULL;

	OPENSSL_free(digits);
	BN_free(value);
	if (copy == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	return copy;
}

static void
take_facts(const Crl *crl, CrlTaking *taking)
{
	taking->is_delta = crl->flags & CRLFLAG_DELTA;
	if (crl->flags & CRLFLAG_NUMBER)
		taking->number = decimal(crl->number);
	if (taking->is_delta)
		taking->base_number = decimal(crl->base_number);
	taking->this_update = time_t_to_timestamptz((pg_time_t) crl->this_update);
	taking->has_next_update = crl->flags & CRLFLAG_NEXT_UPDATE;
	if (taking->has_next_update)
		taking->next_update = time_t_to_timestamptz((pg_time_t) crl->next_update);
	taking->has_next_publish = crl->flags & CRLFLAG_NEXT_PUBLISH;
	if (taking->has_next_publish)
		taking->next_publish = time_t_to_timestamptz((pg_time_t) crl->next_publish);
	taking->entries = (int) crl->entry_count;
}

static void
take_warnings(const Crl *crl, CrlTaking *taking)
{
	if (crl->flags & CRLFLAG_EMPTY_LIST)
		warn(taking, "Its list of revoked certificates is present and empty; RFC 5280 wants it absent.");
	if (crl->flags & CRLFLAG_LONG_SERIAL)
		warn(taking, "It lists serial numbers of more than 20 octets.");
	if (crl->flags & CRLFLAG_BAD_REASON)
		warn(taking, "It has reason codes that RFC 5280 does not know; the entries count as revoked.");
	if (crl->flags & CRLFLAG_REMOVE_IN_BASE)
		warn(taking,
			 "It has removeFromCRL in a full CRL, where it means nothing; the entries count as revoked.");
	if (crl->flags & CRLFLAG_UNKNOWN_CRITICAL_ENTRY)
		warn(taking,
			 "An entry has a critical extension that is not known: what it lists is revoked, and it shows no "
			 "certificate to be good.");
	if (!taking->has_next_update)
		warn(taking,
			 "It has no next update: what it lists is revoked, and it shows no certificate to be good unless "
			 "the CA has a max_age.");
	else if (taking->next_update < GetCurrentTimestamp())
		warn(taking, "It is expired: what it lists is revoked, and it shows no certificate to be good.");
}

static char *
where_it_failed(const Crl *crl)
{
	if (crl->error_entry >= 0)
		return psprintf(" (entry %lld, octet %zu)", (long long) crl->error_entry + 1, crl->error_offset);
	return psprintf(" (octet %zu)", crl->error_offset);
}

bool
cmblock_read_crl(const bytea *input, JudgedCrl *judged, CrlTaking *taking)
{
	CrlLimits limits = {.max_size = (size_t) cmblock_crl_max_size * 1024, .max_entries = MAX_ENTRIES};
	Crl *crl = &judged->crl;
	CrlError error;

	memset(taking, 0, sizeof(*taking));
	memset(judged, 0, sizeof(*judged));
	judged->taking = taking;
	judged->der = unwrap(input, taking);
	if (judged->der == NULL)
		return false;
	error = cmblock_crl_read((const uint8_t *) VARDATA_ANY(judged->der), VARSIZE_ANY_EXHDR(judged->der),
							 &limits, crl);
	if (error != CRLERR_NONE)
		return refuse_bad(taking, psprintf("%s%s", cmblock_crl_error_text(error), where_it_failed(crl)));
	cmblock_sha256(VARDATA_ANY(judged->der), VARSIZE_ANY_EXHDR(judged->der), taking->sha256);
	taking->issuer = cmblock_name_text(crl->issuer.data, crl->issuer.size);
	take_facts(crl, taking);
	take_warnings(crl, taking);
	return true;
}

/* ---------- the signer ---------- */

/*
 * The certificate of the trust list whose key made the signature. Several may have the name, and the authority key
 * identifier is a hint only: each that could be meant is tried (rule 14).
 */
static bool
find_signer(JudgedCrl *judged)
{
	const TrustList *list = cmblock_trust_list();
	CrlTaking *taking = judged->taking;
	CrlSigner nearest = CRLSIGNER_OTHER_NAME;
	CrlSignature failure = CRLSIG_INVALID;
	const char *name = taking->issuer;

	for (int i = 0; i < list->count; i++)
	{
		const Authority *a = &list->authority[i];
		CrlAlgorithmPolicy policy = {.allow_sha1 = a->crls.allow_sha1 || cmblock_allow_sha1};
		CrlSigner signer = cmblock_crl_check_signer(&judged->crl, a->x509);
		CrlSignature signature;

		if (signer != CRLSIGNER_POSSIBLE)
		{
			if (nearest != CRLSIGNER_POSSIBLE && signer != CRLSIGNER_OTHER_NAME)
				nearest = signer;
			continue;
		}
		cmblock_progress_phase(WORK_VERIFYING_SIGNATURE, VARSIZE_ANY_EXHDR(judged->der));
		signature = cmblock_crl_verify(&judged->crl, X509_get0_pubkey(a->x509), &policy);
		ERR_clear_error();
		if (signature == CRLSIG_VALID)
		{
			judged->signer = a;
			memcpy(judged->signer_sha256, a->sha256, SHA256_OCTETS);
			memcpy(judged->signer_key, a->key_sha256, SHA256_OCTETS);
			return true;
		}
		if (nearest != CRLSIGNER_POSSIBLE || failure == CRLSIG_INVALID)
			failure = signature;
		nearest = CRLSIGNER_POSSIBLE;
	}

	if (nearest == CRLSIGNER_POSSIBLE)
	{
		char algorithm[80];

		cmblock_crl_algorithm_name(judged->crl.signature_algorithm, algorithm, sizeof(algorithm));
		return cmblock_refuse_crl(
			taking, ERRCODE_INVALID_PARAMETER_VALUE,
			psprintf("the signature of the CRL of \"%s\" cannot be accepted", name),
			psprintf("%s Its algorithm is %s.", cmblock_crl_signature_text(failure), algorithm),
			failure == CRLSIG_ALGORITHM_NOT_ALLOWED
				? "For SHA-1, cmblock.set_crl_policy has the argument \"allow_sha1\"."
				: "Fetch it again. If the CA has a new key, add its new certificate with "
				  "cmblock.add_certificate_authority.");
	}
	if (nearest == CRLSIGNER_OTHER_NAME)
		return cmblock_refuse_crl(
			taking, ERRCODE_UNDEFINED_OBJECT,
			psprintf("the issuer of the CRL, \"%s\", is not in the trust list", name),
			"No certificate there has this subject.",
			"Add the certificate that signed it with cmblock.add_certificate_authority.");
	return cmblock_refuse_crl(
		taking, nearest == CRLSIGNER_OTHER_KEY ? ERRCODE_UNDEFINED_OBJECT : ERRCODE_INVALID_PARAMETER_VALUE,
		psprintf("no certificate of \"%s\" in the trust list can have signed the CRL", name),
		cmblock_crl_signer_text(nearest),
		"Add the certificate that signed it with cmblock.add_certificate_authority.");
}

/*
 * The CA that the CRL is about: its signer, or the CA of the signer's name where that signs only CRLs. The list is that which
 * has the signer, although it may have changed while the signature was verified.
 */
static const Authority *
find_authority(const Authority *signer)
{
	const TrustList *list = cmblock_current_trust_list();

	for (int i = 0; signer->crl_signer && i < list->count; i++)
		if (!list->authority[i].crl_signer && X509_NAME_cmp(X509_get_subject_name(list->authority[i].x509),
															X509_get_subject_name(signer->x509)) == 0)
			return &list->authority[i];
	return signer;
}

/*
 * The series: issuer, key and issuing distribution point (rules 17 and 21). The name goes in by OpenSSL's hash of its
 * canonical form; that has 32 bits, and tells the few names apart that one key may have.
 */
static void
find_scope(JudgedCrl *judged)
{
	const DerSpan idp = judged->crl.idp.raw;
	uint32 name = (uint32) X509_NAME_hash_ex(X509_get_subject_name(judged->signer->x509), NULL, NULL, NULL);
	size_t size = SHA256_OCTETS + sizeof(uint32) + idp.size;
	unsigned char *octets = palloc(size);

	for (int i = 0; i < sizeof(uint32); i++)
		octets[i] = (unsigned char) (name >> (24 - 8 * i));
	memcpy(octets + sizeof(uint32), judged->signer->key_sha256, SHA256_OCTETS);
	if (judged->crl.flags & CRLFLAG_IDP)
		memcpy(octets + sizeof(uint32) + SHA256_OCTETS, idp.data, idp.size);
	cmblock_sha256(octets, judged->crl.flags & CRLFLAG_IDP ? size : SHA256_OCTETS + sizeof(uint32),
				   judged->taking->scope);
	judged->taking->has_scope = true;
	pfree(octets);
}

/* ---------- what is in it, in words ---------- */

/* Printable ASCII as it is, anything else as \ and two hexadecimal digits. */
static void
append_ascii(StringInfo text, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
	{
		if (data[i] > ' ' && data[i] < 0x7f && data[i] != '\\')
			appendStringInfoChar(text, (char) data[i]);
		else
			appendStringInfo(text, "\\%02X", data[i]);
	}
}

static char *
reason_words(uint16 reasons)
{
	static const char *const names[] = {"",
										"keyCompromise",
										"cACompromise",
										"affiliationChanged",
										"superseded",
										"cessationOfOperation",
										"certificateHold",
										"privilegeWithdrawn",
										"aACompromise"};
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 1; i <= 8; i++)
		if (reasons & (1 << i))
			appendStringInfo(&text, "%s%s", text.len ? ", " : "", names[i]);
	return text.data;
}

static char *
describe_partition(const CrlIdp *idp)
{
	StringInfoData text;
	DerSpan names = idp->full_name;
	DerSpan uri;
	bool first = true;

	initStringInfo(&text);
	if (idp->full_name.data)
	{
		appendStringInfoString(&text, "distribution point");
		while (cmblock_crl_next_uri(&names, &uri))
		{
			appendStringInfoString(&text, first ? " " : " or ");
			append_ascii(&text, uri.data, uri.size);
			first = false;
		}
		if (first)
			appendStringInfoString(&text, " with a name that is no URL");
	}
	if (idp->relative_name.data)
		appendStringInfoString(&text, "distribution point with a name relative to the issuer");
#define AND (text.len ? "; " : "")
	if (idp->only_user)
		appendStringInfo(&text, "%sonly certificates of users", AND);
	if (idp->only_ca)
		appendStringInfo(&text, "%sonly certificates of CAs", AND);
	if (idp->only_attribute)
		appendStringInfo(&text, "%sonly attribute certificates", AND);
	if (idp->reasons != CRL_ALL_REASONS)
		appendStringInfo(&text, "%sonly the reasons %s", AND, reason_words(idp->reasons));
	if (idp->indirect)
		appendStringInfo(&text, "%scertificates of other issuers, too", AND);
#undef AND
	return text.data;
}

static List *
freshest_urls(const Crl *crl)
{
	List *urls = NIL;
	DerSpan points;
	DerSpan names;
	DerSpan uri;

	if (!(crl->flags & CRLFLAG_FRESHEST) || !cmblock_crl_open_points(crl->freshest, &points))
		return NIL;
	while (cmblock_crl_next_point(&points, &names))
		while (cmblock_crl_next_uri(&names, &uri))
		{
			StringInfoData url;

			initStringInfo(&url);
			append_ascii(&url, uri.data, uri.size);
			urls = lappend(urls, url.data);
		}
	return urls;
}

/* ---------- judging ---------- */

bool
cmblock_judge_crl(JudgedCrl *judged)
{
	CrlTaking *taking = judged->taking;
	const Crl *crl = &judged->crl;

	if (!find_signer(judged))
		return false;
	judged->authority = find_authority(judged->signer);
	memcpy(taking->authority, judged->authority->sha256, SHA256_OCTETS);
	find_scope(judged);
	if (crl->flags & CRLFLAG_IDP)
		judged->partition = describe_partition(&crl->idp);
	judged->freshest = freshest_urls(crl);

	if (!taking->number && taking->is_delta)
		return refuse_bad(taking, "It is a delta CRL without a CRL number (rule 9).");
	if (!taking->number && crl->version > 1 && judged->authority->crls.require_number)
		return cmblock_refuse_crl(
			taking, ERRCODE_INVALID_PARAMETER_VALUE, "invalid CRL",
			"It has no CRL number, which RFC 5280 requires of CRLs of version 2 (rule 9).",
			"cmblock.set_crl_policy with require_number => false lets such CRLs of this CA in.");
	if (taking->this_update > GetCurrentTimestamp() + CLOCK_SKEW)
		return cmblock_refuse_crl(
			taking, ERRCODE_INVALID_PARAMETER_VALUE, "the CRL is not valid yet",
			psprintf("Its this update is %s (rule 18).", timestamptz_to_str(taking->this_update)),
			"Compare the clocks of this server and of the CA.");
	return true;
}
