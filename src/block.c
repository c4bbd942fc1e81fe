/*
 * block.c
 *		Blocking and unblocking clients and certificates.
 *
 * A block is one column of the row that the decision reads, changed in the caller's transaction: from its COMMIT on
 * every decision of this site refuses, and replication carries the row on. The row is locked before it is judged, so
 * of two administrators the second sees what the first did and gets "unchanged".
 *
 * block_clients locks in the order of the ids, so two overlapping calls cannot deadlock.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "command.h"
#include "guard.h"
#include "site.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(cmblock_block_client);
PG_FUNCTION_INFO_V1(cmblock_unblock_client);
PG_FUNCTION_INFO_V1(cmblock_block_clients);
PG_FUNCTION_INFO_V1(cmblock_block_certificate);
PG_FUNCTION_INFO_V1(cmblock_unblock_certificate);

/* A text argument that may be null; longer than the column's limit is an error that says so. */
static Datum
remark_argument(FunctionCallInfo fcinfo, int n, const char *name, int limit, char *null)
{
	*null = PG_ARGISNULL(n) ? 'n' : ' ';
	if (PG_ARGISNULL(n))
		return (Datum) 0;
	if (DatumGetInt32(DirectFunctionCall1(textlen, PG_GETARG_DATUM(n))) > limit)
		ereport(ERROR, errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION), errmsg("%s is too long", name),
				errdetail("It may have %d characters at most.", limit));
	return PG_GETARG_DATUM(n);
}

#define REASON_LIMIT 1000
#define TICKET_LIMIT 255

/* ---------- what the locked row says ---------- */

typedef struct BlockState
{
	bool found;
	SiteCode assigned_site;
	bool blocked;
	bool isv_proxied;
	bool limited; /* no PKI certificate: may come back under another one */
	char *changed_by;
	char *changed_at;
	char *reason;
	char *ticket;
} BlockState;

/* Says in a NOTICE that there is nothing to do, since when, and why: what was given now is not recorded. */
static Datum
unchanged(const BlockState *state, const char *what, bool block)
{
	ereport(NOTICE, errmsg(block ? "%s is blocked already" : "%s is not blocked", what),
			state->changed_by
				? errdetail("%s by %s at %s%s%s%s%s.", block ? "Blocked" : "Unblocked", state->changed_by,
							state->changed_at, state->reason ? ", reason: " : "",
							state->reason ? state->reason : "", state->ticket ? ", ticket: " : "",
							state->ticket ? state->ticket : "")
				: 0);
	return cmblock_enum_datum(ENUM_BLOCK_OUTCOME, OUTCOME_UNCHANGED);
}

static char *
text_or_null(int column)
{
	bool isnull;
	Datum value = cmblock_result(column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* ---------- one client ---------- */

static Statement lock_client = {
	"SELECT c.assigned_site, c.blocked, c.isv_proxied, c.block_changed_by, c.block_changed_at::text, "
	"c.block_reason, c.block_ticket, "
	" NOT EXISTS (SELECT FROM cmblock.certificate x WHERE x.client = c.smsid AND NOT x.self_signed AND "
	"x.deleted_at IS NULL) "
	"FROM cmblock.client c WHERE c.smsid = $1 FOR UPDATE OF c",
	{"smsid"}};

static Statement update_client = {
	"UPDATE cmblock.client SET blocked = $2, block_reason = $3, block_ticket = $4 WHERE smsid = $1",
	{"smsid", "bool", "text", "text"}};

static BlockState
lock_client_state(Datum smsid)
{
	BlockState state = {0};
	bool isnull;

	if (cmblock_execute(&lock_client, &smsid, NULL) == 0)
		return state;
	state.found = true;
	state.assigned_site = DatumGetSiteCode(cmblock_result(1, &isnull));
	state.blocked = DatumGetBool(cmblock_result(2, &isnull));
	state.isv_proxied = DatumGetBool(cmblock_result(3, &isnull));
	state.changed_by = text_or_null(4);
	state.changed_at = text_or_null(5);
	state.reason = text_or_null(6);
	state.ticket = text_or_null(7);
	state.limited = DatumGetBool(cmblock_result(8, &isnull));
	return state;
}

static Datum
change_client(FunctionCallInfo fcinfo, bool block)
{
	char nulls[] = "    ";
	Datum values[4];
	const char *what;
	BlockState state;
	Datum outcome;

	cmblock_begin_command(fcinfo, MAY_BE_NULL(1) | MAY_BE_NULL(2));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = BoolGetDatum(block);
	values[2] = remark_argument(fcinfo, 1, "reason", REASON_LIMIT, &nulls[2]);
	values[3] = remark_argument(fcinfo, 2, "ticket", TICKET_LIMIT, &nulls[3]);
	what = psprintf("client %s", cmblock_smsid_string(DatumGetSmsidP(values[0])));
	cmblock_require_site();

	SPI_connect();
	state = lock_client_state(values[0]);
	if (!state.found)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("%s is not known to this site", what),
				errhint("Check the id; table cmblock.client has the clients that this site knows."));
	cmblock_require_assigned_here(state.assigned_site, what);
	if (state.blocked == block)
		outcome = unchanged(&state, what, block);
	else if (block && state.isv_proxied)
		cmblock_refuse_isv_proxied(what);
	else
	{
		cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &update_client, values, nulls);
		outcome = cmblock_enum_datum(ENUM_BLOCK_OUTCOME, block ? OUTCOME_BLOCKED : OUTCOME_UNBLOCKED);
		if (block && state.limited)
			ereport(WARNING, errmsg("the block of %s is of limited assurance", what),
					errdetail("It has no PKI certificate: with a new self-signed certificate and a new "
							  "hardware id it can come back as another client."),
					errhint("Use client certificates of a PKI with HTTPS; watch cmblock.suspected_rejoin."));
	}
	SPI_finish();
	return outcome;
}

Datum
cmblock_block_client(PG_FUNCTION_ARGS)
{
	return change_client(fcinfo, true);
}

Datum
cmblock_unblock_client(PG_FUNCTION_ARGS)
{
	return change_client(fcinfo, false);
}

/* ---------- many clients ---------- */

static Statement lock_clients = {
	"SELECT c.smsid, c.assigned_site, c.blocked, c.isv_proxied, "
	" NOT EXISTS (SELECT FROM cmblock.certificate x WHERE x.client = c.smsid AND NOT x.self_signed AND "
	"x.deleted_at IS NULL) "
	"FROM cmblock.client c WHERE c.smsid = ANY ($1) ORDER BY c.smsid FOR UPDATE OF c",
	{"smsid[]"}};

static Statement update_clients = {
	"UPDATE cmblock.client SET blocked = $2, block_reason = $3, block_ticket = $4 "
	"WHERE smsid = ANY ($1) AND assigned_site = $5 AND blocked <> $2 AND NOT isv_proxied",
	{"smsid[]", "bool", "text", "text", "site_code"}};

typedef struct ManyEntry
{
	Smsid smsid; /* hash key */
	BlockState state;
} ManyEntry;

/* The state of each known client before the change, by id. Inside SPI. */
static HTAB *
lock_many(Datum clients, int count)
{
	HASHCTL control = {
		.keysize = sizeof(Smsid), .entrysize = sizeof(ManyEntry), .hcxt = CurrentMemoryContext};
	HTAB *states =
		hash_create("clients to block", Max(count, 1), &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	uint64 found = cmblock_execute(&lock_clients, &clients, NULL);

	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		ManyEntry *entry =
			hash_search(states, DatumGetSmsidP(SPI_getbinval(row, desc, 1, &isnull)), HASH_ENTER, NULL);

		memset(&entry->state, 0, sizeof(entry->state));
		entry->state.found = true;
		entry->state.assigned_site = DatumGetSiteCode(SPI_getbinval(row, desc, 2, &isnull));
		entry->state.blocked = DatumGetBool(SPI_getbinval(row, desc, 3, &isnull));
		entry->state.isv_proxied = DatumGetBool(SPI_getbinval(row, desc, 4, &isnull));
		entry->state.limited = DatumGetBool(SPI_getbinval(row, desc, 5, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return states;
}

/* How it went for one client of the list. `state` is moved on, so that a second mention is "unchanged". */
static BlockOutcome
judge(const SiteIdentity *here, BlockState *state, bool block, const char **detail)
{
	*detail = NULL;
	if (!state)
	{
		*detail = "this site does not know it";
		return OUTCOME_NOT_FOUND;
	}
	if (here->kind != SITE_PRIMARY || state->assigned_site != here->code)
	{
		*detail = psprintf("run this at site %s", cmblock_site_code_string(state->assigned_site));
		return OUTCOME_NOT_ASSIGNED_HERE;
	}
	if (state->blocked == block)
		return OUTCOME_UNCHANGED;
	if (state->isv_proxied)
	{
		*detail = "it comes through an ISV proxy: block that certificate";
		return OUTCOME_ISV_PROXIED;
	}
	if (block && state->limited)
		*detail = "limited assurance: it has no PKI certificate";
	state->blocked = block;
	return block ? OUTCOME_BLOCKED : OUTCOME_UNBLOCKED;
}

static void
report_many(ReturnSetInfo *result, Datum clients, HTAB *states, bool block)
{
	const SiteIdentity *here = cmblock_require_site();
	ArrayIterator iterator = array_create_iterator(DatumGetArrayTypeP(clients), 0, NULL);
	int limited = 0;
	Datum smsid;
	bool isnull;

	while (array_iterate(iterator, &smsid, &isnull))
	{
		ManyEntry *entry = isnull ? NULL : hash_search(states, DatumGetSmsidP(smsid), HASH_FIND, NULL);
		const char *detail;
		BlockOutcome outcome = judge(here, entry ? &entry->state : NULL, block, &detail);
		Datum values[3] = {smsid, cmblock_enum_datum(ENUM_BLOCK_OUTCOME, outcome),
						   detail ? CStringGetTextDatum(detail) : (Datum) 0};
		bool nulls[3] = {isnull, false, detail == NULL};

		if (outcome == OUTCOME_BLOCKED && detail)
			limited++;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	if (limited > 0)
		ereport(WARNING,
				errmsg_plural("the block of %d client is of limited assurance",
							  "the block of %d clients is of limited assurance", limited, limited),
				errdetail("They have no PKI certificate: with a new self-signed certificate and a new "
						  "hardware id they can come back as other clients."),
				errhint("Column detail marks them; watch cmblock.suspected_rejoin."));
}

Datum
cmblock_block_clients(PG_FUNCTION_ARGS)
{
	char nulls[] = "     ";
	Datum values[5];
	bool block;
	HTAB *states;

	cmblock_begin_command(fcinfo, MAY_BE_NULL(2) | MAY_BE_NULL(3));
	block = PG_GETARG_BOOL(1);
	values[0] = PointerGetDatum(PG_GETARG_ARRAYTYPE_P(0));
	values[1] = BoolGetDatum(block);
	values[2] = remark_argument(fcinfo, 2, "reason", REASON_LIMIT, &nulls[2]);
	values[3] = remark_argument(fcinfo, 3, "ticket", TICKET_LIMIT, &nulls[3]);
	values[4] = SiteCodeGetDatum(cmblock_require_site()->code);

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	states = lock_many(values[0], ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(values[0])),
												 ARR_DIMS(DatumGetArrayTypeP(values[0]))));
	if (cmblock_require_site()->kind == SITE_PRIMARY)
		cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &update_clients, values, nulls);
	report_many((ReturnSetInfo *) fcinfo->resultinfo, values[0], states, block);
	SPI_finish();
	return (Datum) 0;
}

/* ---------- certificates ---------- */

static Statement lock_certificate = {
	"SELECT sha256, assigned_site, blocked, block_changed_by, block_changed_at::text, block_reason, "
	"block_ticket, type, client FROM cmblock.certificate WHERE sha256 = $1 OR sha1 = $1 FOR UPDATE",
	{"thumbprint"}};

static Statement update_certificate = {
	"UPDATE cmblock.certificate SET blocked = $2, block_reason = $3, block_ticket = $4 WHERE sha256 = $1",
	{"thumbprint", "bool", "text", "text"}};

static Statement count_isv_proxied = {
	"SELECT count(*) FROM cmblock.client WHERE isv_proxied AND deleted_at IS NULL", {NULL}};

static Statement count_other_certificates = {"SELECT count(*) FROM cmblock.certificate WHERE client = $1 AND "
											 "sha256 <> $2 AND NOT blocked AND deleted_at IS NULL",
											 {"smsid", "thumbprint"}};

/* Tells the administrator whom the block of this certificate cuts off. Inside SPI. */
static void
tell_blast_radius(CertificateType type, Datum sha256, Datum client)
{
	Datum values[2] = {client, sha256};
	bool isnull;
	int others;

	switch (type)
	{
		case CERTIFICATE_BOOT_MEDIA:
			ereport(NOTICE, errmsg("this cuts off every machine that starts from these boot media"),
					errdetail("All copies of one medium share its certificate."),
					errhint("Make new media with a new certificate for the machines that still need them."));
			break;
		case CERTIFICATE_DISTRIBUTION_POINT:
			ereport(
				NOTICE, errmsg("this cuts off the distribution point that holds this certificate"),
				errdetail(
					"Machines that start over the network (PXE) from it cannot deploy an operating system."));
			break;
		case CERTIFICATE_ISV_PROXY:
			cmblock_execute(&count_isv_proxied, NULL, NULL);
			ereport(NOTICE,
					errmsg("this cuts off the clients that reach the hierarchy through this ISV proxy: up "
						   "to " INT64_FORMAT,
						   DatumGetInt64(cmblock_result(1, &isnull))),
					errdetail("So many clients are registered as ISV-proxied in the hierarchy."));
			break;
		case CERTIFICATE_CLIENT:
			cmblock_execute(&count_other_certificates, values, NULL);
			others = DatumGetInt64(cmblock_result(1, &isnull));
			ereport(NOTICE,
					errmsg("this cuts off the certificate, not client %s",
						   cmblock_smsid_string(DatumGetSmsidP(client))),
					errdetail_plural("The client has %d other certificate that is not blocked.",
									 "The client has %d other certificates that are not blocked.", others,
									 others),
					errhint("To shut the client out, use cmblock.block_client."));
			break;
	}
}

static Datum
change_certificate(FunctionCallInfo fcinfo, bool block)
{
	char nulls[] = "    ";
	Datum values[4];
	struct varlena *thumbprint;
	const char *what;
	BlockState state = {0};
	CertificateType type;
	Datum client;
	Datum outcome;
	uint64 found;
	bool isnull;

	cmblock_begin_command(fcinfo, MAY_BE_NULL(1) | MAY_BE_NULL(2));
	thumbprint = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	values[0] = PointerGetDatum(thumbprint);
	values[1] = BoolGetDatum(block);
	values[2] = remark_argument(fcinfo, 1, "reason", REASON_LIMIT, &nulls[2]);
	values[3] = remark_argument(fcinfo, 2, "ticket", TICKET_LIMIT, &nulls[3]);
	what = psprintf("certificate %s", cmblock_hex_string((unsigned char *) VARDATA_ANY(thumbprint),
														 VARSIZE_ANY_EXHDR(thumbprint)));
	cmblock_require_site();

	SPI_connect();
	found = cmblock_execute(&lock_certificate, values, NULL);
	if (found == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("%s is not known to this site", what),
				errhint("Register it first with cmblock.register_certificate; table cmblock.certificate has "
						"the known ones."));
	if (found > 1)
		ereport(ERROR, errcode(ERRCODE_CARDINALITY_VIOLATION),
				errmsg("%s is more than one certificate", what),
				errdetail("Certificates with equal SHA-1 thumbprints can be made."),
				errhint("Name it by its SHA-256 thumbprint."));
	values[0] = cmblock_result(1, &isnull);
	state.assigned_site = DatumGetSiteCode(cmblock_result(2, &isnull));
	state.blocked = DatumGetBool(cmblock_result(3, &isnull));
	state.changed_by = text_or_null(4);
	state.changed_at = text_or_null(5);
	state.reason = text_or_null(6);
	state.ticket = text_or_null(7);
	type = cmblock_enum_value(ENUM_CERTIFICATE_TYPE, DatumGetObjectId(cmblock_result(8, &isnull)));
	client = cmblock_result(9, &isnull);

	cmblock_require_assigned_here(state.assigned_site, what);
	if (state.blocked == block)
		outcome = unchanged(&state, what, block);
	else
	{
		cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &update_certificate, values, nulls);
		outcome = cmblock_enum_datum(ENUM_BLOCK_OUTCOME, block ? OUTCOME_BLOCKED : OUTCOME_UNBLOCKED);
		if (block)
			tell_blast_radius(type, values[0], client);
	}
	SPI_finish();
	return outcome;
}

Datum
cmblock_block_certificate(PG_FUNCTION_ARGS)
{
	return change_certificate(fcinfo, true);
}

Datum
cmblock_unblock_certificate(PG_FUNCTION_ARGS)
{
	return change_certificate(fcinfo, false);
}
