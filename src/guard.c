/*
 * guard.c
 *		The guard: only the assigned primary site changes a client or a certificate.
 *
 * Four trigger functions. guard_row stands before every row of client and certificate: it checks who may write,
 * then stamps version, origin, transaction, actor and time, whatever the statement said about them.
 * guard_command_table stands before the tables that only cmblock's own commands write. guard_truncate refuses
 * TRUNCATE. guard_assigned_site is for tables of the users' own.
 *
 * They are row triggers in C because nothing else sees every way to a row: UPDATE, ON CONFLICT, MERGE, COPY, a view.
 * Who is writing is a variable of this process (writer.c), which only C code around its own statements sets. The
 * triggers are ENABLE ALWAYS, so session_replication_role does not switch them off. The table's owner and superusers
 * can disable a trigger; docs/security.md says so.
 *
 * Locking: PostgreSQL has locked the old row before a BEFORE UPDATE trigger runs, so the version is counted from the
 * row as it is now, and two administrators cannot both write the same version.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "decision_cache.h"
#include "guard.h"
#include "incarnation.h"
#include "scan.h"
#include "settings.h"
#include "site.h"
#include "version.h"
#include "wake.h"
#include "writer.h"

PG_FUNCTION_INFO_V1(cmblock_guard_row);
PG_FUNCTION_INFO_V1(cmblock_guard_command_table);
PG_FUNCTION_INFO_V1(cmblock_guard_truncate);
PG_FUNCTION_INFO_V1(cmblock_guard_assigned_site);

static bool
written_by(WriterKind kind)
{
	return cmblock_current_writer()->kind == kind;
}

/* May the neighbour whose changes these are write this row? */
static void
check_authority(TriggerData *trigger, HeapTuple new_row)
{
	const Writer *writer = cmblock_current_writer();

	writer->check(trigger->tg_relation,
				  TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_trigtuple : NULL, new_row,
				  writer->check_arg);
}

/*
 * A superuser who restores a dump: see cmblock.restore. The commands are SECURITY DEFINER, so inside them superuser()
 * speaks of the extension's owner, whoever calls: what they write is never taken for a restore.
 */
static bool
restoring(void)
{
	return cmblock_restore && written_by(WRITER_USER) && superuser();
}

/* ---------- who may write ---------- */

static const char *
describe_here(const SiteIdentity *here)
{
	if (here->parent == NO_SITE)
		return psprintf("%s, a %s site", cmblock_site_code_string(here->code),
						cmblock_enum_label(ENUM_SITE_KIND, here->kind));
	return psprintf("%s, a %s site below %s", cmblock_site_code_string(here->code),
					cmblock_enum_label(ENUM_SITE_KIND, here->kind), cmblock_site_code_string(here->parent));
}

void
cmblock_require_assigned_here(SiteCode assigned, const char *what)
{
	const SiteIdentity *here = cmblock_require_site();

	if (here->kind == SITE_PRIMARY && here->code == assigned)
	{
		cmblock_require_not_restored();
		return;
	}
	if (assigned == here->code || assigned == NO_SITE)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("%s cannot be assigned to this site", what),
				errdetail("This is %s. Only primary sites have clients and certificates of their own.",
						  describe_here(here)),
				errhint("Run the command at a primary site."));
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("%s is assigned to site %s, and only that site can change it", what,
				   cmblock_site_code_string(assigned)),
			errdetail("This is %s.", describe_here(here)),
			errhint("Run the command at site %s.", cmblock_site_code_string(assigned)));
}

/* For a new row: in a database that is not set up, it may well come from a dump. */
static const SiteIdentity *
require_site_or_restore(void)
{
	const SiteIdentity *here = cmblock_this_site();

	if (!here)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("this database is not a site yet"), errdetail("Table cmblock.this_site is empty."),
				errhint("Say who it is with cmblock.setup_site. To restore a dump, a superuser sets "
						"cmblock.restore = on for that session."));
	return here;
}

void
cmblock_refuse_isv_proxied(const char *what)
{
	ereport(
		ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		errmsg("%s reaches the site through an ISV proxy and cannot be blocked", what),
		errdetail("Its requests come under the proxy's certificate, so a block of the client would change "
				  "nothing."),
		errhint("Block the ISV proxy's certificate with cmblock.block_certificate; it says how many clients "
				"that cuts off."));
}

/* ---------- trigger protocol ---------- */

static TriggerData *
require_row_trigger(FunctionCallInfo fcinfo, const char *function)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.%s() can only be called as a trigger", function));
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.%s() must be fired BEFORE, FOR EACH ROW", function));
	return trigger;
}

/* What a BEFORE trigger returns to let the row go on as it is. */
static HeapTuple
row_unchanged(TriggerData *trigger)
{
	return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
}

/* ---------- the rows of client and certificate ---------- */

typedef struct GuardedColumns
{
	Oid relation; /* of which table these are */
	int natts;
	bool is_client;
	int id; /* smsid or sha256 */
	int assigned_site;
	int isv_proxied; /* client only */
	int hardware_id; /* client only */
	int registered_at;
	int deleted_at;
	int revoked_at; /* certificate only */
	int blocked;
	int block_reason;
	int block_ticket;
	int block_changed_by;
	int block_changed_at;
	int block_received_at; /* client only */
	int version;
	int origin_site;
	int change_xid;
	int changed_by;
	int changed_at;
} GuardedColumns;

/* Column numbers by name, kept until the table gets another shape. */
static const GuardedColumns *
guarded_columns(Relation relation)
{
	static GuardedColumns known[2];
	bool is_client = RelationGetRelid(relation) == cmblock_relation(REL_CLIENT);
	GuardedColumns *c = &known[is_client];
	TupleDesc desc = RelationGetDescr(relation);

	if (c->relation == RelationGetRelid(relation) && c->natts == desc->natts)
		return c;
	if (!is_client && RelationGetRelid(relation) != cmblock_relation(REL_CERTIFICATE))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.guard_row() is for the tables of cmblock only"),
				errhint("For a table of your own use cmblock.guard_assigned_site('column')."));
	c->relation = InvalidOid;
	c->is_client = is_client;
	c->id = cmblock_column_number(desc, is_client ? "smsid" : "sha256");
	c->assigned_site = cmblock_column_number(desc, "assigned_site");
	c->isv_proxied = is_client ? cmblock_column_number(desc, "isv_proxied") : 0;
	c->hardware_id = is_client ? cmblock_column_number(desc, "hardware_id") : 0;
	c->registered_at = cmblock_column_number(desc, "registered_at");
	c->deleted_at = cmblock_column_number(desc, "deleted_at");
	c->revoked_at = is_client ? 0 : cmblock_column_number(desc, "revoked_at");
	c->blocked = cmblock_column_number(desc, "blocked");
	c->block_reason = cmblock_column_number(desc, "block_reason");
	c->block_ticket = cmblock_column_number(desc, "block_ticket");
	c->block_changed_by = cmblock_column_number(desc, "block_changed_by");
	c->block_changed_at = cmblock_column_number(desc, "block_changed_at");
	c->block_received_at = is_client ? cmblock_column_number(desc, "block_received_at") : 0;
	c->version = cmblock_column_number(desc, "version");
	c->origin_site = cmblock_column_number(desc, "origin_site");
	c->change_xid = cmblock_column_number(desc, "change_xid");
	c->changed_by = cmblock_column_number(desc, "changed_by");
	c->changed_at = cmblock_column_number(desc, "changed_at");
	c->natts = desc->natts;
	c->relation = RelationGetRelid(relation);
	return c;
}

/* A row taken apart: all columns, to be changed in place and put together again. */
typedef struct Row
{
	Datum *value;
	bool *null;
} Row;

#define VALUE(row, column) ((row)->value[(column) -1])
#define IS_NULL(row, column) ((row)->null[(column) -1])

static Row
take_apart(HeapTuple tuple, TupleDesc desc)
{
	Row row = {palloc(desc->natts * sizeof(Datum)), palloc(desc->natts * sizeof(bool))};

	heap_deform_tuple(tuple, desc, row.value, row.null);
	return row;
}

static void
set(Row *row, int column, Datum value)
{
	VALUE(row, column) = value;
	IS_NULL(row, column) = false;
}

static void
set_null(Row *row, int column)
{
	VALUE(row, column) = (Datum) 0;
	IS_NULL(row, column) = true;
}

static void
copy(Row *to, const Row *from, int column)
{
	VALUE(to, column) = VALUE(from, column);
	IS_NULL(to, column) = IS_NULL(from, column);
}

static bool
same(TupleDesc desc, const Row *a, const Row *b, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);

	if (IS_NULL(a, column) || IS_NULL(b, column))
		return IS_NULL(a, column) == IS_NULL(b, column);
	return datum_image_eq(VALUE(a, column), VALUE(b, column), attribute->attbyval, attribute->attlen);
}

static const char *
describe_row(const GuardedColumns *c, const Row *row)
{
	/* NOT NULL is checked after BEFORE triggers, so a new row may have no id yet. */
	if (IS_NULL(row, c->id))
		return c->is_client ? "a client without an smsid" : "a certificate without a thumbprint";
	if (c->is_client)
		return psprintf("client %s", cmblock_smsid_string(DatumGetSmsidP(VALUE(row, c->id))));
	else
	{
		struct varlena *thumbprint =
			pg_detoast_datum_packed((struct varlena *) DatumGetPointer(VALUE(row, c->id)));

		return psprintf("certificate %s", cmblock_hex_string((unsigned char *) VARDATA_ANY(thumbprint),
															 VARSIZE_ANY_EXHDR(thumbprint)));
	}
}

static SiteCode
site_of(const GuardedColumns *c, const Row *row)
{
	return IS_NULL(row, c->assigned_site) ? NO_SITE : DatumGetSiteCode(VALUE(row, c->assigned_site));
}

static bool
is_true(const Row *row, int column)
{
	return !IS_NULL(row, column) && DatumGetBool(VALUE(row, column));
}

static Datum
actor(void)
{
	return CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
}

static void
stamp(const GuardedColumns *c, Row *row, int64 version, SiteCode origin)
{
	set(row, c->version, Int64GetDatum(version));
	set(row, c->origin_site, SiteCodeGetDatum(origin));
	set(row, c->change_xid, FullTransactionIdGetDatum(GetTopFullTransactionId()));
	set(row, c->changed_by, actor());
	set(row, c->changed_at, TimestampTzGetDatum(GetCurrentStatementStartTimestamp()));
}

static void
check_insert(const GuardedColumns *c, const Row *new)
{
	const SiteIdentity *here = require_site_or_restore();

	/* A row without a site is refused by the column's NOT NULL, but not before this site may insert at all. */
	cmblock_require_assigned_here(IS_NULL(new, c->assigned_site) ? here->code : site_of(c, new),
								  describe_row(c, new));
	if (is_true(new, c->blocked))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("%s cannot be inserted blocked", describe_row(c, new)),
				errdetail("A block is a change of its own, with an actor and an entry in the history."),
				errhint("Register it first, then block it."));
}

static void
stamp_insert(const GuardedColumns *c, Row *new)
{
	set(new, c->registered_at, TimestampTzGetDatum(GetCurrentStatementStartTimestamp()));
	set_null(new, c->deleted_at);
	if (!c->is_client)
		set_null(new, c->revoked_at);
	set(new, c->blocked, BoolGetDatum(false));
	set_null(new, c->block_reason);
	set_null(new, c->block_ticket);
	set_null(new, c->block_changed_by);
	set_null(new, c->block_changed_at);
	if (c->is_client)
		set_null(new, c->block_received_at);
	stamp(c, new, 1, cmblock_this_site()->code);
}

static void
check_update(const GuardedColumns *c, TupleDesc desc, const Row *old, const Row *new)
{
	if (!written_by(WRITER_SEIZURE))
		cmblock_require_assigned_here(site_of(c, old), describe_row(c, old));
	if (!same(desc, old, new, c->id))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("the identity of %s cannot be changed", describe_row(c, old)),
				errhint("Delete it and register the other one."));
	if (site_of(c, new) != site_of(c, old) && !written_by(WRITER_HANDOVER) && !written_by(WRITER_SEIZURE))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("the assigned site of %s cannot be changed by a statement", describe_row(c, old)),
				errdetail("A hand-over has to reach every site together with the block."),
				errhint("Use cmblock.reassign_client."));
	if (c->is_client && is_true(old, c->blocked) && is_true(new, c->blocked) && is_true(new, c->isv_proxied))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("%s is blocked and cannot become ISV-proxied", describe_row(c, old)),
				errdetail("The block would no longer have an effect."), errhint("Unblock it first."));
	if (c->is_client && is_true(new, c->blocked) && is_true(new, c->isv_proxied))
		cmblock_refuse_isv_proxied(describe_row(c, old));
	if (!c->is_client)
		for (int column = 1; column <= desc->natts; column++)
			if (column < c->registered_at && column != c->assigned_site && !same(desc, old, new, column))
				ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("column \"%s\" of %s cannot be changed",
							   NameStr(TupleDescAttr(desc, column - 1)->attname), describe_row(c, old)),
						errdetail("What a certificate says was read from its bytes."));
}

/*
 * Makes the new row what it must be, and says whether anything is left that changes. Blocking what is blocked
 * changes nothing: not the actor, not the time, not the version.
 */
static bool
stamp_update(const GuardedColumns *c, TupleDesc desc, const Row *old, Row *new)
{
	Datum now = TimestampTzGetDatum(GetCurrentStatementStartTimestamp());
	bool changes = false;

	copy(new, old, c->registered_at);
	if (!IS_NULL(new, c->deleted_at))
	{
		if (IS_NULL(old, c->deleted_at))
			set(new, c->deleted_at, now);
		else
			copy(new, old, c->deleted_at);
	}
	else if (!IS_NULL(old, c->deleted_at))
		set(new, c->registered_at, now);
	/* What was revoked stays revoked. */
	if (!c->is_client && !IS_NULL(old, c->revoked_at))
		copy(new, old, c->revoked_at);
	else if (!c->is_client && !IS_NULL(new, c->revoked_at))
		set(new, c->revoked_at, now);

	if (is_true(new, c->blocked) == is_true(old, c->blocked))
	{
		copy(new, old, c->block_reason);
		copy(new, old, c->block_ticket);
		copy(new, old, c->block_changed_by);
		copy(new, old, c->block_changed_at);
	}
	else
	{
		/* A statement that gives no reason leaves the one before, which was another change's. */
		if (written_by(WRITER_USER) && same(desc, old, new, c->block_reason) &&
			same(desc, old, new, c->block_ticket))
		{
			set_null(new, c->block_reason);
			set_null(new, c->block_ticket);
		}
		set(new, c->block_changed_by, actor());
		set(new, c->block_changed_at, now);
	}
	if (c->is_client && is_true(new, c->blocked) != is_true(old, c->blocked))
		set_null(new, c->block_received_at);
	else if (c->is_client)
		copy(new, old, c->block_received_at);

	copy(new, old, c->version);
	copy(new, old, c->origin_site);
	copy(new, old, c->change_xid);
	copy(new, old, c->changed_by);
	copy(new, old, c->changed_at);
	for (int column = 1; column <= desc->natts && !changes; column++)
		changes = !same(desc, old, new, column);
	if (changes)
	{
		int64 version = DatumGetInt64(VALUE(old, c->version));

		stamp(c, new, written_by(WRITER_SEIZURE) ? cmblock_seizure_version(version) : version + 1,
			  cmblock_this_site()->code);
	}
	return changes;
}

/* A neighbour's row: its own check decides, and only the transaction is ours. */
static HeapTuple
guard_applied_row(TriggerData *trigger, const GuardedColumns *c, TupleDesc desc)
{
	HeapTuple new_row = row_unchanged(trigger);
	Datum xid = FullTransactionIdGetDatum(GetTopFullTransactionId());
	bool null = false;

	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		elog(ERROR, "replication deletes no rows");
	check_authority(trigger, new_row);
	return heap_modify_tuple_by_cols(new_row, desc, 1, unconstify(int *, &c->change_xid), &xid, &null);
}

/* ---------- the cache of decisions ---------- */

static void
touch_row(const GuardedColumns *c, TupleDesc desc, HeapTuple row)
{
	bool isnull;
	Datum id = heap_getattr(row, c->id, desc, &isnull);

	if (isnull)
		return;
	if (c->is_client)
		cmblock_cache_touch_client(DatumGetSmsidP(id));
	else
	{
		struct varlena *thumbprint = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(id));

		/* Another size is refused by a check of the table. */
		if (VARSIZE_ANY_EXHDR(thumbprint) == SHA256_OCTETS)
			cmblock_cache_touch_certificate((const unsigned char *) VARDATA_ANY(thumbprint));
	}
}

static void
add_blocked_hardware(const GuardedColumns *c, TupleDesc desc, HeapTuple row)
{
	bool isnull;
	Datum hardware_id;

	if (!c->is_client || !DatumGetBool(heap_getattr(row, c->blocked, desc, &isnull)) || isnull)
		return;
	hardware_id = heap_getattr(row, c->hardware_id, desc, &isnull);
	if (!isnull)
		cmblock_cache_add_blocked_hardware(cmblock_cache_hardware(DatumGetTextPP(hardware_id)));
}

/*
 * From here to the end of the transaction no session uses the cache for the rows: that they were, and that they become. Of
 * all that the guard does this comes first and always, also for what is restored or replicated.
 */
static void
tell_cache(TriggerData *trigger, const GuardedColumns *c, TupleDesc desc)
{
	HeapTuple new_row = row_unchanged(trigger);

	if (!cmblock_cache_exists())
		return;
	touch_row(c, desc, trigger->tg_trigtuple);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		touch_row(c, desc, new_row);
	if (!TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		add_blocked_hardware(c, desc, new_row);
}

/* ---------- the guard ---------- */

Datum
cmblock_guard_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = require_row_trigger(fcinfo, "guard_row");
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	const GuardedColumns *c = guarded_columns(trigger->tg_relation);
	Row old;
	Row new;

	tell_cache(trigger, c, desc);
	if (restoring())
		return PointerGetDatum(row_unchanged(trigger));
	cmblock_wake_at_commit();
	if (written_by(WRITER_APPLY))
		return PointerGetDatum(guard_applied_row(trigger, c, desc));

	old = take_apart(trigger->tg_trigtuple, desc);
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
	{
		cmblock_require_assigned_here(site_of(c, &old), describe_row(c, &old));
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("%s cannot be deleted by a statement", describe_row(c, &old)),
				errdetail("Its row has to stay, so that a block outlives the deletion."),
				errhint("Use cmblock.delete_client."));
	}
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		check_insert(c, &old);
		stamp_insert(c, &old);
		return PointerGetDatum(heap_form_tuple(desc, old.value, old.null));
	}
	new = take_apart(trigger->tg_newtuple, desc);
	check_update(c, desc, &old, &new);
	if (!stamp_update(c, desc, &old, &new))
		PG_RETURN_POINTER(NULL);
	return PointerGetDatum(heap_form_tuple(desc, new.value, new.null));
}

/* ---------- tables that only commands write ---------- */

Datum
cmblock_guard_command_table(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = require_row_trigger(fcinfo, "guard_command_table");

	if (restoring())
		return PointerGetDatum(row_unchanged(trigger));
	if (written_by(WRITER_USER))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("table cmblock.%s is written by cmblock's own commands only",
					   RelationGetRelationName(trigger->tg_relation)),
				errhint("To restore a dump, a superuser sets cmblock.restore = on for that session."));
	if (RelationGetRelid(trigger->tg_relation) == cmblock_relation(REL_SITE))
	{
		cmblock_wake_at_commit();
		if (written_by(WRITER_APPLY))
			check_authority(trigger, row_unchanged(trigger));
	}
	return PointerGetDatum(row_unchanged(trigger));
}

Datum
cmblock_guard_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.guard_truncate() can only be fired by TRUNCATE"));
	if (restoring())
		PG_RETURN_POINTER(NULL);
	ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("table \"%s\" cannot be truncated", RelationGetRelationName(trigger->tg_relation)),
			errdetail(
				"Blocks, sites or their history would be gone without a trace, and the other sites would not "
				"learn it."));
}

/* ---------- tables of the users' own ---------- */

static int
argument_column(TriggerData *trigger)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	const char *name;
	int column;

	if (trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.guard_assigned_site() needs one argument: the name of the column with the "
					   "assigned site"));
	name = trigger->tg_trigger->tgargs[0];
	column = SPI_fnumber(desc, name);
	if (column <= 0)
		ereport(
			ERROR, errcode(ERRCODE_UNDEFINED_COLUMN),
			errmsg("column \"%s\" of table \"%s\" does not exist", name,
				   RelationGetRelationName(trigger->tg_relation)),
			errhint(
				"The argument of cmblock.guard_assigned_site() names the column with the assigned site."));
	if (TupleDescAttr(desc, column - 1)->atttypid != cmblock_type("site_code"))
		ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("column \"%s\" of table \"%s\" is not of type cmblock.site_code", name,
					   RelationGetRelationName(trigger->tg_relation)),
				errhint("ALTER TABLE ... ALTER COLUMN %s TYPE cmblock.site_code.", name));
	return column;
}

static void
require_row_here(TriggerData *trigger, HeapTuple row, int column)
{
	bool isnull;
	Datum value = heap_getattr(row, column, RelationGetDescr(trigger->tg_relation), &isnull);

	(void) require_site_or_restore();
	if (isnull)
		ereport(ERROR, errcode(ERRCODE_NOT_NULL_VIOLATION),
				errmsg("column \"%s\" of a guarded row cannot be null",
					   NameStr(TupleDescAttr(RelationGetDescr(trigger->tg_relation), column - 1)->attname)),
				errdetail("It names the site that may change the row."));
	cmblock_require_assigned_here(
		DatumGetSiteCode(value),
		psprintf("the row of table \"%s\"", RelationGetRelationName(trigger->tg_relation)));
}

Datum
cmblock_guard_assigned_site(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = require_row_trigger(fcinfo, "guard_assigned_site");
	int column = argument_column(trigger);

	if (restoring())
		return PointerGetDatum(row_unchanged(trigger));
	require_row_here(trigger, trigger->tg_trigtuple, column);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		require_row_here(trigger, trigger->tg_newtuple, column);
	return PointerGetDatum(row_unchanged(trigger));
}
