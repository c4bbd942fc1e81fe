/*
 * refusal_log.c
 *		Refusals in the server log, a line each, and not more than the administrator wants.
 *
 * A line has key=value pairs that a log shipper can read without a grammar: names and hexadecimal digits, and text that
 * came from the requester only between quotes and escaped as in JSON, so that nobody can write a line of his own into the
 * log. Statement and context are left out, since a statement holds the certificate. The line goes to the server log alone, never
 * to the client. Nothing is written to a table, so this works on a standby.
 *
 * A refused client can ask again as fast as it likes, so all sessions of the server together write at most
 * cmblock.log_refusals_rate lines in a second. The rest is counted, and the next line that is written says how many they were.
 * Without shared_preload_libraries each session has that rate for itself.
 *
 * Locking: none. The second and its number of lines are one atomic number.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "refusal_log.h"

bool cmblock_log_refusals = false;
static int lines_per_second = 10;

/* Of the second's number these bits are kept, the others count its lines. */
#define LINE_BITS 24
#define LINE_MASK ((UINT64CONST(1) << LINE_BITS) - 1)

#define MAX_LINES_PER_SECOND 100000

typedef struct Rate
{
	pg_atomic_uint64 window; /* the second, and how many lines it has */
	pg_atomic_uint64 left_out;
} Rate;

static Rate own;
static Rate *rate = NULL;

void
cmblock_refusal_log_define_settings(void)
{
	DefineCustomBoolVariable("cmblock.log_refusals", "Writes refused requests to the server log.",
							 "A line of key=value pairs for each decision of check_access and is_allowed.",
							 &cmblock_log_refusals, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"cmblock.log_refusals_rate", "The most refusals that are written to the server log in a second.",
		"For all sessions together; the next line says how many were left out. 0 means no limit.",
		&lines_per_second, 10, 0, MAX_LINES_PER_SECOND, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* ---------- the rate ---------- */

Size
cmblock_refusal_log_size(void)
{
	return sizeof(Rate);
}

static void
init_rate(Rate *r)
{
	pg_atomic_init_u64(&r->window, 0);
	pg_atomic_init_u64(&r->left_out, 0);
}

void
cmblock_refusal_log_startup(void)
{
	bool found;

	rate = ShmemInitStruct("cmblock refusal log", sizeof(Rate), &found);
	if (!found)
		init_rate(rate);
}

/* May a line be written now? A clock that goes back begins a second like any other. */
static bool
take_line(void)
{
	uint64 second = (uint64) (GetCurrentTimestamp() / USECS_PER_SEC) & (PG_UINT64_MAX >> LINE_BITS);
	uint64 seen = pg_atomic_read_u64(&rate->window);
	uint64 next;

	if (lines_per_second == 0)
		return true;
	do
	{
		bool same = seen >> LINE_BITS == second;

		if (same && (seen & LINE_MASK) >= lines_per_second)
			return false;
		next = same ? seen + 1 : second << LINE_BITS | 1;
	} while (!pg_atomic_compare_exchange_u64(&rate->window, &seen, next));
	return true;
}

/* ---------- the line ---------- */

/* All reasons, each once, in the order in which they are asked. */
static void
append_reasons(StringInfo line, const AccessDecision *decision)
{
	uint32 seen = 0;
	int count = 0;

	for (int i = 0; i < decision->count; i++)
	{
		const Finding *f = &decision->finding[i];

		if (f->answer != ANSWER_REFUSED || (seen & (UINT32_C(1) << f->reason)))
			continue;
		seen |= UINT32_C(1) << f->reason;
		appendStringInfo(line, "%s%s",
						 count == 0   ? "reason="
						 : count == 1 ? " also="
									  : ",",
						 cmblock_reason_name(f->reason));
		count++;
	}
}

/* Text from a stranger, and no more of it than is of use. */
static void
append_text(StringInfo line, const char *key, text *value)
{
	char *string = text_to_cstring(value);

	string[pg_mbcliplen(string, strlen(string), 255)] = '\0';
	appendStringInfo(line, " %s=", key);
	escape_json(line, string);
}

static char *
refusal_line(const AccessRequest *request, const AccessDecision *d, uint64 left_out)
{
	StringInfoData line;

	initStringInfo(&line);
	if (d->site != NO_SITE)
		appendStringInfo(&line, "site=%s ", cmblock_site_code_string(d->site));
	append_reasons(&line, d);
	appendStringInfo(&line, " transport=%s request=%s assurance=%s",
					 cmblock_enum_label(ENUM_TRANSPORT, request->transport),
					 cmblock_enum_label(ENUM_REQUEST_KIND, request->kind),
					 cmblock_enum_label(ENUM_ASSURANCE, d->assurance));
	if (d->has_client)
		appendStringInfo(&line, " client=%s", cmblock_smsid_string(&d->client));
	if (d->assigned_site != NO_SITE)
		appendStringInfo(&line, " assigned_site=%s", cmblock_site_code_string(d->assigned_site));
	if (d->has_certificate)
		appendStringInfo(&line, " certificate=%s", cmblock_hex_string(d->certificate, SHA256_OCTETS));
	if (request->hardware_id)
		append_text(&line, "hardware_id", request->hardware_id);
	appendStringInfo(&line, " left_out=" UINT64_FORMAT, left_out);
	return line.data;
}

void
cmblock_log_refusal(const AccessRequest *request, const AccessDecision *decision)
{
	char *line;

	if (rate == NULL)
	{
		init_rate(&own);
		rate = &own;
	}
	if (!take_line())
	{
		pg_atomic_fetch_add_u64(&rate->left_out, 1);
		return;
	}
	line = refusal_line(request, decision, pg_atomic_exchange_u64(&rate->left_out, 0));
	ereport(LOG_SERVER_ONLY, errmsg_internal("cmblock refusal: %s", line), errhidestmt(true),
			errhidecontext(true));
	pfree(line);
}
