/*
 * incarnation.c
 *		Which life of a database a snapshot of it belongs to, and whether this database was set back.
 *
 * A database can be set back: restored from a backup, rolled back with its file system, promoted without the last commits, loaded from a
 * dump. Its neighbours then know changes that it has lost, and what it writes from now on would have versions that
 * they have seen with other contents. Two things notice it.
 *
 * The incarnation (cluster, timeline, database) is kept in this_site. Another one than the last is noticed without any neighbour.
 *
 * Everything else is noticed by the neighbours' cursors. Each start of the server is a run with a number, a random token and the position in
 * the WAL where it began; table site_run lists them. A cursor carries the run that it was made in and the position at that moment, at or
 * after the commits it stands for. It stands for nothing that is missing here exactly when its run is in the list and no
 * later one began before its position. Transaction numbers would not do: a standby can know the number of a transaction whose
 * commit it never got, and a database that was set back soon passes the number where it was.
 *
 * Where a run began is the end of the timeline before it, after a promotion; where the replay of the WAL ended, after a crash; else the
 * checkpoint in pg_control when the server started. A cursor from behind that, of the same cluster and not beyond the end of the WAL of
 * today, is "doubtful": that is answered by a comparison, but the site is not called restored for it.
 */
#include "postgres.h"

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "command.h"
#include "incarnation.h"
#include "site.h"
#include "statement.h"
#include "types.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(cmblock_accept_restored_state);

typedef struct ServerStart
{
	uint64 token;
	XLogRecPtr checkpoint;
} ServerStart;

static ServerStart *server_start = NULL;

Size
cmblock_incarnation_size(void)
{
	return sizeof(ServerStart);
}

void
cmblock_incarnation_startup(void)
{
	bool found;
	bool crc_ok;
	ControlFileData *control;

	server_start = ShmemInitStruct("cmblock server start", sizeof(ServerStart), &found);
	if (found)
		return;
	control = get_controlfile(DataDir, &crc_ok);
	server_start->checkpoint = crc_ok ? control->checkPoint : 0;
	pfree(control);
	if (!pg_strong_random(&server_start->token, sizeof(server_start->token)))
		ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number"));
}

/* ---------- the incarnation ---------- */

const char *
cmblock_incarnation(void)
{
	static char text[INCARNATION_OCTETS];

	Assert(!RecoveryInProgress());
	if (text[0] == '\0')
		snprintf(text, sizeof(text), UINT64_FORMAT ".%u.%u", GetSystemIdentifier(), GetWALInsertionTimeLine(),
				 MyDatabaseId);
	return text;
}

static TimeLineID
timeline_of(const char *incarnation)
{
	const char *dot = strchr(incarnation, '.');

	return dot ? strtoul(dot + 1, NULL, 10) : 0;
}

/* Are both of the same cluster and database, so that positions in the WAL can be compared? */
static bool
same_database(const char *a, const char *b)
{
	const char *dot_a = strchr(a, '.');
	const char *dot_b = strchr(b, '.');
	const char *last_a = strrchr(a, '.');
	const char *last_b = strrchr(b, '.');

	return dot_a && dot_b && dot_a - a == dot_b - b && strncmp(a, b, dot_a - a) == 0 &&
		   strcmp(last_a, last_b) == 0;
}

/* ---------- runs ---------- */

static Statement last_run = {
	"SELECT number, incarnation, token FROM cmblock.site_run ORDER BY number DESC LIMIT 1", {NULL}};

static Statement insert_run = {"INSERT INTO cmblock.site_run (number, incarnation, token, began, noted_at) "
							   "VALUES ($1, $2, $3, $4, clock_timestamp())",
							   {"int8", "text", "text", "pg_lsn"}};

/* A run that is forgotten only costs a comparison. */
static Statement forget_runs = {"DELETE FROM cmblock.site_run WHERE number < $1 - 200", {"int8"}};

static Statement any_link = {"SELECT FROM cmblock.replication_link LIMIT 1", {NULL}};

static Statement adopt_incarnation = {"UPDATE cmblock.this_site SET incarnation = $1", {"text"}};

static bool
has_links(void)
{
	return cmblock_execute(&any_link, NULL, NULL) > 0;
}

/* Inside SPI. */
static uint64
write_this_site(Statement *statement, Datum *values)
{
	return cmblock_execute_as(cmblock_writer(WRITER_COMMAND), statement, values, NULL);
}

static void
adopt(void)
{
	Datum value = CStringGetTextDatum(cmblock_incarnation());

	write_this_site(&adopt_incarnation, &value);
}

static XLogRecPtr
began_at(const char *last_incarnation)
{
	TimeLineID before = last_incarnation ? timeline_of(last_incarnation) : 0;
	TimeLineID now = timeline_of(cmblock_incarnation());

	if (last_incarnation && same_database(last_incarnation, cmblock_incarnation()) && before != now)
	{
		List *history = readTimeLineHistory(now);

		if (tliInHistory(before, history))
			return tliSwitchPoint(before, history, NULL);
	}
	/* It stays as it was when recovery ended. */
	return XLogRecPtrIsInvalid(GetXLogReplayRecPtr(NULL)) ? server_start->checkpoint
														  : GetXLogReplayRecPtr(NULL);
}

/* The incarnation is not the one that this_site remembers: what happened? */
static void
look_at_incarnation(void)
{
	const SiteIdentity *here = cmblock_require_site();

	if (strcmp(here->incarnation, cmblock_incarnation()) == 0)
		return;
	if (here->incarnation[0] != '\0' && has_links())
		cmblock_mark_restored("it is another incarnation of its database than the last one");
	adopt();
}

const char *
cmblock_note_run(void)
{
	static char run[INCARNATION_OCTETS];
	char token[20];
	int64 number = 0;
	char *last_incarnation = NULL;
	Datum values[4];

	run[0] = '\0';
	snprintf(token, sizeof(token), "%016llx", (unsigned long long) server_start->token);
	if (cmblock_execute(&last_run, NULL, NULL) > 0)
	{
		bool isnull;

		number = DatumGetInt64(cmblock_result(1, &isnull));
		last_incarnation = TextDatumGetCString(cmblock_result(2, &isnull));
		if (strcmp(token, TextDatumGetCString(cmblock_result(3, &isnull))) == 0 &&
			strcmp(last_incarnation, cmblock_incarnation()) == 0)
			snprintf(run, sizeof(run), "%s/" INT64_FORMAT "-%s", cmblock_incarnation(), number, token);
	}
	if (run[0] != '\0')
		return run;

	look_at_incarnation();
	values[0] = Int64GetDatum(++number);
	values[1] = CStringGetTextDatum(cmblock_incarnation());
	values[2] = CStringGetTextDatum(token);
	values[3] = LSNGetDatum(began_at(last_incarnation));
	cmblock_execute(&insert_run, values, NULL);
	cmblock_execute(&forget_runs, values, NULL);
	snprintf(run, sizeof(run), "%s/" INT64_FORMAT "-%s", cmblock_incarnation(), number, token);
	return run;
}

/* ---------- cursors ---------- */

/* Begin and time of the first run after a number; the lowest begin of them; whether all are of this database. */
static Statement later_runs = {"SELECT (array_agg(noted_at ORDER BY number))[1], min(began)::pg_lsn, "
							   "bool_and(split_part(incarnation, '.', 1) = split_part($2, '.', 1) AND "
							   "split_part(incarnation, '.', 3) = split_part($2, '.', 3)) "
							   "FROM cmblock.site_run WHERE number > $1",
							   {"int8", "text"}};

static Statement known_run = {
	"SELECT FROM cmblock.site_run WHERE number = $1 AND incarnation = $2 AND token = $3",
	{"int8", "text", "text"}};

/* The next record begins behind a page header that may not be there yet: then it is the end of the page before. */
static XLogRecPtr
behind_records(XLogRecPtr position)
{
	bool at_header = XLogSegmentOffset(position, wal_segment_size) == SizeOfXLogLongPHD ||
					 position % XLOG_BLCKSZ == SizeOfXLogShortPHD;

	return at_header ? position - position % XLOG_BLCKSZ : position;
}

CursorVerdict
cmblock_judge_cursor(const char *run, XLogRecPtr position, TimestampTz *lost_since)
{
	const char *slash = strchr(run, '/');
	const char *dash = slash ? strchr(slash, '-') : NULL;
	Datum values[3];
	bool known;
	bool isnull;
	bool is_same;
	Datum began;

	*lost_since = GetCurrentTimestamp();
	if (!dash)
		return CURSOR_LOST;
	values[0] = Int64GetDatum(strtoi64(slash + 1, NULL, 10));
	values[1] = PointerGetDatum(cstring_to_text_with_len(run, slash - run));
	values[2] = CStringGetTextDatum(dash + 1);
	known = cmblock_execute(&known_run, values, NULL) > 0;
	if (!known)
		values[0] = Int64GetDatum(DatumGetInt64(values[0]) - 1);
	cmblock_execute(&later_runs, values, NULL);
	began = cmblock_result(2, &isnull);
	if (isnull)
		/* No later run: it is the one under way, or this list does not reach that far. */
		return known ? CURSOR_GOOD : CURSOR_LOST;
	*lost_since = DatumGetTimestampTz(cmblock_result(1, &isnull));
	is_same = DatumGetBool(cmblock_result(3, &isnull));
	if (!known || !is_same)
		return CURSOR_LOST;
	if (behind_records(position) <= DatumGetLSN(began))
		return CURSOR_GOOD;
	return position > GetXLogInsertRecPtr() ? CURSOR_LOST : CURSOR_DOUBTFUL;
}

/* ---------- restored ---------- */

static Statement mark = {
	"UPDATE cmblock.this_site SET restored_at = clock_timestamp() WHERE restored_at IS NULL", {NULL}};
static Statement unmark = {"UPDATE cmblock.this_site SET restored_at = NULL WHERE restored_at IS NOT NULL",
						   {NULL}};

void
cmblock_mark_restored(const char *why)
{
	if (write_this_site(&mark, NULL) > 0)
		ereport(
			LOG,
			errmsg("site %s was restored to an earlier state: %s",
				   cmblock_site_code_string(cmblock_require_site()->code), why),
			errdetail(
				"Its clients and certificates cannot be changed until it has compared with its neighbours."),
			errhint("If they cannot be reached: SELECT cmblock.accept_restored_state()."));
}

void
cmblock_unmark_restored(void)
{
	if (write_this_site(&unmark, NULL) > 0)
		ereport(LOG, errmsg("site %s has compared with its neighbours and can be changed again",
							cmblock_site_code_string(cmblock_require_site()->code)));
}

static void
refuse(const SiteIdentity *here)
{
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("site %s was restored to an earlier state and has not compared with its neighbours yet",
				   cmblock_site_code_string(here->code)),
			errdetail(
				"The other sites may know blocks that this database has lost; a change now could undo them."),
			errhint("View cmblock.replication_status says how the links are. If the neighbours cannot be "
					"reached, an administrator can go on "
					"with: SELECT cmblock.accept_restored_state()."));
}

void
cmblock_require_not_restored(void)
{
	const SiteIdentity *here = cmblock_require_site();

	/* A standby has no timeline of its own, and refuses every change as it is. */
	if (RecoveryInProgress())
		return;
	if (here->is_restored)
		refuse(here);
	if (strcmp(here->incarnation, cmblock_incarnation()) == 0)
		return;
	SPI_connect();
	if (here->incarnation[0] != '\0' && has_links())
		refuse(here);
	/* Nobody knows more than this database: pg_upgrade, or the restore of a site that stands alone. */
	adopt();
	SPI_finish();
}

Datum
cmblock_accept_restored_state(PG_FUNCTION_ARGS)
{
	const SiteIdentity *here;

	cmblock_begin_command(fcinfo, 0);
	here = cmblock_require_site();
	if (!here->is_restored && strcmp(here->incarnation, cmblock_incarnation()) == 0)
		ereport(NOTICE,
				errmsg("site %s is not waiting for a comparison", cmblock_site_code_string(here->code)));
	else
	{
		SPI_connect();
		adopt();
		write_this_site(&unmark, NULL);
		SPI_finish();
		cmblock_wake_links_at_commit();
		ereport(LOG, errmsg("the restored state of site %s was accepted by \"%s\"",
							cmblock_site_code_string(cmblock_require_site()->code),
							GetUserNameFromId(GetSessionUserId(), false)));
	}
	PG_RETURN_VOID();
}
