/*
 * question.c
 *		Questions that are on their way through the hierarchy: "who has the current version of this client?"
 *
 * A session asks, the replicator of its database passes the question on to each neighbour, the neighbour answers for
 * itself and has its own replicator ask those behind it. Answers come back the same way. Here is the place in shared
 * memory where sessions, replicator and calling neighbours meet: a few questions, and a hash table with the answers of
 * all of them by question and site.
 *
 * It is memory and not a table, because a session has to ask from inside its transaction, nothing of it has to last,
 * and asking is not to write WAL. The numbers are random: an answer to a question of before a restart meets nobody.
 *
 * A question lives while it is renewed: a waiting session does so, which wakes the replicator, which asks the neighbours again,
 * which renews it there. When the session ends, in whatever way, the question dies out everywhere within
 * CMBLOCK_QUESTION_MS. Whoever needs a place clears away what has died.
 *
 * Locking: one LWLock for everything. The number of questions is an atomic, so that a replicator with none to
 * attend to does not touch the lock.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "question.h"
#include "shmem.h"
#include "slots.h"

/* Answers that the server can hold, of all questions together. */
#define MAX_STORED 32768

typedef struct Place
{
	Question question;
	Oid database;   /* InvalidOid: free */
	SiteCode first; /* of the chain through its answers; NO_SITE: none */
	int untold;
	ConditionVariable answered;
} Place;

typedef struct Board
{
	pg_atomic_uint32 open; /* places that are not free */
	Place place[CMBLOCK_MAX_QUESTIONS];
} Board;

typedef struct StoredKey
{
	uint64 question;
	SiteCode site;
	uint32 zero; /* no padding: the key is hashed as octets */
} StoredKey;

typedef struct Stored
{
	StoredKey key;
	Answer answer;
	SiteCode next;
	bool told;
} Stored;

static Board *board = NULL;
static HTAB *stored = NULL;

Size
cmblock_question_size(void)
{
	return add_size(MAXALIGN(sizeof(Board)), hash_estimate_size(MAX_STORED, sizeof(Stored)));
}

void
cmblock_question_startup(void)
{
	HASHCTL control = {.keysize = sizeof(StoredKey), .entrysize = sizeof(Stored)};
	bool found;

	board = ShmemInitStruct("cmblock questions", sizeof(Board), &found);
	if (!found)
	{
		memset(board, 0, sizeof(Board));
		pg_atomic_init_u32(&board->open, 0);
		for (int i = 0; i < CMBLOCK_MAX_QUESTIONS; i++)
			ConditionVariableInit(&board->place[i].answered);
	}
	stored = ShmemInitHash("cmblock answers", MAX_STORED, MAX_STORED, &control,
						   HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

static void
lock(LWLockMode mode)
{
	LWLockAcquire(cmblock_lock(LOCK_QUESTIONS), mode);
}

static void
unlock(void)
{
	LWLockRelease(cmblock_lock(LOCK_QUESTIONS));
}

/* ---------- places: all with the lock held ---------- */

static Place *
find(uint64 id)
{
	for (int i = 0; i < CMBLOCK_MAX_QUESTIONS; i++)
		if (board->place[i].database == MyDatabaseId && board->place[i].question.id == id)
			return &board->place[i];
	return NULL;
}

static Place *
find_askers(SiteCode asker, uint64 askers_id)
{
	for (int i = 0; i < CMBLOCK_MAX_QUESTIONS; i++)
	{
		Place *place = &board->place[i];

		if (place->database == MyDatabaseId && place->question.asker == asker &&
			place->question.askers_id == askers_id)
			return place;
	}
	return NULL;
}

static Stored *
find_stored(const Place *place, SiteCode site, HASHACTION action, bool *found)
{
	StoredKey key = {place->question.id, site, 0};

	return hash_search(stored, &key, action, found);
}

static void
clear(Place *place)
{
	SiteCode site = place->first;

	while (site != NO_SITE)
	{
		Stored *entry = find_stored(place, site, HASH_FIND, NULL);
		SiteCode next = entry->next;

		find_stored(place, site, HASH_REMOVE, NULL);
		site = next;
	}
	place->database = InvalidOid;
	pg_atomic_fetch_sub_u32(&board->open, 1);
	ConditionVariableBroadcast(&place->answered);
}

static bool
is_dead(const Place *place, TimestampTz now)
{
	return TimestampDifferenceExceeds(place->question.renewed, now, CMBLOCK_QUESTION_MS);
}

static Place *
take_place(TimestampTz now)
{
	Place *taken = NULL;

	for (int i = 0; i < CMBLOCK_MAX_QUESTIONS; i++)
	{
		Place *place = &board->place[i];

		if (OidIsValid(place->database) && is_dead(place, now))
			clear(place);
		if (!taken && !OidIsValid(place->database))
			taken = place;
	}
	if (taken)
		pg_atomic_fetch_add_u32(&board->open, 1);
	return taken;
}

/* ---------- asking ---------- */

static uint64
random_id(void)
{
	uint64 id = 0;

	while (id == 0)
		if (!pg_strong_random(&id, sizeof(id)))
			ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number"));
	return id;
}

uint64
cmblock_question_ask(uint64 id, const Smsid *client, SiteCode asker, uint64 askers_id)
{
	uint64 new_id = random_id();
	uint32 changes = cmblock_slots_changes_of(MyDatabaseId);
	TimestampTz now = GetCurrentTimestamp();
	Place *place;

	lock(LW_EXCLUSIVE);
	place = asker == NO_SITE ? find(id) : find_askers(asker, askers_id);
	if (!place && (place = take_place(now)) != NULL)
	{
		place->question = (Question){place - board->place, new_id, *client, asker, askers_id, changes, now};
		place->database = MyDatabaseId;
		place->first = NO_SITE;
		place->untold = 0;
	}
	if (place)
		place->question.renewed = now;
	id = place ? place->question.id : 0;
	unlock();
	cmblock_slots_nudge(MyDatabaseId);
	return id;
}

void
cmblock_question_withdraw(uint64 id)
{
	Place *place;

	lock(LW_EXCLUSIVE);
	place = find(id);
	if (place)
		clear(place);
	unlock();
}

int
cmblock_question_list(Question *questions)
{
	TimestampTz now;
	int count = 0;

	if (!board || pg_atomic_read_u32(&board->open) == 0)
		return 0;
	now = GetCurrentTimestamp();
	lock(LW_SHARED);
	for (int i = 0; i < CMBLOCK_MAX_QUESTIONS; i++)
		if (board->place[i].database == MyDatabaseId && !is_dead(&board->place[i], now))
			questions[count++] = board->place[i].question;
	unlock();
	return count;
}

/* ---------- answers ---------- */

/* An answer that is no better than the last word and says the same is no news, and is not told again. */
static void
put(Place *place, const Answer *answer, TimestampTz now)
{
	bool found;
	Stored *entry = find_stored(place, answer->site, HASH_ENTER_NULL, &found);

	/* No room: the site stays unknown to this question. */
	if (!entry)
		return;
	if (!found)
	{
		entry->next = place->first;
		place->first = answer->site;
		entry->told = true;
	}
	else if (answer->word < entry->answer.word ||
			 (answer->word == entry->answer.word && answer->version <= entry->answer.version))
	{
		entry->answer.heard_at = now;
		return;
	}
	if (entry->told)
		place->untold++;
	entry->told = false;
	entry->answer = *answer;
	entry->answer.heard_at = now;
}

bool
cmblock_question_answer(uint64 id, const Answer *answers, int count)
{
	TimestampTz now = GetCurrentTimestamp();
	Place *place;

	if (!board)
		return false;
	lock(LW_EXCLUSIVE);
	place = find(id);
	for (int i = 0; place && i < count; i++)
		put(place, &answers[i], now);
	if (place)
		ConditionVariableBroadcast(&place->answered);
	unlock();
	return place != NULL;
}

int
cmblock_question_answers(uint64 id, Answer **answers)
{
	Answer *copy = palloc(CMBLOCK_MAX_ANSWERS * sizeof(Answer));
	int count = 0;
	Place *place;

	lock(LW_SHARED);
	place = find(id);
	for (SiteCode site = place ? place->first : NO_SITE; site != NO_SITE && count < CMBLOCK_MAX_ANSWERS;)
	{
		Stored *entry = find_stored(place, site, HASH_FIND, NULL);

		copy[count++] = entry->answer;
		site = entry->next;
	}
	unlock();
	*answers = copy;
	return count;
}

int
cmblock_question_take_untold(uint64 id, Answer *answers, int max)
{
	int count = 0;
	Place *place;

	lock(LW_EXCLUSIVE);
	place = find(id);
	for (SiteCode site = place && place->untold > 0 ? place->first : NO_SITE; site != NO_SITE && count < max;)
	{
		Stored *entry = find_stored(place, site, HASH_FIND, NULL);

		if (!entry->told)
		{
			answers[count++] = entry->answer;
			entry->told = true;
			place->untold--;
		}
		site = entry->next;
	}
	unlock();
	return count;
}

void
cmblock_question_untell(SiteCode asker)
{
	if (!board || pg_atomic_read_u32(&board->open) == 0)
		return;
	lock(LW_EXCLUSIVE);
	for (int i = 0; i < CMBLOCK_MAX_QUESTIONS; i++)
	{
		Place *place = &board->place[i];

		if (place->database != MyDatabaseId || place->question.asker != asker)
			continue;
		place->untold = 0;
		for (SiteCode site = place->first; site != NO_SITE;)
		{
			Stored *entry = find_stored(place, site, HASH_FIND, NULL);

			entry->told = false;
			place->untold++;
			site = entry->next;
		}
	}
	unlock();
}

/* ---------- sleeping ---------- */

/* The place of a question of this session's: it stays the same while the question is open. */
static Place *
own_place(uint64 id)
{
	Place *place;

	lock(LW_SHARED);
	place = find(id);
	unlock();
	return place;
}

void
cmblock_question_prepare_sleep(uint64 id)
{
	Place *place = own_place(id);

	if (place)
		ConditionVariablePrepareToSleep(&place->answered);
}

bool
cmblock_question_sleep(uint64 id, long timeout_ms)
{
	Place *place = own_place(id);

	if (place)
		ConditionVariableTimedSleep(&place->answered, timeout_ms, PG_WAIT_EXTENSION);
	return place != NULL;
}

void
cmblock_question_done_sleeping(void)
{
	ConditionVariableCancelSleep();
}

/* ---------- as they travel ---------- */

/* two site codes, word (int8), version (int64), received_at (int64) */
#define SITE_CODE_OCTETS 3
#define ANSWER_OCTETS (SITE_CODE_OCTETS + SITE_CODE_OCTETS + 1 + 8 + 8)

static void
send_site_code(StringInfo data, SiteCode code)
{
	for (int shift = 16; shift >= 0; shift -= 8)
		pq_sendint8(data, (code >> shift) & 0xFF);
}

static SiteCode
read_site_code(StringInfo data)
{
	SiteCode code = 0;

	for (int i = 0; i < SITE_CODE_OCTETS; i++)
		code = code << 8 | pq_getmsgbyte(data);
	return code;
}

bytea *
cmblock_answers_encode(const Answer *answers, int count)
{
	StringInfoData data;

	pq_begintypsend(&data);
	for (int i = 0; i < count; i++)
	{
		send_site_code(&data, answers[i].site);
		send_site_code(&data, answers[i].said_by);
		pq_sendint8(&data, answers[i].word);
		pq_sendint64(&data, answers[i].version);
		pq_sendint64(&data, answers[i].received_at);
	}
	return pq_endtypsend(&data);
}

static bool
is_site_code(SiteCode code)
{
	for (int shift = 16; shift >= 0; shift -= 8)
	{
		unsigned char c = (code >> shift) & 0xFF;

		if (!(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9'))
			return false;
	}
	return true;
}

static bool
makes_sense(const Answer *answer, int word)
{
	return is_site_code(answer->site) && is_site_code(answer->said_by) && word <= ANSWER_OWN &&
		   answer->version >= 0 && (answer->received_at == 0 || IS_VALID_TIMESTAMP(answer->received_at));
}

int
cmblock_answers_read(const char *octets, int length, Answer **answers)
{
	StringInfoData data = {.data = unconstify(char *, octets), .len = length, .maxlen = length};
	int count = length / ANSWER_OCTETS;

	if (length % ANSWER_OCTETS != 0 || count > CMBLOCK_MAX_ANSWERS)
		return -1;
	*answers = palloc0(Max(count, 1) * sizeof(Answer));
	for (int i = 0; i < count; i++)
	{
		Answer *answer = &(*answers)[i];
		int word;

		answer->site = read_site_code(&data);
		answer->said_by = read_site_code(&data);
		word = pq_getmsgbyte(&data);
		answer->version = pq_getmsgint64(&data);
		answer->received_at = pq_getmsgint64(&data);
		if (!makes_sense(answer, word))
			return -1;
		answer->word = word;
	}
	return count;
}
