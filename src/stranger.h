/*
 * stranger.h
 *		What certificates say that nobody registered, read once in a session.
 */
#ifndef CMBLOCK_STRANGER_H
#define CMBLOCK_STRANGER_H

#include "postgres.h"

#include "x509.h"

/*
 * The facts of the certificate with this DER and SHA-256; NULL and the problem when it is none. Where it was read before
 * in this session, `der` and `x509` are NULL in them. They last until this is called again.
 */
extern const CertificateFacts *cmblock_stranger(const bytea *der, const unsigned char *sha256,
												CertificateProblem *problem);

#endif
