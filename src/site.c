/*
 * site.c
 *		Who this database is, and the tree of sites around it.
 *
 * The tree: a central site with primaries under it, secondaries under a primary; or a stand-alone primary with its
 * secondaries. A site adds and retires the sites below it. Rows of table site are replicated; those that
 * setup_site writes about a site's own parent carry version 0, so that the first row that arrives replaces them.
 *
 * Locking: the commands take SHARE ROW EXCLUSIVE on table site, so that two of them cannot break a rule together.
 *
 * This site's identity is asked for by every guarded row and every decision, so it is kept in the session. A
 * statement trigger on this_site sends a relcache invalidation, which is undone by a rollback like the change itself.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "command.h"
#include "incarnation.h"
#include "scan.h"
#include "site.h"
#include "statement.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(cmblock_setup_site);
PG_FUNCTION_INFO_V1(cmblock_add_site);
PG_FUNCTION_INFO_V1(cmblock_retire_site);
PG_FUNCTION_INFO_V1(cmblock_this_site_changed);

/* ---------- this site's identity ---------- */

static SiteIdentity identity;
static bool identity_known = false;    /* looked up: identity.code is NO_SITE when not set up */
static bool identity_outdated = false; /* an invalidation came, perhaps while it was looked up */
static Oid identity_relation = InvalidOid;

static void
forget_identity(Datum arg, Oid relid)
{
	if (relid == identity_relation || !OidIsValid(relid))
	{
		identity_known = false;
		identity_outdated = true;
	}
}

static void
read_identity(void)
{
	static bool callback_registered = false;
	Relation relation;
	TableScanDesc scan;
	TupleTableSlot *slot;
	Snapshot snapshot;

	identity_relation = cmblock_relation(REL_THIS_SITE);
	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(forget_identity, (Datum) 0);
		callback_registered = true;
	}

	/* Known only at the end: an error on the way, for instance a lock timeout, must not leave half of it. */
	identity_known = false;
	identity_outdated = false;
	memset(&identity, 0, sizeof(identity));

	relation = table_open(identity_relation, AccessShareLock);
	snapshot = RegisterSnapshot(cmblock_newest_snapshot());
	slot = table_slot_create(relation, NULL);
	scan = table_beginscan(relation, snapshot, 0, NULL);
	if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		TupleDesc desc = RelationGetDescr(relation);
		bool isnull;
		Datum parent;
		Datum incarnation;

		identity.code = DatumGetSiteCode(cmblock_slot_column(slot, desc, "code", &isnull));
		identity.kind = cmblock_enum_value(
			ENUM_SITE_KIND, DatumGetObjectId(cmblock_slot_column(slot, desc, "kind", &isnull)));
		memcpy(&identity.hierarchy, DatumGetUUIDP(cmblock_slot_column(slot, desc, "hierarchy", &isnull)),
			   sizeof(pg_uuid_t));
		parent = cmblock_slot_column(slot, desc, "parent", &isnull);
		identity.parent = isnull ? NO_SITE : DatumGetSiteCode(parent);
		incarnation = cmblock_slot_column(slot, desc, "incarnation", &isnull);
		if (!isnull)
			strlcpy(identity.incarnation, TextDatumGetCString(incarnation), sizeof(identity.incarnation));
		(void) cmblock_slot_column(slot, desc, "restored_at", &isnull);
		identity.is_restored = !isnull;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
	identity_known = !identity_outdated;
}

const SiteIdentity *
cmblock_this_site(void)
{
	static uint64 generation = 0;

	if (!identity_known || generation != cmblock_catalog_generation())
	{
		read_identity();
		generation = cmblock_catalog_generation();
	}
	return identity.code == NO_SITE ? NULL : &identity;
}

const SiteIdentity *
cmblock_require_site(void)
{
	const SiteIdentity *site = cmblock_this_site();

	if (!site)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("this database is not a site yet"), errdetail("Table cmblock.this_site is empty."),
				errhint("Say who it is, for instance: SELECT cmblock.setup_site('P01', 'primary')."));
	return site;
}

Datum
cmblock_this_site_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.this_site_changed() can only be called as a trigger"));
	if (!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) || !TRIGGER_FIRED_AFTER(trigger->tg_event))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.this_site_changed() must be fired AFTER, FOR EACH STATEMENT"));
	CacheInvalidateRelcache(trigger->tg_relation);
	PG_RETURN_POINTER(NULL);
}

/* ---------- the tree ---------- */

bool
cmblock_lookup_site(SiteCode code, SiteRow *row)
{
	IndexLookup lookup;
	bool found = cmblock_index_lookup(&lookup, REL_SITE, IDX_SITE_CODE, SiteCodeGetDatum(code));

	if (found)
	{
		bool isnull;
		Datum parent;

		row->code = code;
		row->kind = cmblock_enum_value(ENUM_SITE_KIND,
									   DatumGetObjectId(cmblock_lookup_column(&lookup, "kind", &isnull)));
		parent = cmblock_lookup_column(&lookup, "parent", &isnull);
		row->parent = isnull ? NO_SITE : DatumGetSiteCode(parent);
		(void) cmblock_lookup_column(&lookup, "retired_at", &isnull);
		row->retired = !isnull;
		row->version = DatumGetInt64(cmblock_lookup_column(&lookup, "version", &isnull));
	}
	cmblock_index_lookup_end(&lookup);
	return found;
}

static void
lock_tree(void)
{
	LockRelationOid(cmblock_relation(REL_SITE), ShareRowExclusiveLock);
}

static Statement insert_this_site = {
	"INSERT INTO cmblock.this_site (code, kind, hierarchy, parent, set_up_by, set_up_at, incarnation) "
	"VALUES ($1, $2, $3, $4, session_user, statement_timestamp(), $5)",
	{"site_code", "site_kind", "uuid", "site_code", "text"}};

static Statement insert_site = {
	"INSERT INTO cmblock.site (code, kind, parent, version, origin_site, change_xid, changed_by, changed_at) "
	"VALUES ($1, $2, $3, $4, $5, pg_current_xact_id(), session_user, statement_timestamp())",
	{"site_code", "site_kind", "site_code", "int8", "site_code"}};

static Statement revise_site = {
	"UPDATE cmblock.site SET kind = $2, parent = $3, retired_at = CASE WHEN $4 THEN statement_timestamp() "
	"END, "
	"version = version + 1, origin_site = $5, change_xid = pg_current_xact_id(), changed_by = session_user, "
	"changed_at = statement_timestamp() WHERE code = $1",
	{"site_code", "site_kind", "site_code", "bool", "site_code"}};

static Statement count_assigned = {
	"SELECT count(*) FROM cmblock.client WHERE assigned_site = $1 AND deleted_at IS NULL", {"site_code"}};

static Statement live_children = {"SELECT string_agg(code::text, ', ' ORDER BY code) FROM cmblock.site WHERE "
								  "parent = $1 AND retired_at IS NULL",
								  {"site_code"}};

static void
write_site(SiteCode code, SiteKind kind, SiteCode parent, int64 version, SiteCode origin)
{
	Datum values[5] = {SiteCodeGetDatum(code), cmblock_enum_datum(ENUM_SITE_KIND, kind),
					   SiteCodeGetDatum(parent), Int64GetDatum(version), SiteCodeGetDatum(origin)};

	cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &insert_site, values,
					   parent == NO_SITE ? "  n  " : NULL);
}

static void
revise(const SiteRow *row, bool retired, SiteCode origin)
{
	Datum values[5] = {SiteCodeGetDatum(row->code), cmblock_enum_datum(ENUM_SITE_KIND, row->kind),
					   SiteCodeGetDatum(row->parent), BoolGetDatum(retired), SiteCodeGetDatum(origin)};

	cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &revise_site, values,
					   row->parent == NO_SITE ? "  n  " : NULL);
}

/* The checks of setup_site that need no table. */
static void
check_setup(SiteCode code, SiteKind kind, SiteCode parent)
{
	if (kind == SITE_CENTRAL && parent != NO_SITE)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a central site has no parent"),
				errdetail("The central administration site is the top of its hierarchy."),
				errhint("Leave parent out."));
	if (kind == SITE_SECONDARY && parent == NO_SITE)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a secondary site needs a parent"),
				errdetail("A secondary site belongs to one primary site."),
				errhint("Name it: cmblock.setup_site('%s', 'secondary', hierarchy, parent => 'P01').",
						cmblock_site_code_string(code)));
	if (parent == code)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("site %s cannot be its own parent", cmblock_site_code_string(code)));
}

/* A row with a character that the database does not have refuses the batch, and with it all that is behind. */
static void
warn_of_encoding(SiteCode code)
{
	if (GetDatabaseEncoding() == PG_UTF8)
		return;
	ereport(
		WARNING, errmsg("the encoding of this database is %s, not UTF8", GetDatabaseEncodingName()),
		errdetail("A name or reason that cannot be converted between the encodings of two sites stops the "
				  "link between them."),
		errhint("Set site %s up in a database with ENCODING 'UTF8'.", cmblock_site_code_string(code)));
}

Datum
cmblock_setup_site(PG_FUNCTION_ARGS)
{
	const SiteIdentity *here;
	SiteCode code;
	SiteCode parent = PG_ARGISNULL(3) ? NO_SITE : PG_GETARG_SITE_CODE(3);
	SiteKind kind;
	Datum values[5];

	cmblock_begin_command(fcinfo, MAY_BE_NULL(3));
	code = PG_GETARG_SITE_CODE(0);
	kind = cmblock_enum_value(ENUM_SITE_KIND, PG_GETARG_OID(1));
	check_setup(code, kind, parent);

	lock_tree();
	here = cmblock_this_site();
	if (here)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("this database is already site %s", cmblock_site_code_string(here->code)),
				errdetail("A database is one site for good: its rows name it as their origin."),
				errhint("Use another database for site %s.", cmblock_site_code_string(code)));

	if (kind == SITE_CENTRAL || parent != NO_SITE)
		warn_of_encoding(code);

	values[0] = SiteCodeGetDatum(code);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = PG_GETARG_DATUM(2);
	values[3] = SiteCodeGetDatum(parent);
	values[4] = CStringGetTextDatum(cmblock_incarnation());
	SPI_connect();
	cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &insert_this_site, values,
					   parent == NO_SITE ? "   n " : NULL);
	if (parent == NO_SITE)
		write_site(code, kind, NO_SITE, 1, code);
	else
	{
		/* What the parent knows better has version 0 and is not ours. */
		write_site(parent, kind == SITE_PRIMARY ? SITE_CENTRAL : SITE_PRIMARY, NO_SITE, 0, parent);
		write_site(code, kind, parent, 0, parent);
	}
	SPI_finish();
	PG_RETURN_VOID();
}

void
cmblock_require_live_site(SiteCode code, SiteRow *row)
{
	if (!cmblock_lookup_site(code, row))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("site %s is not in this hierarchy", cmblock_site_code_string(code)),
				errhint("Table cmblock.site has the sites that this site knows."));
	if (row->retired)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("site %s is retired", cmblock_site_code_string(code)),
				errhint("Column retired_at of table cmblock.site is null for those that are not."));
}

void
cmblock_require_site_for_clients(const SiteRow *row)
{
	if (row->kind != SITE_PRIMARY)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a client cannot be assigned to site %s", cmblock_site_code_string(row->code)),
				errdetail("It is a %s site; clients are assigned to primary sites.",
						  cmblock_enum_label(ENUM_SITE_KIND, row->kind)));
}

/* What add_site asks of the parent. */
static void
check_parent(const SiteIdentity *here, SiteCode code, SiteKind kind, SiteCode parent)
{
	SiteRow row;
	SiteKind wanted = kind == SITE_PRIMARY ? SITE_CENTRAL : SITE_PRIMARY;

	if (kind == SITE_CENTRAL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a hierarchy has one central site"),
				errdetail("A central site is set up, not added."),
				errhint("Run cmblock.setup_site('%s', 'central') in the central site's own database.",
						cmblock_site_code_string(code)));
	cmblock_require_live_site(parent, &row);
	if (row.kind != wanted)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a %s site cannot be below the %s site %s", cmblock_enum_label(ENUM_SITE_KIND, kind),
					   cmblock_enum_label(ENUM_SITE_KIND, row.kind), cmblock_site_code_string(parent)),
				errdetail("Primary sites are below the central site, secondary sites below a primary site."));
	if (parent != here->code && here->kind != SITE_CENTRAL)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("site %s is not this site or below it", cmblock_site_code_string(parent)),
				errdetail("This is %s. A site adds only the sites below it.",
						  cmblock_site_code_string(here->code)),
				errhint("Add site %s at site %s.", cmblock_site_code_string(code),
						cmblock_site_code_string(parent)));
}

Datum
cmblock_add_site(PG_FUNCTION_ARGS)
{
	SiteCode code = PG_GETARG_SITE_CODE(0);
	SiteCode parent = PG_GETARG_SITE_CODE(2);
	SiteKind kind;
	const SiteIdentity *here;
	SiteRow known;
	bool is_known;

	cmblock_begin_command(fcinfo, 0);
	kind = cmblock_enum_value(ENUM_SITE_KIND, PG_GETARG_OID(1));
	lock_tree();
	here = cmblock_require_site();
	if (here->kind == SITE_SECONDARY)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("a secondary site has no sites below it"),
				errdetail("This is %s, a secondary site below %s.", cmblock_site_code_string(here->code),
						  cmblock_site_code_string(here->parent)),
				errhint("Secondary sites are added at a primary site, primary sites at the central site."));
	check_parent(here, code, kind, parent);

	is_known = cmblock_lookup_site(code, &known);
	if (is_known && !known.retired)
	{
		if (known.kind == kind && known.parent == parent)
		{
			ereport(NOTICE, errmsg("site %s is already there", cmblock_site_code_string(code)));
			PG_RETURN_VOID();
		}
		ereport(ERROR, errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("site code %s is taken", cmblock_site_code_string(code)),
				errdetail("It is a %s site%s%s.", cmblock_enum_label(ENUM_SITE_KIND, known.kind),
						  known.parent == NO_SITE ? "" : " below ",
						  known.parent == NO_SITE ? "" : cmblock_site_code_string(known.parent)),
				errhint("Choose another code."));
	}
	if (is_known && (known.kind != SITE_SECONDARY || kind != SITE_SECONDARY))
		ereport(ERROR, errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("site code %s was used before", cmblock_site_code_string(code)),
				errdetail("Codes of central and primary sites are never used again."),
				errhint("Choose another code."));

	SPI_connect();
	if (is_known)
	{
		known.parent = parent;
		revise(&known, false, here->code);
	}
	else
		write_site(code, kind, parent, 1, here->code);
	SPI_finish();
	PG_RETURN_VOID();
}

/* A site that is still needed cannot be retired. Inside SPI. */
static void
check_unused(SiteCode code)
{
	Datum value = SiteCodeGetDatum(code);
	bool isnull;
	Datum children;
	int64 clients;

	cmblock_execute(&live_children, &value, NULL);
	children = cmblock_result(1, &isnull);
	if (!isnull)
		ereport(ERROR, errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("site %s still has sites below it", cmblock_site_code_string(code)),
				errdetail("They are: %s.", TextDatumGetCString(children)), errhint("Retire those first."));
	cmblock_execute(&count_assigned, &value, NULL);
	clients = DatumGetInt64(cmblock_result(1, &isnull));
	if (clients > 0)
		ereport(ERROR, errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("site %s still has clients: " INT64_FORMAT, cmblock_site_code_string(code), clients),
				errhint("At site %s, give them to another site with cmblock.reassign_client, or delete them.",
						cmblock_site_code_string(code)));
}

Datum
cmblock_retire_site(PG_FUNCTION_ARGS)
{
	SiteCode code = PG_GETARG_SITE_CODE(0);
	const SiteIdentity *here;
	SiteRow row;

	cmblock_begin_command(fcinfo, 0);
	lock_tree();
	here = cmblock_require_site();
	if (!cmblock_lookup_site(code, &row))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("site %s is not in this hierarchy", cmblock_site_code_string(code)),
				errhint("Table cmblock.site has the sites of the hierarchy."));
	if (code == here->code || (here->kind != SITE_CENTRAL && row.parent != here->code))
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("site %s is not below this site", cmblock_site_code_string(code)),
			errdetail("This is %s. A site retires only the sites below it.",
					  cmblock_site_code_string(here->code)),
			row.parent != NO_SITE
				? errhint("Retire it at site %s.", cmblock_site_code_string(row.parent))
				: errhint("A site is retired at the site above it; the top of a hierarchy is not retired."));
	if (row.retired)
	{
		ereport(NOTICE, errmsg("site %s is retired already", cmblock_site_code_string(code)));
		PG_RETURN_VOID();
	}

	SPI_connect();
	check_unused(code);
	revise(&row, true, here->code);
	SPI_finish();
	PG_RETURN_VOID();
}
