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

/* What is expected of the CRLs of a CA. */
typedef struct CrlExpectations
{
	int64 base_grace; /* microseconds */
	int64 delta_grace;
	int64 max_age; /* 0: no limit */
	CrlKeyPolicy key_policy;
	DeltaPolicy delta_policy;
	bool allow_sha1;
	bool require_number;
} CrlExpectations;

/*
 * The times, both included, for which an answer that was found for one time is the same: narrowed by each comparison
 * of that time on the way to the answer.
 */
typedef struct TimeSpan
{
	TimestampTz from;
	TimestampTz until;
} TimeSpan;

#define ALL_TIMES ((TimeSpan){.from = DT_NOBEGIN, .until = DT_NOEND})

static inline void
cmblock_narrow_span(TimeSpan *span, const TimeSpan *by)
{
	span->from = Max(span->from, by->from);
	span->until = Min(span->until, by->until);
}

static inline bool
cmblock_is_after(TimestampTz at, TimestampTz limit, TimeSpan *span)
{
	if (at > limit)
	{
		span->from = Max(span->from, limit + 1);
		return true;
	}
	span->until = Min(span->until, limit);
	return false;
}

static inline bool
cmblock_is_before(TimestampTz at, TimestampTz limit, TimeSpan *span)
{
	if (at < limit)
	{
		span->until = Min(span->until, limit - 1);
		return true;
	}
	span->from = Max(span->from, limit);
	return false;
}

/* A CA of the trust list, or a signer of CRLs. Valid until the next call of cmblock_trust_list. */
typedef struct Authority
{
	unsigned char sha256[SHA256_OCTETS];
	unsigned char sha1[SHA1_OCTETS];
	unsigned char key_sha256[SHA256_OCTETS];
	char *subject;
	struct varlena *serial;
	TimestampTz not_before;
	TimestampTz not_after;
	CrlPolicy policy;
	CrlExpectations crls;
	bool crl_signer; /* it signs no certificates */
	bool ca_version; /* has the CA Version of Microsoft CAs, which publish a CRL for each of their keys */
	bool is_ca;      /* basicConstraints says so */
	bool self_signed;
	bool damaged;             /* a CA of the list is its issuer, and did not make its signature */
	bool self_issued;         /* issuer and subject are one: not counted by pathLenConstraint */
	bool constrains_names;    /* has nameConstraints */
	bool constrains_policies; /* has policyConstraints */
	int path_length;          /* pathLenConstraint, -1: none */
	X509 *x509;
	Bitmapset *parents;     /* places in the list of the CAs that signed it; empty for an anchor */
	Bitmapset *excluded_by; /* places of the CAs whose nameConstraints its name breaks */
} Authority;

typedef struct TrustList
{
	int count;
	Authority *authority;
	uint64 generation;                   /* another number means another list */
	unsigned char digest[SHA256_OCTETS]; /* of its rows: the same in every session that has the same list */
} TrustList;

/* The trust list as the newest snapshot has it, parsed and linked; kept in the session until it changes. */
extern const TrustList *cmblock_trust_list(void);

/* The list that was read last, whatever happened since: for who holds pointers into it. */
extern const TrustList *cmblock_current_trust_list(void);

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
	TimeSpan span; /* for which the result is the same; set for every result */
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
	TRUST_CA_DAMAGED,
	TRUST_NO_CA,
	TRUST_POLICIES,
	TRUST_CONSTRAINTS
} TrustResult;

/*
 * Is the certificate signed by a CA of the trust list, with every CA above it valid at `at` and within its own
 * constraints? The chain is filled when it is. The signature is verified once in a session for each trust list.
 */
extern TrustResult cmblock_trust(const Leaf *leaf, TimestampTz at, TrustChain *chain);

/* The same, whatever the certificate may be used for: its status can be asked for although it is no client's. */
extern TrustResult cmblock_trust_any_use(const Leaf *leaf, TimestampTz at, TrustChain *chain);

/*
 * Cross-certificates give a certificate more than one path. This is another one than the two above find, by its number from 1 on
 * and by the list that was read last. False when there are not so many.
 */
extern bool cmblock_trust_other_path(const Leaf *leaf, TimestampTz at, int number, TrustChain *chain);

/*
 * The CAs above an authority of the list, up to this anchor; the chain is empty for the anchor itself. False when there is
 * no such path at that time.
 */
extern bool cmblock_trust_authority(const Authority *authority, const Authority *anchor, TimestampTz at,
									TrustChain *chain);

/*
 * A CA of the list that is the certificate's issuer by name, key identifier and key usage, while its key did not make
 * the signature; NULL when there is none, or when another one made it.
 */
extern const Authority *cmblock_false_issuer(X509 *certificate);

/* The authority that a thumbprint of 20 or 32 octets names, or NULL. */
extern const Authority *cmblock_find_authority(const unsigned char *thumbprint, int length);

/* The result as a sentence for an administrator. */
extern const char *cmblock_trust_sentence(TrustResult result);

/* cmblock.allow_sha1 */
extern bool cmblock_allow_sha1;

#endif
