/*
 * decision_cache.h
 *		What decisions have read of clients and certificates, in shared memory, valid as long as nobody changes the rows.
 *
 * The tables are the truth; whatever is here may be thrown away at any time.
 */
#ifndef CMBLOCK_DECISION_CACHE_H
#define CMBLOCK_DECISION_CACHE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "types.h"

/* Flags of a client, and of a certificate. */
#define FACT_BLOCKED 0x0001
#define FACT_DELETED 0x0002

/* of a client: not beyond 0x80 */
#define FACT_ISV_PROXIED 0x0010
#define FACT_NOT_APPROVED 0x0020

/* of a certificate; its type is in the bits from FACT_TYPE_SHIFT on */
#define FACT_HAS_CLIENT 0x0010
#define FACT_SELF_SIGNED 0x0020
#define FACT_NOT_YET_VALID 0x0040
#define FACT_EXPIRED 0x0080
#define FACT_CHAINED 0x0100 /* to the trust list */
#define FACT_REVOKED 0x0200
#define FACT_CRL_MISSING 0x0400 /* and required */
#define FACT_CRL_WARNING 0x0800 /* missing and not required */
#define FACT_TYPE_SHIFT 16

/* 8 octets */
typedef struct CachedClient
{
	uint32 hardware; /* cmblock_cache_hardware of its hardware id; 0: none */
	uint32 flags : 8;
	SiteCode assigned_site : 24;
} CachedClient;

/* 56 octets */
typedef struct CachedCertificate
{
	/* The client that it is of, if FACT_HAS_CLIENT, and what is known of that client under its own stamp; 0: nothing */
	Smsid client;
	CachedClient owner;
	uint64 owner_stamp;
	/* The times, both included, for which what the flags say of validity, chain and revocation is the same. */
	TimestampTz from;
	TimestampTz until;
	uint32 flags;
	uint32 unused;
} CachedCertificate;

/* Where a row is looked for. */
typedef struct CacheKey
{
	pg_atomic_uint64 *state;
	pg_atomic_uint64 *bucket;
	uint32 start;
	uint64 id;
} CacheKey;

typedef enum CacheAnswer
{
	CACHE_HIT,
	CACHE_MISS, /* the row may be read and put in */
	CACHE_BUSY  /* somebody is changing the row, or another that shares its state */
} CacheAnswer;

/* The state of a row as it was at one moment. */
typedef struct CacheTicket
{
	pg_atomic_uint64 *word;
	uint64 state;
} CacheTicket;

/* Is there a cache: was the library preloaded, and is cmblock.decision_cache_size not 0? */
extern bool cmblock_cache_exists(void);

/* ---------- readers ---------- */

/*
 * What holds for all rows of this database. False: a transaction changes so many that the cache is out of use.
 * `tag` is changed when such a transaction ended. To be called before anything is looked for.
 */
extern bool cmblock_cache_begin(uint64 *tag, CacheTicket *ticket);

/*
 * Where a row is. What is there can come from memory at once, if that is asked for: it takes as long as all the rest of
 * a decision, so this is best called long before the result is needed.
 */
extern CacheKey cmblock_cache_client_key(const Smsid *smsid, bool fetch);
extern CacheKey cmblock_cache_certificate_key(const unsigned char *sha256);

/*
 * Looks for the row among those that were put in under this tag. At a hit it is copied. The ticket is for
 * putting it in, and for cmblock_cache_is_unchanged: call this before the row is read with a new snapshot.
 */
extern CacheAnswer cmblock_cache_find_client(const CacheKey *key, uint64 tag, CachedClient *client,
											 CacheTicket *ticket);
extern CacheAnswer cmblock_cache_find_certificate(const CacheKey *key, uint64 tag,
												  CachedCertificate *certificate, CacheTicket *ticket);

/* Puts a row in that was read after its ticket was taken; does nothing if somebody began to change it since. */
extern void cmblock_cache_put_client(const CacheKey *key, const CachedClient *client, uint64 tag,
									 const CacheTicket *ticket);
extern void cmblock_cache_put_certificate(const CacheKey *key, const CachedCertificate *certificate,
										  uint64 tag, const CacheTicket *ticket);

/* The stamp of what is read under this tag with this ticket. Never 0. */
extern uint64 cmblock_cache_stamp(uint64 tag, const CacheTicket *ticket);

/* Does what was read under this stamp still hold? Takes a ticket, too. */
extern CacheAnswer cmblock_cache_check_stamp(const CacheKey *key, uint64 tag, uint64 stamp,
											 CacheTicket *ticket);

/*
 * Has nobody changed or begun to change any of these rows since their tickets were taken? Then all that was read with
 * them was true at once.
 */
extern bool cmblock_cache_is_unchanged(const CacheTicket *tickets, int count);

/* ---------- what does not depend on rows ---------- */

/* A number about a certificate under a trust list, which goes by a hash; 0: none is known. */
extern uint32 cmblock_cache_find_memo(const unsigned char *sha256, uint64 list);
extern void cmblock_cache_put_memo(const unsigned char *sha256, uint64 list, uint32 memo);

/* ---------- hardware ids of blocked clients ---------- */

/* The form in which hardware ids are compared here; never 0. */
extern uint32 cmblock_cache_hardware(text *hardware_id);

/* False: no client with this hardware id is blocked. Holds if all that were blocked have been added. */
extern bool cmblock_cache_hardware_may_be_blocked(uint32 hardware);
extern void cmblock_cache_add_blocked_hardware(uint32 hardware);

/* The tag under which all hardware ids of blocked clients of this database are known to have been added. */
extern uint64 cmblock_cache_hardware_tag(void);
extern void cmblock_cache_set_hardware_tag(uint64 tag);

/* ---------- writers ---------- */

/* This transaction is about to change the row: until it has ended, and ended visibly, nobody uses the cache for it. */
extern void cmblock_cache_touch_client(const Smsid *smsid);
extern void cmblock_cache_touch_certificate(const unsigned char *sha256);

/* Grows with each transaction that touched rows and was prepared: its rows are no longer kept from being used. */
extern uint32 cmblock_cache_prepares(void);

/* For decision_writers.c: the state of the database, what the count of a state's writers does, and the counter above. */
extern pg_atomic_uint64 *cmblock_cache_database_state(void);
extern void cmblock_cache_add_writer(pg_atomic_uint64 *state);
extern void cmblock_cache_end_writer(pg_atomic_uint64 *state);
extern void cmblock_cache_note_prepare(void);

/* The key of all keyed hashes about the cache's contents; secret, made when the server starts. */
extern uint64 cmblock_cache_hash(const void *data, size_t size);

/* cmblock.decision_cache_size, in kB */
extern int cmblock_decision_cache_size;

/* For worker/init.c. */
extern void cmblock_decision_cache_define_settings(void);
extern Size cmblock_decision_cache_shmem_size(void);
extern void cmblock_decision_cache_startup(void);

#endif
