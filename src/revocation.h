/*
 * revocation.h
 *		Has a CA revoked the certificate, or a CA above it?
 */
#ifndef CMBLOCK_REVOCATION_H
#define CMBLOCK_REVOCATION_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog.h"
#include "crl_table.h"
#include "trust.h"

/*
 * Why a certificate is not known to be good. Of several CRLs that could have said so, the one that came nearest gives
 * the reason: later ones here are nearer.
 */
typedef enum RevocationReason
{
	REV_NONE,               /* good */
	REV_CRL_MISSING,        /* no CRL of its issuer is held */
	REV_OTHER_KEY,          /* only CRLs of another key of its issuer, which do not count */
	REV_PARTITION_NOT_HELD, /* the CRLs that are held do not cover it */
	REV_SIGNER_UNTRUSTED,   /* the signer of the CRL is not below the same anchor, or not in its validity */
	REV_CRL_DAMAGED,        /* its row cannot be read */
	REV_SIGNER_REVOKED,     /* the separate signer of the CRL is revoked */
	REV_SIGNER_UNKNOWN,     /* or nobody knows */
	REV_NO_NEXT_UPDATE,
	REV_CRL_NOT_YET_VALID,
	REV_CRL_EXPIRED,
	REV_UNKNOWN_CRITICAL_ENTRY, /* rule 8 */
	REV_DELTA_MISSING,          /* this site uses delta CRLs of the CA, and has none for the CRL */
	REV_BASE_TOO_OLD,           /* the delta CRL needs a newer full CRL */
	REV_DELTA_NOT_YET_VALID,
	REV_DELTA_EXPIRED,
	REV_REASONS_NOT_COVERED, /* rule 29 */
	REV_REVOKED              /* listed */
} RevocationReason;

extern const char *cmblock_revocation_reason_name(RevocationReason reason);

/*
 * What the CRLs say of one element of the chain. The pointers are valid until cmblock_crl_set or cmblock_trust_list
 * is called again.
 */
typedef struct ElementStatus
{
	Revocation status;
	RevocationReason reason;
	const Authority *authority; /* the CA it is about; NULL: the certificate asked about */
	const Authority *issuer;
	/* The CRLs that decided, or came nearest; NULL where there is none. */
	const CrlSeries *series;
	const HeldCrl *base;
	const HeldCrl *delta;
	const Authority *signer;
	/* Of an entry. */
	TimestampTz revoked_at;
	uint8 code; /* reason code of RFC 5280, or CRLREASON_NONE or CRLREASON_BAD */
} ElementStatus;

typedef struct RevocationAnswer
{
	bool checked;      /* false: the policy of every CA of the chain is "off" */
	Revocation status; /* of the whole chain: one revoked is revoked, one unknown is unknown, else good */
	bool required;     /* unknown comes from a CA whose policy is "required" */
	int deciding;      /* the element that gives the status */
	bool outdated;     /* a CRL was replaced in the table while it was being asked for */
	TimeSpan span;     /* the times for which the answer is the same */
	int count;
	ElementStatus element[MAX_CHAIN]; /* the certificate first */
} RevocationAnswer;

/*
 * Asks for the leaf and for each CA of the chain below the anchor; where that is not good, along the other paths of the
 * leaf, too. With by_policy, not for what was issued by CAs whose policy is "off". Raises nothing for what the CRLs or the certificate hold.
 */
extern void cmblock_check_revocation(const Leaf *leaf, const TrustChain *chain, TimestampTz at,
									 bool by_policy, RevocationAnswer *answer);

/* A sentence or two for an administrator, on the answer as a whole or on one element. */
extern char *cmblock_revocation_detail(const RevocationAnswer *answer);
extern char *cmblock_element_detail(const ElementStatus *element);

/* RFC 5280's name of a reason code, or NULL where there is none. */
extern const char *cmblock_crl_reason_name(uint8 code);

#endif
