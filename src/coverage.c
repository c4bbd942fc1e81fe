/*
 * coverage.c
 *		Does every change of a client or certificate pass the guard, so that the cache of decisions hears of it?
 *
 * The cache (decision_cache.c) rests on the guard, which sees each row before it changes. What the guard does not see: the owner
 * disables or replaces it, TRUNCATE, DROP and CREATE EXTENSION, a rewrite of the table, and everything on a standby, where
 * rows change without triggers.
 *
 * The signature
 *		names the versions of the catalog rows on which the guard's standing depends: the database, both tables, their
 *		guard triggers and the guard's function. A version is the row's xmin and place. Each entry of the cache carries a
 *		hash of the signature as its tag, and a session uses only entries under the tag that it has found itself. Nothing has to be
 *		emptied, and a tag does not come back: a changed row is a new version by another transaction.
 *
 *		A session finds the tag anew whenever PostgreSQL tells it that one of these may have changed, and asks for such
 *		messages before each decision. They are sent before the commit of such a change returns, and before its locks are
 *		released. It follows that no decision that begins after COMMIT uses an entry from before:
 *		- The transaction disables the guard, changes rows and enables it again, or truncates, or rewrites: it has made new
 *		  versions of the trigger's or the table's row. Decisions that begin after its COMMIT have another tag than all
 *		  who read before.
 *		- The guard was disabled by an earlier transaction: this one can only have begun to write after that one's messages were
 *		  sent, since disabling locks out writers. So who begins a decision afterwards knows that the guard is down. To put it
 *		  up again locks out writers, too, prepared ones included, and makes a new version of the trigger's row.
 *		Where the catalog row is this transaction's own, the cache is not used at all: a rollback would take the tag back.
 *
 * On a standby there is no coverage. Its memory has no entries when it is promoted, since it never put one in.
 *
 * Prepared transactions hold their locks on the tables until they are visible. As long as one that changed rows may be
 * there (each session must find out once, and again after each PREPARE of such a one), nobody uses the cache.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "compat.h"
#include "coverage.h"
#include "decision_cache.h"

/* ---------- the signature ---------- */

/* One version of a catalog row. */
typedef struct RowVersion
{
	Oid oid;
	TransactionId xmin;
	BlockNumber block;
	uint32 offset;
} RowVersion;

typedef struct Signature
{
	RowVersion database;
	RowVersion function;
	RowVersion table[2];
	RowVersion trigger[2];
} Signature;

/* Looked up at `known_at`, which is current as long as no message has come since. */
static uint64 messages = 1;
static uint64 known_at = 0;
static uint64 known_catalog = 0;
static bool standing = false;
static uint64 standing_tag;
static Oid guarded_table[2];

static void
forget_relation(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == guarded_table[0] || relid == guarded_table[1])
		messages++;
}

static void
forget_row(Datum arg, int cacheid, uint32 hashvalue)
{
	messages++;
}

/* False when the row is of this transaction: it may go as it came. */
static bool
note_version(HeapTuple tuple, Oid oid, RowVersion *version)
{
	version->oid = oid;
	version->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	version->block = ItemPointerGetBlockNumber(&tuple->t_self);
	version->offset = ItemPointerGetOffsetNumber(&tuple->t_self);
	return !TransactionIdIsCurrentTransactionId(version->xmin);
}

static bool
note_cached_version(int cacheid, Oid oid, RowVersion *version)
{
	HeapTuple tuple = SearchSysCache1(cacheid, ObjectIdGetDatum(oid));
	bool settled;

	if (!HeapTupleIsValid(tuple))
		return false;
	settled = note_version(tuple, oid, version);
	ReleaseSysCache(tuple);
	return settled;
}

static Oid
guard_function(void)
{
	oidvector *no_arguments = buildoidvector(NULL, 0);
	HeapTuple tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum("guard_row"),
									  PointerGetDatum(no_arguments), ObjectIdGetDatum(cmblock_schema()));
	Oid function = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
		bool isnull;
		Datum source = SysCacheGetAttr(PROCNAMEARGSNSP, tuple, Anum_pg_proc_prosrc, &isnull);

		/* CREATE OR REPLACE keeps the name and the OID. */
		if (proc->prolang == ClanguageId && !isnull &&
			strcmp(TextDatumGetCString(source), "cmblock_guard_row") == 0)
			function = proc->oid;
		ReleaseSysCache(tuple);
	}
	return function;
}

#define GUARD_TYPE                                                                                           \
	(TRIGGER_TYPE_ROW | TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE)

/*
 * Does the guard stand on this table, always, for every row, and is it the only one that can change a row before it is
 * written? Another such trigger that comes after it could give the row another key.
 */
static bool
guard_stands(Relation triggers, Oid table, Oid function, RowVersion *version)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	int guards = 0;
	bool alone = true;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(table));
	scan = systable_beginscan(triggers, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);
		bool no_condition = heap_attisnull(tuple, Anum_pg_trigger_tgqual, RelationGetDescr(triggers));

		if (!TRIGGER_FOR_ROW(trigger->tgtype) || !TRIGGER_FOR_BEFORE(trigger->tgtype))
			continue;
		if (trigger->tgfoid == function && trigger->tgtype == GUARD_TYPE &&
			trigger->tgenabled == TRIGGER_FIRES_ALWAYS && trigger->tgattr.dim1 == 0 && no_condition)
		{
			guards++;
			alone &= note_version(tuple, trigger->oid, version);
		}
		else
			alone = false;
	}
	systable_endscan(scan);
	return guards == 1 && alone;
}

static bool
take_signature(Signature *signature)
{
	Oid function = guard_function();
	bool stands = OidIsValid(function);
	Relation triggers;

	/* Padding would be hashed as well. */
	memset(signature, 0, sizeof(*signature));
	stands = stands && note_cached_version(DATABASEOID, MyDatabaseId, &signature->database) &&
			 note_cached_version(PROCOID, function, &signature->function);
	triggers = table_open(TriggerRelationId, AccessShareLock);
	for (int i = 0; i < 2 && stands; i++)
		stands = note_cached_version(RELOID, guarded_table[i], &signature->table[i]) &&
				 guard_stands(triggers, guarded_table[i], function, &signature->trigger[i]);
	table_close(triggers, AccessShareLock);
	return stands;
}

static void
look_at_guard(void)
{
	static bool callbacks_registered = false;
	Signature signature;
	uint64 before;
	uint64 catalog;

	if (!callbacks_registered)
	{
		CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, forget_row, (Datum) 0);
		CacheRegisterSyscacheCallback(DATABASEOID, forget_row, (Datum) 0);
		callbacks_registered = true;
	}
	known_at = 0;
	guarded_table[0] = cmblock_relation(REL_CLIENT);
	guarded_table[1] = cmblock_relation(REL_CERTIFICATE);
	/* Taken before the catalog is read: a message that arrives meanwhile must win. */
	before = messages;
	catalog = cmblock_catalog_generation();
	standing = take_signature(&signature);
	if (standing)
		standing_tag = cmblock_cache_hash(&signature, sizeof(signature));
	known_catalog = catalog;
	/* What this transaction changed in the catalog looks different when it has ended. */
	known_at = before;
}

/* ---------- prepared transactions ---------- */

/* The counter up to which this session knows that no prepared transaction keeps changes back. */
static uint32 prepares_seen = 0;

static bool
is_prepared(VirtualTransactionId holder)
{
	bool more;

	return VirtualTransactionIdIsRecoveredPreparedXact(holder) ||
		   TransactionIdIsValid(TwoPhaseGetXidByVirtualXID(holder, &more));
}

/* Whoever writes rows holds a lock that ShareLock conflicts with. */
static bool
prepared_transaction_holds(Oid table)
{
	LOCKTAG tag;
	VirtualTransactionId *holders;
	int count;
	bool found = false;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, table);
	holders = GetLockConflicts(&tag, ShareLock, &count);
	for (int i = 0; i < count && !found; i++)
		found = is_prepared(holders[i]);
	pfree(holders);
	return found;
}

static bool
prepared_transactions_are_done(void)
{
	uint32 prepares = cmblock_cache_prepares();

	if (prepares == prepares_seen)
		return true;
	/* The counter was raised after the prepared transaction had got the locks. */
	pg_memory_barrier();
	if (max_prepared_xacts > 0 &&
		(prepared_transaction_holds(guarded_table[0]) || prepared_transaction_holds(guarded_table[1])))
		return false;
	prepares_seen = prepares;
	return true;
}

/* ---------- coverage ---------- */

Coverage
cmblock_coverage(uint64 *tag)
{
	if (!cmblock_cache_exists())
		return cmblock_decision_cache_size == 0 ? UNCOVERED_SWITCHED_OFF : UNCOVERED_NOT_PRELOADED;
	if (RecoveryInProgress())
		return UNCOVERED_RECOVERY;
	AcceptInvalidationMessages();
	if (known_at != messages || known_catalog != cmblock_catalog_generation())
		look_at_guard();
	if (!standing || known_at != messages)
		return UNCOVERED_GUARD;
	if (!prepared_transactions_are_done())
		return UNCOVERED_PREPARED;
	*tag = standing_tag;
	return COVERED;
}

bool
cmblock_coverage_holds(void)
{
	return cmblock_cache_prepares() == prepares_seen;
}

static const char *const coverage_texts[] = {
	[COVERED] = "on",
	[UNCOVERED_NOT_PRELOADED] = "off: cmblock is not in shared_preload_libraries",
	[UNCOVERED_SWITCHED_OFF] = "off: cmblock.decision_cache_size is 0",
	[UNCOVERED_RECOVERY] = "off: this server is a standby",
	[UNCOVERED_GUARD] = "off: the trigger guard does not stand on client and certificate as it was installed",
	[UNCOVERED_PREPARED] = "off: a prepared transaction may have changed clients or certificates",
};

const char *
cmblock_coverage_text(Coverage coverage)
{
	return coverage_texts[coverage];
}
