/*
 * question.h
 *		Questions that are on their way through the hierarchy: "who has the current version of this client?"
 */
#ifndef CMBLOCK_QUESTION_H
#define CMBLOCK_QUESTION_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "types.h"

/* Questions that one server may have open, of all its databases together. */
#define CMBLOCK_MAX_QUESTIONS 64

/* A question that nobody renews is forgotten after this time. */
#define CMBLOCK_QUESTION_MS 60000

/* Whose word an answer is. A higher value is better evidence and replaces a lower one. */
typedef enum AnswerWord
{
	ANSWER_UNREACHABLE, /* nobody can ask the site, and nothing is known of it */
	ANSWER_UNSENT,      /* it cannot be asked; by its neighbour's record it lacks the neighbour's version */
	ANSWER_RECORD,      /* it cannot be asked; by its neighbour's record it has that version */
	ANSWER_OWN          /* the site's own */
} AnswerWord;

typedef struct Answer
{
	SiteCode site;
	SiteCode said_by; /* the neighbour that could not reach it, or the site itself */
	AnswerWord word;
	int64 version;           /* of the client's row there; 0: it has none */
	TimestampTz received_at; /* when it took that version in, by the clock of said_by; 0: it does not say */
	TimestampTz heard_at;    /* when it got here: not sent on */
} Answer;

typedef struct Question
{
	int place; /* 0 to CMBLOCK_MAX_QUESTIONS - 1: no other open question has it */
	uint64 id;
	Smsid client;
	SiteCode asker;      /* the neighbour that asks, or NO_SITE: a session of this site */
	uint64 askers_id;    /* what the asker calls it */
	uint32 changes;      /* the counter of changes (slots.h) when it was asked */
	TimestampTz renewed; /* when it was asked last */
} Question;

/* Shared memory: for worker/init.c. */
extern Size cmblock_question_size(void);
extern void cmblock_question_startup(void);

/*
 * Asks, and wakes the replicator of this database. A neighbour that asks the same again, and a session that passes its own id,
 * renew the question. Returns its id, or 0 when there is no room. A question changes nothing and is forgotten in a crash.
 */
extern uint64 cmblock_question_ask(uint64 id, const Smsid *client, SiteCode asker, uint64 askers_id);
extern void cmblock_question_withdraw(uint64 id);

/* Takes answers in. False when nobody asks that any more. */
extern bool cmblock_question_answer(uint64 id, const Answer *answers, int count);

/* All answers so far: *answers is palloc'd. */
extern int cmblock_question_answers(uint64 id, Answer **answers);

/*
 * Sleeping until an answer comes, as with a condition variable: prepare, look, sleep, look, ..., done. False, without
 * having slept: the question was not renewed in time and is forgotten.
 */
extern void cmblock_question_prepare_sleep(uint64 id);
extern bool cmblock_question_sleep(uint64 id, long timeout_ms);
extern void cmblock_question_done_sleeping(void);

/* The replicator: the open questions of its database, at most CMBLOCK_MAX_QUESTIONS. Nearly free when there are none. */
extern int cmblock_question_list(Question *questions);

/* Up to `max` answers that were not yet passed on to the asker; from now on they count as passed on. */
extern int cmblock_question_take_untold(uint64 id, Answer *answers, int max);

/* The link to that asker broke: what was under way may not have arrived. */
extern void cmblock_question_untell(SiteCode asker);

/* Answers as they travel: docs/protocol.md. Reading returns their number, palloc'd, or -1 for what is malformed. */
extern bytea *cmblock_answers_encode(const Answer *answers, int count);
extern int cmblock_answers_read(const char *octets, int length, Answer **answers);

/* The most answers in one call. */
#define CMBLOCK_MAX_ANSWERS 8192

#endif
