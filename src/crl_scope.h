/*
 * crl_scope.h
 *		Does a series of CRLs cover a certificate, and for which reasons?
 */
#ifndef CMBLOCK_CRL_SCOPE_H
#define CMBLOCK_CRL_SCOPE_H

#include "postgres.h"

#include <openssl/x509v3.h>

#include "crl_table.h"
#include "trust.h"

/* A certificate that CRLs are asked about. What its extensions say is read when a CRL needs it. */
typedef struct CrlSubject
{
	const Authority *authority; /* of the trust list; else NULL, and it is the leaf */
	const Leaf *leaf;
	const struct varlena *serial;
	X509_NAME *issuer;
	X509 *x509;
	bool x509_read;
	bool points_read;
	STACK_OF(DIST_POINT) * points; /* NULL: none */
	bool points_bad;               /* there are some, but they cannot be understood */
} CrlSubject;

/* What the series lists is revoked, and what it does not list is not good for that: a bit that stands for no reason. */
#define CRL_REVOKES 1

/*
 * The reasons (bits of ReasonFlags) for which the series speaks of the certificate, or CRL_REVOKES; 0: it does not
 * speak of it. "direct": the CRL's issuer is the certificate's.
 */
extern uint16 cmblock_crl_covers(const CrlSeries *series, CrlSubject *subject, bool direct);

#endif
