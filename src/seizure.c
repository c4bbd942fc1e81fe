/*
 * seizure.c
 *		Clients that the central site takes from a primary site that is gone, and how the others learn it.
 *
 * seize_clients gives all clients and certificates of one primary site to another, with their blocks. The central site does not own them, so
 * this is the one case in which somebody else than the owner writes a row. The version says so: it goes up by more than an owner could count
 * (version.h). So the row wins everywhere, over changes that the old site made meanwhile as well, and the old site takes it although it is the
 * owner by its own knowledge.
 *
 * What the old site did meanwhile is lost, except its blocks. They reach the central site in one of two ways, whatever comes first: the old
 * site sends its rows before it learns of the seizure; they are older, and are ignored. Or it learns of it first, and keeps the block in the new row,
 * which it sends as its own. The central site takes neither for a change of the owner. But if the client was seized from the sender, which its own
 * history says, a block in such a row is a late block: the central site writes it into its row, with a version as for a seizure, and the
 * new owner takes it over. Whoever lies about it can add blocks to clients that were its own, and nothing else.
 *
 * While two primary sites cannot hear of each other, both may register the same client. The central site keeps what came first, and tells
 * both in the same way: the first stays the owner, the other one learns that it is not. Two registrations are told apart from a lie about
 * another site's row by their times. Nothing of the second counts, not even a block: else each site could block everybody's clients. The event at the
 * central site says if it was blocked.
 *
 * The same way brings the owner's own row ahead of one that the central site wrote without knowing the last state: contents stay the
 * owner's, a block of either side stays.
 *
 * Two sites may also add a secondary site with the same code. Refusing the second one's row would stop its link, blocks and all. So here, too,
 * the central site keeps what came first and writes it anew, which tells the second; its link to the site that it added then says that
 * they do not belong together.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "command.h"
#include "history.h"
#include "incarnation.h"
#include "merge.h"
#include "phase.h"
#include "seizure.h"
#include "statement.h"
#include "version.h"

PG_FUNCTION_INFO_V1(cmblock_seize_clients);

/* ---------- the command ---------- */

static Statement connected = {
	"SELECT FROM pg_stat_activity a JOIN cmblock.replication_link l ON a.usename = l.peer_role "
	"WHERE l.neighbour = $1 AND a.datname = current_database()",
	{"site_code"}};

static Statement secondaries = {"SELECT string_agg(code::text, ', ' ORDER BY code) FROM cmblock.site "
								"WHERE parent = $1 AND retired_at IS NULL",
								{"site_code"}};

static Statement seize_clients = {"UPDATE cmblock.client SET assigned_site = $2 WHERE assigned_site = $1",
								  {"site_code", "site_code"}};

static Statement seize_certificates = {
	"UPDATE cmblock.certificate SET assigned_site = $2 WHERE assigned_site = $1", {"site_code", "site_code"}};

static void
check_sites(SiteCode from, SiteCode to)
{
	const SiteIdentity *here = cmblock_require_site();
	SiteRow row;

	if (here->kind != SITE_CENTRAL)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("only the central site can seize clients"),
				errdetail("This is %s, a %s site.", cmblock_site_code_string(here->code),
						  cmblock_enum_label(ENUM_SITE_KIND, here->kind)),
				errhint("A site gives its own clients away with cmblock.reassign_client."));
	cmblock_require_not_restored();
	if (from == to)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("clients are seized from one site for another"));
	for (int i = 0; i < 2; i++)
	{
		SiteCode code = i == 0 ? from : to;

		/* The old site may be retired: what is not a client's is still assigned to it. */
		if (i == 1 || !cmblock_lookup_site(code, &row))
			cmblock_require_live_site(code, &row);
		cmblock_require_site_for_clients(&row);
	}
}

/* A site that answers gives its clients away itself, and nothing that it does is lost. Inside SPI. */
static void
check_gone(SiteCode from)
{
	Datum value = SiteCodeGetDatum(from);
	SiteRow row;

	/* Of a retired site nothing is taken in, so nothing can be lost. */
	if (cmblock_lookup_site(from, &row) && row.retired)
		return;
	if (cmblock_execute(&connected, &value, NULL) == 0 && !cmblock_phase_connected(from))
		return;
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("site %s is connected: its clients are not seized", cmblock_site_code_string(from)),
			errdetail("Seizing is for a site that is gone: what it changes before it learns of it is lost."),
			errhint("Give its clients away there, with cmblock.reassign_client. If that cannot be, call "
					"seize_clients with force => true."));
}

static void
warn_of_secondaries(SiteCode from)
{
	Datum value = SiteCodeGetDatum(from);
	bool isnull;
	Datum codes;

	cmblock_execute(&secondaries, &value, NULL);
	codes = cmblock_result(1, &isnull);
	if (isnull)
		return;
	ereport(WARNING,
			errmsg("secondary sites below site %s get nothing any more", cmblock_site_code_string(from)),
			errdetail("They are: %s.", TextDatumGetCString(codes)),
			errhint("Retire them, and set them up anew below a site that is there."));
}

static char *
text_or_null(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* seize_clients(from_site, to_site, reason, ticket, force) → clients, certificates */
Datum
cmblock_seize_clients(PG_FUNCTION_ARGS)
{
	Datum sites[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	Datum values[2];
	bool none[2] = {false, false};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cmblock_begin_command(fcinfo, MAY_BE_NULL(2) | MAY_BE_NULL(3));
	check_sites(PG_GETARG_SITE_CODE(0), PG_GETARG_SITE_CODE(1));

	SPI_connect();
	if (!PG_GETARG_BOOL(4))
		check_gone(PG_GETARG_SITE_CODE(0));
	cmblock_history_note_seizure(PG_GETARG_SITE_CODE(0), PG_GETARG_SITE_CODE(1), text_or_null(fcinfo, 2),
								 text_or_null(fcinfo, 3));
	values[1] =
		Int64GetDatum(cmblock_execute_as(cmblock_writer(WRITER_SEIZURE), &seize_certificates, sites, NULL));
	values[0] =
		Int64GetDatum(cmblock_execute_as(cmblock_writer(WRITER_SEIZURE), &seize_clients, sites, NULL));
	warn_of_secondaries(PG_GETARG_SITE_CODE(0));
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, none)));
}

/* ---------- rows that come ---------- */

static bool
flag(TupleTableSlot *slot, const char *name)
{
	return DatumGetBool(cmblock_slot_value(slot, name));
}

static SiteCode
site(TupleTableSlot *slot, const char *name)
{
	return DatumGetSiteCode(cmblock_slot_value(slot, name));
}

static int64
version(TupleTableSlot *slot)
{
	return DatumGetInt64(cmblock_slot_value(slot, "version"));
}

bool
cmblock_can_be_blocked(BatchTable table, TupleTableSlot *slot)
{
	return table != BATCH_CLIENT || !flag(slot, "isv_proxied");
}

static void
note(BatchTable table, TupleTableSlot *row, BlockAction action, const char *reason)
{
	cmblock_history_begin_recovery();
	cmblock_record_recovery(action, table == BATCH_CLIENT, row, reason);
}

/* Had the parent, by what it last told, this transaction's changes? Where nothing is known, it had not. */
static Statement acknowledged = {
	"SELECT pg_visible_in_snapshot($2, acknowledged) FROM cmblock.replication_link WHERE neighbour = $1",
	{"site_code", "xid8"}};

bool
cmblock_keep_unsent_block(const Neighbour *parent, BatchTable table, TupleTableSlot *sent,
						  TupleTableSlot *local)
{
	Datum values[2] = {SiteCodeGetDatum(parent->code), cmblock_slot_value(local, "change_xid")};
	bool isnull = true;

	if (!flag(local, "blocked") || flag(sent, "blocked") || !cmblock_can_be_blocked(table, sent) ||
		site(local, "origin_site") != parent->here.code)
		return false;
	if (cmblock_execute(&acknowledged, values, NULL) > 0 && DatumGetBool(cmblock_result(1, &isnull)) &&
		!isnull)
		return false;
	cmblock_copy_block(sent, local);
	cmblock_slot_put(sent, "origin_site", SiteCodeGetDatum(parent->here.code));
	return true;
}

/* The row stays this site's: the central site wrote it without knowing its last state. */
static void
stay_owner(Neighbour *neighbour, BatchTable table, TupleTableSlot *sent, TupleTableSlot *local)
{
	bool takes_block =
		flag(sent, "blocked") && !flag(local, "blocked") && cmblock_can_be_blocked(table, local);

	cmblock_become_local(sent, local, takes_block, version(sent) + 1, neighbour->here.code);
	if (takes_block)
		note(table, sent, ACTION_CONFLICT, "blocked by a site that did not know yet that it was seized");
}

/* It was seized, and comes back to this site in the state that its other owner left it in. */
static void
become_owner_again(Neighbour *neighbour, BatchTable table, TupleTableSlot *sent, TupleTableSlot *local)
{
	if (!cmblock_keep_unsent_block(neighbour, table, sent, local))
	{
		neighbour->merged = false;
		return;
	}
	cmblock_slot_put(sent, "version", Int64GetDatum(version(sent) + 1));
	note(table, sent, ACTION_CONFLICT, "seized and given back; the block that was made here meanwhile stays");
}

static void
lose(Neighbour *neighbour, BatchTable table, TupleTableSlot *sent, TupleTableSlot *local)
{
	if (cmblock_keep_unsent_block(neighbour, table, sent, local))
		note(table, sent, ACTION_CONFLICT,
			 "taken from this site by the central site; the block made here meanwhile was passed on");
	else
		note(table, sent, ACTION_SEIZED, "learned from the central site");
}

void
cmblock_meet_seizure(Neighbour *neighbour, BatchTable table, TupleTableSlot *sent, TupleTableSlot *local)
{
	SiteCode here = neighbour->here.code;
	SiteCode assigned;
	bool by_parent;

	if (!neighbour->is_parent || table == BATCH_SITE || site(local, "assigned_site") != here ||
		site(sent, "origin_site") == here)
		return;
	assigned = site(sent, "assigned_site");
	by_parent = site(sent, "origin_site") == neighbour->code;
	if (!cmblock_versions_seized(version(local), version(sent)) && !(by_parent && assigned == here))
		return;
	if (!cmblock_is_primary(assigned))
		return;
	neighbour->merged = true;
	if (assigned != here)
		lose(neighbour, table, sent, local);
	else if (by_parent)
		stay_owner(neighbour, table, sent, local);
	else
		become_owner_again(neighbour, table, sent, local);
}

/* ---------- late blocks ---------- */

static Statement client_seized = {
	"SELECT FROM cmblock.block_event WHERE client = $1 AND action = 'seized' AND site = $2 LIMIT 1",
	{"smsid", "site_code"}};

static Statement certificate_seized = {
	"SELECT FROM cmblock.block_event WHERE certificate = $1 AND action = 'seized' AND site = $2 LIMIT 1",
	{"thumbprint", "site_code"}};

/* Was the row seized from this neighbour, by the history here? */
static bool
seized_from(const Neighbour *neighbour, BatchTable table, TupleTableSlot *row)
{
	Datum values[2] = {cmblock_slot_value(row, table == BATCH_CLIENT ? "smsid" : "sha256"),
					   SiteCodeGetDatum(neighbour->code)};

	return cmblock_execute(table == BATCH_CLIENT ? &client_seized : &certificate_seized, values, NULL) > 0;
}

bool
cmblock_take_late_block(Neighbour *neighbour, BatchTable table, TupleTableSlot *sent, TupleTableSlot *local)
{
	if (neighbour->is_parent || table == BATCH_SITE || !flag(sent, "blocked") || flag(local, "blocked") ||
		site(sent, "origin_site") != neighbour->code || site(local, "assigned_site") == neighbour->code ||
		!cmblock_can_be_blocked(table, local) || !seized_from(neighbour, table, sent))
		return false;
	cmblock_become_local(sent, local, true, cmblock_seizure_version(version(local)), neighbour->here.code);
	neighbour->merged = true;
	note(table, sent, ACTION_CONFLICT,
		 psprintf("blocked by site %s, which did not know yet that it was seized",
				  cmblock_site_code_string(neighbour->code)));
	return true;
}

/* ---------- registered at two sites ---------- */

bool
cmblock_settle_registration(Neighbour *neighbour, BatchTable table, TupleTableSlot *sent,
							TupleTableSlot *local)
{
	bool blocked;
	int64 highest;

	if (neighbour->is_parent || table == BATCH_SITE || neighbour->here.is_restored ||
		site(local, "assigned_site") == neighbour->code || site(sent, "assigned_site") != neighbour->code ||
		site(sent, "origin_site") != neighbour->code ||
		DatumGetTimestampTz(cmblock_slot_value(sent, "registered_at")) ==
			DatumGetTimestampTz(cmblock_slot_value(local, "registered_at")))
		return false;
	/* Deleted and registered again where it was before. */
	if (seized_from(neighbour, table, sent))
		return false;
	highest = Max(version(sent), version(local));
	if (!cmblock_version_has_room(highest))
		return false;
	blocked = flag(sent, "blocked");
	cmblock_become_local(sent, local, false, cmblock_seizure_version(highest), neighbour->here.code);
	neighbour->merged = true;
	note(table, sent, ACTION_CONFLICT,
		 psprintf("registered at site %s as well, which learns that it is not its own%s",
				  cmblock_site_code_string(neighbour->code), blocked ? "; blocked there" : ""));
	return true;
}

/* ---------- added at two sites ---------- */

static SiteCode
parent_of(TupleTableSlot *slot)
{
	bool isnull;
	Datum parent = cmblock_slot_get(slot, "parent", &isnull);

	return isnull ? NO_SITE : DatumGetSiteCode(parent);
}

static SiteKind
kind_of(TupleTableSlot *slot)
{
	return cmblock_enum_value(ENUM_SITE_KIND, DatumGetObjectId(cmblock_slot_value(slot, "kind")));
}

void
cmblock_settle_site(Neighbour *neighbour, TupleTableSlot *sent, TupleTableSlot *local)
{
	SiteCode parent = parent_of(local);
	bool is_live;

	(void) cmblock_slot_get(local, "retired_at", &is_live);
	if (neighbour->is_parent || site(sent, "origin_site") != neighbour->code ||
		kind_of(sent) != SITE_SECONDARY || parent_of(sent) != neighbour->code || parent == neighbour->code ||
		(kind_of(local) == SITE_SECONDARY && !is_live))
		return;
	cmblock_become_local(sent, local, false, Max(version(sent), version(local)) + 1, neighbour->here.code);
	neighbour->merged = true;
	ereport(LOG,
			errmsg("site %s added site %s, and learns that this code is taken",
				   cmblock_site_code_string(neighbour->code), cmblock_site_code_string(site(local, "code"))),
			errdetail("It is a %s site%s%s.", cmblock_enum_label(ENUM_SITE_KIND, kind_of(local)),
					  parent == NO_SITE ? "" : " below ",
					  parent == NO_SITE ? "" : cmblock_site_code_string(parent)));
}
