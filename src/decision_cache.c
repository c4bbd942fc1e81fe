/*
 * decision_cache.c
 *		What decisions have read of clients and certificates, in shared memory, valid as long as nobody changes the rows.
 *
 * Reading one row by its index costs several times as much as the rest of a decision, and the rows hardly ever change. So
 * what a decision needs of them is kept in shared memory. Nobody waits for anybody, and the path of a hit has no lock.
 *
 * Coherence
 *		Each row has a state, a word that it shares with other rows: how many transactions are changing any of them, and a
 *		generation. The guard stands before every change of a row. It raises the count before the change is made. When
 *		the transaction has ended, a callback takes the count back and raises the generation in the same atomic step.
 *		PostgreSQL calls it after the commit became visible, and before the client hears of it.
 *		- While a state has writers nobody uses what is kept of its rows: decisions read the table, and so they see their own
 *		  changes.
 *		- An entry counts only under the generation under which it was read. A reader takes the state before its
 *		  snapshot, and puts in what it read only if the state is the same afterwards. So a change is either in its
 *		  snapshot, since the generation was raised after the commit was visible, or the state differs.
 *		- After COMMIT has returned, the generation is a new one. What was put in before it does not count any more.
 *		- A rollback, also of a savepoint, changes nothing for the better or the worse: the rows stay out of use until the
 *		  transaction ends, and have to be read again then.
 *		A transaction that changes more than it is worth remembering marks its database as a whole.
 *		Changes that the guard does not see are the business of coverage.c: its tag is in every entry.
 *
 * PREPARE TRANSACTION
 *		ends the session's part. Whoever commits it later may be anybody, and after a restart nothing of this memory is
 *		left. So a counter is raised before the buckets are given back, and coverage.c finds out by its locks
 *		whether such a transaction is still there.
 *
 * Entries
 *		What a hit costs is the wait for memory: to find a random place in a large area takes as long as the rest of
 *		the decision, most of it to find out where its page is. So an entry is small, and has no pointers, no key, and no
 *		lock. A client takes 16 octets, eight of them two lines of the processor's cache; a certificate takes one line, in which its
 *		client's facts are kept, too, so that one place has to be waited for and not two. And the tables grow with
 *		what is in them, up to their size: what is close together is on fewer pages.
 *
 *		The first word of an entry says what it is: 64 bits of a keyed hash of the row's key, combined with the stamp under
 *		which it was read, and with a sum of the other words. So an entry that two processes wrote at once, or that is
 *		read while it is being written, is not found. The hash's key is secret and new at each start, so nobody can look for two
 *		rows that are alike, and by chance two in the same place are once in 2^60 comparisons: at 5,000 decisions a second, once
 *		in a million years.
 *
 *		A table grows by doubling. An entry tells by one of its lowest bits whether it belongs into the new half. An entry
 *		in the wrong place does no harm, as it says itself what it is.
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

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"
#include "utils/guc.h"

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

/* Few enough to stay in the processor's cache, many enough that a change takes few others with it. */
#define STATES 16384

/* A bucket is some places for an entry of some words each. */
#define WAYS 8
#define CLIENT_WORDS (1 + sizeof(CachedClient) / sizeof(uint64))
#define CERTIFICATE_WORDS (1 + sizeof(CachedCertificate) / sizeof(uint64))

StaticAssertDecl(sizeof(CachedClient) == 8, "eight clients are two cache lines");
StaticAssertDecl(CERTIFICATE_WORDS * sizeof(uint64) == 64, "a certificate is a cache line");

typedef enum TableKind
{
	TABLE_CLIENT,
	TABLE_CERTIFICATE,
	TABLE_MEMO, /* as large as clients */
} TableKind;

#define TABLES (TABLE_MEMO + 1)

/* A table doubles so many times from its first size to its full one. Memos are seldom asked for: theirs is full at once. */
#define LEVELS 4
#define FIRST_LEVEL(kind) ((kind) == TABLE_MEMO ? LEVELS : 0)

/* Where a table begins, and to what size it may grow: the same in every process. */
typedef struct Table
{
	pg_atomic_uint64 *word;
	uint32 first; /* buckets at level 0 */
} Table;

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

/* How full a table is, apart from what all read all the time. */
typedef union Pressure
{
	struct
	{
		pg_atomic_uint32 evictions; /* since it grew */
		pg_atomic_uint32 growing;
	} in;
	char pad[PG_CACHE_LINE_SIZE];
} Pressure;

typedef struct SharedCache
{
	SipKey key;
	pg_atomic_uint32 level[TABLES];
	pg_atomic_uint32 prepares;
	char pad[PG_CACHE_LINE_SIZE];
	Pressure pressure[TABLES];
	Domain domain[DOMAINS];
	pg_atomic_uint64 state[STATES];
} SharedCache;

static SharedCache *cache = NULL;
static Table tables[TABLES];
static FilterLine *filter = NULL;
static uint32 filter_lines = 0;

void
cmblock_decision_cache_define_settings(void)
{
	/* Shared memory cannot grow later. Without preloading there is none. */
	GucContext context = process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomIntVariable(
		"cmblock.decision_cache_size", "Memory for what decisions have read of clients and certificates.",
		"About 50 bytes for a client and 250 for a certificate; 0: each decision reads the tables. "
		"Only where cmblock is in shared_preload_libraries.",
		&cmblock_decision_cache_size, 64 * 1024, 0, MAX_KILOBYTES, context, GUC_UNIT_KB, NULL, NULL, NULL);
}

static inline uint32
words_of(TableKind kind)
{
	return kind == TABLE_CERTIFICATE ? CERTIFICATE_WORDS : CLIENT_WORDS;
}

static inline Size
bucket_size(TableKind kind)
{
	return (Size) WAYS * words_of(kind) * sizeof(uint64);
}

/* A sixteenth is for the filter. Of the rest four sixths are for certificates, whose entries are four times as large. */
static void
divide(void)
{
	Size octets = (Size) cmblock_decision_cache_size * 1024;
	Size sixth = (octets - octets / 16) / 6;

	filter_lines = (uint32) Min(Max(octets / 16 / sizeof(FilterLine), 1), PG_INT32_MAX);
	for (TableKind kind = 0; kind < TABLES; kind++)
	{
		Size size = sixth * (kind == TABLE_CERTIFICATE ? 4 : 1);

		tables[kind].first =
			(uint32) Min(Max(size / (bucket_size(kind) << LEVELS), 1), PG_INT32_MAX >> LEVELS);
	}
}

static Size
table_size(TableKind kind)
{
	return CACHELINEALIGN(mul_size(tables[kind].first, bucket_size(kind) << LEVELS));
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
	for (TableKind kind = 0; kind < TABLES; kind++)
		size = add_size(size, table_size(kind));
	return add_size(size, mul_size(filter_lines, sizeof(FilterLine)));
#endif
}

static void
initialize(void)
{
	if (!pg_strong_random(&cache->key, sizeof(cache->key)))
		ereport(FATAL, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a random key"));
	/* So that it is not the 0 of a session that has not looked yet. */
	pg_atomic_init_u32(&cache->prepares, 1);
	for (TableKind kind = 0; kind < TABLES; kind++)
	{
		pg_atomic_init_u32(&cache->level[kind], FIRST_LEVEL(kind));
		pg_atomic_init_u32(&cache->pressure[kind].in.evictions, 0);
		pg_atomic_init_u32(&cache->pressure[kind].in.growing, 0);
	}
	for (int i = 0; i < STATES; i++)
		pg_atomic_init_u64(&cache->state[i], 0);
	for (int i = 0; i < DOMAINS; i++)
	{
		pg_atomic_init_u64(&cache->domain[i].in.state, 0);
		pg_atomic_init_u64(&cache->domain[i].in.hardware_tag, 0);
		pg_atomic_init_u32(&cache->domain[i].in.database, InvalidOid);
	}
}

/*
 * Tables and filter are used as they come: the system gives shared memory out full of zeros, which is empty. To write
 * them would only make the server start slowly and take memory that nobody may need.
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
	start = (char *) cache + CACHELINEALIGN(sizeof(SharedCache));
	for (TableKind kind = 0; kind < TABLES; kind++)
	{
		tables[kind].word = (pg_atomic_uint64 *) start;
		start += table_size(kind);
	}
	filter = (FilterLine *) start;
	if (!found)
		initialize();
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

/* The lowest bits of an id: which half it belongs to, at each doubling. */
#define HALVES(id, level) ((id) & ((1U << (level)) - 1))

/* SMSIDs and thumbprints come from outside, so their places are nobody's to foresee. */
static inline CacheKey
make_key(const void *key, Size size, TableKind kind)
{
	uint64 hash[2];
	CacheKey result;
	uint32 first = tables[kind].first;
	uint32 bucket;

	siphash_double(1, 3, cache->key, key, size, hash);
	result.id = hash[1];
	result.state = &cache->state[hash[0] % STATES];
	result.start = hash[0] / STATES % WAYS;
	bucket = (uint32) ((hash[0] >> 32) * first >> 32);
	bucket += first * HALVES(result.id, pg_atomic_read_u32(&cache->level[kind]));
	result.bucket = tables[kind].word + (Size) bucket * WAYS * words_of(kind);
	return result;
}

static inline void
fetch(const CacheKey *key, TableKind kind)
{
	__builtin_prefetch(key->state);
	__builtin_prefetch(key->bucket + key->start * words_of(kind));
}

CacheKey
cmblock_cache_client_key(const Smsid *smsid, bool want)
{
	CacheKey key = make_key(smsid->octet, SMSID_OCTETS, TABLE_CLIENT);

	if (want)
		fetch(&key, TABLE_CLIENT);
	return key;
}

CacheKey
cmblock_cache_certificate_key(const unsigned char *sha256)
{
	CacheKey key = make_key(sha256, SHA256_OCTETS, TABLE_CERTIFICATE);

	fetch(&key, TABLE_CERTIFICATE);
	return key;
}

/*
 * Nothing that the caller reads next is older than the state: entries are loads like it, and to take a snapshot takes a
 * lock.
 */
static inline CacheTicket
take_ticket(pg_atomic_uint64 *word)
{
	CacheTicket ticket = {.word = word, .state = pg_atomic_read_u64(word)};

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

/*
 * Generations of the row's state and of the database are added, and neither ever falls: under one tag no two
 * moments have the same stamp, nor, since the factor is the golden ratio, two of the next 2^46 the same upper 48 bits. Tags are
 * hashes with a secret key.
 */
#define GENERATION_FACTOR UINT64CONST(0x9E3779B97F4A7C15)

static inline uint64
stamp_of(uint64 tag, const CacheTicket *ticket)
{
	return tag + GENERATION(ticket->state) * GENERATION_FACTOR;
}

bool
cmblock_cache_begin(uint64 *tag, CacheTicket *ticket)
{
	*ticket = take_ticket(&domain()->in.state);
	/* Another generation is another tag: all entries of the database are gone with it. */
	*tag = stamp_of(*tag, ticket);
	return WRITERS(ticket->state) == 0;
}

bool
cmblock_cache_is_unchanged(const CacheTicket *tickets, int count)
{
	pg_read_barrier();
	for (int i = 0; i < count; i++)
		if (pg_atomic_read_u64(tickets[i].word) != tickets[i].state)
			return false;
	pg_read_barrier();
	return true;
}

uint64
cmblock_cache_stamp(uint64 tag, const CacheTicket *ticket)
{
	return stamp_of(tag, ticket) | 1;
}

CacheAnswer
cmblock_cache_check_stamp(const CacheKey *key, uint64 tag, uint64 stamp, CacheTicket *ticket)
{
	*ticket = take_ticket(key->state);
	if (WRITERS(ticket->state) > 0)
		return CACHE_BUSY;
	return cmblock_cache_stamp(tag, ticket) == stamp ? CACHE_HIT : CACHE_MISS;
}

/* The lowest bits are the same under all stamps: by them a process that writes finds what its entry replaces. */
#define SAME_UNDER_ALL_STAMPS UINT64CONST(0xffff)

static inline uint64
id_under(const CacheKey *key, uint64 stamp)
{
	return key->id ^ (stamp & ~SAME_UNDER_ALL_STAMPS);
}

/*
 * The sum by which words of different entries are told from words of one. Each has a factor of its own, so that two
 * differences do not cancel out.
 */
static inline uint64
sum_of(const uint64 *word, uint32 words)
{
	uint64 sum = 0;

	for (uint32 i = 0; i < words; i++)
		sum += (word[i] ^ word[i] >> 32) * (GENERATION_FACTOR + 2 * i);
	return sum;
}

/* What an entry is: its words but the first are copied. */
static inline uint64
read_entry(pg_atomic_uint64 *entry, uint64 *word, uint32 words)
{
	uint64 id = pg_atomic_read_u64(&entry[0]);

	for (uint32 i = 1; i < words; i++)
		word[i - 1] = pg_atomic_read_u64(&entry[i]);
	return id ^ sum_of(word, words - 1);
}

static inline pg_atomic_uint64 *
way(const CacheKey *key, int i, uint32 words)
{
	return key->bucket + (key->start + i) % WAYS * words;
}

/* `words` is a constant where this is inlined. */
static pg_attribute_always_inline bool
find_entry(const CacheKey *key, uint64 id, uint64 *word, uint32 words)
{
	for (int i = 0; i < WAYS; i++)
		if (read_entry(way(key, i, words), word, words) == id)
			return true;
	return false;
}

static pg_attribute_always_inline CacheAnswer
find_row(const CacheKey *key, uint64 tag, void *row, uint32 words, CacheTicket *ticket)
{
	uint64 word[CERTIFICATE_WORDS];

	*ticket = take_ticket(key->state);
	if (WRITERS(ticket->state) > 0)
		return CACHE_BUSY;
	if (!find_entry(key, id_under(key, stamp_of(tag, ticket)), word, words))
		return CACHE_MISS;
	memcpy(row, word, (words - 1) * sizeof(uint64));
	return CACHE_HIT;
}

CacheAnswer
cmblock_cache_find_client(const CacheKey *key, uint64 tag, CachedClient *client, CacheTicket *ticket)
{
	return find_row(key, tag, client, CLIENT_WORDS, ticket);
}

CacheAnswer
cmblock_cache_find_certificate(const CacheKey *key, uint64 tag, CachedCertificate *certificate,
							   CacheTicket *ticket)
{
	return find_row(key, tag, certificate, CERTIFICATE_WORDS, ticket);
}

/* ---------- putting in ---------- */

/* A sample of buckets says whether almost half of all places are taken. */
#define SAMPLE 64

static bool
is_crowded(TableKind kind, uint32 buckets)
{
	uint32 words = words_of(kind);
	int taken = 0;

	for (int i = 0; i < SAMPLE; i++)
	{
		pg_atomic_uint64 *bucket = tables[kind].word + (Size) buckets * i / SAMPLE * WAYS * words;

		for (int w = 0; w < WAYS; w++)
			taken += pg_atomic_read_u64(&bucket[w * words]) != 0;
	}
	return taken * 100 >= SAMPLE * WAYS * 45;
}

/*
 * The entries of the new half are copied, then the new size holds, then they are taken out of the old half. Who looks for
 * one meanwhile finds it or does not.
 */
static void
grow(TableKind kind, uint32 level)
{
	uint32 words = words_of(kind);
	Size half = ((Size) tables[kind].first << level) * WAYS * words;
	pg_atomic_uint64 *first = tables[kind].word;
	uint64 word[CERTIFICATE_WORDS];

	for (pg_atomic_uint64 *entry = first; entry < first + half; entry += words)
		if (read_entry(entry, word, words) >> level & 1)
			for (uint32 i = 0; i < words; i++)
				pg_atomic_write_u64(&entry[half + i], pg_atomic_read_u64(&entry[i]));
	pg_memory_barrier();
	pg_atomic_write_u32(&cache->level[kind], level + 1);
	for (pg_atomic_uint64 *entry = first; entry < first + half; entry += words)
		if (read_entry(entry, word, words) >> level & 1)
			pg_atomic_write_u64(&entry[0], 0);
}

/* Places get scarce by chance as well, so it is looked at from time to time only. */
static void
note_eviction(TableKind kind)
{
	Pressure *pressure = &cache->pressure[kind];
	uint32 level = pg_atomic_read_u32(&cache->level[kind]);
	uint32 buckets = tables[kind].first << level;
	uint32 idle = 0;

	if (level == LEVELS || pg_atomic_fetch_add_u32(&pressure->in.evictions, 1) < Max(buckets / 64, 16) ||
		!pg_atomic_compare_exchange_u32(&pressure->in.growing, &idle, 1))
		return;
	pg_atomic_write_u32(&pressure->in.evictions, 0);
	/* Another may have been faster. */
	if (pg_atomic_read_u32(&cache->level[kind]) == level && is_crowded(kind, buckets))
		grow(kind, level);
	pg_memory_barrier();
	pg_atomic_write_u32(&pressure->in.growing, 0);
}

/* The place for an entry: that of the same row, one that is free, or any. */
static pg_atomic_uint64 *
choose(const CacheKey *key, uint64 id, TableKind kind)
{
	static uint32 turn = 0;
	uint32 words = words_of(kind);
	pg_atomic_uint64 *free = NULL;

	for (int i = 0; i < WAYS; i++)
	{
		pg_atomic_uint64 *entry = way(key, i, words);
		uint64 word[CERTIFICATE_WORDS];

		if (pg_atomic_read_u64(entry) == 0)
			free = free ? free : entry;
		else if (((read_entry(entry, word, words) ^ id) & SAME_UNDER_ALL_STAMPS) == 0)
			return entry;
	}
	if (free)
		return free;
	note_eviction(kind);
	return way(key, turn++ % WAYS, words);
}

static void
put_entry(const CacheKey *key, uint64 id, const uint64 *word, TableKind kind)
{
	pg_atomic_uint64 *entry = choose(key, id, kind);
	uint32 words = words_of(kind);

	pg_atomic_write_u64(&entry[0], id ^ sum_of(word, words - 1));
	for (uint32 i = 1; i < words; i++)
		pg_atomic_write_u64(&entry[i], word[i - 1]);
}

/*
 * If a writer comes after the look at the state, the entry does not count: nobody uses it while the writer is there, and
 * afterwards the generation is another.
 */
static void
put_row(const CacheKey *key, const void *row, uint64 tag, const CacheTicket *ticket, TableKind kind)
{
	uint64 word[CERTIFICATE_WORDS];

	Assert(WRITERS(ticket->state) == 0);
	pg_memory_barrier();
	if (pg_atomic_read_u64(ticket->word) != ticket->state)
		return;
	memcpy(word, row, (words_of(kind) - 1) * sizeof(uint64));
	put_entry(key, id_under(key, stamp_of(tag, ticket)), word, kind);
}

void
cmblock_cache_put_client(const CacheKey *key, const CachedClient *client, uint64 tag,
						 const CacheTicket *ticket)
{
	put_row(key, client, tag, ticket, TABLE_CLIENT);
}

void
cmblock_cache_put_certificate(const CacheKey *key, const CachedCertificate *certificate, uint64 tag,
							  const CacheTicket *ticket)
{
	put_row(key, certificate, tag, ticket, TABLE_CERTIFICATE);
}

/* ---------- memos ---------- */

static CacheKey
memo_key(const unsigned char *sha256, uint64 list)
{
	unsigned char both[SHA256_OCTETS + sizeof(list)];

	memcpy(both, sha256, SHA256_OCTETS);
	memcpy(both + SHA256_OCTETS, &list, sizeof(list));
	return make_key(both, sizeof(both), TABLE_MEMO);
}

uint32
cmblock_cache_find_memo(const unsigned char *sha256, uint64 list)
{
	CacheKey key = memo_key(sha256, list);
	uint64 memo;

	return find_entry(&key, key.id, &memo, CLIENT_WORDS) ? (uint32) memo : 0;
}

void
cmblock_cache_put_memo(const unsigned char *sha256, uint64 list, uint32 memo)
{
	CacheKey key = memo_key(sha256, list);
	uint64 word = memo;

	put_entry(&key, key.id, &word, TABLE_MEMO);
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

pg_atomic_uint64 *
cmblock_cache_database_state(void)
{
	return &domain()->in.state;
}

void
cmblock_cache_add_writer(pg_atomic_uint64 *state)
{
	pg_atomic_fetch_add_u64(state, 1);
}

/* The count goes and the generation comes in one step: there is no moment at which neither keeps readers away. */
void
cmblock_cache_end_writer(pg_atomic_uint64 *state)
{
	pg_atomic_fetch_add_u64(state, ONE_GENERATION - 1);
}

void
cmblock_cache_note_prepare(void)
{
	pg_atomic_fetch_add_u32(&cache->prepares, 1);
}

uint32
cmblock_cache_prepares(void)
{
	return pg_atomic_read_u32(&cache->prepares);
}
