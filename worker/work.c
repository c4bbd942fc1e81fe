/*
 * work.c
 *		The transactions of a worker, and the settings that they run under.
 *
 * Each one first locks the extension as DROP and ALTER EXTENSION do, only shared, and then looks whether it is still
 * the one that this process began with. So a worker never touches half of an extension, and DROP EXTENSION waits for one
 * short transaction at most.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "executor/spi.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "cmblock.h"
#include "worker.h"

void
cmblock_pin_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"}, /* since PostgreSQL 17 */
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"row_security", "off"},
		{"jit", "off"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/* Where the caller allocates: the end of a transaction would leave it in TopMemoryContext. */
static MemoryContext callers_context;

/* OID of the extension in this database, or InvalidOid; whether it is of our version. */
static Oid
find_extension(bool *our_version)
{
	Relation relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid oid = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("cmblock"));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		Datum version =
			heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(relation), &isnull);

		oid = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		*our_version = strcmp(TextDatumGetCString(version), CMBLOCK_VERSION) == 0;
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return oid;
}

WorkerGround
cmblock_begin_work(void)
{
	static Oid known = InvalidOid;
	bool our_version = false;
	Oid oid;

	callers_context = CurrentMemoryContext;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	oid = OidIsValid(known) ? known : find_extension(&our_version);
	if (OidIsValid(oid))
	{
		LockDatabaseObject(ExtensionRelationId, oid, 0, AccessShareLock);
		if (find_extension(&our_version) != oid)
			oid = InvalidOid;
	}
	if (!OidIsValid(known))
		known = oid;
	PopActiveSnapshot();
	if (!OidIsValid(oid) || oid != known || !our_version)
	{
		CommitTransactionCommand();
		MemoryContextSwitchTo(callers_context);
		return OidIsValid(oid) && oid == known ? GROUND_OTHER_VERSION : GROUND_GONE;
	}
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	return GROUND_READY;
}

void
cmblock_end_work(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(callers_context);
	pgstat_report_stat(false);
}

void
cmblock_abort_work(void)
{
	AbortCurrentTransaction();
	MemoryContextSwitchTo(callers_context);
}

ErrorData *
cmblock_abort_work_for_error(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	cmblock_abort_work();
	MemoryContextSwitchTo(context);
	return error;
}
