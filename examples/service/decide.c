/*
 * decide.c
 *		How a service of one's own asks cmblock, with libpq and nothing else.
 *
 * Each line of standard input is a question:
 *
 *		TRANSPORT REQUEST CLIENT CERTIFICATE HARDWARE
 *
 * CERTIFICATE is the path of a DER file, and - stands for nothing. For each line there is one in the output, in the same
 * order: "allowed ASSURANCE", "refused REASON" or "no decision". The database is where libpq's environment says (PGSERVICE, PGHOST,
 * ...). Questions are asked together, 64 at most, or as many as come before an empty line.
 *
 * What to take from it:
 * - A prepared statement: the question is parsed and planned once in the life of a connection.
 * - A pipeline: questions are sent without waiting for the answers of those before. A service puts into it what its threads
 *   ask at the same time. Each question ends with a sync of its own, so that it is a transaction of its own: what is
 *   wrong with one of them does not concern the others.
 * - A deadline for the answer that this side keeps. It holds when the server is stopped, busy, locked or unreachable.
 * - When the connection fails, a new one is tried once. When that fails, too, there is no decision, and the service refuses.
 *
 *		cc -o decide decide.c -I$(pg_config --includedir) -lpq
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_UNDER_WAY 64
#define MAX_CERTIFICATE 16384
#define ANSWER_WITHIN 1000 /* ms */
#define PARAMETERS 5

typedef struct Question
{
	char line[1024];
	const char *value[PARAMETERS]; /* in the order of the statement; NULL for nothing */
	int length[PARAMETERS];
	char certificate[MAX_CERTIFICATE];
	char answer[128];
} Question;

/* A parameter in binary format is the octets as they are: no escaping, no conversion. */
static const int binary[PARAMETERS] = {[1] = 1};

static const char *const statement =
	"SELECT allowed, reason, assurance FROM cmblock.check_access($1, $2, $3, $4, $5)";

static PGconn *connection;

static long
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
give_up_connection(void)
{
	if (connection && *PQerrorMessage(connection))
		fprintf(stderr, "decide: %s", PQerrorMessage(connection));
	PQfinish(connection);
	connection = NULL;
}

/* The database gets as long for the connection as libpq's connect_timeout says. */
static bool
have_connection(void)
{
	PGresult *result;
	bool prepared;

	if (connection)
		return true;
	connection = PQconnectdb("application_name=decide connect_timeout=2 tcp_user_timeout=3000");
	if (PQstatus(connection) == CONNECTION_OK)
	{
		result = PQprepare(connection, "decide", statement, PARAMETERS, NULL);
		prepared = PQresultStatus(result) == PGRES_COMMAND_OK;
		PQclear(result);
		if (prepared && PQsetnonblocking(connection, 1) == 0 && PQenterPipelineMode(connection))
			return true;
	}
	give_up_connection();
	return false;
}

/* Wait until the socket can be read, or written if there is something to write. False if time is up. */
static bool
wait_for_socket(long deadline)
{
	struct pollfd socket = {.fd = PQsocket(connection), .events = POLLIN};
	int unsent = PQflush(connection);
	long left = deadline - now_ms();

	if (unsent < 0 || left <= 0)
		return false;
	if (unsent > 0)
		socket.events |= POLLOUT;
	return poll(&socket, 1, (int) left) > 0;
}

/* The next result of the pipeline, or NULL at the end of an answer. False if the connection is lost or time is up. */
static bool
next_result(PGresult **result, long deadline)
{
	while (PQisBusy(connection))
		if (!wait_for_socket(deadline) || !PQconsumeInput(connection))
			return false;
	*result = PQgetResult(connection);
	return PQstatus(connection) == CONNECTION_OK;
}

static void
read_decision(const PGresult *result, Question *question)
{
	bool allowed = strcmp(PQgetvalue(result, 0, 0), "t") == 0;

	snprintf(question->answer, sizeof(question->answer), "%s %s", allowed ? "allowed" : "refused",
			 PQgetvalue(result, 0, allowed ? 2 : 1));
}

/* The answer is a row or an error, then the end of it, then the sync. False if it did not come. */
static bool
receive_answer(Question *question, long deadline)
{
	for (;;)
	{
		PGresult *result;
		ExecStatusType status;

		if (!next_result(&result, deadline))
			return false;
		status = PQresultStatus(result); /* of NULL: PGRES_FATAL_ERROR */
		if (result && status == PGRES_TUPLES_OK && PQntuples(result) == 1)
			read_decision(result, question);
		else if (result && status == PGRES_FATAL_ERROR)
			fprintf(stderr, "decide: %s", PQresultErrorMessage(result));
		PQclear(result);
		if (status == PGRES_PIPELINE_SYNC)
			return true;
	}
}

static bool
send_question(const Question *question)
{
	return PQsendQueryPrepared(connection, "decide", PARAMETERS, question->value, question->length, binary,
							   0) &&
		   PQpipelineSync(connection);
}

/* False if not all of them have got what answer there is to get. */
static bool
ask_once(Question *questions, int count)
{
	bool alive = have_connection();
	long deadline = now_ms() + ANSWER_WITHIN;

	for (int i = 0; i < count; i++)
		strcpy(questions[i].answer, "no decision");
	for (int i = 0; alive && i < count; i++)
		alive = send_question(&questions[i]);
	for (int i = 0; alive && i < count; i++)
		alive = receive_answer(&questions[i], deadline);
	if (!alive)
		give_up_connection();
	return alive;
}

/*
 * A connection that was kept may have died meanwhile, so there is a second try with a new one. That is safe: a decision
 * changes nothing. A new connection that fails is not tried again.
 */
static void
ask(Question *questions, int count)
{
	bool kept = connection != NULL;

	if (!ask_once(questions, count) && kept)
		ask_once(questions, count);
}

/* Splits the line into the parameters, in the order client, certificate, transport, request, hardware id. */
static bool
read_question(Question *question)
{
	static const int place[PARAMETERS] = {2, 3, 0, 1, 4}; /* where the first word goes, the second, ... */
	char *word = strtok(question->line, " \n");
	FILE *file;

	for (int i = 0; i < PARAMETERS; i++, word = strtok(NULL, " \n"))
	{
		if (!word)
			return false;
		question->value[place[i]] = strcmp(word, "-") == 0 ? NULL : word;
	}
	if (question->value[1])
	{
		file = fopen(question->value[1], "rb");
		if (!file)
			return false;
		question->length[1] = (int) fread(question->certificate, 1, MAX_CERTIFICATE, file);
		question->value[1] = question->certificate;
		fclose(file);
	}
	return true;
}

/* Reads questions up to an empty line, and no more than there is place for. Returns how many; -1 at the end of the input. */
static int
read_questions(Question *questions)
{
	int count = 0;

	while (count < MAX_UNDER_WAY)
	{
		if (!fgets(questions[count].line, sizeof(questions[count].line), stdin))
			return count > 0 ? count : -1;
		if (questions[count].line[0] == '\n')
			break;
		if (!read_question(&questions[count++]))
		{
			fprintf(stderr, "decide: a question is TRANSPORT REQUEST CLIENT CERTIFICATE HARDWARE\n");
			exit(2);
		}
	}
	return count;
}

int
main(void)
{
	static Question questions[MAX_UNDER_WAY];
	int count;

	while ((count = read_questions(questions)) >= 0)
	{
		ask(questions, count);
		for (int i = 0; i < count; i++)
			printf("%s\n", questions[i].answer);
		fflush(stdout);
	}
	PQfinish(connection);
	return 0;
}
