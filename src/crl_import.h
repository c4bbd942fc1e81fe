/*
 * crl_import.h
 *		Taking a CRL in: judged, compared with what its series had before, and made current.
 */
#ifndef CMBLOCK_CRL_IMPORT_H
#define CMBLOCK_CRL_IMPORT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "crl_reader.h"
#include "trust.h"
#include "types.h"

typedef enum CrlOutcome
{
	CRLOUT_ACCEPTED,  /* it is current from the commit on */
	CRLOUT_UNCHANGED, /* it was current already, or a full CRL has all that is in it */
	CRLOUT_HELD_BACK, /* too much vanished: kept until a PKI administrator lets it in */
	CRLOUT_REFUSED
} CrlOutcome;

/* What became of a CRL. Texts are palloc'd. */
typedef struct CrlTaking
{
	CrlOutcome outcome;
	int sqlstate; /* of a refusal: 22023 bad CRL, 42704 unknown signer, 55000 older than what was held before */
	const char *message; /* of a refusal */
	const char *detail;  /* of a refusal and of a CRL that is held back: a sentence, or NULL */
	const char *hint;
	List *warnings; /* of char *: sentences */

	/* Known as soon as the octets could be read as a CRL: issuer is set then. */
	char *issuer;
	unsigned char sha256[SHA256_OCTETS];
	bool is_delta;
	char *number;      /* decimal digits, or NULL */
	char *base_number; /* of a delta */
	TimestampTz this_update;
	bool has_next_update;
	TimestampTz next_update;
	bool has_next_publish; /* rule 20: when to fetch the next one */
	TimestampTz next_publish;
	int entries;

	/* Known when its signer is. */
	bool has_scope;
	unsigned char scope[SHA256_OCTETS];
	unsigned char authority[SHA256_OCTETS]; /* the CA it is about */
} CrlTaking;

/*
 * Take in a CRL (DER or PEM). "source" is the URL, or the command. Never raises for what the CRL holds, nor for what its
 * series had before: that is a refusal in words. Writes in the current transaction; the caller has checked who may do this.
 */
extern void cmblock_take_in_crl(const bytea *input, const char *source, CrlTaking *taking);

/*
 * What a row of crl that has become current changes: it moves the mark of its series, replaces the full CRL before it, and leaves
 * of the deltas the newest, and the newest that applies. Inside SPI.
 */
extern void cmblock_settle_crl(const unsigned char *sha256);

extern const char *cmblock_crl_outcome_name(CrlOutcome outcome);

/* ---------- crl_judge.c: what can be said of a CRL by itself and the trust list ---------- */

typedef struct JudgedCrl
{
	CrlTaking *taking;
	const bytea *der;
	Crl crl;
	const Authority *signer; /* both only until the trust list is read again */
	const Authority *authority;
	unsigned char signer_sha256[SHA256_OCTETS];
	unsigned char signer_key[SHA256_OCTETS]; /* of its SubjectPublicKeyInfo */
	char *partition;                         /* in words, or NULL */
	List *freshest;                          /* of char *: URLs */
	bool begins_series; /* nothing of its kind was taken in before, or that was forgotten */
} JudgedCrl;

/*
 * Read, digest and measure (rules 1 to 12). False after a refusal. "taking" is zeroed, and filled as far as it goes.
 */
extern bool cmblock_read_crl(const bytea *input, JudgedCrl *judged, CrlTaking *taking);

/* Find who signed it, and judge what depends on that (rules 4, 5, 9, 13 to 15, 18). False after a refusal. */
extern bool cmblock_judge_crl(JudgedCrl *judged);

/* Notes a refusal; returns false. */
extern bool cmblock_refuse_crl(CrlTaking *taking, int sqlstate, const char *message, const char *detail,
							   const char *hint);

/* ---------- crl_shrink.c: rule 35 ---------- */

/* Are too many of the entries in force missing from this new base? Then a sentence that says so, else NULL. Inside SPI. */
extern char *cmblock_crl_shrinks(const JudgedCrl *judged);

/* Settings of this part. */
extern void cmblock_crl_import_init(void);
extern bool cmblock_clients_check_crl;
extern int cmblock_crl_max_size; /* kB */
extern int cmblock_crl_shrink_entries;
extern int cmblock_crl_shrink_percent;

#endif
