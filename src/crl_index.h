/*
 * crl_index.h
 *		A CRL in a form in which a serial is found at once: one flat, immutable piece of memory.
 *
 * The piece holds offsets and no pointers, so that it can lie in shared memory that each process maps elsewhere, and
 * everything that a verdict needs from the CRL's header, so that the DER need not be kept beside it. No
 * PostgreSQL in here.
 */
#ifndef CMBLOCK_CRL_INDEX_H
#define CMBLOCK_CRL_INDEX_H

#include "crl_reader.h"
#include "siphash.h"

#define CRL_SHA256_OCTETS 32

/* What the buffer must be aligned to. */
#define CRL_INDEX_ALIGNMENT 8

/* Fixed part at the start of the buffer. Its layout is private to crl_index.c but for these counts. */
typedef struct CrlIndexHeader CrlIndexHeader;

/* An index that has been opened: pointers of this process, made anew by each that uses the buffer. */
typedef struct CrlIndex
{
	const CrlIndexHeader *header;
	const uint8_t *tags;
	const uint8_t *slots;
	uint64_t group_count;
	uint32_t slot_size;
	uint32_t serial_area;
	bool has_issuers;
	SipKey key;
	const uint8_t *long_serials;
	uint64_t long_serial_octets;
} CrlIndex;

typedef struct CrlIndexCounts
{
	uint32_t listed;   /* entries of the CRL */
	uint32_t distinct; /* serials (and issuers) in the index: a serial that is listed twice counts once */
	uint32_t removed;  /* of those, the ones that a delta removes */
	uint64_t size;     /* octets of the whole index */
} CrlIndexCounts;

/* Octets that the index of this CRL takes. */
extern size_t cmblock_crl_index_size(const Crl *crl);

/*
 * Build it into a buffer of just that size. "key" is 16 random octets, "sha256" the digest of the CRL's DER. The
 * DER is not needed afterwards. False only if the buffer is too small or badly aligned.
 *
 * The same serial twice: revoked wins over removed, then the earlier date (rule 12).
 */
extern bool cmblock_crl_index_build(const Crl *crl, const uint8_t key[SIPHASH_KEY_OCTETS],
									const uint8_t sha256[CRL_SHA256_OCTETS], void *buffer, size_t size);

/* Open an index. Everything in it that says where something lies is checked: false if any of that is wrong. */
extern bool cmblock_crl_index_open(const void *buffer, size_t size, CrlIndex *index);

/* Digest of the DER that the index was built from. */
extern const uint8_t *cmblock_crl_index_sha256(const CrlIndex *index);

extern void cmblock_crl_index_counts(const CrlIndex *index, CrlIndexCounts *counts);

/*
 * The facts of the header as cmblock_crl_read gave them, but with spans into the index. What only the DER has is
 * empty: der, tbs, signature, revoked.
 */
extern void cmblock_crl_index_facts(const CrlIndex *index, Crl *crl);

/*
 * Find a serial (content octets of the INTEGER) of an issuer: 0 is the CRL's own, others only occur in indirect CRLs,
 * where n stands for facts.certificate_issuer[n - 1]. One name may stand there in two encodings, so a caller tries
 * every ordinal whose name is the same to X509_NAME_cmp. "entry" may be NULL.
 */
extern bool cmblock_crl_index_find(const CrlIndex *index, const uint8_t *serial, size_t size, uint8_t issuer,
								   CrlEntry *entry);

/* Walk all entries, in no order: *position begins as 0; false at the end. */
extern bool cmblock_crl_index_next(const CrlIndex *index, uint64_t *position, CrlEntry *entry);

#endif
