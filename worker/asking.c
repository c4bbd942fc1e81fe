/*
 * asking.c
 *		Takes questions (src/question.c) from site to site: asks each neighbour, and tells the one that asked.
 *
 * A question goes to every neighbour but the one that it came from, once the rows that were committed before it have been
 * acknowledged there. So wherever a question arrives, the version that it is about has arrived before: one question is enough.
 * It goes again only after it was renewed, and when a connection begins anew.
 *
 * For a neighbour that cannot be reached this site answers itself, from what that neighbour acknowledged, and says so.
 * Whatever it has, it is at least an answer; the neighbour's own word replaces it when it is back.
 *
 * Answers are passed on to the asker as many at a time as have come, one call at a time. So the answers of 250 sites
 * travel in a few calls.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "asking.h"
#include "slots.h"
#include "statement.h"
#include "types.h"
#include "worker.h"

/* Answers in one call: 23 octets each. */
#define TELL_AT_ONCE 1024

static Question questions[CMBLOCK_MAX_QUESTIONS];
static int open_questions = 0;

void
cmblock_read_questions(void)
{
	open_questions = cmblock_question_list(questions);
}

bool
cmblock_any_questions(void)
{
	return open_questions > 0;
}

void
cmblock_forget_calls(Link *link)
{
	link->calling = CALL_NONE;
	memset(link->asked, 0, sizeof(link->asked));
	cmblock_question_untell(link->neighbour);
}

/* Was this question put to this link, since it was renewed? If not, it counts as put from now on. */
static bool
put_already(Asked *list, const Question *question)
{
	Asked *asked = &list[question->place];
	bool put = asked->question == question->id && asked->renewed == question->renewed;

	asked->question = question->id;
	asked->renewed = question->renewed;
	return put;
}

/* Has the neighbour everything that was committed here before the question? */
static bool
is_level(const Link *link, const Question *question)
{
	return !link->in_round && !link->look && (int32) (link->changes - question->changes) >= 0;
}

/* ---------- a link that works ---------- */

static PeerEvent
ask(Link *link, const PeerIdentity *who, const Question *question, TimestampTz now)
{
	link->calling = CALL_ASK;
	link->call_question = question->id;
	return cmblock_peer_ask(&link->peer, who, question->id, cmblock_smsid_string(&question->client), now);
}

static PeerEvent
tell(Link *link, const PeerIdentity *who, const Question *question, TimestampTz now)
{
	Answer *answers = palloc(TELL_AT_ONCE * sizeof(Answer));
	int count = cmblock_question_take_untold(question->id, answers, TELL_AT_ONCE);
	bytea *octets;

	if (count == 0)
		return PEER_NOTHING;
	octets = cmblock_answers_encode(answers, count);
	link->calling = CALL_TELL;
	return cmblock_peer_tell(&link->peer, who, question->askers_id, VARDATA(octets),
							 VARSIZE(octets) - VARHDRSZ, now);
}

PeerEvent
cmblock_call_link(Link *link, const PeerIdentity *who, TimestampTz now)
{
	for (int i = 0; i < open_questions; i++)
	{
		const Question *question = &questions[i];
		PeerEvent event = PEER_NOTHING;

		if (question->asker == link->neighbour)
			event = tell(link, who, question, now);
		else if (is_level(link, question) && !put_already(link->asked, question))
			event = ask(link, who, question, now);
		if (event == PEER_FAILED || link->calling != CALL_NONE)
			return event;
	}
	return PEER_NOTHING;
}

bool
cmblock_link_replied(Link *link)
{
	bool is_answer = link->calling == CALL_ASK;
	Answer *answers;
	int count;

	link->calling = CALL_NONE;
	if (!is_answer || !link->peer.answers)
		return false;
	count = cmblock_answers_read(link->peer.answers, link->peer.answers_length, &answers);
	/* A neighbour asked speaks for itself only. */
	if (count != 1 || answers[0].site != link->neighbour || answers[0].word != ANSWER_OWN)
		return false;
	return cmblock_question_answer(link->call_question, answers, count);
}

/* ---------- a link that does not ---------- */

/* $3: the neighbour is the parent. Whoever is behind it cannot be asked either. */
static Statement sites_behind = {
	"SELECT s.code FROM cmblock.site s CROSS JOIN cmblock.this_site t WHERE s.retired_at IS NULL "
	"AND s.code <> t.code AND CASE WHEN $2 THEN s.parent IS DISTINCT FROM t.code "
	"ELSE s.code = $1 OR s.parent = $1 END",
	{"site_code", "bool"}};

/* A row that the neighbour wrote itself, or never gets from here, says nothing of what it has. */
static Statement row_here = {"SELECT version, pg_visible_in_snapshot(change_xid, $3), "
							 "assigned_site = $2 OR origin_site = $2 OR ($4 AND origin_site <> $5) "
							 "FROM cmblock.client WHERE smsid = $1",
							 {"smsid", "site_code", "pg_snapshot", "bool", "site_code"}};

/* What the neighbour's acknowledgements say of the client. Inside cmblock_begin_work. */
static void
look_up_record(const Link *link, const Question *question, Answer *answer)
{
	Datum values[5] = {SmsidPGetDatum(&question->client), SiteCodeGetDatum(link->neighbour),
					   PointerGetDatum(link->confirmed), BoolGetDatum(link->feed.upward),
					   SiteCodeGetDatum(link->feed.here)};
	bool isnull;

	if (!link->confirmed || cmblock_execute(&row_here, values, NULL) == 0 ||
		DatumGetBool(cmblock_result(3, &isnull)))
		return;
	answer->word = ANSWER_UNSENT;
	if (!DatumGetBool(cmblock_result(2, &isnull)))
		return;
	answer->word = ANSWER_RECORD;
	answer->version = DatumGetInt64(cmblock_result(1, &isnull));
	answer->received_at = link->acknowledged_at;
}

static int
answer_for(Link *link, const Question *question, Answer **answers)
{
	Datum values[2] = {SiteCodeGetDatum(link->neighbour), BoolGetDatum(link->feed.upward)};
	int count = cmblock_execute(&sites_behind, values, NULL);
	SPITupleTable *rows = SPI_tuptable;

	*answers = palloc0(Max(count, 1) * sizeof(Answer));
	for (int i = 0; i < count; i++)
	{
		Answer *answer = &(*answers)[i];
		bool isnull;

		answer->site = DatumGetSiteCode(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
		answer->said_by = link->feed.here;
		answer->word = ANSWER_UNREACHABLE;
		if (answer->site == link->neighbour)
			look_up_record(link, question, answer);
	}
	return count;
}

bool
cmblock_answer_for_link(Link *link)
{
	bool answered = false;

	if (link->failures == 0 && !link->paused)
		return false;
	for (int i = 0; i < open_questions; i++)
	{
		const Question *question = &questions[i];
		Answer *answers;
		int count;

		if (question->asker == link->neighbour || put_already(link->answered_for, question))
			continue;
		if (cmblock_begin_work() != GROUND_READY)
			break;
		count = answer_for(link, question, &answers);
		answered |= cmblock_question_answer(question->id, answers, count);
		cmblock_end_work();
	}
	return answered;
}
