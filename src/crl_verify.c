/*
 * crl_verify.c
 *		Who signed a CRL: its signature, and whether a certificate may be its signer's.
 *
 * The signature is checked over the octets as they came (EVP_DigestVerify), not over what a decoder made of them.
 * OpenSSL's X509_CRL_verify is not used: it needs the whole list decoded first, and it takes every algorithm
 * that the library has, MD5 included.
 *
 * Which algorithms there are is a table here and not a question to the library, so that a library that learns
 * a new algorithm, or a distribution that brings an old one back, changes nothing unseen.
 *
 * Failure: no exceptions, a result each. Objects are freed on every path; OpenSSL's error queue is emptied at
 * the end, because whoever looks at it next must not find what this file has already told.
 */
#include <limits.h>

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "crl_verify.h"

typedef enum Strength
{
	NEVER, /* known, so that the refusal can say so */
	BY_POLICY,
	STRONG
} Strength;

/* What the parameters of an AlgorithmIdentifier may be. */
typedef enum Parameters
{
	NULL_OR_ABSENT, /* RFC 4055 wants NULL, and readers must take both */
	ABSENT,
	PSS
} Parameters;

typedef struct Algorithm
{
	int nid;
	int key_type;
	int digest; /* NID_undef: the scheme hashes by itself, or the parameters tell */
	Strength strength;
	Parameters parameters;
} Algorithm;

static const Algorithm algorithms[] = {
	{NID_md2WithRSAEncryption, EVP_PKEY_RSA, NID_md2, NEVER, NULL_OR_ABSENT},
	{NID_md4WithRSAEncryption, EVP_PKEY_RSA, NID_md4, NEVER, NULL_OR_ABSENT},
	{NID_md5WithRSAEncryption, EVP_PKEY_RSA, NID_md5, NEVER, NULL_OR_ABSENT},
	{NID_sha1WithRSAEncryption, EVP_PKEY_RSA, NID_sha1, BY_POLICY, NULL_OR_ABSENT},
	{NID_sha1WithRSA, EVP_PKEY_RSA, NID_sha1, BY_POLICY, NULL_OR_ABSENT},
	{NID_sha224WithRSAEncryption, EVP_PKEY_RSA, NID_sha224, STRONG, NULL_OR_ABSENT},
	{NID_sha256WithRSAEncryption, EVP_PKEY_RSA, NID_sha256, STRONG, NULL_OR_ABSENT},
	{NID_sha384WithRSAEncryption, EVP_PKEY_RSA, NID_sha384, STRONG, NULL_OR_ABSENT},
	{NID_sha512WithRSAEncryption, EVP_PKEY_RSA, NID_sha512, STRONG, NULL_OR_ABSENT},
	{NID_RSA_SHA3_256, EVP_PKEY_RSA, NID_sha3_256, STRONG, NULL_OR_ABSENT},
	{NID_RSA_SHA3_384, EVP_PKEY_RSA, NID_sha3_384, STRONG, NULL_OR_ABSENT},
	{NID_RSA_SHA3_512, EVP_PKEY_RSA, NID_sha3_512, STRONG, NULL_OR_ABSENT},
	{NID_rsassaPss, EVP_PKEY_RSA, NID_undef, STRONG, PSS},
	{NID_ecdsa_with_SHA1, EVP_PKEY_EC, NID_sha1, BY_POLICY, ABSENT},
	{NID_ecdsa_with_SHA224, EVP_PKEY_EC, NID_sha224, STRONG, ABSENT},
	{NID_ecdsa_with_SHA256, EVP_PKEY_EC, NID_sha256, STRONG, ABSENT},
	{NID_ecdsa_with_SHA384, EVP_PKEY_EC, NID_sha384, STRONG, ABSENT},
	{NID_ecdsa_with_SHA512, EVP_PKEY_EC, NID_sha512, STRONG, ABSENT},
	{NID_ecdsa_with_SHA3_256, EVP_PKEY_EC, NID_sha3_256, STRONG, ABSENT},
	{NID_ecdsa_with_SHA3_384, EVP_PKEY_EC, NID_sha3_384, STRONG, ABSENT},
	{NID_ecdsa_with_SHA3_512, EVP_PKEY_EC, NID_sha3_512, STRONG, ABSENT},
	{NID_dsaWithSHA1, EVP_PKEY_DSA, NID_sha1, BY_POLICY, NULL_OR_ABSENT},
	{NID_dsa_with_SHA224, EVP_PKEY_DSA, NID_sha224, STRONG, ABSENT},
	{NID_dsa_with_SHA256, EVP_PKEY_DSA, NID_sha256, STRONG, ABSENT},
	{NID_dsa_with_SHA384, EVP_PKEY_DSA, NID_sha384, STRONG, ABSENT},
	{NID_dsa_with_SHA512, EVP_PKEY_DSA, NID_sha512, STRONG, ABSENT},
	{NID_ED25519, EVP_PKEY_ED25519, NID_undef, STRONG, ABSENT},
	{NID_ED448, EVP_PKEY_ED448, NID_undef, STRONG, ABSENT},
};

/* Parameters of RSASSA-PSS, once they are understood. */
typedef struct PssParameters
{
	const EVP_MD *digest;
	const EVP_MD *mask_digest;
	int salt_octets;
} PssParameters;

static const Algorithm *
find_algorithm(const X509_ALGOR *algorithm)
{
	const ASN1_OBJECT *object;
	int nid;
	size_t i;

	X509_ALGOR_get0(&object, NULL, NULL, algorithm);
	nid = OBJ_obj2nid(object);
	for (i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
	{
		if (nid != NID_undef && algorithms[i].nid == nid)
			return &algorithms[i];
	}
	return NULL;
}

/* The digest of a PSS parameter, where SHA-1 is the default, under the policy. */
static CrlSignature
pss_digest(const X509_ALGOR *algorithm, const CrlAlgorithmPolicy *policy, const EVP_MD **digest)
{
	const ASN1_OBJECT *object;
	int type;
	int nid = NID_sha1;

	if (algorithm != NULL)
	{
		X509_ALGOR_get0(&object, &type, NULL, algorithm);
		if (type != V_ASN1_UNDEF && type != V_ASN1_NULL)
			return CRLSIG_BAD_PARAMETERS;
		nid = OBJ_obj2nid(object);
	}
	switch (nid)
	{
		case NID_md5:
			return CRLSIG_ALGORITHM_NOT_ALLOWED;
		case NID_sha1:
			if (!policy->allow_sha1)
				return CRLSIG_ALGORITHM_NOT_ALLOWED;
			break;
		case NID_sha224:
		case NID_sha256:
		case NID_sha384:
		case NID_sha512:
		case NID_sha3_256:
		case NID_sha3_384:
		case NID_sha3_512:
			break;
		default:
			return CRLSIG_ALGORITHM_UNKNOWN;
	}
	*digest = EVP_get_digestbynid(nid);
	return *digest != NULL ? CRLSIG_VALID : CRLSIG_ALGORITHM_UNKNOWN;
}

/* The mask generation function must be MGF1; its own parameter is the digest that it uses. */
static CrlSignature
pss_mask_digest(const X509_ALGOR *mask, const CrlAlgorithmPolicy *policy, const EVP_MD **digest)
{
	const ASN1_OBJECT *object;
	const void *value;
	int type;
	const unsigned char *p;
	const unsigned char *end;
	X509_ALGOR *inner;
	CrlSignature result;

	if (mask == NULL)
		return pss_digest(NULL, policy, digest);
	X509_ALGOR_get0(&object, &type, &value, mask);
	if (OBJ_obj2nid(object) != NID_mgf1)
		return CRLSIG_ALGORITHM_UNKNOWN;
	if (type != V_ASN1_SEQUENCE)
		return CRLSIG_BAD_PARAMETERS;
	p = ASN1_STRING_get0_data(value);
	end = p + ASN1_STRING_length(value);
	inner = d2i_X509_ALGOR(NULL, &p, ASN1_STRING_length(value));
	if (inner == NULL || p != end)
		result = CRLSIG_BAD_PARAMETERS;
	else
		result = pss_digest(inner, policy, digest);
	X509_ALGOR_free(inner);
	return result;
}

/* RFC 4055 3.1. Without parameters a key, but never a signature, is complete. */
static CrlSignature
read_pss_parameters(const X509_ALGOR *algorithm, const CrlAlgorithmPolicy *policy, PssParameters *pss)
{
	const void *value;
	int type;
	const unsigned char *p;
	const unsigned char *end;
	RSA_PSS_PARAMS *parameters;
	CrlSignature result;

	X509_ALGOR_get0(NULL, &type, &value, algorithm);
	if (type != V_ASN1_SEQUENCE)
		return CRLSIG_BAD_PARAMETERS;
	p = ASN1_STRING_get0_data(value);
	end = p + ASN1_STRING_length(value);
	parameters = d2i_RSA_PSS_PARAMS(NULL, &p, ASN1_STRING_length(value));
	if (parameters == NULL || p != end)
	{
		RSA_PSS_PARAMS_free(parameters);
		return CRLSIG_BAD_PARAMETERS;
	}

	result = pss_digest(parameters->hashAlgorithm, policy, &pss->digest);
	if (result == CRLSIG_VALID)
		result = pss_mask_digest(parameters->maskGenAlgorithm, policy, &pss->mask_digest);
	if (result == CRLSIG_VALID)
	{
		int64_t salt = 20;
		int64_t trailer = 1;

		if ((parameters->saltLength != NULL && ASN1_INTEGER_get_int64(&salt, parameters->saltLength) != 1) ||
			(parameters->trailerField != NULL &&
			 ASN1_INTEGER_get_int64(&trailer, parameters->trailerField) != 1) ||
			salt < 0 || salt > INT_MAX || trailer != 1)
			result = CRLSIG_BAD_PARAMETERS;
		pss->salt_octets = (int) salt;
	}
	RSA_PSS_PARAMS_free(parameters);
	return result;
}

static bool
parameters_are_valid(const Algorithm *known, const X509_ALGOR *algorithm)
{
	int type;

	X509_ALGOR_get0(NULL, &type, NULL, algorithm);
	switch (known->parameters)
	{
		case NULL_OR_ABSENT:
			return type == V_ASN1_NULL || type == V_ASN1_UNDEF;
		case ABSENT:
			return type == V_ASN1_UNDEF;
		case PSS:
			break; /* read_pss_parameters looks closer */
	}
	return true;
}

/* A key that is only for PSS makes nothing else. */
static bool
key_fits(const Algorithm *known, EVP_PKEY *key)
{
	int type = EVP_PKEY_base_id(key);

	return type == known->key_type || (known->parameters == PSS && type == EVP_PKEY_RSA_PSS);
}

static CrlSignature
verify_octets(const Crl *crl, EVP_PKEY *key, const EVP_MD *digest, const PssParameters *pss)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	EVP_PKEY_CTX *key_context;
	CrlSignature result = CRLSIG_FAILED;

	if (context == NULL || EVP_DigestVerifyInit(context, &key_context, digest, NULL, key) != 1)
		goto done;
	if (pss != NULL && (EVP_PKEY_CTX_set_rsa_padding(key_context, RSA_PKCS1_PSS_PADDING) <= 0 ||
						EVP_PKEY_CTX_set_rsa_mgf1_md(key_context, pss->mask_digest) <= 0 ||
						EVP_PKEY_CTX_set_rsa_pss_saltlen(key_context, pss->salt_octets) <= 0))
	{
		/* Such as a key that is bound to other parameters. */
		result = CRLSIG_BAD_PARAMETERS;
		goto done;
	}
	/* 0 is a wrong signature, and a negative number mostly one that is not even well formed. */
	result =
		EVP_DigestVerify(context, crl->signature.data, crl->signature.size, crl->tbs.data, crl->tbs.size) == 1
			? CRLSIG_VALID
			: CRLSIG_INVALID;
done:
	EVP_MD_CTX_free(context);
	return result;
}

static CrlSignature
verify_with_algorithm(const Crl *crl, EVP_PKEY *key, const CrlAlgorithmPolicy *policy,
					  const X509_ALGOR *algorithm)
{
	const Algorithm *known = find_algorithm(algorithm);
	const EVP_MD *digest = NULL;
	PssParameters pss;
	CrlSignature result;

	if (known == NULL)
		return CRLSIG_ALGORITHM_UNKNOWN;
	if (known->strength == NEVER || (known->strength == BY_POLICY && !policy->allow_sha1))
		return CRLSIG_ALGORITHM_NOT_ALLOWED;
	if (!parameters_are_valid(known, algorithm))
		return CRLSIG_BAD_PARAMETERS;
	if (known->parameters == PSS)
	{
		result = read_pss_parameters(algorithm, policy, &pss);
		if (result != CRLSIG_VALID)
			return result;
		digest = pss.digest;
	}
	else if (known->digest != NID_undef)
	{
		digest = EVP_get_digestbynid(known->digest);
		if (digest == NULL)
			return CRLSIG_FAILED;
	}
	if (key == NULL)
		return CRLSIG_BAD_KEY;
	if (!key_fits(known, key))
		return CRLSIG_WRONG_KEY_TYPE;
	return verify_octets(crl, key, digest, known->parameters == PSS ? &pss : NULL);
}

CrlSignature
cmblock_crl_verify(const Crl *crl, EVP_PKEY *key, const CrlAlgorithmPolicy *policy)
{
	const unsigned char *p = crl->signature_algorithm.data;
	X509_ALGOR *algorithm;
	CrlSignature result;

	ERR_clear_error();
	algorithm = d2i_X509_ALGOR(NULL, &p, (long) crl->signature_algorithm.size);
	if (algorithm == NULL)
		result = CRLSIG_BAD_PARAMETERS;
	else
		result = verify_with_algorithm(crl, key, policy, algorithm);
	X509_ALGOR_free(algorithm);
	ERR_clear_error();
	return result;
}

void
cmblock_crl_algorithm_name(DerSpan algorithm, char *name, size_t size)
{
	const unsigned char *p = algorithm.data;
	X509_ALGOR *decoded = d2i_X509_ALGOR(NULL, &p, (long) algorithm.size);
	const ASN1_OBJECT *object;
	int nid;

	if (size == 0)
		return;
	name[0] = '\0';
	if (decoded != NULL)
	{
		X509_ALGOR_get0(&object, NULL, NULL, decoded);
		nid = OBJ_obj2nid(object);
		if (nid != NID_undef)
			OPENSSL_strlcpy(name, OBJ_nid2sn(nid), size);
		else
			OBJ_obj2txt(name, size > INT_MAX ? INT_MAX : (int) size, object, 1);
	}
	X509_ALGOR_free(decoded);
	ERR_clear_error();
}

bool
cmblock_crl_name_equals(DerSpan name, const X509_NAME *other)
{
	const unsigned char *p = name.data;
	X509_NAME *decoded;
	bool equal;

	if (name.size > LONG_MAX)
		return false;
	decoded = d2i_X509_NAME(NULL, &p, (long) name.size);
	equal = decoded != NULL && p == name.data + name.size && X509_NAME_cmp(decoded, other) == 0;
	X509_NAME_free(decoded);
	ERR_clear_error();
	return equal;
}

bool
cmblock_crl_key_matches(DerSpan authority_key_id, X509 *certificate)
{
	const unsigned char *p = authority_key_id.data;
	AUTHORITY_KEYID *decoded;
	bool matches;

	if (authority_key_id.data == NULL)
		return true;
	/* X509_check_akid compares with what is cached, and a fresh certificate has nothing cached: make it so. */
	(void) X509_get_extension_flags(certificate);
	decoded = d2i_AUTHORITY_KEYID(NULL, &p, (long) authority_key_id.size);
	matches = decoded != NULL && X509_check_akid(certificate, decoded) == X509_V_OK;
	AUTHORITY_KEYID_free(decoded);
	ERR_clear_error();
	return matches;
}

CrlSigner
cmblock_crl_may_sign(X509 *certificate)
{
	uint32_t flags = X509_get_extension_flags(certificate);

	ERR_clear_error();
	if (flags & EXFLAG_INVALID)
		return CRLSIGNER_BAD_CERTIFICATE;
	if ((flags & EXFLAG_KUSAGE) && !(X509_get_key_usage(certificate) & KU_CRL_SIGN))
		return CRLSIGNER_MAY_NOT_SIGN;
	return CRLSIGNER_POSSIBLE;
}

CrlSigner
cmblock_crl_check_signer(const Crl *crl, X509 *certificate)
{
	if (!cmblock_crl_name_equals(crl->issuer, X509_get_subject_name(certificate)))
		return CRLSIGNER_OTHER_NAME;
	if (!cmblock_crl_key_matches(crl->authority_key_id, certificate))
		return CRLSIGNER_OTHER_KEY;
	return cmblock_crl_may_sign(certificate);
}

const char *
cmblock_crl_signature_text(CrlSignature signature)
{
	switch (signature)
	{
		case CRLSIG_VALID:
			return "The signature is valid.";
		case CRLSIG_INVALID:
			return "The signature was not made by this key over these data.";
		case CRLSIG_WRONG_KEY_TYPE:
			return "A key of this type cannot make a signature of the algorithm that the CRL names.";
		case CRLSIG_ALGORITHM_NOT_ALLOWED:
			return "The signature algorithm is too weak for the policy.";
		case CRLSIG_ALGORITHM_UNKNOWN:
			return "The signature algorithm is not supported.";
		case CRLSIG_BAD_PARAMETERS:
			return "The parameters of the signature algorithm are malformed or not supported.";
		case CRLSIG_BAD_KEY:
			return "OpenSSL cannot read the public key of the signer's certificate.";
		case CRLSIG_FAILED:
			return "OpenSSL could not check the signature.";
	}
	return "The signature could not be checked.";
}

const char *
cmblock_crl_signer_text(CrlSigner signer)
{
	switch (signer)
	{
		case CRLSIGNER_POSSIBLE:
			return "The certificate may be the signer's.";
		case CRLSIGNER_OTHER_NAME:
			return "The certificate's subject is not the issuer of the CRL.";
		case CRLSIGNER_OTHER_KEY:
			return "The authority key identifier of the CRL means another key.";
		case CRLSIGNER_MAY_NOT_SIGN:
			return "The key usage of the certificate does not allow it to sign CRLs.";
		case CRLSIGNER_BAD_CERTIFICATE:
			return "The extensions of the certificate cannot be understood.";
	}
	return "The certificate cannot be judged.";
}
