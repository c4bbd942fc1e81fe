/*
 * revocation.h
 *		Has a CA revoked the certificate, or a CA above it?
 */
#ifndef CMBLOCK_REVOCATION_H
#define CMBLOCK_REVOCATION_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog.h"
#include "trust.h"

typedef struct RevocationAnswer
{
	bool checked;       /* false: the policy of every CA of the chain is "off" */
	Revocation status;  /* of the whole chain: one revoked is revoked, one unknown is unknown, else good */
	bool required;      /* unknown comes from a CA whose policy is "required" */
	const char *detail; /* a sentence for an administrator */
} RevocationAnswer;

/*
 * Asks for the leaf and for each CA of the chain below the anchor. Raises nothing for what the CRLs or the
 * certificate hold.
 */
extern void cmblock_check_revocation(const Leaf *leaf, const TrustChain *chain, TimestampTz at,
									 RevocationAnswer *answer);

#endif
