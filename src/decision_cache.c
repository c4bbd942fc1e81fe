/*
 * decision_cache.c
 *		What decisions have read of clients and certificates, in shared memory, valid as long as nobody changes the rows.
 *
 * Reading one row by its index costs several times as much as the rest of a decision, and the rows hardly ever change. So
 * what a decision needs of them is kept in two tables of buckets of fixed size, a client in 40 bytes and a certificate in 96.
 * Nobody waits for anybody, and the path of a hit has no lock: only the two words at the head of a bucket.
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
	uint32 hand;              /* which one goes next when all are in use */
} BucketHead;

/* Whole cache lines: a bucket shares none with its neighbour. */
#define CLIENT_WAYS 6
#define CERTIFICATE_WAYS 5

typedef struct ClientBucket
{
	BucketHead head;
	CachedClient entry[CLIENT_WAYS];
} ClientBucket;

typedef struct CertificateBucket
{
	BucketHead head;
	CachedCertificate entry[CERTIFICATE_WAYS];
	char pad[16];
} CertificateBucket;

StaticAssertDecl(sizeof(ClientBucket) == 256, "a bucket of clients is four cache lines");
StaticAssertDecl(sizeof(CertificateBucket) == 512, "a bucket of certificates is eight cache lines");

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
		"About 100 bytes for a client and 200 for a certificate; 0: each decision reads the tables. "
		"Only where cmblock is in shared_preload_libraries.",
		&cmblock_decision_cache_size, 64 * 1024, 0, MAX_KILOBYTES, context, GUC_UNIT_KB, NULL, NULL, NULL);
}

/*
 * A sixteenth is for the filter. Of the rest a third is for clients: a certificate takes twice the memory of a
 * client. The tables are bounded by 2^31 buckets.
 */
static void
divide(void)
{
	Size octets = (Size) cmblock_decision_cache_size * 1024;
	Size rest = octets - octets / 16;

	filter_lines = (uint32) Min(Max(octets / 16 / sizeof(FilterLine), 1), PG_INT32_MAX);
	client_bucket_count = (uint32) Min(Max(rest / 3 / sizeof(ClientBucket), 1), PG_INT32_MAX);
	certificate_bucket_count =
		(uint32) Min(Max((rest - rest / 3) / sizeof(CertificateBucket), 1), PG_INT32_MAX);
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

/* SMSIDs and thumbprints come from outside, so their places are nobody's to foresee. The first 16 octets of each do. */
static inline uint32
place_of(const unsigned char *key, uint32 count)
{
	uint64 hash = siphash(1, 3, cache->key, key, SMSID_OCTETS);

	return (uint32) ((hash >> 32) * count >> 32);
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
	*tag += GENERATION(ticket->state) << 1;
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
 * Tag and generation in one word, which is never 0, as an empty place is. Under one tag no two generations have the same: the
 * factor is odd, and a tag's lowest bit is not used. Different tags are hashes with a secret key.
 */
static inline uint64
stamp_of(uint64 tag, const CacheTicket *ticket)
{
	return (tag + (GENERATION(ticket->state) << 1) * UINT64CONST(0x9E3779B97F4A7C15)) | 1;
}

/* The keys are random, so their first word alone tells almost all of them apart, and the loads wait for nothing. */
static inline bool
same_word(const void *a, const void *b)
{
	uint64 x;
	uint64 y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x == y;
}

/* The sizes are constants where this is inlined. */
static pg_attribute_always_inline CacheAnswer
find_entry(BucketHead *bucket, int ways, Size entry_size, Size key_size, const unsigned char *key, uint64 tag,
		   void *result, CacheTicket *ticket)
{
	const char *entry = (const char *) bucket + sizeof(BucketHead);
	uint32 version;
	uint64 stamp;

	*ticket = take_ticket(bucket);
	version = pg_atomic_read_u32(&bucket->version);
	if (WRITERS(ticket->state) > 0 || (version & 1))
		return CACHE_BUSY;
	stamp = stamp_of(tag, ticket);
	pg_read_barrier();
	for (int i = 0; i < ways; i++, entry += entry_size)
	{
		if (!same_word(entry + sizeof(stamp), key))
			continue;
		memcpy(result, entry, entry_size);
		pg_read_barrier();
		if (pg_atomic_read_u32(&bucket->version) != version)
			return CACHE_BUSY;
		/* What is compared is the copy, which is whole. */
		if (same_word(result, &stamp) && memcmp((char *) result + sizeof(stamp), key, key_size) == 0)
			return CACHE_HIT;
	}
	return CACHE_MISS;
}

CacheAnswer
cmblock_cache_find_client(const Smsid *smsid, uint64 tag, CachedClient *client, CacheTicket *ticket)
{
	ClientBucket *bucket = &client_buckets[place_of(smsid->octet, client_bucket_count)];

	return find_entry(&bucket->head, CLIENT_WAYS, sizeof(CachedClient), SMSID_OCTETS, smsid->octet, tag,
					  client, ticket);
}

CacheAnswer
cmblock_cache_find_certificate(const unsigned char *sha256, uint64 tag, CachedCertificate *certificate,
							   CacheTicket *ticket)
{
	CertificateBucket *bucket = &certificate_buckets[place_of(sha256, certificate_bucket_count)];

	return find_entry(&bucket->head, CERTIFICATE_WAYS, sizeof(CachedCertificate), SHA256_OCTETS, sha256, tag,
					  certificate, ticket);
}

/* The place for an entry: its own, one that does not count any more, or else each in its turn. */
static char *
choose(BucketHead *bucket, int ways, Size entry_size, Size key_size, const char *entry)
{
	char *first = (char *) bucket + sizeof(BucketHead);
	char *unused = NULL;

	for (int i = 0; i < ways; i++)
	{
		char *e = first + i * entry_size;

		if (memcmp(e + sizeof(uint64), entry + sizeof(uint64), key_size) == 0)
			return e;
		/* One with another stamp may be another database's, which reads its row again then. */
		if (!same_word(e, entry))
			unused = e;
	}
	return unused ? unused : first + (bucket->hand++ % ways) * entry_size;
}

static void
put_entry(int ways, Size entry_size, Size key_size, char *entry, uint64 tag, const CacheTicket *ticket)
{
	BucketHead *bucket = ticket->bucket;
	uint64 stamp = stamp_of(tag, ticket);
	uint32 version = pg_atomic_read_u32(&bucket->version);

	Assert(WRITERS(ticket->state) == 0);
	memcpy(entry, &stamp, sizeof(stamp));
	if ((version & 1) || !pg_atomic_compare_exchange_u32(&bucket->version, &version, version + 1))
		return;
	/*
	 * The exchange is a full barrier. If a writer comes after this look, the entry does not count: nobody uses the
	 * bucket while the writer is there, and afterwards its generation is another.
	 */
	if (pg_atomic_read_u64(&bucket->state) == ticket->state)
		memcpy(choose(bucket, ways, entry_size, key_size, entry), entry, entry_size);
	pg_write_barrier();
	pg_atomic_write_u32(&bucket->version, version + 2);
}

void
cmblock_cache_put_client(CachedClient *client, uint64 tag, const CacheTicket *ticket)
{
	put_entry(CLIENT_WAYS, sizeof(CachedClient), SMSID_OCTETS, (char *) client, tag, ticket);
}

void
cmblock_cache_put_certificate(CachedCertificate *certificate, uint64 tag, const CacheTicket *ticket)
{
	put_entry(CERTIFICATE_WAYS, sizeof(CachedCertificate), SHA256_OCTETS, (char *) certificate, tag, ticket);
}

/* ---------- hardware ids of blocked clients ---------- */

uint64
cmblock_cache_hardware(text *hardware_id)
{
	uint64 hash = cmblock_cache_hash(VARDATA_ANY(hardware_id), VARSIZE_ANY_EXHDR(hardware_id)) ^
				  (uint64) MyDatabaseId * UINT64CONST(0x9E3779B97F4A7C15);

	return hash ? hash : 1;
}

static inline FilterLine *
line_of(uint64 hardware)
{
	return &filter[(hardware >> 32) * filter_lines >> 32];
}

/* The upper half chose the line, the lower one has 9 bits for each bit: word and place in it. */
#define BIT_NUMBER(hardware, i) (((hardware) >> ((i) *8)) & 0x1ff)

bool
cmblock_cache_hardware_may_be_blocked(uint64 hardware)
{
	FilterLine *line = line_of(hardware);

	for (int i = 0; i < LINE_BITS; i++)
	{
		uint64 bit = BIT_NUMBER(hardware, i);

		if (!(pg_atomic_read_u64(&line->word[bit / 64]) & (UINT64CONST(1) << bit % 64)))
			return false;
	}
	return true;
}

void
cmblock_cache_add_blocked_hardware(uint64 hardware)
{
	FilterLine *line = line_of(hardware);

	for (int i = 0; i < LINE_BITS; i++)
	{
		uint64 bit = BIT_NUMBER(hardware, i);

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
#define SH_HASH_KEY(table, key) ((uint32) (((uintptr_t) (key) >> 8) * UINT64CONST(0x9E3779B97F4A7C15) >> 32))
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
		touch(&client_buckets[place_of(smsid->octet, client_bucket_count)].head);
}

void
cmblock_cache_touch_certificate(const unsigned char *sha256)
{
	if (cache)
		touch(&certificate_buckets[place_of(sha256, certificate_bucket_count)].head);
}

uint32
cmblock_cache_prepares(void)
{
	return pg_atomic_read_u32(&cache->prepares);
}
