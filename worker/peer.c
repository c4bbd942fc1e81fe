/*
 * peer.c
 *		A connection to a neighbour site: never blocks, always has a deadline.
 *
 * libpq does the work, in the steps that PQconnectPoll, PQconsumeInput and PQflush offer. Each step that waits has a
 * deadline here, because libpq's own connect_timeout counts only in its blocking calls. Names of hosts are looked up before
 * (resolve.c), since libpq would block for that.
 *
 * The handshake is one round trip: pin the settings of the session, open_link, prepare the calls. After it the connection stays in pipeline mode. Each batch is followed by a sync, so it is a
 * transaction of its own at the neighbour.
 *
 * Any error ends the connection: what is still under way may or may not be taken in, and both is right, as the
 * neighbour keeps only what is newer. How an error came about is told by its SQLSTATE: 08xxx is the connection, all else is the
 * neighbour's verdict.
 *
 * Nothing here allocates with palloc or raises errors, so that a PGconn can never get lost.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "peer.h"
#include "worker.h"

#define SQLSTATE_NO_CONNECTION "08001"
#define SQLSTATE_CONNECTION_LOST "08006"
#define SQLSTATE_PASSWORD_NEEDED "2F003"
#define SQLSTATE_PROTOCOL "08P01"

/* Number of replies to the handshake before its sync. */
#define HANDSHAKE_REPLIES 6

/* Which of them is that of open_link. */
#define HANDSHAKE_OPEN 3

#define SETTINGS_SQL                                                                                         \
	"SELECT pg_catalog.set_config('search_path', 'pg_catalog', false), "                                     \
	"pg_catalog.set_config('statement_timeout', $1, false), pg_catalog.set_config('lock_timeout', '0', "     \
	"false), "                                                                                               \
	"pg_catalog.set_config('idle_session_timeout', '0', false), "                                            \
	"pg_catalog.set_config('default_transaction_isolation', 'read committed', false), "                      \
	"pg_catalog.set_config('default_transaction_read_only', 'off', false), "                                 \
	"CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL THEN " /* since 17 */     \
	"pg_catalog.set_config('transaction_timeout', '0', false) END"

#define OPEN_SQL                                                                                             \
	"SELECT cursor, cursor_incarnation, cursor_position, progress FROM "                                     \
	"cmblock.open_link($1::pg_catalog.int4, "                                                                \
	"$2::pg_catalog.uuid, $3::cmblock.site_code, "                                                           \
	"$4::cmblock.site_code, $5::pg_catalog.text)"

#define APPLY_SQL                                                                                            \
	"SELECT applied, ignored FROM cmblock.apply_changes($1::pg_catalog.int4, $2::pg_catalog.uuid, "          \
	"$3::cmblock.site_code, $4::cmblock.site_code, $5::pg_catalog.text, $6::pg_catalog.bytea, "              \
	"$7::pg_catalog.pg_snapshot, $8::pg_catalog.pg_lsn, $9::pg_catalog.bool, $10::pg_catalog.text)"

/* Comparisons are rare: nothing is prepared for them. */
static const char *const questions[] = {
	[PEER_COMPARE_ROWS] =
		"SELECT entries, reached FROM cmblock.compare_rows($1::pg_catalog.int4, $2::pg_catalog.uuid, "
		"$3::cmblock.site_code, $4::cmblock.site_code, $5::pg_catalog.text, $6::pg_catalog.text, "
		"$7::pg_catalog.bytea, $8::pg_catalog.bytea, $9::pg_catalog.int8, $10::pg_catalog.int8)",
	[PEER_FETCH_ROWS] =
		"SELECT cmblock.fetch_rows($1::pg_catalog.int4, $2::pg_catalog.uuid, $3::cmblock.site_code, "
		"$4::cmblock.site_code, $5::pg_catalog.text, $6::pg_catalog.text, $7::pg_catalog.bytea)",
};

#define ASK_SQL                                                                                              \
	"SELECT cmblock.ask_enforcement($1::pg_catalog.int4, $2::pg_catalog.uuid, $3::cmblock.site_code, "       \
	"$4::cmblock.site_code, $5::pg_catalog.text, $6::pg_catalog.int8, $7::cmblock.smsid)"

#define TELL_SQL                                                                                             \
	"SELECT cmblock.tell_enforcement($1::pg_catalog.int4, $2::pg_catalog.uuid, $3::cmblock.site_code, "      \
	"$4::cmblock.site_code, $5::pg_catalog.text, $6::pg_catalog.int8, $7::pg_catalog.bytea)"

/* ---------- errors ---------- */

/* One line, printable in this database's encoding. */
static void
tidy(char *to, const char *from)
{
	int length = 0;

	for (; *from && length < PEER_ERROR_OCTETS - 1; from++)
	{
		bool is_space = strchr(" \t\r\n", *from) != NULL;

		if (is_space && (length == 0 || to[length - 1] == ' '))
			continue;
		to[length++] = is_space ? ' ' : *from;
	}
	while (length > 0 && to[length - 1] == ' ')
		length--;
	to[length] = '\0';
	length = pg_mbcliplen(to, length, PEER_ERROR_OCTETS - 1);
	to[length] = '\0';
	if (!pg_verifymbstr(to, length, true))
		for (char *c = to; *c; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
}

static PeerEvent
failed(Peer *peer, const char *sqlstate, const char *message)
{
	tidy(peer->error, message);
	strlcpy(peer->sqlstate, sqlstate, sizeof(peer->sqlstate));
	cmblock_peer_close(peer);
	return PEER_FAILED;
}

/* The connection broke. If the neighbour said why before it went away, that is the better message. */
static PeerEvent
lost(Peer *peer)
{
	char message[PEER_ERROR_OCTETS];

	if (peer->phase == PEER_CONNECTING)
		return failed(peer, SQLSTATE_NO_CONNECTION, PQerrorMessage(peer->conn));
	if (peer->notice[0] != '\0')
	{
		strlcpy(message, peer->notice, sizeof(message));
		return failed(peer, peer->notice_sqlstate, message);
	}
	return failed(peer, SQLSTATE_CONNECTION_LOST, PQerrorMessage(peer->conn));
}

static const char *
field(const PGresult *result, int code)
{
	const char *value = PQresultErrorField(result, code);

	return value ? value : "";
}

bool
cmblock_detail_is_public(const char *sqlstate)
{
	return strncmp(sqlstate, "23", 2) != 0;
}

static void
describe(char *to, int size, const PGresult *result)
{
	const char *detail = cmblock_detail_is_public(field(result, PG_DIAG_SQLSTATE))
							 ? field(result, PG_DIAG_MESSAGE_DETAIL)
							 : "";

	if (field(result, PG_DIAG_MESSAGE_PRIMARY)[0] == '\0')
		strlcpy(to, PQresultErrorMessage(result), size);
	else if (detail[0] == '\0')
		strlcpy(to, field(result, PG_DIAG_MESSAGE_PRIMARY), size);
	else
		snprintf(to, size, "%s. %s", field(result, PG_DIAG_MESSAGE_PRIMARY), detail);
}

/* An error result: the neighbour's verdict, or libpq's when the connection broke. */
static PeerEvent
refused(Peer *peer, const PGresult *result)
{
	const char *sqlstate = field(result, PG_DIAG_SQLSTATE);
	char message[PEER_ERROR_OCTETS];

	if (sqlstate[0] == '\0')
		return lost(peer);
	describe(message, sizeof(message), result);
	return failed(peer, sqlstate, message);
}

/* Notices go nowhere, except that a fatal one tells why the connection is about to break. */
static void
note(void *arg, const PGresult *result)
{
	Peer *peer = arg;
	const char *severity = field(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	if (strcmp(severity, "FATAL") != 0 && strcmp(severity, "PANIC") != 0)
		return;
	describe(peer->notice, sizeof(peer->notice), result);
	strlcpy(peer->notice_sqlstate, field(result, PG_DIAG_SQLSTATE), sizeof(peer->notice_sqlstate));
}

/* ---------- connecting ---------- */

static TimestampTz
after(TimestampTz now, int seconds)
{
	return TimestampTzPlusMilliseconds(now, (int64) seconds * 1000);
}

static PeerEvent
advance_resolving(Peer *peer)
{
	char message[PEER_ERROR_OCTETS];

	switch (cmblock_resolve_advance(peer->resolver, message, sizeof(message)))
	{
		case RESOLVE_WAITS:
			break;
		case RESOLVE_DONE:
			return PEER_RESOLVED;
		case RESOLVE_FAILED:
			return failed(peer, SQLSTATE_NO_CONNECTION, message);
	}
	return PEER_NOTHING;
}

PeerEvent
cmblock_peer_connect(Peer *peer, ConnectionOptions *options, TimestampTz now)
{
	peer->in_flight = 0;
	peer->replies = 0;
	peer->timed_out = false;
	peer->notice[0] = '\0';
	peer->password_required = options->password_required;
	if (options->password_required && !options->has_password)
		return failed(
			peer, SQLSTATE_PASSWORD_NEEDED,
			"password is required: the server belongs to a user who is not a superuser, and its user "
			"mapping has none");
	if (!peer->resolver && cmblock_resolve_needed(options))
	{
		peer->resolver = cmblock_resolve_begin(options);
		if (!peer->resolver)
			return failed(peer, "53000", "could not start a process to look up host names");
		if (cmblock_resolve_descriptor(peer->resolver) != PGINVALID_SOCKET)
		{
			peer->phase = PEER_RESOLVING;
			peer->wants = WL_SOCKET_READABLE;
			peer->deadline = after(now, cmblock_connect_timeout);
			return PEER_NOTHING;
		}
	}
	if (peer->resolver)
		cmblock_resolve_apply(peer->resolver, options);
	if (!AcquireExternalFD())
		return failed(peer, "53000",
					  "too many open files on the sending server: raise max_files_per_process");

	peer->conn = PQconnectStartParams(options->keywords, options->values, 0);
	cmblock_resolve_free(peer->resolver);
	peer->resolver = NULL;
	if (!peer->conn)
	{
		ReleaseExternalFD();
		return failed(peer, "53200", "out of memory");
	}
	peer->phase = PEER_CONNECTING;
	if (PQstatus(peer->conn) == CONNECTION_BAD)
		return lost(peer);
	PQsetNoticeReceiver(peer->conn, note, peer);
	peer->poll = PGRES_POLLING_WRITING;
	peer->wants = WL_SOCKET_CONNECTED;
	peer->deadline = after(now, cmblock_connect_timeout);
	return PEER_NOTHING;
}

pgsocket
cmblock_peer_socket(const Peer *peer)
{
	return peer->resolver ? cmblock_resolve_descriptor(peer->resolver) : PQsocket(peer->conn);
}

void
cmblock_peer_close(Peer *peer)
{
	if (peer->conn)
	{
		PQfinish(peer->conn);
		ReleaseExternalFD();
	}
	peer->conn = NULL;
	cmblock_resolve_free(peer->resolver);
	peer->resolver = NULL;
	free(peer->cursor);
	peer->cursor = NULL;
	free(peer->progress);
	peer->progress = NULL;
	free(peer->cursor_run);
	peer->cursor_run = NULL;
	PQclear(peer->answer);
	peer->answer = NULL;
	peer->comparing = false;
	free(peer->answers);
	peer->answers = NULL;
	peer->phase = PEER_OFFLINE;
	peer->wants = 0;
	peer->in_flight = 0;
	peer->asking = false;
	peer->deadline = DT_NOEND;
}

/* Pushes output on; the deadline of what is under way is counted from the last progress. */
static PeerEvent
flush(Peer *peer)
{
	int pending = PQflush(peer->conn);

	if (pending < 0)
		return lost(peer);
	peer->wants = WL_SOCKET_READABLE | (pending > 0 ? WL_SOCKET_WRITEABLE : 0);
	return PEER_NOTHING;
}

/* The five arguments that every call begins with, as text. */
#define IDENTITY_ARGUMENTS 5

static void
identity_arguments(const PeerIdentity *who, const char **values)
{
	values[0] = CppAsString2(CMBLOCK_PROTOCOL);
	values[1] = who->hierarchy;
	values[2] = who->sender;
	values[3] = who->receiver;
	values[4] = who->incarnation;
}

static PeerEvent
send_handshake(Peer *peer, const PeerIdentity *who, TimestampTz now)
{
	char timeout[32];
	const char *settings[1] = {timeout};
	const char *identity[IDENTITY_ARGUMENTS];

	if (peer->password_required && !PQconnectionUsedPassword(peer->conn))
		return failed(
			peer, SQLSTATE_PASSWORD_NEEDED,
			"the neighbour did not ask for a password: that is required when the server belongs to a user "
			"who is not a superuser");
	snprintf(timeout, sizeof(timeout), "%ds", cmblock_peer_timeout);
	identity_arguments(who, identity);
	if (PQsetnonblocking(peer->conn, 1) != 0 || !PQenterPipelineMode(peer->conn) ||
		!PQsendQueryParams(peer->conn, SETTINGS_SQL, 1, NULL, settings, NULL, NULL, 0) ||
		!PQsendPrepare(peer->conn, "cmblock_open", OPEN_SQL, 0, NULL) ||
		!PQsendQueryPrepared(peer->conn, "cmblock_open", IDENTITY_ARGUMENTS, identity, NULL, NULL, 0) ||
		!PQsendPrepare(peer->conn, "cmblock_apply", APPLY_SQL, 0, NULL) ||
		!PQsendPrepare(peer->conn, "cmblock_ask", ASK_SQL, 0, NULL) ||
		!PQsendPrepare(peer->conn, "cmblock_tell", TELL_SQL, 0, NULL) || !PQpipelineSync(peer->conn))
		return lost(peer);
	peer->phase = PEER_OPENING;
	peer->deadline = after(now, cmblock_connect_timeout);
	return flush(peer);
}

static PeerEvent
advance_connecting(Peer *peer, const PeerIdentity *who, TimestampTz now)
{
	peer->poll = PQconnectPoll(peer->conn);
	switch (peer->poll)
	{
		case PGRES_POLLING_OK:
			return send_handshake(peer, who, now);
		case PGRES_POLLING_READING:
			peer->wants = WL_SOCKET_READABLE;
			return PEER_NOTHING;
		case PGRES_POLLING_WRITING:
			peer->wants = WL_SOCKET_CONNECTED;
			return PEER_NOTHING;
		default:
			return lost(peer);
	}
}

/* ---------- replies ---------- */

static void
take_cursor(Peer *peer, const PGresult *result)
{
	uint32 high;
	uint32 low;

	if (!PQgetisnull(result, 0, 3))
		peer->progress = strdup(PQgetvalue(result, 0, 3));
	if (PQgetisnull(result, 0, 0) || PQgetisnull(result, 0, 1))
		return;
	peer->cursor = strdup(PQgetvalue(result, 0, 0));
	peer->cursor_run = strdup(PQgetvalue(result, 0, 1));
	/* Without a position it cannot be judged: as if it were ahead of everything. */
	peer->cursor_position = PG_UINT64_MAX;
	if (!PQgetisnull(result, 0, 2) && sscanf(PQgetvalue(result, 0, 2), "%X/%X", &high, &low) == 2)
		peer->cursor_position = (uint64) high << 32 | low;
}

static PeerEvent
take_handshake_reply(Peer *peer, const PGresult *result)
{
	peer->replies++;
	if (peer->replies == HANDSHAKE_OPEN && PQresultStatus(result) == PGRES_TUPLES_OK)
	{
		if (PQntuples(result) != 1 || PQnfields(result) != 4)
			return failed(peer, SQLSTATE_PROTOCOL, "the neighbour's answer to open_link makes no sense");
		take_cursor(peer, result);
	}
	return PEER_NOTHING;
}

/* Of the calls that come after the handshake only ask_enforcement returns something that matters; of the others, that they return. */
static PeerEvent
take_reply(Peer *peer, const PGresult *result)
{
	if (!peer->asking || PQresultStatus(result) != PGRES_TUPLES_OK)
		return PEER_NOTHING;
	peer->asking = false;
	if (PQntuples(result) != 1 || PQnfields(result) != 1 || PQgetisnull(result, 0, 0))
		return failed(peer, SQLSTATE_PROTOCOL, "the neighbour's answer to ask_enforcement makes no sense");
	peer->answers_length = PQgetlength(result, 0, 0);
	peer->answers = malloc(peer->answers_length + 1);
	if (!peer->answers)
		return failed(peer, "53200", "out of memory");
	memcpy(peer->answers, PQgetvalue(result, 0, 0), peer->answers_length);
	return PEER_NOTHING;
}

static PeerEvent
take_sync(Peer *peer, TimestampTz now)
{
	if (peer->phase == PEER_OPENING)
	{
		if (peer->replies != HANDSHAKE_REPLIES)
			return failed(peer, SQLSTATE_PROTOCOL, "the neighbour's answers are out of step");
		peer->phase = PEER_READY;
		peer->deadline = DT_NOEND;
		return PEER_OPENED;
	}
	peer->in_flight--;
	peer->deadline = peer->in_flight > 0 ? after(now, cmblock_peer_timeout) : DT_NOEND;
	if (!peer->comparing)
		return PEER_ACKNOWLEDGED;
	peer->comparing = false;
	if (!peer->answer)
		return failed(peer, SQLSTATE_PROTOCOL, "the neighbour's answers are out of step");
	return PEER_ANSWERED;
}

static PeerEvent
take_result(Peer *peer, const PGresult *result, TimestampTz now)
{
	switch (PQresultStatus(result))
	{
		case PGRES_PIPELINE_SYNC:
			return take_sync(peer, now);
		case PGRES_TUPLES_OK:
		case PGRES_COMMAND_OK:
			return peer->phase == PEER_OPENING ? take_handshake_reply(peer, result)
											   : take_reply(peer, result);
		default:
			return refused(peer, result);
	}
}

/* Is a reply outstanding? Without one PQgetResult must not be called. */
static bool
expects_reply(const Peer *peer)
{
	return peer->phase == PEER_OPENING || peer->in_flight > 0;
}

static PeerEvent
take_results(Peer *peer, TimestampTz now)
{
	PeerEvent seen = PEER_NOTHING;

	while (expects_reply(peer) && !PQisBusy(peer->conn))
	{
		PGresult *result = PQgetResult(peer->conn);
		PeerEvent event;

		/* Between the results of two statements there is a null. */
		if (!result)
			continue;
		if (peer->comparing && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		{
			PQclear(peer->answer);
			peer->answer = result;
			continue;
		}
		event = take_result(peer, result, now);
		PQclear(result);
		if (event == PEER_FAILED)
			return event;
		if (event != PEER_NOTHING)
			seen = event;
	}
	return seen;
}

static PeerEvent
check_deadline(Peer *peer, TimestampTz now)
{
	char message[PEER_ERROR_OCTETS];

	if (now < peer->deadline)
		return PEER_NOTHING;
	if (peer->phase == PEER_READY)
	{
		peer->timed_out = true;
		snprintf(message, sizeof(message), "the neighbour made no progress for %d s", cmblock_peer_timeout);
		return failed(peer, SQLSTATE_CONNECTION_LOST, message);
	}
	if (peer->phase == PEER_RESOLVING)
		snprintf(message, sizeof(message), "the host name was not resolved within %d s",
				 cmblock_connect_timeout);
	else
		snprintf(message, sizeof(message), "no connection within %d s", cmblock_connect_timeout);
	return failed(peer, SQLSTATE_NO_CONNECTION, message);
}

PeerEvent
cmblock_peer_advance(Peer *peer, const PeerIdentity *who, uint32 ready, TimestampTz now)
{
	PeerEvent event;

	if (peer->phase == PEER_RESOLVING)
	{
		event = advance_resolving(peer);
		return event == PEER_NOTHING ? check_deadline(peer, now) : event;
	}
	if (peer->phase == PEER_CONNECTING)
	{
		event = ready ? advance_connecting(peer, who, now) : PEER_NOTHING;
		return event == PEER_NOTHING ? check_deadline(peer, now) : event;
	}
	if (ready & WL_SOCKET_READABLE)
	{
		if (!PQconsumeInput(peer->conn))
			return lost(peer);
		/* What is not a reply (a farewell, for instance) is read here. */
		if (!expects_reply(peer))
			(void) PQisBusy(peer->conn);
	}
	/* Something moved, as far as can be seen from here: it is no silence, however slow the line is. */
	if (peer->phase == PEER_READY && peer->deadline != DT_NOEND &&
		ready & (WL_SOCKET_WRITEABLE | WL_SOCKET_READABLE))
		peer->deadline = after(now, cmblock_peer_timeout);
	if (ready)
	{
		event = take_results(peer, now);
		if (event == PEER_FAILED)
			return event;
		if (flush(peer) == PEER_FAILED)
			return PEER_FAILED;
		if (event != PEER_NOTHING)
			return event;
	}
	return check_deadline(peer, now);
}

#define OWN_ARGUMENTS_MAX 5

/* One call: the identity and `count` arguments of its own; a length of -1 means text. */
static PeerEvent
call(Peer *peer, const PeerIdentity *who, const char *statement, const char **argument, const int *length,
	 int count, TimestampTz now)
{
	const char *values[IDENTITY_ARGUMENTS + OWN_ARGUMENTS_MAX];
	int lengths[IDENTITY_ARGUMENTS + OWN_ARGUMENTS_MAX] = {0};
	int formats[IDENTITY_ARGUMENTS + OWN_ARGUMENTS_MAX] = {0};

	identity_arguments(who, values);
	Assert(count <= OWN_ARGUMENTS_MAX);
	for (int i = 0; i < count; i++)
	{
		values[IDENTITY_ARGUMENTS + i] = argument[i];
		lengths[IDENTITY_ARGUMENTS + i] = Max(length[i], 0);
		formats[IDENTITY_ARGUMENTS + i] = length[i] >= 0;
	}
	if (!PQsendQueryPrepared(peer->conn, statement, IDENTITY_ARGUMENTS + count, values, lengths, formats,
							 1) ||
		!PQpipelineSync(peer->conn))
		return lost(peer);
	if (peer->in_flight++ == 0)
		peer->deadline = after(now, cmblock_peer_timeout);
	return flush(peer);
}

PeerEvent
cmblock_peer_send(Peer *peer, const PeerIdentity *who, const char *batch, int length, const char *cursor,
				  XLogRecPtr position, bool repair, const char *progress, TimestampTz now)
{
	char position_text[32];
	const char *arguments[5] = {batch, cursor, cursor ? position_text : NULL, repair ? "t" : "f", progress};
	int lengths[5] = {length, -1, -1, -1, -1};

	snprintf(position_text, sizeof(position_text), "%X/%X", LSN_FORMAT_ARGS(position));
	return call(peer, who, "cmblock_apply", arguments, lengths, 5, now);
}

PeerEvent
cmblock_peer_confirm(Peer *peer, const PeerIdentity *who, TimestampTz now)
{
	return call(peer, who, "cmblock_open", NULL, NULL, 0, now);
}

PeerEvent
cmblock_peer_ask(Peer *peer, const PeerIdentity *who, uint64 question, const char *client, TimestampTz now)
{
	char id[32];
	const char *arguments[2] = {id, client};
	int lengths[2] = {-1, -1};

	snprintf(id, sizeof(id), INT64_FORMAT, (int64) question);
	free(peer->answers);
	peer->answers = NULL;
	peer->asking = true;
	return call(peer, who, "cmblock_ask", arguments, lengths, 2, now);
}

PeerEvent
cmblock_peer_tell(Peer *peer, const PeerIdentity *who, uint64 question, const char *answers, int length,
				  TimestampTz now)
{
	char id[32];
	const char *arguments[2] = {id, answers};
	int lengths[2] = {-1, length};

	snprintf(id, sizeof(id), INT64_FORMAT, (int64) question);
	return call(peer, who, "cmblock_tell", arguments, lengths, 2, now);
}

PeerEvent
cmblock_peer_compare(Peer *peer, const PeerIdentity *who, PeerQuestion question, const PeerValue *arguments,
					 int count, TimestampTz now)
{
	const char *values[IDENTITY_ARGUMENTS + OWN_ARGUMENTS_MAX];
	int lengths[IDENTITY_ARGUMENTS + OWN_ARGUMENTS_MAX] = {0};
	int formats[IDENTITY_ARGUMENTS + OWN_ARGUMENTS_MAX] = {0};

	Assert(peer->in_flight == 0 && count <= OWN_ARGUMENTS_MAX);
	identity_arguments(who, values);
	for (int i = 0; i < count; i++)
	{
		values[IDENTITY_ARGUMENTS + i] = arguments[i].octets;
		lengths[IDENTITY_ARGUMENTS + i] = arguments[i].length;
		formats[IDENTITY_ARGUMENTS + i] = arguments[i].binary;
	}
	if (!PQsendQueryParams(peer->conn, questions[question], IDENTITY_ARGUMENTS + count, NULL, values, lengths,
						   formats, 1) ||
		!PQpipelineSync(peer->conn))
		return lost(peer);
	PQclear(peer->answer);
	peer->answer = NULL;
	peer->comparing = true;
	peer->in_flight = 1;
	peer->deadline = after(now, cmblock_peer_timeout);
	return flush(peer);
}
