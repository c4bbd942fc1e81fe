/*
 * trust.h
 *		The site's trust list, and the chain from a certificate up to it.
 */
#ifndef CMBLOCK_TRUST_H
#define CMBLOCK_TRUST_H

#include "postgres.h"

#include <openssl/x509.h>

#include "datatype/timestamp.h"
#include "nodes/bitmapset.h"

#include "catalog.h"
#include "types.h"

/* CAs above one certificate. */
#define MAX_CHAIN 10

/* A CA of the trust list. Valid until the next call of cmblock_trust_list. */
typedef struct Authority
{
	unsigned char sha256[SHA256_OCTETS];
	unsigned char sha1[SHA1_OCTETS];
	char *subject;
	TimestampTz not_before;
	TimestampTz not_after;
	CrlPolicy policy;
	bool self_signed;
	bool self_issued;      /* issuer and subject are one: not counted by pathLenConstraint */
	bool constrains_names; /* has nameConstraints */
	int path_length;       /* pathLenConstraint, -1: none */
	X509 *x509;
	Bitmapset *parents;     /* places in the list of the CAs that signed it; empty for an anchor */
	Bitmapset *excluded_by; /* places of the CAs whose nameConstraints its name breaks */
} Authority;

typedef struct TrustList
{
	int count;
	Authority *authority;
	uint64 generation; /* another number means another list */
} TrustList;

/* The trust list as the newest snapshot has it, parsed and linked; kept in the session until it changes. */
extern const TrustList *cmblock_trust_list(void);

/* The certificate asked about; it is read only when its answer is not known yet. */
typedef struct Leaf
{
	const unsigned char *sha256;
	const struct varlena *serial;
	X509 *(*read)(void *arg); /* NULL when it cannot be read any more */
	void *arg;
} Leaf;

/* The CAs above a certificate: first the one that signed it, last the anchor. */
typedef struct TrustChain
{
	int length;
	const Authority *ca[MAX_CHAIN];
} TrustChain;

typedef enum TrustResult
{
	TRUST_OK,
	TRUST_LIST_EMPTY,
	TRUST_UNREADABLE,
	TRUST_NO_ISSUER,
	TRUST_BAD_SIGNATURE,
	TRUST_BROKEN_DIGEST,
	TRUST_SHA1,
	TRUST_UNKNOWN_CRITICAL,
	TRUST_NOT_FOR_CLIENTS,
	TRUST_CA_NOT_VALID,
	TRUST_CONSTRAINTS
} TrustResult;

/*
 * Is the certificate signed by a CA of the trust list, with every CA above it valid at `at` and within its own
 * constraints? The chain is filled when it is. The signature is verified once in a session for each trust list.
 */
extern TrustResult cmblock_trust(const Leaf *leaf, TimestampTz at, TrustChain *chain);

/* The result as a sentence for an administrator. */
extern const char *cmblock_trust_sentence(TrustResult result);

/* cmblock.allow_sha1 */
extern bool cmblock_allow_sha1;

#endif
