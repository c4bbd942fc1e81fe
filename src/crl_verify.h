/*
 * crl_verify.h
 *		Who signed a CRL: its signature, and whether a certificate may be its signer's. No PostgreSQL in here.
 */
#ifndef CMBLOCK_CRL_VERIFY_H
#define CMBLOCK_CRL_VERIFY_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "crl_reader.h"

/* What an administrator may allow (rule 4). MD5 and older are never allowed. */
typedef struct CrlAlgorithmPolicy
{
	bool allow_sha1;
} CrlAlgorithmPolicy;

typedef enum CrlSignature
{
	CRLSIG_VALID,
	CRLSIG_INVALID,               /* the key is of the right kind, and did not make this signature */
	CRLSIG_WRONG_KEY_TYPE,        /* this kind of key cannot make this kind of signature */
	CRLSIG_ALGORITHM_NOT_ALLOWED, /* too weak for the policy */
	CRLSIG_ALGORITHM_UNKNOWN,     /* or not supported here */
	CRLSIG_BAD_PARAMETERS,        /* the algorithm's parameters are malformed or not supported */
	CRLSIG_BAD_KEY,               /* OpenSSL cannot read the key of the certificate */
	CRLSIG_FAILED /* OpenSSL could not try: out of memory, or a provider without the algorithm */
} CrlSignature;

/*
 * Is the CRL's signature over the raw octets of the signed part one of this key (rules 4 and 5)? "crl" must have been
 * read without error, so that inner and outer algorithm are equal. The key is what OpenSSL makes of a certificate's, NULL when
 * it cannot. OpenSSL's error queue is left empty.
 */
extern CrlSignature cmblock_crl_verify(const Crl *crl, EVP_PKEY *key, const CrlAlgorithmPolicy *policy);

/* A sentence for errdetail. */
extern const char *cmblock_crl_signature_text(CrlSignature signature);

/* Short name of a signature algorithm as OpenSSL knows it ("RSA-SHA256"), or its OID in digits; always terminated. */
extern void cmblock_crl_algorithm_name(DerSpan algorithm, char *name, size_t size);

typedef enum CrlSigner
{
	CRLSIGNER_POSSIBLE,       /* everything but the signature fits */
	CRLSIGNER_OTHER_NAME,     /* its subject is not the CRL's issuer (rule 13) */
	CRLSIGNER_OTHER_KEY,      /* the CRL's authority key identifier means another key (rule 14) */
	CRLSIGNER_MAY_NOT_SIGN,   /* its key usage has no cRLSign (rule 15) */
	CRLSIGNER_BAD_CERTIFICATE /* its extensions cannot be understood */
} CrlSigner;

/* Could this certificate's key have signed the CRL? "crl" may also come from an index. */
extern CrlSigner cmblock_crl_check_signer(const Crl *crl, X509 *certificate);

/* The parts of that, for callers that judge them by themselves. */
extern bool cmblock_crl_name_equals(DerSpan name, const X509_NAME *other);
extern bool cmblock_crl_key_matches(DerSpan authority_key_id, X509 *certificate);
extern CrlSigner cmblock_crl_may_sign(X509 *certificate);

/* A sentence for errdetail. */
extern const char *cmblock_crl_signer_text(CrlSigner signer);

#endif
