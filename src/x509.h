/*
 * x509.h
 *		One certificate: from the octets somebody sent to the facts that cmblock keeps and decides by.
 */
#ifndef CMBLOCK_X509_H
#define CMBLOCK_X509_H

#include "postgres.h"

#include <openssl/x509.h>

#include "datatype/timestamp.h"

#include "types.h"

/* More than any certificate in the field has, and little enough to parse for a stranger. */
#define MAX_CERTIFICATE_OCTETS (64 * 1024)

/* Why octets are no certificate: sentences for DETAIL and HINT. */
typedef struct CertificateProblem
{
	const char *detail;
	const char *hint;
} CertificateProblem;

typedef struct CertificateFacts
{
	unsigned char sha256[SHA256_OCTETS]; /* of the DER */
	unsigned char sha1[SHA1_OCTETS];
	unsigned char key_sha256[SHA256_OCTETS]; /* of the SubjectPublicKeyInfo */
	char *subject;                           /* RFC 2253, in the database encoding */
	char *issuer;
	struct varlena *serial; /* a certificate_serial */
	TimestampTz not_before;
	TimestampTz not_after;
	bool self_signed;          /* issuer and subject are one, and its own key made the signature */
	bool is_ca;                /* basicConstraints says so */
	bool is_v1;                /* too old to say whether it is a CA */
	bool has_key_usage;        /* else every use is allowed */
	uint32 key_usage;          /* KU_... of OpenSSL */
	bool has_unknown_critical; /* a critical extension that OpenSSL does not know */
	bytea *der;
	X509 *x509; /* freed with the memory context the facts were made in */
} CertificateFacts;

/*
 * The DER of a certificate given as DER or PEM, not parsed yet. NULL and the problem when it is too large, empty, or
 * PEM that is not exactly one certificate. A DER input is returned as it is, not copied.
 */
extern const bytea *cmblock_certificate_der(const bytea *input, CertificateProblem *problem);

/* Parses DER. NULL and the problem when it is no certificate; nothing is raised but out of memory. */
extern CertificateFacts *cmblock_read_certificate(const bytea *der, CertificateProblem *problem);

/* An argument of type bytea, DER or PEM, to facts; an error (22023) when it is no certificate. */
extern CertificateFacts *cmblock_certificate_argument(Datum argument);

/*
 * Detoasts an argument unless it is larger than any certificate: then NULL, without unpacking it.
 */
extern bytea *cmblock_bounded_argument(Datum argument);

/* An X509 that lives as long as the current memory context, or NULL when OpenSSL cannot read it. */
extern X509 *cmblock_x509(const unsigned char *der, size_t length);

/* The DER of a Name as RFC 2253 text in the database encoding, for people; "(unreadable)" when it is none. */
extern char *cmblock_name_text(const unsigned char *der, size_t length);

/* Digests. */
extern void cmblock_sha256(const void *data, size_t length, unsigned char *digest);
extern void cmblock_sha1(const void *data, size_t length, unsigned char *digest);

#endif
