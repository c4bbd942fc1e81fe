/*
 * client.c
 *		Clients: registering, deleting and handing over, and watching for blocked ones that come back.
 *
 * Every command locks the client's row first, so that it sees what the last one left. The guard checks and stamps what
 * is written; what is checked here too is checked for a better message, or because it concerns other rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "client.h"
#include "command.h"
#include "guard.h"
#include "settings.h"
#include "site.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(cmblock_register_client);
PG_FUNCTION_INFO_V1(cmblock_delete_client);
PG_FUNCTION_INFO_V1(cmblock_reassign_client);

static const char *
describe_client(const Smsid *smsid)
{
	return psprintf("client %s", cmblock_smsid_string(smsid));
}

/* ---------- blocked clients coming back ---------- */

static Statement find_rejoin = {
	"SELECT b.smsid, b.name, b.assigned_site, array_to_string(ARRAY["
	"  CASE WHEN b.hardware_id = $3 THEN 'hardware id' END,"
	"  CASE WHEN lower(b.name) = lower($2) THEN 'name' END,"
	"  CASE WHEN k.client IS NOT NULL THEN 'certificate key' END], ', ')"
	" FROM cmblock.client b LEFT JOIN LATERAL"
	"  (SELECT c.client FROM cmblock.certificate c WHERE c.key_sha256 = $4 AND c.client = b.smsid LIMIT 1) k "
	"ON true"
	" WHERE b.blocked AND b.smsid <> $1 AND b.smsid IN ("
	"  SELECT smsid FROM cmblock.client WHERE blocked AND hardware_id = $3"
	"  UNION ALL SELECT smsid FROM cmblock.client WHERE blocked AND lower(name) = lower($2)"
	"  UNION ALL SELECT client FROM cmblock.certificate WHERE key_sha256 = $4 AND client IS NOT NULL)"
	" ORDER BY b.block_changed_at DESC LIMIT 1",
	{"smsid", "text", "text", "thumbprint"}};

void
cmblock_watch_rejoin(const Smsid *client, const char *name, const char *hardware_id,
					 struct varlena *key_sha256)
{
	Datum values[4] = {SmsidPGetDatum(client), 0, 0, PointerGetDatum(key_sha256)};
	char nulls[] = " nnn";
	bool isnull;
	bool refuse = cmblock_rejoin_policy == REJOIN_REFUSE;
	char *blocked;
	char *evidence;

	if (name)
	{
		values[1] = CStringGetTextDatum(name);
		nulls[1] = ' ';
	}
	if (hardware_id)
	{
		values[2] = CStringGetTextDatum(hardware_id);
		nulls[2] = ' ';
	}
	if (key_sha256)
		nulls[3] = ' ';
	if (cmblock_execute(&find_rejoin, values, nulls) == 0)
		return;

	blocked = psprintf("%s (%s, site %s)", cmblock_smsid_string(DatumGetSmsidP(cmblock_result(1, &isnull))),
					   TextDatumGetCString(cmblock_result(2, &isnull)),
					   cmblock_site_code_string(DatumGetSiteCode(cmblock_result(3, &isnull))));
	evidence = TextDatumGetCString(cmblock_result(4, &isnull));
	ereport(refuse ? ERROR : WARNING,
			errcode(refuse ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_WARNING),
			errmsg("%s looks like a blocked client coming back", describe_client(client)),
			errdetail("It has the same %s as blocked client %s.", evidence, blocked),
			refuse
				? errhint("Unblock that client, or register this one with cmblock.rejoin_policy = report.")
				: errhint("View cmblock.suspected_rejoin lists it; block it too if it is the same machine."));
}

/* ---------- registering ---------- */

static Statement lock_client = {"SELECT assigned_site, deleted_at IS NOT NULL, blocked, name, hardware_id "
								"FROM cmblock.client WHERE smsid = $1 FOR UPDATE",
								{"smsid"}};

static Statement insert_client = {
	"INSERT INTO cmblock.client (smsid, name, kind, assigned_site, hardware_id, approval, isv_proxied, "
	"registered_at, "
	"blocked, version, origin_site, change_xid, changed_by, changed_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, now(), false, 1, $4, pg_current_xact_id(), session_user, now()) "
	"ON CONFLICT (smsid) DO NOTHING",
	{"smsid", "text", "client_kind", "site_code", "text", "int2", "bool"}};

/* While it is blocked, a client's name and hardware id stay: they are what it is recognized by when it comes back. */
static Statement update_client = {
	"UPDATE cmblock.client SET name = CASE WHEN blocked THEN name ELSE $2 END, kind = $3, assigned_site = "
	"$4, "
	"hardware_id = CASE WHEN blocked THEN coalesce(hardware_id, $5) ELSE $5 END, approval = $6, "
	"isv_proxied = $7, deleted_at = NULL WHERE smsid = $1",
	{"smsid", "text", "client_kind", "site_code", "text", "int2", "bool"}};

static void
check_registration(FunctionCallInfo fcinfo)
{
	cmblock_begin_command(fcinfo, MAY_BE_NULL(3));
	if (PG_GETARG_INT32(4) < 0 || PG_GETARG_INT32(4) > 2)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid approval: %d", PG_GETARG_INT32(4)),
				errdetail("Approval is 0 (not approved), 1 (approved) or 2 (not applicable)."));
}

/* A text argument of 1 to 255 characters, or NULL where that is allowed. */
static char *
short_text_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	char *value;
	int length;

	if (PG_ARGISNULL(n))
		return NULL;
	value = text_to_cstring(PG_GETARG_TEXT_PP(n));
	length = pg_mbstrlen(value);
	if (length < 1 || length > 255)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid %s: it has %d characters", name, length),
				errdetail("A %s has 1 to 255 characters.", name));
	return value;
}

/* Of the row that lock_client found. Inside SPI. */
static void
tell_what_stays(const Smsid *smsid, const char *name, const char *hardware_id)
{
	bool isnull;
	Datum known;
	bool differs;

	if (!DatumGetBool(cmblock_result(3, &isnull)))
		return;
	differs = strcmp(TextDatumGetCString(cmblock_result(4, &isnull)), name) != 0;
	known = cmblock_result(5, &isnull);
	if (!isnull)
		differs = differs || !hardware_id || strcmp(TextDatumGetCString(known), hardware_id) != 0;
	if (differs)
		ereport(NOTICE,
				errmsg("%s is blocked: its name and hardware id stay as they are", describe_client(smsid)),
				errdetail("They are what it is recognized by when it comes back as another client."));
}

Datum
cmblock_register_client(PG_FUNCTION_ARGS)
{
	const Smsid *smsid;
	char *name;
	char *hardware_id;
	SiteCode here;
	Datum values[7];
	const char *nulls;
	bool known;

	check_registration(fcinfo);
	smsid = PG_GETARG_SMSID_P(0);
	name = short_text_argument(fcinfo, 1, "name");
	hardware_id = short_text_argument(fcinfo, 3, "hardware id");
	here = cmblock_require_site()->code;

	values[0] = SmsidPGetDatum(smsid);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = PG_GETARG_DATUM(2);
	values[3] = SiteCodeGetDatum(here);
	values[4] = PG_GETARG_DATUM(3);
	values[5] = Int16GetDatum(PG_GETARG_INT32(4));
	values[6] = PG_GETARG_DATUM(5);
	nulls = hardware_id ? NULL : "    n  ";

	SPI_connect();
	cmblock_watch_rejoin(smsid, name, hardware_id, NULL);

	/* Somebody else may register it between our look and our insert: then it is there at the second look. */
	while (!(known = cmblock_execute(&lock_client, values, NULL) > 0) &&
		   cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &insert_client, values, nulls) == 0)
		CHECK_FOR_INTERRUPTS();
	if (known)
	{
		bool isnull;

		cmblock_require_assigned_here(DatumGetSiteCode(cmblock_result(1, &isnull)), describe_client(smsid));
		tell_what_stays(smsid, name, hardware_id);
		cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &update_client, values, nulls);
	}
	SPI_finish();
	PG_RETURN_VOID();
}

/* ---------- deleting and handing over ---------- */

/* Locks the client's row and makes sure that it is ours and not deleted. Inside SPI. */
static void
lock_own_client(const Smsid *smsid, bool even_deleted)
{
	Datum key = SmsidPGetDatum(smsid);
	bool isnull;

	if (cmblock_execute(&lock_client, &key, NULL) == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("%s is not known to this site", describe_client(smsid)),
				errhint("Table cmblock.client has the clients that this site knows."));
	cmblock_require_assigned_here(DatumGetSiteCode(cmblock_result(1, &isnull)), describe_client(smsid));
	if (!even_deleted && DatumGetBool(cmblock_result(2, &isnull)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("%s is deleted already", describe_client(smsid)),
				errhint("Its row stays, so that a block outlives the deletion. cmblock.register_client "
						"brings it back."));
}

/*
 * A mobile device keeps its certificate, and no CA is told of the deletion: so this hierarchy revokes it for good, and
 * those that were deleted before it.
 */
static Statement delete_certificates = {
	"UPDATE cmblock.certificate x SET deleted_at = coalesce(x.deleted_at, now()),"
	" revoked_at = CASE WHEN c.kind = 'mobile_device' THEN coalesce(x.revoked_at, now()) ELSE x.revoked_at "
	"END"
	" FROM cmblock.client c WHERE c.smsid = $1 AND x.client = $1 AND x.assigned_site = c.assigned_site"
	" AND (x.deleted_at IS NULL OR (c.kind = 'mobile_device' AND x.revoked_at IS NULL))",
	{"smsid"}};
static Statement delete_client = {"UPDATE cmblock.client SET deleted_at = now() WHERE smsid = $1", {"smsid"}};
static Statement hand_over_certificates = {
	"UPDATE cmblock.certificate x SET assigned_site = $2 FROM cmblock.client c "
	"WHERE c.smsid = $1 AND x.client = $1 AND x.assigned_site = c.assigned_site",
	{"smsid", "site_code"}};
static Statement hand_over_client = {"UPDATE cmblock.client SET assigned_site = $2 WHERE smsid = $1",
									 {"smsid", "site_code"}};

/* Certificates of the client that are another site's; whether they are of the one that wrote its row. */
static Statement others_certificates = {
	"SELECT x.assigned_site, count(*)::int4, x.assigned_site = c.origin_site FROM cmblock.client c "
	"JOIN cmblock.certificate x ON x.client = c.smsid AND x.assigned_site <> c.assigned_site "
	"WHERE c.smsid = $1 GROUP BY 1, 3 ORDER BY 3 DESC LIMIT 1",
	{"smsid"}};

/*
 * The certificates travel behind the client's row: if it was handed over a moment ago, they may not be here yet, and would be left behind. Those
 * that another site registered, before it learned that the client is not its own, stay that site's. Inside SPI.
 */
static void
check_certificates(Datum smsid)
{
	bool isnull;
	const char *site;
	int count;

	if (cmblock_execute(&others_certificates, &smsid, NULL) == 0)
		return;
	site = cmblock_site_code_string(DatumGetSiteCode(cmblock_result(1, &isnull)));
	count = DatumGetInt32(cmblock_result(2, &isnull));
	if (DatumGetBool(cmblock_result(3, &isnull)))
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("the certificates of %s have not come from site %s yet",
				   describe_client(DatumGetSmsidP(smsid)), site),
			errdetail("The client was handed over to this site, and its certificates are on their way."),
			errhint(
				"Try again in a moment. If they do not come, view cmblock.replication_status says why, at "
				"each site on the way."));
	ereport(WARNING, errcode(ERRCODE_WARNING),
			errmsg_plural("%d certificate of %s stays with site %s",
						  "%d certificates of %s stay with site %s", count, count,
						  describe_client(DatumGetSmsidP(smsid)), site),
			errdetail("That site registered the client as well, and lost it."),
			errhint("If it must not be used any more, block it there, with cmblock.block_certificate."));
}

Datum
cmblock_delete_client(PG_FUNCTION_ARGS)
{
	Datum smsid = PG_GETARG_DATUM(0);

	cmblock_begin_command(fcinfo, 0);
	cmblock_require_site();
	SPI_connect();
	lock_own_client(DatumGetSmsidP(smsid), false);
	check_certificates(smsid);
	cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &delete_certificates, &smsid, NULL);
	cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &delete_client, &smsid, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

static void
check_new_owner(SiteCode to)
{
	SiteRow site;

	cmblock_require_live_site(to, &site);
	cmblock_require_site_for_clients(&site);
}

Datum
cmblock_reassign_client(PG_FUNCTION_ARGS)
{
	Datum values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	SiteCode to = PG_GETARG_SITE_CODE(1);

	cmblock_begin_command(fcinfo, 0);
	cmblock_require_site();
	SPI_connect();
	lock_own_client(DatumGetSmsidP(values[0]), true);
	check_new_owner(to);
	if (to == cmblock_require_site()->code)
		ereport(NOTICE,
				errmsg("%s is assigned to this site already", describe_client(DatumGetSmsidP(values[0]))));
	else
	{
		check_certificates(values[0]);
		cmblock_execute_as(cmblock_writer(WRITER_HANDOVER), &hand_over_certificates, values, NULL);
		cmblock_execute_as(cmblock_writer(WRITER_HANDOVER), &hand_over_client, values, NULL);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
