/*
 * neighbour.c
 *		What a neighbour may send: the rules, and who a neighbour is.
 *
 * "Old" is the row as this site has it, "new" the one that was sent. Whose client a row is, is decided by what this
 * site knows, never by what the sender says.
 *
 * Clients and certificates
 *	 from a child	it wrote them itself (origin_site). The old row is assigned to it; if there is none, the new one is
 *					assigned to it, or comes with a hand-over: the child registered it and gave it to another primary
 *					site before it was ever sent. The new row is assigned to a primary site.
 *	 from the parent	the old row is not assigned to this site, which alone may change it, or was seized (seizure.c).
 *					The new row may be: that is a hand-over to this site. It was not written by this site: no
 *					neighbour knows our own rows better than we do.
 *	 versions		none that could not have come about, so that whoever owns the row next can still count on (version.h).
 *
 * Sites
 *	 from a child	secondary sites below that child, written by it. A code that is not retired does not move.
 *	 from the parent	all but what this site wrote. About this site it may say only that it is retired.
 *
 * A secondary site has authority over nothing: its calls are refused before they come here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/rel.h"

#include "catalog.h"
#include "neighbour.h"
#include "scan.h"
#include "types.h"
#include "version.h"

void
cmblock_find_neighbour(SiteCode code, Neighbour *neighbour)
{
	SiteRow row;

	neighbour->here = *cmblock_require_site();
	neighbour->code = code;
	neighbour->is_parent = code == neighbour->here.parent;
	neighbour->merged = false;
	if (code == neighbour->here.code)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("site %s is this site itself", cmblock_site_code_string(code)));
	if (neighbour->is_parent)
		return;
	if (!cmblock_lookup_site(code, &row))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("site %s is not in this hierarchy", cmblock_site_code_string(code)),
				errhint("Add it first: SELECT cmblock.add_site('%s', ...).", cmblock_site_code_string(code)));
	if (row.parent != neighbour->here.code)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("site %s is not a neighbour of site %s", cmblock_site_code_string(code),
					   cmblock_site_code_string(neighbour->here.code)),
				errdetail("Links join a site with its parent and with the sites directly below it."));
	if (row.retired)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("site %s is retired", cmblock_site_code_string(code)));
}

/* ---------- the columns that the rules ask for ---------- */

typedef struct Columns
{
	Oid relation;
	int natts;
	int code; /* site only, as are kind, parent and retired_at */
	int kind;
	int parent;
	int retired_at;
	int assigned_site; /* client and certificate only */
	int version;
	int origin_site;
} Columns;

/* Column numbers by name, kept until the table gets another shape. */
static const Columns *
columns_of(Relation relation)
{
	static Columns known[3];
	Oid relid = RelationGetRelid(relation);
	TupleDesc desc = RelationGetDescr(relation);
	bool is_site = relid == cmblock_relation(REL_SITE);
	Columns *c = &known[is_site ? 0 : relid == cmblock_relation(REL_CLIENT) ? 1 : 2];

	if (c->relation == relid && c->natts == desc->natts)
		return c;
	memset(c, 0, sizeof(*c));
	if (is_site)
	{
		c->code = cmblock_column_number(desc, "code");
		c->kind = cmblock_column_number(desc, "kind");
		c->parent = cmblock_column_number(desc, "parent");
		c->retired_at = cmblock_column_number(desc, "retired_at");
	}
	else
		c->assigned_site = cmblock_column_number(desc, "assigned_site");
	c->version = cmblock_column_number(desc, "version");
	c->origin_site = cmblock_column_number(desc, "origin_site");
	c->natts = desc->natts;
	c->relation = relid;
	return c;
}

static SiteCode
site_column(Relation relation, HeapTuple row, int number)
{
	bool isnull;
	Datum value = heap_getattr(row, number, RelationGetDescr(relation), &isnull);

	return isnull ? NO_SITE : DatumGetSiteCode(value);
}

static SiteKind
kind_column(Relation relation, HeapTuple row, int number)
{
	bool isnull;

	return cmblock_enum_value(
		ENUM_SITE_KIND, DatumGetObjectId(heap_getattr(row, number, RelationGetDescr(relation), &isnull)));
}

static const char *
name_of(SiteCode code)
{
	return code == NO_SITE ? "none" : cmblock_site_code_string(code);
}

static char *
describe(Relation relation, HeapTuple row)
{
	TupleDesc desc = RelationGetDescr(relation);
	bool isnull;
	Datum key;

	if (RelationGetRelid(relation) == cmblock_relation(REL_SITE))
		return psprintf("site %s", name_of(site_column(relation, row, columns_of(relation)->code)));
	if (RelationGetRelid(relation) == cmblock_relation(REL_CLIENT))
	{
		key = heap_getattr(row, cmblock_column_number(desc, "smsid"), desc, &isnull);
		return psprintf("client %s", cmblock_smsid_string(DatumGetSmsidP(key)));
	}
	else
	{
		struct varlena *thumbprint;

		key = heap_getattr(row, cmblock_column_number(desc, "sha256"), desc, &isnull);
		thumbprint = PG_DETOAST_DATUM_PACKED(key);
		return psprintf("certificate %s", cmblock_hex_string((unsigned char *) VARDATA_ANY(thumbprint),
															 VARSIZE_ANY_EXHDR(thumbprint)));
	}
}

static void
refuse(const Neighbour *neighbour, Relation relation, HeapTuple row, const char *rule)
{
	ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("site %s has no authority over %s", cmblock_site_code_string(neighbour->code),
				   describe(relation, row)),
			errdetail("%s Nothing of the batch was taken in.", rule));
}

/* ---------- what reconcile.c and seizure.c ask as well ---------- */

SiteCode
cmblock_row_site(Relation relation, HeapTuple row, const char *column)
{
	return site_column(relation, row, cmblock_column_number(RelationGetDescr(relation), column));
}

void
cmblock_check_version(const Neighbour *neighbour, Relation relation, HeapTuple new_row)
{
	bool is_site = RelationGetRelid(relation) == cmblock_relation(REL_SITE);
	bool isnull;
	int64 version = DatumGetInt64(
		heap_getattr(new_row, columns_of(relation)->version, RelationGetDescr(relation), &isnull));

	if (version < (is_site ? 0 : 1) || version > cmblock_highest_version(!is_site, neighbour->is_parent))
		refuse(neighbour, relation, new_row,
			   psprintf("Its version " INT64_FORMAT " cannot have come about.", version));
}

bool
cmblock_is_primary(SiteCode code)
{
	SiteRow site;

	return cmblock_lookup_site(code, &site) && site.kind == SITE_PRIMARY;
}

/* ---------- clients and certificates ---------- */

static void
check_row_of_child(const Neighbour *neighbour, Relation relation, HeapTuple old_row, HeapTuple new_row)
{
	const Columns *c = columns_of(relation);
	SiteCode origin = site_column(relation, new_row, c->origin_site);
	SiteCode assigned = site_column(relation, new_row, c->assigned_site);

	if (origin != neighbour->code)
		refuse(neighbour, relation, new_row, psprintf("It was written by site %s.", name_of(origin)));
	if (old_row)
	{
		SiteCode owner = site_column(relation, old_row, c->assigned_site);

		if (owner != neighbour->code)
			refuse(neighbour, relation, new_row,
				   psprintf("By what site %s knows it is assigned to site %s.", name_of(neighbour->here.code),
							name_of(owner)));
	}
	if (assigned != neighbour->code)
	{
		bool isnull;
		Datum version = heap_getattr(new_row, c->version, RelationGetDescr(relation), &isnull);

		if (!old_row && DatumGetInt64(version) < 2)
			refuse(neighbour, relation, new_row, psprintf("It is assigned to site %s.", name_of(assigned)));
		if (!cmblock_is_primary(assigned))
			refuse(neighbour, relation, new_row,
				   psprintf("It is assigned to site %s, which is not a primary site of this hierarchy.",
							name_of(assigned)));
	}
}

static int64
version_column(Relation relation, HeapTuple row, int number)
{
	bool isnull;

	return DatumGetInt64(heap_getattr(row, number, RelationGetDescr(relation), &isnull));
}

/* Did the central site give this row to another primary site? */
static bool
is_seizure(Relation relation, const Columns *c, HeapTuple old_row, HeapTuple new_row)
{
	return cmblock_versions_seized(version_column(relation, old_row, c->version),
								   version_column(relation, new_row, c->version)) &&
		   cmblock_is_primary(site_column(relation, new_row, c->assigned_site));
}

static void
check_row_of_parent(const Neighbour *neighbour, Relation relation, HeapTuple old_row, HeapTuple new_row)
{
	const Columns *c = columns_of(relation);
	SiteCode here = neighbour->here.code;

	if (old_row && site_column(relation, old_row, c->assigned_site) == here &&
		!is_seizure(relation, c, old_row, new_row))
		refuse(neighbour, relation, new_row,
			   psprintf("It is assigned to site %s, which alone may change it.", name_of(here)));
	if (site_column(relation, new_row, c->origin_site) == here)
		refuse(neighbour, relation, new_row,
			   psprintf("It claims to have been written by site %s, which does not have it.", name_of(here)));
	if (site_column(relation, new_row, c->assigned_site) == here && neighbour->here.kind != SITE_PRIMARY)
		refuse(neighbour, relation, new_row,
			   psprintf("It is assigned to site %s, which is not a primary site.", name_of(here)));
}

/* ---------- sites ---------- */

static void
check_site_of_child(const Neighbour *neighbour, Relation relation, HeapTuple old_row, HeapTuple new_row)
{
	const Columns *c = columns_of(relation);
	SiteCode origin = site_column(relation, new_row, c->origin_site);
	bool is_live_or_other;
	SiteCode old_parent;

	if (origin != neighbour->code)
		refuse(neighbour, relation, new_row, psprintf("It was written by site %s.", name_of(origin)));
	if (kind_column(relation, new_row, c->kind) != SITE_SECONDARY ||
		site_column(relation, new_row, c->parent) != neighbour->code)
		refuse(neighbour, relation, new_row, "It is not a secondary site below it.");
	if (!old_row)
		return;
	old_parent = site_column(relation, old_row, c->parent);
	is_live_or_other = heap_attisnull(old_row, c->retired_at, RelationGetDescr(relation)) ||
					   kind_column(relation, old_row, c->kind) != SITE_SECONDARY;
	if (old_parent != neighbour->code && is_live_or_other)
		refuse(neighbour, relation, new_row,
			   psprintf("By what site %s knows this code belongs below site %s.",
						name_of(neighbour->here.code), name_of(old_parent)));
}

static void
check_site_of_parent(const Neighbour *neighbour, Relation relation, HeapTuple new_row)
{
	const Columns *c = columns_of(relation);
	const SiteIdentity *here = &neighbour->here;

	if (site_column(relation, new_row, c->origin_site) == here->code)
		refuse(neighbour, relation, new_row,
			   psprintf("It claims to have been written by site %s, which does not have it.",
						name_of(here->code)));
	if (site_column(relation, new_row, c->code) == here->code &&
		(kind_column(relation, new_row, c->kind) != here->kind ||
		 site_column(relation, new_row, c->parent) != here->parent))
		refuse(neighbour, relation, new_row, "It contradicts what this site was set up as.");
}

void
cmblock_check_authority(Relation relation, HeapTuple old_row, HeapTuple new_row, void *arg)
{
	const Neighbour *neighbour = arg;
	bool is_site = RelationGetRelid(relation) == cmblock_relation(REL_SITE);

	cmblock_check_version(neighbour, relation, new_row);
	if (neighbour->merged)
		return;
	if (is_site && neighbour->is_parent)
		check_site_of_parent(neighbour, relation, new_row);
	else if (is_site)
		check_site_of_child(neighbour, relation, old_row, new_row);
	else if (neighbour->is_parent)
		check_row_of_parent(neighbour, relation, old_row, new_row);
	else
		check_row_of_child(neighbour, relation, old_row, new_row);
}
