/*
 * crl_table.h
 *		The CRLs that are current, as the table crl has them, in a form in which they can be asked quickly.
 */
#ifndef CMBLOCK_CRL_TABLE_H
#define CMBLOCK_CRL_TABLE_H

#include "postgres.h"

#include <openssl/x509v3.h>

#include "datatype/timestamp.h"
#include "utils/numeric.h"

#include "crl_cache.h"
#include "types.h"

/* One row of table crl. Its entries are in the cache, under its digest. */
typedef struct HeldCrl
{
	unsigned char sha256[SHA256_OCTETS];
	unsigned char signer[SHA256_OCTETS]; /* the certificate that was found to have signed it */
	bool is_delta;
	Numeric number;      /* NULL: none */
	Numeric base_number; /* of a delta */
	TimestampTz this_update;
	bool has_next_update;
	TimestampTz next_update;
	bool unknown_critical_entry;
	bool names_freshest;
	bool ca_version;
	char *source;
} HeldCrl;

/* The CRLs of one series: one issuer, one key, one issuing distribution point. */
typedef struct CrlSeries
{
	unsigned char scope[SHA256_OCTETS];
	unsigned char signer_key[SHA256_OCTETS];
	X509_NAME *issuer;
	char *issuer_text;
	char *partition;            /* in words; NULL: all that the issuer issued */
	ISSUING_DIST_POINT *idp;    /* NULL: none */
	uint16 reasons;             /* CRL_ALL_REASONS, or those of onlySomeReasons */
	const HeldCrl *base;        /* NULL: only deltas came so far */
	const HeldCrl *delta;       /* the newest that applies to the base, or NULL */
	const HeldCrl *early_delta; /* a newer one, for a base that is not here yet, or NULL */

	/* From table crl_scope. */
	bool had_delta;
	bool delta_is_superseded; /* the newest delta ever taken in is not newer than the base */
	int64 delta_period;       /* how long it was to be in force, in microseconds */
} CrlSeries;

typedef struct CrlSet
{
	int count;
	const CrlSeries *series;
	bool partitioned; /* some series has an issuing distribution point */
	unsigned char digest[SHA256_OCTETS]; /* of the rows: the same in every session that has the same CRLs */
} CrlSet;

/* The current CRLs as the newest snapshot has them. Valid until the next call. */
extern const CrlSet *cmblock_crl_set(void);

/*
 * For a CRL of the set that cannot be opened: was its row replaced since the set was read? The commit that did it may
 * be visible before its invalidation arrives. If so, cmblock_crl_set reads the table again.
 */
extern bool cmblock_crl_set_is_outdated(const HeldCrl *crl);

/* The entries of a CRL, to be released with cmblock_crl_unpin. NULL when its row is gone or damaged. */
extern const CrlIndex *cmblock_open_crl(const HeldCrl *crl, CrlPin *pin);

/* The DER of a CRL of the table, or NULL: a CrlLoader. */
extern bytea *cmblock_load_crl(const uint8 *sha256, void *arg);

#endif
