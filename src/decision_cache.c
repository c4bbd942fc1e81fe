/*
 * decision_cache.c
 *		What decisions have read of clients and certificates, in shared memory, valid as long as nobody changes the rows.
 *
 * Reading one row by its index costs several times as much as the rest of a decision, and the rows hardly ever change. So
 * what a decision needs of them is kept in two tables of buckets of fixed size. Nobody waits for anybody, and the path of a hit
 * has no lock: only the two words at the head of a bucket.
 *
 * Coherence
 *		The guard stands before every change of a row. It raises the count of writers in the row's bucket before the
 *		change is made. When the transaction has ended, a callback takes the count back and raises the bucket's
 *		generation in the same atomic step. PostgreSQL calls it after the commit became visible, and before the client
 *		hears of it.
 *		- While a bucket has writers nobody uses it: decisions read the table, and so they see their own changes.
 *		- An entry counts only under the generation under which it was read. A reader takes state (generation and
 *		  writers) before its snapshot, and puts in what it read only if the state is the same afterwards. So a change is
 *		  either in its snapshot, since the generation was raised after the commit was visible, or the state differs.
 *		- After COMMIT has returned, the generation is a new one. What was put in before it does not count any more.
 *		- A rollback, also of a savepoint, changes nothing for the better or the worse: the bucket stays out of use until the
 *		  transaction ends, and is empty then.
 *		A transaction that changes more buckets than it is worth remembering marks its database as a whole, which empties it.
 *		Changes that the guard does not see are the business of coverage.c: its tag is in every entry.
 *
 * PREPARE TRANSACTION
 *		ends the session's part. Whoever commits it later may be anybody, and after a restart nothing of this memory is
 *		left. So a counter is raised before the buckets are given back, and coverage.c finds out by its locks
 *		whether such a transaction is still there.
 *
 * Entries
 *		What a hit costs is the wait for memory: the tables are larger than any processor's cache, and a random place in them
 *		is far away. So a bucket of clients is one line of the processor's cache, and one of certificates begins with a line
 *		that says which of the others to look at. To fit, an entry has no key, only 64 bits of a keyed hash of it, combined with
 *		the stamp under which it was put in. The hash's key is secret and new at each start, so nobody can look for
 *		two that are alike, and by chance two are once in 2^64 comparisons: at 5,000 decisions a second, once in 40
 *		million years. A certificate's entry also has the end of its SHA-256.
 *
 *		One process at a time puts an entry into a bucket; who comes second gives up. A reader copies the entry and looks
 *		whether the bucket's version and state have stayed the same.
 *
 * Hardware ids
 *		A client's own row does not say whether its hardware is that of a blocked client. A Bloom filter over the
 *		hardware ids of all blocked clients does, in one cache line: the guard adds to it before a block can commit and nobody
 *		ever takes anything out. So it errs in one direction only, in which the table is asked.
 *
 * Failure
 *		A backend that ends in any orderly way aborts its transaction, which calls back. If it does not, the postmaster makes
 *		shared memory anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "decision_cache.h"
#include "siphash.h"

int cmblock_decision_cache_size = 64 * 1024;

/* ---------- layout ---------- */

/*
 * State: generation and count of writers in one word, so that one atomic operation takes a writer away and raises
 * the generation. There cannot be more writers than backends, of which there are less than 2^18.
 */
#define WRITER_BITS 20
#define ONE_GENERATION (UINT64CONST(1) << WRITER_BITS)
#define WRITERS(state) ((state) & (ONE_GENERATION - 1))
#define GENERATION(state) ((state) >> WRITER_BITS)

typedef struct BucketHead
{
	pg_atomic_uint64 state;
	pg_atomic_uint32 version; /* odd: an entry is being put in */
	/* Under which generation (its low 24 bits) the entries were put in, and which of them goes next when all are in use. */
	uint32 filled;
} BucketHead;

#define FILLED_PLACE_BITS 8
#define FILLED_PLACE(filled) ((filled) & ((1 << FILLED_PLACE_BITS) - 1))

#define CLIENT_WAYS 3
#define CERTIFICATE_WAYS 6

typedef struct ClientBucket
{
	BucketHead head;
	uint64 id[CLIENT_WAYS];
	CachedClient entry[CLIENT_WAYS];
} ClientBucket;

typedef struct CertificateBucket
{
	BucketHead head;
	uint64 id[CERTIFICATE_WAYS];
	CachedCertificate entry[CERTIFICATE_WAYS];
} CertificateBucket;

StaticAssertDecl(sizeof(ClientBucket) == 64, "a bucket of clients is one cache line");
StaticAssertDecl(offsetof(CertificateBucket, entry) == 64 && sizeof(CachedCertificate) == 64,
				 "a certificate is one cache line, and so is what comes before them");

/*
 * One for each database that has a site. Beyond this many, databases share one: the worst of that is that each empties the
 * other's cache.
 */
#define DOMAINS 64

typedef union Domain
{
	struct
	{
		pg_atomic_uint64 state; /* writers: transactions that changed too many rows */
		pg_atomic_uint64 hardware_tag;
		pg_atomic_uint32 database;
	} in;
	char pad[PG_CACHE_LINE_SIZE];
} Domain;

/* A line of the Bloom filter. */
#define LINE_WORDS 8
#define LINE_BITS 4 /* set for one hardware id */

typedef struct FilterLine
{
	pg_atomic_uint64 word[LINE_WORDS];
} FilterLine;

typedef struct SharedCache
{
	SipKey key;
	pg_atomic_uint32 prepares;
	Domain domain[DOMAINS];
} SharedCache;

static SharedCache *cache = NULL;
static ClientBucket *client_buckets = NULL;
static CertificateBucket *certificate_buckets = NULL;
static uint32 client_bucket_count = 0;
static uint32 certificate_bucket_count = 0;
static FilterLine *filter = NULL;
static uint32 filter_lines = 0;

void
cmblock_decision_cache_define_settings(void)
{
	/* Shared memory cannot grow later. Without preloading there is none. */
	GucContext context = process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomIntVariable(
		"cmblock.decision_cache_size", "Memory for what decisions have read of clients and certificates.",
		"About 50 bytes for a client and 150 for a certificate; 0: each decision reads the tables. "
		"Only where cmblock is in shared_preload_libraries.",
		&cmblock_decision_cache_size, 64 * 1024, 0, MAX_KILOBYTES, context, GUC_UNIT_KB, NULL, NULL, NULL);
}

/*
 * A sixteenth is for the filter. Of the rest a quarter is for clients: a certificate takes three times the memory of a
 * client. The tables are bounded by 2^31 buckets.
 */
static void
divide(void)
{
	Size octets = (Size) cmblock_decision_cache_size * 1024;
	Size rest = octets - octets / 16;

	filter_lines = (uint32) Min(Max(octets / 16 / sizeof(FilterLine), 1), PG_INT32_MAX);
	client_bucket_count = (uint32) Min(Max(rest / 4 / sizeof(ClientBucket), 1), PG_INT32_MAX);
	certificate_bucket_count =
		(uint32) Min(Max((rest - rest / 4) / sizeof(CertificateBucket), 1), PG_INT32_MAX);
}

Size
cmblock_decision_cache_shmem_size(void)
{
#ifdef PG_HAVE_ATOMIC_U64_SIMULATION
	/* A simulated atomic is no plain word of memory, on which all here depends. */
	return 0;
#else
	Size size = PG_CACHE_LINE_SIZE;

	if (cmblock_decision_cache_size == 0)
		return 0;
	divide();
	size = add_size(size, CACHELINEALIGN(sizeof(SharedCache)));
	size = add_size(size, mul_size(client_bucket_count, sizeof(ClientBucket)));
	size = add_size(size, mul_size(certificate_bucket_count, sizeof(CertificateBucket)));
	return add_size(size, mul_size(filter_lines, sizeof(FilterLine)));
#endif
}

/*
 * The buckets are used as they come: the system gives shared memory out full of zeros, and a bucket of zeros is an empty
 * one. To write them would only make the server start slowly and take memory that nobody may need.
 */
void
cmblock_decision_cache_startup(void)
{
	Size size = cmblock_decision_cache_shmem_size();
	char *start;
	bool found;

	if (size == 0)
		return;
	start = ShmemInitStruct("cmblock decisions", size, &found);
	cache = (SharedCache *) CACHELINEALIGN(start);
	client_buckets = (ClientBucket *) ((char *) cache + CACHELINEALIGN(sizeof(SharedCache)));
	certificate_buckets = (CertificateBucket *) (client_buckets + client_bucket_count);
	filter = (FilterLine *) (certificate_buckets + certificate_bucket_count);
	if (found)
		return;
	if (!pg_strong_random(&cache->key, sizeof(cache->key)))
		ereport(FATAL, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a random key"));
	/* So that it is not the 0 of a session that has not looked yet. */
	pg_atomic_init_u32(&cache->prepares, 1);
	for (int i = 0; i < DOMAINS; i++)
	{
		pg_atomic_init_u64(&cache->domain[i].in.state, 0);
		pg_atomic_init_u64(&cache->domain[i].in.hardware_tag, 0);
		pg_atomic_init_u32(&cache->domain[i].in.database, InvalidOid);
	}
}

bool
cmblock_cache_exists(void)
{
	return cache != NULL;
}

uint64
cmblock_cache_hash(const void *data, size_t size)
{
	return siphash(1, 3, cache->key, data, size);
}

/* ---------- reading ---------- */

/* SMSIDs and thumbprints come from outside, so their places are nobody's to foresee. */
static inline CacheKey
make_key(const unsigned char *key, Size size, char *buckets, uint32 count, Size bucket_size)
{
	uint64 hash[2];
	CacheKey result;

	siphash_double(1, 3, cache->key, key, size, hash);
	result.bucket = buckets + ((hash[0] >> 32) * count >> 32) * bucket_size;
	result.id = hash[1];
	return result;
}

static inline CacheKey
client_key(const Smsid *smsid)
{
	return make_key(smsid->octet, SMSID_OCTETS, (char *) client_buckets, client_bucket_count,
					sizeof(ClientBucket));
}

static inline CacheKey
certificate_key(const unsigned char *sha256)
{
	return make_key(sha256, SHA256_OCTETS, (char *) certificate_buckets, certificate_bucket_count,
					sizeof(CertificateBucket));
}

CacheKey
cmblock_cache_client_key(const Smsid *smsid)
{
	CacheKey key = client_key(smsid);

	__builtin_prefetch(key.bucket);
	return key;
}

CacheKey
cmblock_cache_certificate_key(const unsigned char *sha256)
{
	CacheKey key = certificate_key(sha256);

	__builtin_prefetch(key.bucket);
	return key;
}

/*
 * Nothing that the caller reads next is older than the state: entries are loads like it, and to take a snapshot takes a
 * lock.
 */
static inline CacheTicket
take_ticket(BucketHead *bucket)
{
	CacheTicket ticket = {.bucket = bucket, .state = pg_atomic_read_u64(&bucket->state)};

	pg_read_barrier();
	return ticket;
}

static Domain *
claim_domain(void)
{
	for (uint32 i = 0; i < DOMAINS; i++)
	{
		Domain *d = &cache->domain[(MyDatabaseId + i) % DOMAINS];
		uint32 owner = InvalidOid;

		if (pg_atomic_compare_exchange_u32(&d->in.database, &owner, MyDatabaseId) || owner == MyDatabaseId)
			return d;
	}
	return &cache->domain[MyDatabaseId % DOMAINS];
}

/* A process belongs to one database for good. */
static inline Domain *
domain(void)
{
	static Domain *mine = NULL;

	if (unlikely(mine == NULL))
		mine = claim_domain();
	return mine;
}

bool
cmblock_cache_begin(uint64 *tag, CacheTicket *ticket)
{
	/* A domain begins with a state, as a bucket does. */
	*ticket = take_ticket((BucketHead *) domain());
	/* Another generation is another tag: all entries of the database are gone with it. */
	*tag += GENERATION(ticket->state);
	return WRITERS(ticket->state) == 0;
}

bool
cmblock_cache_is_unchanged(const CacheTicket *tickets, int count)
{
	pg_read_barrier();
	for (int i = 0; i < count; i++)
		if (pg_atomic_read_u64(&((BucketHead *) tickets[i].bucket)->state) != tickets[i].state)
			return false;
	pg_read_barrier();
	return true;
}

/*
 * Tag and generation in one word. Under one tag no two generations have the same: the factor is odd. Different tags are
 * hashes with a secret key.
 */
static inline uint64
stamp_of(uint64 tag, const CacheTicket *ticket)
{
	return tag + GENERATION(ticket->state) * UINT64CONST(0x9E3779B97F4A7C15);
}

/* The sizes are constants where this is inlined. */
static pg_attribute_always_inline CacheAnswer
find_entry(const CacheKey *key, const uint64 *ids, int ways, const void *entries, Size size, uint64 tag,
		   void *result, CacheTicket *ticket)
{
	BucketHead *bucket = key->bucket;
	uint32 version;
	uint64 id;

	*ticket = take_ticket(bucket);
	version = pg_atomic_read_u32(&bucket->version);
	if (WRITERS(ticket->state) > 0 || (version & 1))
		return CACHE_BUSY;
	id = key->id ^ stamp_of(tag, ticket);
	pg_read_barrier();
	for (int i = 0; i < ways; i++)
	{
		if (ids[i] != id)
			continue;
		memcpy(result, (const char *) entries + i * size, size);
		pg_read_barrier();
		/* If it has stayed the same, id and entry belong together. */
		return pg_atomic_read_u32(&bucket->version) == version ? CACHE_HIT : CACHE_BUSY;
	}
	return CACHE_MISS;
}

CacheAnswer
cmblock_cache_find_client(const CacheKey *key, uint64 tag, CachedClient *client, CacheTicket *ticket)
{
	const ClientBucket *bucket = key->bucket;

	return find_entry(key, bucket->id, CLIENT_WAYS, bucket->entry, sizeof(CachedClient), tag, client, ticket);
}

static const unsigned char *
sha256_end(const unsigned char *sha256)
{
	return sha256 + SHA256_OCTETS - sizeof(((CachedCertificate *) NULL)->sha256_end);
}

CacheAnswer
cmblock_cache_find_certificate(const CacheKey *key, const unsigned char *sha256, uint64 tag,
							   CachedCertificate *certificate, CacheTicket *ticket)
{
	const CertificateBucket *bucket = key->bucket;
	CacheAnswer answer = find_entry(key, bucket->id, CERTIFICATE_WAYS, bucket->entry,
									sizeof(CachedCertificate), tag, certificate, ticket);

	if (answer == CACHE_HIT &&
		memcmp(certificate->sha256_end, sha256_end(sha256), sizeof(certificate->sha256_end)) != 0)
		return CACHE_MISS;
	return answer;
}

/* The place for an entry: its own, one that is free, or else each in its turn. */
static int
choose(BucketHead *bucket, uint64 *ids, int ways, uint64 id, uint32 generation)
{
	uint32 place;

	/* What was put in under another generation counts no more. */
	if (bucket->filled >> FILLED_PLACE_BITS != generation)
	{
		memset(ids, 0, ways * sizeof(*ids));
		bucket->filled = generation << FILLED_PLACE_BITS;
	}
	for (int i = 0; i < ways; i++)
		if (ids[i] == id || ids[i] == 0)
			return i;
	place = FILLED_PLACE(bucket->filled);
	bucket->filled = (generation << FILLED_PLACE_BITS) | ((place + 1) % ways);
	return place;
}

static void
put_entry(const CacheKey *key, uint64 *ids, int ways, void *entries, const void *entry, Size size, uint64 tag,
		  const CacheTicket *ticket)
{
	BucketHead *bucket = key->bucket;
	uint64 id = key->id ^ stamp_of(tag, ticket);
	uint32 version = pg_atomic_read_u32(&bucket->version);

	Assert(WRITERS(ticket->state) == 0);
	if ((version & 1) || !pg_atomic_compare_exchange_u32(&bucket->version, &version, version + 1))
		return;
	/*
	 * The exchange is a full barrier. If a writer comes after this look, the entry does not count: nobody uses the
	 * bucket while the writer is there, and afterwards its generation is another.
	 */
	if (pg_atomic_read_u64(&bucket->state) == ticket->state)
	{
		uint32 generation = (uint32) GENERATION(ticket->state) & (PG_UINT32_MAX >> FILLED_PLACE_BITS);
		int place = choose(bucket, ids, ways, id, generation);

		ids[place] = id;
		memcpy((char *) entries + place * size, entry, size);
	}
	pg_write_barrier();
	pg_atomic_write_u32(&bucket->version, version + 2);
}

void
cmblock_cache_put_client(const CacheKey *key, const CachedClient *client, uint64 tag,
						 const CacheTicket *ticket)
{
	ClientBucket *bucket = key->bucket;

	put_entry(key, bucket->id, CLIENT_WAYS, bucket->entry, client, sizeof(CachedClient), tag, ticket);
}

void
cmblock_cache_put_certificate(const CacheKey *key, const unsigned char *sha256,
							  CachedCertificate *certificate, uint64 tag, const CacheTicket *ticket)
{
	CertificateBucket *bucket = key->bucket;

	memcpy(certificate->sha256_end, sha256_end(sha256), sizeof(certificate->sha256_end));
	put_entry(key, bucket->id, CERTIFICATE_WAYS, bucket->entry, certificate, sizeof(CachedCertificate), tag,
			  ticket);
}

/* ---------- hardware ids of blocked clients ---------- */

uint32
cmblock_cache_hardware(text *hardware_id)
{
	uint64 hash = cmblock_cache_hash(VARDATA_ANY(hardware_id), VARSIZE_ANY_EXHDR(hardware_id)) ^
				  (uint64) MyDatabaseId * UINT64CONST(0x9E3779B97F4A7C15);
	uint32 folded = (uint32) (hash ^ hash >> 32);

	return folded ? folded : 1;
}

/* Spread over a word, whose upper half chooses the line; the lower one has 9 bits for each bit: word and place in it. */
static inline uint64
spread(uint32 hardware)
{
	uint64 hash = hardware * UINT64CONST(0x9E3779B97F4A7C15);

	return (hash ^ hash >> 32) * UINT64CONST(0xBF58476D1CE4E5B9);
}

static inline FilterLine *
line_of(uint64 spread)
{
	return &filter[(spread >> 32) * filter_lines >> 32];
}

#define BIT_NUMBER(spread, i) (((spread) >> ((i) *8)) & 0x1ff)

bool
cmblock_cache_hardware_may_be_blocked(uint32 hardware)
{
	uint64 bits = spread(hardware);
	FilterLine *line = line_of(bits);

	for (int i = 0; i < LINE_BITS; i++)
	{
		uint64 bit = BIT_NUMBER(bits, i);

		if (!(pg_atomic_read_u64(&line->word[bit / 64]) & (UINT64CONST(1) << bit % 64)))
			return false;
	}
	return true;
}

void
cmblock_cache_add_blocked_hardware(uint32 hardware)
{
	uint64 bits = spread(hardware);
	FilterLine *line = line_of(bits);

	for (int i = 0; i < LINE_BITS; i++)
	{
		uint64 bit = BIT_NUMBER(bits, i);

		pg_atomic_fetch_or_u64(&line->word[bit / 64], UINT64CONST(1) << bit % 64);
	}
}

uint64
cmblock_cache_hardware_tag(void)
{
	return pg_atomic_read_u64(&domain()->in.hardware_tag);
}

void
cmblock_cache_set_hardware_tag(uint64 tag)
{
	pg_memory_barrier();
	pg_atomic_write_u64(&domain()->in.hardware_tag, tag);
}

/* ---------- writing ---------- */

/* The buckets that this transaction touched; beyond this many its database is marked as a whole. */
#define MAX_TOUCHED 65536

typedef struct Touched
{
	BucketHead *bucket;
	char status;
} Touched;

#define SH_PREFIX touched
#define SH_ELEMENT_TYPE Touched
#define SH_KEY_TYPE BucketHead *
#define SH_KEY bucket
#define SH_HASH_KEY(table, key) ((uint32) (((uintptr_t) (key) >> 6) * UINT64CONST(0x9E3779B97F4A7C15) >> 32))
#define SH_EQUAL(table, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static touched_hash *touched = NULL; /* in TopTransactionContext */
static bool flooded = false;
static bool preparing = false;

/* The count goes and the generation comes in one step: there is no moment at which neither keeps readers away. */
static void
give_back(BucketHead *bucket)
{
	pg_atomic_fetch_add_u64(&bucket->state, ONE_GENERATION - 1);
}

static void
give_all_back(void)
{
	touched_iterator iterator;
	Touched *t;

	touched_start_iterate(touched, &iterator);
	while ((t = touched_iterate(touched, &iterator)) != NULL)
		give_back(t->bucket);
	if (flooded)
		give_back((BucketHead *) domain());
	touched = NULL;
	flooded = false;
}

/*
 * COMMIT comes after the commit is visible, ABORT after the rollback is, PREPARE after the locks have gone to the prepared
 * transaction.
 */
static void
end_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			preparing = touched != NULL;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* Also for an error within PREPARE: whether it came about is then for coverage.c to find out. */
			if (preparing)
				pg_atomic_fetch_add_u32(&cache->prepares, 1);
			preparing = false;
			if (touched)
				give_all_back();
			break;
		default:
			break;
	}
}

static void
watch_transaction(void)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(end_transaction, NULL);
		registered = true;
	}
	if (touched == NULL)
		touched = touched_create(TopTransactionContext, 16, NULL);
}

static void
touch(BucketHead *bucket)
{
	bool found;

	if (flooded)
		return;
	watch_transaction();
	if (touched->members >= MAX_TOUCHED)
	{
		flooded = true;
		pg_atomic_fetch_add_u64(&domain()->in.state, 1);
		return;
	}
	touched_insert(touched, bucket, &found);
	if (!found)
		pg_atomic_fetch_add_u64(&bucket->state, 1);
}

void
cmblock_cache_touch_client(const Smsid *smsid)
{
	if (cache)
		touch(client_key(smsid).bucket);
}

void
cmblock_cache_touch_certificate(const unsigned char *sha256)
{
	if (cache)
		touch(certificate_key(sha256).bucket);
}

uint32
cmblock_cache_prepares(void)
{
	return pg_atomic_read_u32(&cache->prepares);
}
