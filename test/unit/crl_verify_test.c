/*
 * crl_verify_test.c
 *		Signatures of CRLs, the algorithm policy, and who may be a CRL's signer.
 */
#include <openssl/dsa.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "crl_verify.h"

#include "crl_expect.h"

static const CrlAlgorithmPolicy strict = {false};
static const CrlAlgorithmPolicy sha1_allowed = {true};

#define SHA1_ID "06052B0E03021A"
#define SHA256_ID "0609608648016503040201"
#define MD5_WITH_RSA "300D06092A864886F70D0101040500"
#define SHA1_WITH_RSA "300D06092A864886F70D0101050500"
#define ECDSA_SHA1 "300906072A8648CE3D0401"
#define ECDSA_SHA256 "300A06082A8648CE3D040302"
#define DSA_SHA256 "300B0609608648016503040302"
#define ED25519 "300506032B6570"
#define ED448 "300506032B6571"

static EVP_PKEY *rsa;
static EVP_PKEY *other_rsa;
static EVP_PKEY *rsa_pss;
static EVP_PKEY *ec;
static EVP_PKEY *dsa;
static EVP_PKEY *ed25519;
static EVP_PKEY *ed448;

/* How a test signs. */
typedef struct Signing
{
	EVP_PKEY *key;
	const EVP_MD *digest;
	bool pss;
	int salt;
	const EVP_MD *mask_digest;
} Signing;

/* A CRL that names this algorithm inside and outside, signed. */
static Bytes
signed_crl(Bytes algorithm, Signing signing)
{
	CrlParts parts = usual_parts();
	uint8_t signature[2048];
	size_t size = sizeof(signature);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	EVP_PKEY_CTX *key_context;
	Bytes tbs;

	parts.inner_algorithm = parts.outer_algorithm = algorithm;
	tbs = build_tbs(&parts);
	if (EVP_DigestSignInit(context, &key_context, signing.digest, NULL, signing.key) != 1 ||
		(signing.pss && (EVP_PKEY_CTX_set_rsa_padding(key_context, RSA_PKCS1_PSS_PADDING) != 1 ||
						 EVP_PKEY_CTX_set_rsa_pss_saltlen(key_context, signing.salt) != 1 ||
						 EVP_PKEY_CTX_set_rsa_mgf1_md(key_context, signing.mask_digest) != 1)) ||
		EVP_DigestSign(context, signature, &size, tbs.data, tbs.size) != 1)
	{
		printf("Bail out! cannot sign\n");
		exit(2);
	}
	EVP_MD_CTX_free(context);
	parts.signature = wrap(0x03, concat(hex("00"), bytes(signature, size)));
	return build_crl(parts);
}

static void
verify(Bytes der, EVP_PKEY *key, const CrlAlgorithmPolicy *policy, CrlSignature expected, const char *name)
{
	CrlSignature found = CRLSIG_FAILED;

	if (cmblock_crl_read(der.data, der.size, &limits, &crl) == CRLERR_NONE)
	{
		/* Somebody else's error must not lead astray, and none may be left behind. */
		ERR_raise(ERR_LIB_USER, 1);
		found = cmblock_crl_verify(&crl, key, policy);
	}
	if (!ok(found == expected && ERR_peek_error() == 0, "%s", name))
		printf("#   %s\n", cmblock_crl_signature_text(found));
}

static Bytes
pss_algorithm(const char *digest, const char *mask_digest, int salt, int trailer)
{
	return sequence(oid("2A864886F70D01010A"),
					sequence(digest == NULL ? nothing : element(0xa0, sequence(hex(digest), hex("0500"))),
							 mask_digest == NULL
								 ? nothing
								 : element(0xa1, sequence(oid("2A864886F70D010108"),
														  sequence(hex(mask_digest), hex("0500")))),
							 salt == 20 ? nothing : element(0xa2, integer((uint64_t) salt)),
							 trailer == 1 ? nothing : element(0xa3, integer((uint64_t) trailer))));
}

static void
test_algorithms(void)
{
	const Signing by_rsa = {.key = rsa, .digest = EVP_sha256()};
	const Signing by_ec = {.key = ec, .digest = EVP_sha256()};
	Bytes der = signed_crl(hex(SHA256_WITH_RSA), by_rsa);
	uint8_t *changed;

	verify(der, rsa, &strict, CRLSIG_VALID, "rule 5: RSA with SHA-256");
	verify(der, other_rsa, &strict, CRLSIG_INVALID, "rule 5: another RSA key");
	verify(der, ec, &strict, CRLSIG_WRONG_KEY_TYPE, "rule 5: a key of another type");
	verify(der, rsa_pss, &strict, CRLSIG_WRONG_KEY_TYPE, "rule 5: a key that is only for PSS");
	verify(der, NULL, &strict, CRLSIG_BAD_KEY, "rule 5: a certificate whose key cannot be read");

	/* One bit of the issuer's name, which only the signature guards. */
	changed = (uint8_t *) der.data;
	changed[(size_t) (crl.issuer.data + crl.issuer.size - 1 - der.data)] ^= 1;
	verify(der, rsa, &strict, CRLSIG_INVALID, "rule 5: a changed bit");
	verify(signed_crl(hex("300B06092A864886F70D01010B"), by_rsa), rsa, &strict, CRLSIG_VALID,
		   "rule 4: RSA without the NULL for parameters");
	verify(signed_crl(hex("300E06092A864886F70D01010B040101"), by_rsa), rsa, &strict, CRLSIG_BAD_PARAMETERS,
		   "rule 4: RSA with parameters");

	verify(signed_crl(hex(ECDSA_SHA256), by_ec), ec, &strict, CRLSIG_VALID, "rule 5: ECDSA with SHA-256");
	verify(signed_crl(hex("300C06082A8648CE3D0403020500"), by_ec), ec, &strict, CRLSIG_BAD_PARAMETERS,
		   "rule 4: ECDSA with parameters");
	verify(signed_crl(hex(ECDSA_SHA256), by_rsa), ec, &strict, CRLSIG_INVALID,
		   "rule 5: an ECDSA signature that is none");
	verify(signed_crl(hex(DSA_SHA256), (Signing){.key = dsa, .digest = EVP_sha256()}), dsa, &strict,
		   CRLSIG_VALID, "rule 5: DSA with SHA-256");
	verify(signed_crl(hex(ED25519), (Signing){.key = ed25519}), ed25519, &strict, CRLSIG_VALID,
		   "rule 5: Ed25519");
	verify(signed_crl(hex(ED448), (Signing){.key = ed448}), ed448, &strict, CRLSIG_VALID, "rule 5: Ed448");
	verify(signed_crl(hex(ED448), (Signing){.key = ed25519}), ed25519, &strict, CRLSIG_WRONG_KEY_TYPE,
		   "rule 5: Ed448 by name and Ed25519 by key");
}

static void
test_policy(void)
{
	const Signing by_sha1 = {.key = rsa, .digest = EVP_sha1()};
	Bytes der = signed_crl(hex(SHA1_WITH_RSA), by_sha1);
	char name[32];

	verify(der, rsa, &strict, CRLSIG_ALGORITHM_NOT_ALLOWED, "rule 4: no SHA-1");
	verify(der, rsa, &sha1_allowed, CRLSIG_VALID, "rule 4: unless an administrator allows it");
	verify(signed_crl(hex(ECDSA_SHA1), (Signing){.key = ec, .digest = EVP_sha1()}), ec, &strict,
		   CRLSIG_ALGORITHM_NOT_ALLOWED, "rule 4: no SHA-1 with ECDSA");
	verify(signed_crl(hex(MD5_WITH_RSA), (Signing){.key = rsa, .digest = EVP_md5()}), rsa, &sha1_allowed,
		   CRLSIG_ALGORITHM_NOT_ALLOWED, "rule 4: MD5 never");
	verify(signed_crl(sequence(oid("2A0304")), by_sha1), rsa, &sha1_allowed, CRLSIG_ALGORITHM_UNKNOWN,
		   "rule 4: an unknown algorithm");
	/* rsaEncryption is an algorithm of keys, not of signatures. */
	verify(signed_crl(hex("300D06092A864886F70D0101010500"), by_sha1), rsa, &sha1_allowed,
		   CRLSIG_ALGORITHM_UNKNOWN, "rule 4: an algorithm that is not for signatures");

	cmblock_crl_algorithm_name((DerSpan){hex(SHA1_WITH_RSA).data, 15}, name, sizeof(name));
	ok(strcmp(name, "RSA-SHA1") == 0, "the name of an algorithm");
	cmblock_crl_algorithm_name((DerSpan){hex("300506032A0304").data, 7}, name, sizeof(name));
	ok(strcmp(name, "1.2.3.4") == 0, "the name of an unknown one");
	cmblock_crl_algorithm_name((DerSpan){hex("0500").data, 2}, name, sizeof(name));
	ok(strcmp(name, "") == 0, "the name of none");
}

static void
test_pss(void)
{
	const Signing usual = {rsa, EVP_sha256(), true, 32, EVP_sha256()};
	const Signing by_pss_key = {rsa_pss, EVP_sha256(), true, 32, EVP_sha256()};
	const Signing by_sha1 = {rsa, EVP_sha1(), true, 20, EVP_sha1()};
	const Signing mixed = {rsa, EVP_sha256(), true, 32, EVP_sha1()};
	Bytes algorithm = pss_algorithm(SHA256_ID, SHA256_ID, 32, 1);

	verify(signed_crl(algorithm, usual), rsa, &strict, CRLSIG_VALID, "rule 5: RSA-PSS");
	verify(signed_crl(algorithm, by_pss_key), rsa_pss, &strict, CRLSIG_VALID,
		   "rule 5: RSA-PSS by a key that is only for it");
	verify(signed_crl(algorithm, usual), other_rsa, &strict, CRLSIG_INVALID, "rule 5: RSA-PSS, another key");
	verify(signed_crl(pss_algorithm(SHA256_ID, SHA256_ID, 16, 1), usual), rsa, &strict, CRLSIG_INVALID,
		   "rule 5: RSA-PSS with another salt length than it says");
	verify(signed_crl(pss_algorithm(NULL, NULL, 20, 1), by_sha1), rsa, &strict, CRLSIG_ALGORITHM_NOT_ALLOWED,
		   "rule 4: RSA-PSS with its defaults is SHA-1");
	verify(signed_crl(pss_algorithm(NULL, NULL, 20, 1), by_sha1), rsa, &sha1_allowed, CRLSIG_VALID,
		   "rule 4: and is taken where SHA-1 is allowed");
	verify(signed_crl(pss_algorithm(SHA256_ID, SHA1_ID, 32, 1), mixed), rsa, &strict,
		   CRLSIG_ALGORITHM_NOT_ALLOWED, "rule 4: SHA-1 in the mask counts, too");
	verify(signed_crl(pss_algorithm(SHA256_ID, SHA256_ID, 32, 2), usual), rsa, &strict, CRLSIG_BAD_PARAMETERS,
		   "rule 4: RSA-PSS with another trailer");
	verify(signed_crl(sequence(oid("2A864886F70D01010A")), usual), rsa, &strict, CRLSIG_BAD_PARAMETERS,
		   "rule 4: RSA-PSS without parameters");
	verify(signed_crl(sequence(oid("2A864886F70D01010A"), sequence(integer(1))), usual), rsa, &strict,
		   CRLSIG_BAD_PARAMETERS, "rule 4: RSA-PSS with parameters that are none");
	verify(signed_crl(pss_algorithm("06032A0304", SHA256_ID, 32, 1), usual), rsa, &strict,
		   CRLSIG_ALGORITHM_UNKNOWN, "rule 4: RSA-PSS with an unknown digest");
}

/* A certificate with this common name; key usage and subject key identifier as X509V3_EXT_conf writes them, or NULL. */
static X509 *
make_certificate(const char *name, const char *key_usage, const char *key_id)
{
	X509 *certificate = X509_new();
	X509_NAME *subject = X509_get_subject_name(certificate);
	X509_EXTENSION *one;

	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *) name, -1, -1, 0);
	X509_set_issuer_name(certificate, subject);
	if (key_usage != NULL)
	{
		one = X509V3_EXT_conf_nid(NULL, NULL, NID_key_usage, key_usage);
		X509_add_ext(certificate, one, -1);
		X509_EXTENSION_free(one);
	}
	if (key_id != NULL)
	{
		one = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_key_identifier, key_id);
		X509_add_ext(certificate, one, -1);
		X509_EXTENSION_free(one);
	}
	return certificate;
}

static void
signer_is(CrlSigner expected, const char *name, const char *key_usage, const char *key_id, const char *test)
{
	X509 *certificate = make_certificate(name, key_usage, key_id);
	CrlSigner found;

	found = cmblock_crl_check_signer(&crl, certificate);
	if (!ok(found == expected && ERR_peek_error() == 0, "%s", test))
		printf("#   %s\n", cmblock_crl_signer_text(found));
	X509_free(certificate);
}

static void
test_signers(void)
{
	CrlParts parts = usual_parts();
	Bytes der = build_crl(parts);

	cmblock_crl_read(der.data, der.size, &limits, &crl);
	signer_is(CRLSIGNER_POSSIBLE, "CA", "cRLSign", NULL, "rule 13: the issuer of the CRL");
	signer_is(CRLSIGNER_OTHER_NAME, "CB", "cRLSign", NULL, "rule 13: another issuer");
	signer_is(CRLSIGNER_POSSIBLE, " ca ", "cRLSign", NULL, "rule 13: the same name in another form");
	signer_is(CRLSIGNER_POSSIBLE, "CA", NULL, NULL, "rule 15: no key usage");
	signer_is(CRLSIGNER_POSSIBLE, "CA", "keyCertSign,cRLSign", NULL, "rule 15: a CA that signs both");
	signer_is(CRLSIGNER_MAY_NOT_SIGN, "CA", "keyCertSign", NULL, "rule 15: key usage without cRLSign");
	signer_is(CRLSIGNER_POSSIBLE, "CA", "cRLSign", "A1B2", "rule 14: no authority key identifier");

	parts.extensions =
		concat(parts.extensions, extension(AUTHORITY_KEY_ID, sequence(wrap(0x80, hex("A1B2")))));
	der = build_crl(parts);
	cmblock_crl_read(der.data, der.size, &limits, &crl);
	signer_is(CRLSIGNER_POSSIBLE, "CA", "cRLSign", "A1B2", "rule 14: the key identifier that is meant");
	signer_is(CRLSIGNER_OTHER_KEY, "CA", "cRLSign", "A1B3", "rule 14: another key identifier");
	signer_is(CRLSIGNER_POSSIBLE, "CA", "cRLSign", NULL, "rule 14: a certificate without one");

	parts = usual_parts();
	parts.extensions = concat(
		parts.extensions,
		extension(AUTHORITY_KEY_ID, sequence(element(0xa1, wrap(0xa4, common_name("CA"))), hex("820107"))));
	der = build_crl(parts);
	cmblock_crl_read(der.data, der.size, &limits, &crl);
	signer_is(CRLSIGNER_POSSIBLE, "CA", "cRLSign", NULL, "rule 14: issuer and serial that are meant");
	parts = usual_parts();
	parts.extensions = concat(
		parts.extensions,
		extension(AUTHORITY_KEY_ID, sequence(element(0xa1, wrap(0xa4, common_name("CA"))), hex("820108"))));
	der = build_crl(parts);
	cmblock_crl_read(der.data, der.size, &limits, &crl);
	signer_is(CRLSIGNER_OTHER_KEY, "CA", "cRLSign", NULL, "rule 14: another serial");
}

/* DSA keys need parameters first. */
static EVP_PKEY *
make_dsa_key(void)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_DSA, NULL);
	EVP_PKEY *parameters = NULL;
	EVP_PKEY *key = NULL;

	if (EVP_PKEY_paramgen_init(context) == 1 && EVP_PKEY_CTX_set_dsa_paramgen_bits(context, 1024) == 1)
		EVP_PKEY_paramgen(context, &parameters);
	EVP_PKEY_CTX_free(context);
	context = EVP_PKEY_CTX_new(parameters, NULL);
	EVP_PKEY_keygen_init(context);
	EVP_PKEY_keygen(context, &key);
	EVP_PKEY_CTX_free(context);
	EVP_PKEY_free(parameters);
	return key;
}

static EVP_PKEY *
make_pss_key(void)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA_PSS, NULL);
	EVP_PKEY *key = NULL;

	EVP_PKEY_keygen_init(context);
	EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048);
	EVP_PKEY_keygen(context, &key);
	EVP_PKEY_CTX_free(context);
	return key;
}

int
main(void)
{
	static const TestFunction tests[] = {test_algorithms, test_policy, test_pss, test_signers};
	EVP_PKEY **const keys[] = {&rsa, &other_rsa, &rsa_pss, &ec, &dsa, &ed25519, &ed448};
	size_t i;

	rsa = EVP_RSA_gen(2048);
	other_rsa = EVP_RSA_gen(2048);
	rsa_pss = make_pss_key();
	ec = EVP_EC_gen("P-256");
	dsa = make_dsa_key();
	ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	ed448 = EVP_PKEY_Q_keygen(NULL, NULL, "ED448");
	run_tests(tests, sizeof(tests) / sizeof(tests[0]));
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		EVP_PKEY_free(*keys[i]);
	return done_testing();
}
