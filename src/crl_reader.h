/*
 * crl_reader.h
 *		A CRL read in place: the facts of its header, and a walk over its entries.
 *
 * Nothing is copied and nothing allocated: every DerSpan points into the caller's buffer, which must stay as
 * it is for as long as the Crl is used. No PostgreSQL in here.
 */
#ifndef CMBLOCK_CRL_READER_H
#define CMBLOCK_CRL_READER_H

#include "der.h"

/* Bounds that are part of the reader; sizes and entry counts are the caller's (CrlLimits). */
#define CRL_MAX_EXTENSIONS 32      /* of the CRL, and of one entry */
#define CRL_MAX_ISSUERS 255        /* distinct certificate issuers that an indirect CRL may name */
#define CRL_MAX_NUMBER_OCTETS 20   /* 0 <= number < 2^159 */
#define CRL_USUAL_SERIAL_OCTETS 20 /* RFC 5280's limit: longer serials are tolerated and flagged */

/* Why a CRL was refused. cmblock_crl_error_text() has the English, with the rule of CRL-RULES.md. */
typedef enum CrlError
{
	CRLERR_NONE,
	CRLERR_TOO_LARGE,
	CRLERR_INDEFINITE_LENGTH,
	CRLERR_NOT_DER,
	CRLERR_TRAILING_DATA,
	CRLERR_TOO_DEEP,
	CRLERR_BAD_TBS,
	CRLERR_BAD_VERSION,
	CRLERR_V1_WITH_EXTENSIONS,
	CRLERR_V1_WITH_ENTRY_EXTENSIONS,
	CRLERR_BAD_SIGNATURE_ALGORITHM,
	CRLERR_ALGORITHM_MISMATCH,
	CRLERR_BAD_SIGNATURE_VALUE,
	CRLERR_BAD_ISSUER,
	CRLERR_BAD_THIS_UPDATE,
	CRLERR_BAD_NEXT_UPDATE,
	CRLERR_UNEXPECTED_ELEMENT,
	CRLERR_BAD_EXTENSIONS,
	CRLERR_TOO_MANY_EXTENSIONS,
	CRLERR_DUPLICATE_EXTENSION,
	CRLERR_UNKNOWN_CRITICAL_EXTENSION,
	CRLERR_BAD_NUMBER,
	CRLERR_NUMBER_CRITICAL,
	CRLERR_BAD_IDP,
	CRLERR_EMPTY_IDP,
	CRLERR_IDP_SEVERAL_ONLY,
	CRLERR_IDP_BAD_BOOLEAN,
	CRLERR_IDP_BAD_NAME,
	CRLERR_IDP_BAD_REASONS,
	CRLERR_BAD_DELTA_INDICATOR,
	CRLERR_BAD_AUTHORITY_KEY_ID,
	CRLERR_BAD_CA_VERSION,
	CRLERR_BAD_NEXT_PUBLISH,
	CRLERR_BAD_FRESHEST_CRL,
	CRLERR_TOO_MANY_ENTRIES,
	CRLERR_BAD_ENTRY,
	CRLERR_BAD_SERIAL,
	CRLERR_BAD_REVOCATION_DATE,
	CRLERR_BAD_ENTRY_EXTENSIONS,
	CRLERR_TOO_MANY_ENTRY_EXTENSIONS,
	CRLERR_DUPLICATE_ENTRY_EXTENSION,
	CRLERR_ISSUER_IN_DIRECT_CRL,
	CRLERR_BAD_CERTIFICATE_ISSUER,
	CRLERR_TOO_MANY_ISSUERS,
	CRLERR_COUNT /* not an error: how many there are */
} CrlError;

/* What was found in the CRL and is not by itself a reason to refuse it. */
#define CRLFLAG_NEXT_UPDATE 0x0001            /* next_update is set */
#define CRLFLAG_NUMBER 0x0002                 /* number is set */
#define CRLFLAG_DELTA 0x0004                  /* base_number is set: never a base (rule 22) */
#define CRLFLAG_IDP 0x0008                    /* idp is set */
#define CRLFLAG_INDIRECT 0x0010               /* entries may name certificate issuers (rule 30) */
#define CRLFLAG_CA_VERSION 0x0020             /* ca_version is set (rule 17) */
#define CRLFLAG_NEXT_PUBLISH 0x0040           /* next_publish is set (rule 20) */
#define CRLFLAG_EMPTY_LIST 0x0080             /* the list is present and empty: warn (rule 11) */
#define CRLFLAG_UNKNOWN_CRITICAL_ENTRY 0x0100 /* proves nobody good (rule 8) */
#define CRLFLAG_LONG_SERIAL 0x0200            /* some serial has more than 20 octets: warn (rule 12) */
#define CRLFLAG_BAD_REASON 0x0400             /* some reason code is none of RFC 5280's: warn (rule 12) */
#define CRLFLAG_REMOVE_IN_BASE 0x0800   /* removeFromCRL outside a delta: stays revoked, warn (rule 25) */
#define CRLFLAG_FRESHEST 0x1000         /* freshest is set (rule 26) */
#define CRLFLAG_AUTHORITY_KEY_ID 0x2000 /* authority_key_id is set (rule 14) */

/* Reason codes of RFC 5280 5.3.1 as they stand in the CRL, and two of our own. */
#define CRLREASON_CERTIFICATE_HOLD 6
#define CRLREASON_REMOVE_FROM_CRL 8
#define CRLREASON_LAST 10
#define CRLREASON_BAD 14
#define CRLREASON_NONE 15

/* All reasons that onlySomeReasons can name: bits 1 (keyCompromise) to 8 (aACompromise) of ReasonFlags. */
#define CRL_ALL_REASONS 0x01fe

typedef struct CrlIdp
{
	DerSpan raw;           /* the whole extension value: a delta must equal its base in it (rule 23) */
	DerSpan full_name;     /* content of GeneralNames; data is NULL where absent */
	DerSpan relative_name; /* content of the RDN; data is NULL where absent */
	bool only_user;
	bool only_ca;
	bool only_attribute;
	bool indirect;
	uint16_t reasons; /* bit n is ReasonFlags' bit n; CRL_ALL_REASONS where there is no onlySomeReasons */
} CrlIdp;

typedef struct CrlLimits
{
	size_t max_size;      /* octets of DER */
	uint32_t max_entries; /* entries of the list */
} CrlLimits;

typedef struct Crl
{
	DerSpan der;
	DerSpan tbs;                 /* the signed part, tag and length included */
	DerSpan signature_algorithm; /* AlgorithmIdentifier, tag and length included */
	DerSpan signature;           /* octets of the BIT STRING */

	int version;    /* 1 or 2 */
	DerSpan issuer; /* Name, tag and length included */
	int64_t this_update;
	int64_t next_update;
	uint32_t flags; /* CRLFLAG_... */

	/* From extensions; data is NULL where absent. Numbers are content octets: see cmblock_crl_number_compare. */
	DerSpan number;
	DerSpan base_number;
	DerSpan authority_key_id; /* the whole extension value */
	DerSpan key_id;           /* its keyIdentifier */
	DerSpan freshest;         /* the whole extension value */
	uint32_t ca_version;      /* certificate index in the low half, key index in the high half */
	int64_t next_publish;
	CrlIdp idp;

	DerSpan revoked; /* the elements of revokedCertificates */
	uint32_t entry_count;

	/* What an index of the entries needs to know beforehand. */
	uint32_t short_serial_octets; /* the longest serial that has no more than 20 octets */
	uint32_t long_serials;        /* entries with more, and the octets of all of those */
	uint64_t long_serial_octets;

	/* Where reading stopped, if it failed: octets from the start, and the entry (from 0) if it was in one. */
	size_t error_offset;
	int64_t error_entry; /* -1: not in an entry */

	/* Names that certificateIssuer extensions gave, in order of appearance: issuer ordinals 1, 2, ... */
	uint32_t issuer_count;
	DerSpan certificate_issuer[CRL_MAX_ISSUERS];
} Crl;

typedef struct CrlEntry
{
	DerSpan serial; /* content octets of the INTEGER */
	int64_t revocation_date;
	uint8_t reason;        /* a code of RFC 5280, CRLREASON_NONE or CRLREASON_BAD */
	uint8_t issuer;        /* 0: the CRL's own issuer; n: certificate_issuer[n - 1] */
	bool removed;          /* removeFromCRL in a delta: not revoked (rule 25) */
	bool unknown_critical; /* it has a critical extension that nobody here knows (rule 8) */
} CrlEntry;

/* The state of a walk. Several may go on over one Crl. */
typedef struct CrlWalk
{
	const Crl *crl;
	DerSpan rest;
	uint8_t issuer;
} CrlWalk;

/*
 * Read and check a whole CRL, every entry included (rules 1 to 3 and 6 to 12, and the form of what 14, 17, 20,
 * 22, 23, 25, 26, 29 and 30 need). What only the caller can judge is reported and not refused: no nextUpdate, no
 * cRLNumber in a v2 CRL, the flags. Signature and time are not looked at.
 */
extern CrlError cmblock_crl_read(const uint8_t *der, size_t size, const CrlLimits *limits, Crl *crl);

/* A sentence for errdetail. */
extern const char *cmblock_crl_error_text(CrlError error);

/* Walk the entries of a Crl that has been read: false at the end. */
extern void cmblock_crl_walk(const Crl *crl, CrlWalk *walk);
extern bool cmblock_crl_next(CrlWalk *walk, CrlEntry *entry);

/* Compare two CRL numbers by value: negative, zero or positive. */
extern int cmblock_crl_number_compare(DerSpan a, DerSpan b);

/*
 * Distribution points of a freshestCRL or a cRLDistributionPoints extension: first open the extension value,
 * then take point after point; a point's full_name (content of GeneralNames) is empty where it has none. Then
 * take URI after URI from it; they are given as they stand, not terminated by a zero.
 */
extern bool cmblock_crl_open_points(DerSpan value, DerSpan *points);
extern bool cmblock_crl_next_point(DerSpan *points, DerSpan *full_name);
extern bool cmblock_crl_next_uri(DerSpan *full_name, DerSpan *uri);

#endif
