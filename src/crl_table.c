/*
 * crl_table.c
 *		The CRLs that are current, as the table crl has them, in a form in which they can be asked quickly.
 *
 * A session reads the rows once, without their DER, groups them into series and finds out for each series which delta
 * applies to its base. It keeps that until the tables change: a statement trigger on them sends a relcache
 * invalidation, which PostgreSQL delivers after the change is visible, and again when a transaction or savepoint
 * that made it is rolled back. So what is kept here never outlives the rows it was read from.
 *
 * Everything lies in one memory context, OpenSSL's objects hang on it by a callback, and a new set is complete before
 * the old one goes: an error on the way changes nothing.
 */
#include "postgres.h"

#include <openssl/err.h>

#include "access/table.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "crl_table.h"
#include "scan.h"
#include "wake.h"
#include "x509.h"

PG_FUNCTION_INFO_V1(cmblock_crl_changed);

static CrlSet current;
static bool current_valid = false;
static uint64 current_generation = 0;
static Oid crl_relation = InvalidOid;
static Oid scope_relation = InvalidOid;
static uint64 invalidations = 0;
static MemoryContext set_context = NULL;

/* ---------- invalidation ---------- */

Datum
cmblock_crl_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.crl_changed() can only be called as a trigger"));
	CacheInvalidateRelcache(trigger->tg_relation);
	/* A CRL may say where its deltas are. */
	cmblock_wake_refresher_at_commit();
	PG_RETURN_POINTER(NULL);
}

static void
forget_set(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == crl_relation || relid == scope_relation)
		invalidations++;
}

/* ---------- OpenSSL's objects, owned by the memory context ---------- */

typedef struct OwnedSeries
{
	MemoryContextCallback callback;
	X509_NAME *issuer;
	ISSUING_DIST_POINT *idp;
} OwnedSeries;

static void
free_owned_series(void *arg)
{
	OwnedSeries *owned = arg;

	X509_NAME_free(owned->issuer);
	ISSUING_DIST_POINT_free(owned->idp);
}

/*
 * What OpenSSL makes of issuer and issuing distribution point. False when it can make nothing of them: such a CRL speaks
 * of nobody. The reader has checked both, so that takes a row that was written by hand.
 */
static bool
parse_names(CrlSeries *series, const bytea *issuer, const bytea *idp)
{
	OwnedSeries *owned = palloc0(sizeof(OwnedSeries));
	const unsigned char *in;

	owned->callback.func = free_owned_series;
	owned->callback.arg = owned;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &owned->callback);

	ERR_clear_error();
	in = (const unsigned char *) VARDATA_ANY(issuer);
	series->issuer = owned->issuer = d2i_X509_NAME(NULL, &in, VARSIZE_ANY_EXHDR(issuer));
	if (idp)
	{
		in = (const unsigned char *) VARDATA_ANY(idp);
		series->idp = owned->idp = d2i_ISSUING_DIST_POINT(NULL, &in, VARSIZE_ANY_EXHDR(idp));
	}
	/* A name that is relative to the CRL's issuer is made whole once, here (rule 28). */
	if (series->issuer && series->idp && series->idp->distpoint &&
		!DIST_POINT_set_dpname(series->idp->distpoint, series->issuer))
		series->issuer = NULL;
	ERR_clear_error();
	return series->issuer != NULL && (idp == NULL || series->idp != NULL);
}

/* Bits as ReasonFlags numbers them: 1 (keyCompromise) to 8 (aACompromise). */
static uint16
reason_bits(const ASN1_BIT_STRING *flags)
{
	uint16 bits = 0;

	if (flags == NULL)
		return CRL_ALL_REASONS;
	for (int i = 1; i <= 8; i++)
		if (ASN1_BIT_STRING_get_bit(flags, i))
			bits |= 1 << i;
	return bits;
}

/* ---------- reading rows ---------- */

typedef struct RowReader
{
	TupleTableSlot *slot;
	TupleDesc desc;
	bool isnull;
} RowReader;

static Datum
column(RowReader *row, const char *name)
{
	return cmblock_slot_column(row->slot, row->desc, name, &row->isnull);
}

static void
read_digest(RowReader *row, const char *name, unsigned char *digest)
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(column(row, name));

	if (VARSIZE_ANY_EXHDR(value) != SHA256_OCTETS)
		elog(ERROR, "unexpected size of column \"%s\"", name);
	memcpy(digest, VARDATA_ANY(value), SHA256_OCTETS);
}

static Numeric
read_numeric(RowReader *row, const char *name)
{
	Datum value = column(row, name);

	return row->isnull ? NULL : DatumGetNumericCopy(value);
}

static char *
read_text(RowReader *row, const char *name)
{
	Datum value = column(row, name);

	return row->isnull ? NULL : TextDatumGetCString(value);
}

static bytea *
read_bytea(RowReader *row, const char *name)
{
	Datum value = column(row, name);

	return row->isnull ? NULL : DatumGetByteaPP(value);
}

static HeldCrl *
read_crl(RowReader *row)
{
	HeldCrl *crl = palloc0(sizeof(HeldCrl));

	read_digest(row, "sha256", crl->sha256);
	read_digest(row, "signer", crl->signer);
	crl->is_delta = DatumGetBool(column(row, "is_delta"));
	crl->number = read_numeric(row, "number");
	crl->base_number = read_numeric(row, "base_number");
	crl->this_update = DatumGetTimestampTz(column(row, "this_update"));
	crl->next_update = DatumGetTimestampTz(column(row, "next_update"));
	crl->has_next_update = !row->isnull;
	crl->unknown_critical_entry = DatumGetBool(column(row, "unknown_critical_entry"));
	crl->names_freshest = ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(column(row, "freshest"))),
										 ARR_DIMS(DatumGetArrayTypeP(column(row, "freshest")))) > 0;
	(void) column(row, "ca_version");
	crl->ca_version = !row->isnull;
	crl->source = read_text(row, "source");
	return crl;
}

typedef struct SetReader
{
	CrlSet set;
	CrlSeries *series;
	List **crls; /* of each series: HeldCrl */
	int room;
} SetReader;

/* The series of the row, or -1 when it speaks of nobody. */
static int
find_series(SetReader *reader, RowReader *row)
{
	CrlSeries *series;
	unsigned char scope[SHA256_OCTETS];

	read_digest(row, "scope", scope);
	for (int i = 0; i < reader->set.count; i++)
		if (memcmp(reader->series[i].scope, scope, SHA256_OCTETS) == 0)
			return i;

	if (reader->set.count == reader->room)
	{
		reader->room = Max(16, reader->room * 2);
		reader->series = reader->series ? repalloc(reader->series, reader->room * sizeof(CrlSeries))
										: palloc(reader->room * sizeof(CrlSeries));
		reader->crls = reader->crls ? repalloc(reader->crls, reader->room * sizeof(List *))
									: palloc(reader->room * sizeof(List *));
	}
	series = &reader->series[reader->set.count];
	memset(series, 0, sizeof(*series));
	memcpy(series->scope, scope, SHA256_OCTETS);
	read_digest(row, "signer_key", series->signer_key);
	series->issuer_text = read_text(row, "issuer");
	series->partition = read_text(row, "partition");
	if (!parse_names(series, read_bytea(row, "issuer_der"), read_bytea(row, "idp")))
	{
		ereport(WARNING, errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("a row of cmblock.crl has names that cannot be read, and is ignored"),
				errhint("Import the CRL of \"%s\" again.", series->issuer_text));
		return -1;
	}
	series->reasons = reason_bits(series->idp ? series->idp->onlysomereasons : NULL);
	reader->set.partitioned |= series->idp != NULL;
	reader->crls[reader->set.count] = NIL;
	return reader->set.count++;
}

static void
take_crl_row(SetReader *reader, RowReader *row)
{
	int place;

	if (cmblock_enum_value(ENUM_CRL_STATE, DatumGetObjectId(column(row, "state"))) != CRL_CURRENT)
		return;
	place = find_series(reader, row);
	if (place >= 0)
		reader->crls[place] = lappend(reader->crls[place], read_crl(row));
}

static bool
less(Numeric a, Numeric b)
{
	return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(a), NumericGetDatum(b)));
}

static void
take_scope_row(SetReader *reader, RowReader *row)
{
	unsigned char scope[SHA256_OCTETS];
	Numeric number = read_numeric(row, "delta_number");
	TimestampTz from;
	TimestampTz until;

	if (number == NULL)
		return;
	read_digest(row, "scope", scope);
	from = DatumGetTimestampTz(column(row, "delta_this_update"));
	until = DatumGetTimestampTz(column(row, "delta_next_update"));
	if (row->isnull)
		until = from;
	for (int i = 0; i < reader->set.count; i++)
	{
		CrlSeries *series = &reader->series[i];

		if (memcmp(series->scope, scope, SHA256_OCTETS) != 0)
			continue;
		series->had_delta = true;
		series->delta_period = Max(until - from, 0);
		series->delta_is_superseded =
			series->base && series->base->number && !less(series->base->number, number);
	}
}

/* Which base, and which delta on top of it (rules 22, 23 and 26). */
static void
link_series(CrlSeries *series, List *crls)
{
	ListCell *cell;

	foreach (cell, crls)
	{
		const HeldCrl *crl = lfirst(cell);

		if (!crl->is_delta && (series->base == NULL || series->base->this_update < crl->this_update))
			series->base = crl;
	}
	foreach (cell, crls)
	{
		const HeldCrl *crl = lfirst(cell);
		Numeric base = series->base ? series->base->number : NULL;
		const HeldCrl **place;

		if (!crl->is_delta || (base && !less(base, crl->number)))
			continue;
		place = base && !less(base, crl->base_number) ? &series->delta : &series->early_delta;
		if (*place == NULL || less((*place)->number, crl->number))
			*place = crl;
	}
}

static void
scan_rows(CmblockRelation which, SetReader *reader, void (*take)(SetReader *, RowReader *))
{
	Relation relation = table_open(cmblock_relation(which), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(cmblock_newest_snapshot());
	RowReader row = {.slot = table_slot_create(relation, NULL), .desc = RelationGetDescr(relation)};
	TableScanDesc scan = table_beginscan(relation, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, row.slot))
	{
		CHECK_FOR_INTERRUPTS();
		cmblock_digest_row(row.slot, reader->set.digest);
		take(reader, &row);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(row.slot);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
}

/* ---------- keeping the set ---------- */

static void
load_set(void)
{
	static bool callback_registered = false;
	SetReader reader = {0};
	MemoryContext context;
	MemoryContext caller;
	uint64 generation;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(forget_set, (Datum) 0);
		callback_registered = true;
	}
	current_valid = false;
	crl_relation = cmblock_relation(REL_CRL);
	scope_relation = cmblock_relation(REL_CRL_SCOPE);
	/* Taken before the rows are read: an invalidation that arrives meanwhile must win. */
	generation = invalidations;

	context = AllocSetContextCreate(CurrentMemoryContext, "cmblock current CRLs", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	scan_rows(REL_CRL, &reader, take_crl_row);
	for (int i = 0; i < reader.set.count; i++)
		link_series(&reader.series[i], reader.crls[i]);
	scan_rows(REL_CRL_SCOPE, &reader, take_scope_row);
	reader.set.series = reader.series;
	MemoryContextSwitchTo(caller);

	if (set_context)
		MemoryContextDelete(set_context);
	MemoryContextSetParent(context, CacheMemoryContext);
	set_context = context;
	current = reader.set;
	current_generation = generation;
	current_valid = true;
}

const CrlSet *
cmblock_crl_set(void)
{
	AcceptInvalidationMessages();
	if (!current_valid || current_generation != invalidations || crl_relation != cmblock_relation(REL_CRL))
		load_set();
	return &current;
}

bool
cmblock_crl_set_is_outdated(const HeldCrl *crl)
{
	IndexLookup lookup;
	bool there = cmblock_index_lookup(&lookup, REL_CRL, IDX_CRL_SHA256,
									  PointerGetDatum(cmblock_make_thumbprint(crl->sha256, SHA256_OCTETS)));

	cmblock_index_lookup_end(&lookup);
	if (!there)
		current_valid = false;
	return !there;
}

/* ---------- entries ---------- */

bytea *
cmblock_load_crl(const uint8 *sha256, void *arg)
{
	IndexLookup lookup;
	Datum key = PointerGetDatum(cmblock_make_thumbprint(sha256, SHA256_OCTETS));
	bytea *der = NULL;
	bool isnull;

	if (cmblock_index_lookup(&lookup, REL_CRL, IDX_CRL_SHA256, key))
		der = DatumGetByteaPCopy(cmblock_lookup_column(&lookup, "der", &isnull));
	cmblock_index_lookup_end(&lookup);
	return der;
}

const CrlIndex *
cmblock_open_crl(const HeldCrl *crl, CrlPin *pin)
{
	return cmblock_crl_pin(crl->sha256, cmblock_load_crl, NULL, pin);
}
