/*
 * compare.h
 *		Comparing the rows of two sites: digests over ranges of keys, and what is to be done about a difference.
 */
#ifndef CMBLOCK_COMPARE_H
#define CMBLOCK_COMPARE_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

#include "batch.h"
#include "incarnation.h"
#include "neighbour.h"
#include "types.h"

/* A key as octets: the three characters of a site code, an smsid, or a SHA-256. Their order is that of the index. */
#define COMPARE_KEY_MAX SHA256_OCTETS

extern int cmblock_compare_key_length(BatchTable table);
extern const char *cmblock_compare_table_name(BatchTable table);

/* "client GUID:..." and so on: palloc'd. */
extern char *cmblock_compare_describe(BatchTable table, const unsigned char *key);

/* What is compared of a row. */
typedef struct RowDigest
{
	unsigned char key[COMPARE_KEY_MAX];
	int64 version;
	uint64 digest; /* over all columns that travel */
	SiteCode origin;
	SiteCode assigned; /* NO_SITE for a site */
	TimestampTz changed_at;
	bool blocked;      /* or revoked by this hierarchy */
	uint64 change_xid; /* of a row that was read here: it does not travel */
} RowDigest;

typedef struct RowDigests
{
	BatchTable table;
	int count;
	RowDigest *row;
} RowDigests;

/*
 * Reads the digests of the rows behind `after` (NULL: from the first) up to and with `upto` (NULL: to the last), at most `limit`, in the
 * order of their keys. Inside SPI; the result is in the caller's memory context. client_encoding is UTF8.
 */
extern void cmblock_read_digests(RowDigests *digests, BatchTable table, const unsigned char *after,
								 const unsigned char *upto, int limit);

/* One digest of them all. */
extern uint64 cmblock_sum_digests(const RowDigests *digests);

/* The digests as octets and back (08P01 when they are none). */
extern void cmblock_write_digests(StringInfo to, const RowDigests *digests);
extern void cmblock_parse_digests(RowDigests *digests, BatchTable table, const char *octets, int length);

/*
 * Writes the rows with these keys (one behind the other) into a batch, until it has so many octets. Returns how many of the keys it
 * came to. Inside SPI.
 */
extern int cmblock_read_rows_by_key(BatchWriter *writer, BatchTable table, const char *keys, int count,
									int max_octets);

/* ---------- differences ---------- */

typedef enum DifferenceAction
{
	DIFFERENCE_NONE,  /* on its way, or another site's to look after */
	DIFFERENCE_SEND,  /* the row here is the right one */
	DIFFERENCE_FETCH, /* what the neighbour has is needed: all of it or its block */
	DIFFERENCE_REPORT /* nobody here may decide */
} DifferenceAction;

typedef struct Difference
{
	Neighbour neighbour;
	bool lost;              /* the neighbour has changes of this site that this site has lost */
	TimestampTz lost_since; /* changes from then on do not build on those */
} Difference;

/* What is to be done about a row that is here, there, or both (the other is NULL); both differ. */
extern DifferenceAction cmblock_judge_difference(const Difference *difference, BatchTable table,
												 const RowDigest *here, const RowDigest *there);

/*
 * Takes rows in that were fetched because of differences. Counts the rows that were written, and those of them in which both sides
 * had changed. Inside SPI; the events are on record when the transaction commits.
 */
extern void cmblock_take_back(const Difference *difference, const char *octets, int length, int64 *taken,
							  int64 *conflicts);

#endif
