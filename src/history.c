/*
 * history.c
 *		The block history: an append-only table whose rows are chained by SHA-256.
 *
 * A deferred constraint trigger on client and certificate writes one event for each block, unblock, hand-over and
 * deletion that this site makes, whichever statement made it. Deferred, because each event is chained to the last
 * one committed, so the writers stand in line: the line is one object lock, taken at the first event and held to
 * the end of the transaction. At commit that is short; an administrator with a transaction left open holds nobody up.
 * A prepared transaction keeps its place in the line until it is committed or rolled back.
 *
 * The last event is read with the newest snapshot, not the transaction's, so the chain is right in REPEATABLE READ too.
 *
 * The hash of an event is SHA-256(previous_hash || field || field ...): each field in the order of hashed_fields, as a
 * length of four octets, highest first, and that many octets of text in UTF-8; a null is the length FFFFFFFF alone.
 * The first event's previous_hash is 32 zero octets. Cutting events off the end leaves a chain that verifies:
 * whoever must exclude that keeps a head that verify_block_history returned somewhere else (history_check.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "history.h"
#include "progress.h"
#include "scan.h"
#include "site.h"
#include "types.h"
#include "writer.h"

PG_FUNCTION_INFO_V1(cmblock_record_block_event);

#define HASH_OCTETS HISTORY_HASH_OCTETS

/* Column numbers of block_event: the install script and this enum agree. */
typedef enum EventColumn
{
	EVENT_ID = 1,
	EVENT_ACTION,
	EVENT_CLIENT,
	EVENT_CERTIFICATE,
	EVENT_SITE,
	EVENT_TO_SITE,
	EVENT_REASON,
	EVENT_TICKET,
	EVENT_ACTOR,
	EVENT_AT,
	EVENT_CLIENT_ADDRESS,
	EVENT_APPLICATION_NAME,
	EVENT_VERSION,
	EVENT_PREVIOUS_HASH,
	EVENT_HASH
} EventColumn;

#define EVENT_COLUMNS EVENT_HASH
#define LAST_HASHED_COLUMN EVENT_VERSION

typedef struct Event
{
	Datum value[EVENT_COLUMNS];
	bool null[EVENT_COLUMNS];
} Event;

/* ---------- the hash ---------- */

/* What a field contributes, as text; NULL for a null. */
static char *
field_text(const Event *event, EventColumn column)
{
	Datum value = event->value[column - 1];

	if (event->null[column - 1])
		return NULL;
	switch (column)
	{
		case EVENT_ID:
		case EVENT_VERSION:
			return psprintf(INT64_FORMAT, DatumGetInt64(value));
		case EVENT_ACTION:
			return pstrdup(cmblock_enum_label(
				ENUM_BLOCK_ACTION, cmblock_enum_value(ENUM_BLOCK_ACTION, DatumGetObjectId(value))));
		case EVENT_CLIENT:
			return cmblock_smsid_string(DatumGetSmsidP(value));
		case EVENT_CERTIFICATE:
		{
			struct varlena *thumbprint = PG_DETOAST_DATUM_PACKED(value);

			return cmblock_hex_string((unsigned char *) VARDATA_ANY(thumbprint),
									  VARSIZE_ANY_EXHDR(thumbprint));
		}
		case EVENT_SITE:
		case EVENT_TO_SITE:
			return cmblock_site_code_string(DatumGetSiteCode(value));
		case EVENT_AT: /* microseconds since 1970 */
			return psprintf(INT64_FORMAT,
							DatumGetTimestampTz(value) +
								(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
		case EVENT_CLIENT_ADDRESS:
			return OidOutputFunctionCall(F_INET_OUT, value);
		default:
			return TextDatumGetCString(value);
	}
}

/*
 * As UTF-8, so that the chain holds in a copy of the database that has another encoding. What cannot be converted counts as it
 * is: a client whose name has such octets (SQL_ASCII takes any) must not be one that nobody can block.
 */
static char *
portable_text(char *text)
{
	int encoding = GetDatabaseEncoding();
	int length = strlen(text);
	int room = length * MAX_CONVERSION_GROWTH + 1;
	Oid conversion;
	char *utf8;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return text;
	conversion = FindDefaultConversionProc(encoding, PG_UTF8);
	utf8 = palloc(room);
	if (OidIsValid(conversion) &&
		pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8, (unsigned char *) text, length,
									  (unsigned char *) utf8, room, true) == length)
		return utf8;
	return text;
}

static void
hash_event(const Event *event, const uint8 *previous, uint8 *hash)
{
	pg_cryptohash_ctx *sha256 = pg_cryptohash_create(PG_SHA256);
	bool ok = sha256 != NULL && pg_cryptohash_init(sha256) >= 0 &&
			  pg_cryptohash_update(sha256, previous, HASH_OCTETS) >= 0;

	for (int column = 1; column <= LAST_HASHED_COLUMN && ok; column++)
	{
		char *text = field_text(event, column);
		char *utf8 = text ? portable_text(text) : NULL;
		uint32 length = pg_hton32(utf8 ? (uint32) strlen(utf8) : PG_UINT32_MAX);

		ok = pg_cryptohash_update(sha256, (uint8 *) &length, sizeof(length)) >= 0 &&
			 (!utf8 || pg_cryptohash_update(sha256, (uint8 *) utf8, strlen(utf8)) >= 0);
	}
	ok = ok && pg_cryptohash_final(sha256, hash, HASH_OCTETS) >= 0;
	if (!ok)
		elog(ERROR, "could not compute SHA-256 of a block event");
	pg_cryptohash_free(sha256);
}

/* ---------- writing ---------- */

/* The end of the chain while this transaction holds the lock: valid for one transaction and no aborted part of it. */
static HistoryEnd chain_end;
static FullTransactionId chain_end_transaction = {InvalidTransactionId};

static void
forget_chain_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		chain_end_transaction = InvalidFullTransactionId;
}

static void
read_chain_end(Relation history)
{
	Relation index = cmblock_open_index(IDX_BLOCK_EVENT_ID);
	Snapshot snapshot;
	TupleTableSlot *slot = table_slot_create(history, NULL);
	IndexScanDesc scan;

	/* After an aborted subtransaction: what this very command wrote before it must be seen, too. */
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = cmblock_index_beginscan(history, index, snapshot, 0, 0);
	memset(&chain_end, 0, sizeof(chain_end));
	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, slot))
	{
		bool isnull;
		bytea *hash;

		chain_end.id = DatumGetInt64(slot_getattr(slot, EVENT_ID, &isnull));
		hash = DatumGetByteaPP(slot_getattr(slot, EVENT_HASH, &isnull));
		memcpy(chain_end.hash, VARDATA_ANY(hash), HASH_OCTETS);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
}

static void
stand_in_line(Relation history)
{
	static bool callback_registered = false;

	if (!callback_registered)
	{
		RegisterSubXactCallback(forget_chain_end, NULL);
		callback_registered = true;
	}
	if (FullTransactionIdEquals(chain_end_transaction, GetTopFullTransactionId()))
		return;
	LockDatabaseObject(RelationRelationId, RelationGetRelid(history), 0, ExclusiveLock);
	read_chain_end(history);
	chain_end_transaction = GetTopFullTransactionId();
}

static Datum
hash_datum(const uint8 *hash)
{
	return PointerGetDatum(cmblock_make_bytea(hash, HASH_OCTETS));
}

/* Where the session comes from; null for a Unix socket. */
static void
set_client_address(Event *event)
{
	LOCAL_FCINFO(call, 0);

	InitFunctionCallInfoData(*call, NULL, 0, InvalidOid, NULL, NULL);
	event->value[EVENT_CLIENT_ADDRESS - 1] = inet_client_addr(call);
	event->null[EVENT_CLIENT_ADDRESS - 1] = call->isnull;
}

/*
 * Inserts through the executor, so that indexes, constraints and triggers that an administrator added to the table
 * are kept and fired. Not through SPI: at commit the current user may be anybody.
 */
static void
insert_event(Relation history, const Event *event)
{
	EState *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);
	TupleTableSlot *slot = table_slot_create(history, NULL);
	Writer before = cmblock_set_writer(cmblock_writer(WRITER_COMMAND));

	PG_TRY();
	{
		InitResultRelInfo(target, history, 0, NULL, 0);
		ExecOpenIndices(target, false);
		memset(slot->tts_isnull, true, RelationGetDescr(history)->natts * sizeof(bool));
		memcpy(slot->tts_values, event->value, sizeof(event->value));
		memcpy(slot->tts_isnull, event->null, sizeof(event->null));
		ExecStoreVirtualTuple(slot);

		AfterTriggerBeginQuery();
		ExecSimpleRelationInsert(target, estate, slot);
		AfterTriggerEndQuery(estate);

		ExecCloseIndices(target);
		ExecCloseResultRelations(estate);
		ExecResetTupleTable(estate->es_tupleTable, false);
		ExecDropSingleTupleTableSlot(slot);
		FreeExecutorState(estate);
	}
	PG_FINALLY();
	{
		cmblock_set_writer(before);
	}
	PG_END_TRY();
}

static void
append(Relation history, Event *event)
{
	HistoryEnd next;

	/* For each event: a trigger on the table may have rolled back to a savepoint, and events after that with it. */
	stand_in_line(history);
	/* Set before anything can fail half-way: a failure aborts, and the abort makes us read again. */
	next.id = chain_end.id + 1;
	event->value[EVENT_ID - 1] = Int64GetDatum(next.id);
	event->value[EVENT_PREVIOUS_HASH - 1] = hash_datum(chain_end.hash);
	hash_event(event, chain_end.hash, next.hash);
	event->value[EVENT_HASH - 1] = hash_datum(next.hash);
	chain_end = next;

	insert_event(history, event);
}

/* Columns of the changed row, by name. */
static Datum
column(TriggerData *trigger, HeapTuple row, const char *name, bool *isnull)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);

	return heap_getattr(row, cmblock_column_number(desc, name), desc, isnull);
}

static void
carry(Event *event, EventColumn to, TriggerData *trigger, HeapTuple row, const char *name)
{
	event->value[to - 1] = column(trigger, row, name, &event->null[to - 1]);
}

/* What seize_clients was told, for the events that are written at commit. */
typedef struct SeizureNote
{
	SiteCode from;
	SiteCode to;
	char *reason;
	char *ticket;
} SeizureNote;

static List *seizures = NIL; /* of this transaction, the last one first */
static FullTransactionId seizures_transaction = {InvalidTransactionId};

void
cmblock_history_note_seizure(SiteCode from, SiteCode to, const char *reason, const char *ticket)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	SeizureNote *seizure = palloc(sizeof(SeizureNote));

	if (!FullTransactionIdEquals(seizures_transaction, GetTopFullTransactionId()))
		seizures = NIL;
	seizures_transaction = GetTopFullTransactionId();
	*seizure = (SeizureNote){from, to, reason ? pstrdup(reason) : NULL, ticket ? pstrdup(ticket) : NULL};
	seizures = lcons(seizure, seizures);
	MemoryContextSwitchTo(old);
}

static const SeizureNote *
seizure_of(SiteCode from, SiteCode to)
{
	ListCell *cell;

	if (!FullTransactionIdEquals(seizures_transaction, GetTopFullTransactionId()))
		return NULL;
	foreach (cell, seizures)
	{
		const SeizureNote *seizure = lfirst(cell);

		if (seizure->from == from && seizure->to == to)
			return seizure;
	}
	return NULL;
}

static void
set_text(Event *event, EventColumn to, const char *text)
{
	event->null[to - 1] = text == NULL;
	if (text)
		event->value[to - 1] = CStringGetTextDatum(text);
}

static void
record(TriggerData *trigger, Relation history, BlockAction action)
{
	HeapTuple old = trigger->tg_trigtuple;
	HeapTuple new = trigger->tg_newtuple;
	bool is_client = RelationGetRelid(trigger->tg_relation) == cmblock_relation(REL_CLIENT);
	Event event;

	memset(event.value, 0, sizeof(event.value));
	memset(event.null, true, sizeof(event.null));
	event.null[EVENT_ID - 1] = event.null[EVENT_ACTION - 1] = false;
	event.null[EVENT_PREVIOUS_HASH - 1] = event.null[EVENT_HASH - 1] = false;

	event.value[EVENT_ACTION - 1] = cmblock_enum_datum(ENUM_BLOCK_ACTION, action);
	carry(&event, is_client ? EVENT_CLIENT : EVENT_CERTIFICATE, trigger, new, is_client ? "smsid" : "sha256");
	carry(&event, EVENT_SITE, trigger, old, "assigned_site");
	if (action == ACTION_REASSIGNED)
	{
		const SeizureNote *seizure;

		carry(&event, EVENT_TO_SITE, trigger, new, "assigned_site");
		seizure = seizure_of(DatumGetSiteCode(event.value[EVENT_SITE - 1]),
							 DatumGetSiteCode(event.value[EVENT_TO_SITE - 1]));
		if (seizure)
		{
			event.value[EVENT_ACTION - 1] = cmblock_enum_datum(ENUM_BLOCK_ACTION, ACTION_SEIZED);
			set_text(&event, EVENT_REASON, seizure->reason);
			set_text(&event, EVENT_TICKET, seizure->ticket);
		}
	}
	if (action == ACTION_BLOCKED || action == ACTION_UNBLOCKED)
	{
		carry(&event, EVENT_REASON, trigger, new, "block_reason");
		carry(&event, EVENT_TICKET, trigger, new, "block_ticket");
	}
	carry(&event, EVENT_ACTOR, trigger, new, "changed_by");
	carry(&event, EVENT_AT, trigger, new, "changed_at");
	set_client_address(&event);
	event.null[EVENT_APPLICATION_NAME - 1] = application_name == NULL || application_name[0] == '\0';
	if (!event.null[EVENT_APPLICATION_NAME - 1])
		event.value[EVENT_APPLICATION_NAME - 1] = CStringGetTextDatum(application_name);
	carry(&event, EVENT_VERSION, trigger, new, "version");
	append(history, &event);
}

/* ---------- rows that came back ---------- */

static FullTransactionId recovering = {InvalidTransactionId};

void
cmblock_history_begin_recovery(void)
{
	recovering = GetTopFullTransactionId();
}

static void
carry_slot(Event *event, EventColumn to, TupleTableSlot *row, const char *name)
{
	event->value[to - 1] =
		slot_getattr(row, cmblock_column_number(row->tts_tupleDescriptor, name), &event->null[to - 1]);
}

void
cmblock_record_recovery(BlockAction action, bool is_client, TupleTableSlot *row, const char *reason)
{
	Relation history = table_open(cmblock_relation(REL_BLOCK_EVENT), RowExclusiveLock);
	Event event;

	memset(event.value, 0, sizeof(event.value));
	memset(event.null, true, sizeof(event.null));
	event.null[EVENT_ID - 1] = event.null[EVENT_ACTION - 1] = event.null[EVENT_SITE - 1] = false;
	event.null[EVENT_ACTOR - 1] = event.null[EVENT_AT - 1] = event.null[EVENT_REASON - 1] = false;
	event.null[EVENT_PREVIOUS_HASH - 1] = event.null[EVENT_HASH - 1] = false;
	event.value[EVENT_ACTION - 1] = cmblock_enum_datum(ENUM_BLOCK_ACTION, action);
	carry_slot(&event, is_client ? EVENT_CLIENT : EVENT_CERTIFICATE, row, is_client ? "smsid" : "sha256");
	event.value[EVENT_SITE - 1] = SiteCodeGetDatum(cmblock_require_site()->code);
	if (DatumGetSiteCode(slot_getattr(row, cmblock_column_number(row->tts_tupleDescriptor, "assigned_site"),
									  &event.null[EVENT_TO_SITE - 1])) != cmblock_require_site()->code)
		carry_slot(&event, EVENT_TO_SITE, row, "assigned_site");
	else
		event.null[EVENT_TO_SITE - 1] = true;
	event.value[EVENT_REASON - 1] = CStringGetTextDatum(reason);
	carry_slot(&event, EVENT_TICKET, row, "block_ticket");
	event.value[EVENT_ACTOR - 1] = CStringGetTextDatum("cmblock");
	event.value[EVENT_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	event.null[EVENT_APPLICATION_NAME - 1] = application_name == NULL || application_name[0] == '\0';
	if (!event.null[EVENT_APPLICATION_NAME - 1])
		event.value[EVENT_APPLICATION_NAME - 1] = CStringGetTextDatum(application_name);
	carry_slot(&event, EVENT_VERSION, row, "version");
	append(history, &event);
	table_close(history, NoLock);
}

Datum
cmblock_record_block_event(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const SiteIdentity *here;
	Relation history;
	HeapTuple old;
	HeapTuple new;
	bool old_null;
	bool new_null;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.record_block_event() can only be called as a trigger"));
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.record_block_event() must be fired AFTER UPDATE, FOR EACH ROW"));
	if (RelationGetRelid(trigger->tg_relation) != cmblock_relation(REL_CLIENT) &&
		RelationGetRelid(trigger->tg_relation) != cmblock_relation(REL_CERTIFICATE))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.record_block_event() is for the tables of cmblock only"));

	old = trigger->tg_trigtuple;
	new = trigger->tg_newtuple;
	here = cmblock_require_site();

	/* What a neighbour sent is in the history of the site that did it. */
	if (DatumGetSiteCode(column(trigger, new, "origin_site", &new_null)) != here->code)
		PG_RETURN_POINTER(NULL);
	if (FullTransactionIdEquals(recovering, GetTopFullTransactionId()))
		PG_RETURN_POINTER(NULL);

	history = table_open(cmblock_relation(REL_BLOCK_EVENT), RowExclusiveLock);
	if (DatumGetBool(column(trigger, new, "blocked", &new_null)) !=
		DatumGetBool(column(trigger, old, "blocked", &old_null)))
		record(trigger, history,
			   DatumGetBool(column(trigger, new, "blocked", &new_null)) ? ACTION_BLOCKED : ACTION_UNBLOCKED);
	if (DatumGetSiteCode(column(trigger, new, "assigned_site", &new_null)) !=
		DatumGetSiteCode(column(trigger, old, "assigned_site", &old_null)))
		record(trigger, history, ACTION_REASSIGNED);
	(void) column(trigger, old, "deleted_at", &old_null);
	(void) column(trigger, new, "deleted_at", &new_null);
	if (old_null && !new_null)
		record(trigger, history, ACTION_DELETED);
	table_close(history, NoLock);
	PG_RETURN_POINTER(NULL);
}

/* ---------- verifying ---------- */

/* Says what is wrong with an event that should follow `end`, or NULL; moves `end` on when nothing is. */
static const char *
broken(const Event *event, HistoryEnd *end)
{
	bytea *previous = DatumGetByteaPP(event->value[EVENT_PREVIOUS_HASH - 1]);
	bytea *hash = DatumGetByteaPP(event->value[EVENT_HASH - 1]);
	uint8 computed[HASH_OCTETS];

	if (DatumGetInt64(event->value[EVENT_ID - 1]) != end->id + 1)
		return psprintf("event " INT64_FORMAT " is missing", end->id + 1);
	if (VARSIZE_ANY_EXHDR(previous) != HASH_OCTETS ||
		memcmp(VARDATA_ANY(previous), end->hash, HASH_OCTETS) != 0)
		return "its previous_hash is not the hash of the event before";
	hash_event(event, end->hash, computed);
	if (VARSIZE_ANY_EXHDR(hash) != HASH_OCTETS || memcmp(VARDATA_ANY(hash), computed, HASH_OCTETS) != 0)
		return "its hash does not fit its contents: a field was changed";
	end->id++;
	memcpy(end->hash, computed, HASH_OCTETS);
	return NULL;
}

/* The event at hand. Its values point into the slot. */
static void
read_event(TupleTableSlot *slot, Event *event)
{
	slot_getallattrs(slot);
	memcpy(event->value, slot->tts_values, sizeof(event->value));
	memcpy(event->null, slot->tts_isnull, sizeof(event->null));
}

char *
cmblock_follow_history(Snapshot snapshot, int64 events, HistoryEnd *end, int64 *first_broken)
{
	Relation history = table_open(cmblock_relation(REL_BLOCK_EVENT), AccessShareLock);
	Relation index = cmblock_open_index(IDX_BLOCK_EVENT_ID);
	TupleTableSlot *slot = table_slot_create(history, NULL);
	IndexScanDesc scan = cmblock_index_beginscan(history, index, snapshot, 1, 0);
	MemoryContext per_event =
		AllocSetContextCreate(CurrentMemoryContext, "block event", ALLOCSET_DEFAULT_SIZES);
	ScanKeyData after;
	char *problem = NULL;

	ScanKeyInit(&after, EVENT_ID, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(end->id));
	index_rescan(scan, &after, 1, NULL, 0);
	while (!problem && events-- > 0 && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		MemoryContext before = MemoryContextSwitchTo(per_event);
		const char *found;
		Event event;

		CHECK_FOR_INTERRUPTS();
		read_event(slot, &event);
		found = broken(&event, end);
		cmblock_progress_done(end->id);
		if (found)
		{
			*first_broken = DatumGetInt64(event.value[EVENT_ID - 1]);
			problem = MemoryContextStrdup(MemoryContextGetParent(per_event), found);
		}
		MemoryContextSwitchTo(before);
		MemoryContextReset(per_event);
	}
	MemoryContextDelete(per_event);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(history, AccessShareLock);
	return problem;
}

bool
cmblock_find_event(Snapshot snapshot, int64 id, HistoryEnd *found)
{
	Relation history = table_open(cmblock_relation(REL_BLOCK_EVENT), AccessShareLock);
	Relation index = cmblock_open_index(IDX_BLOCK_EVENT_ID);
	TupleTableSlot *slot = table_slot_create(history, NULL);
	IndexScanDesc scan = cmblock_index_beginscan(history, index, snapshot, 1, 0);
	ScanKeyData upto;
	bool any;

	memset(found, 0, sizeof(*found));
	ScanKeyInit(&upto, EVENT_ID, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(id));
	index_rescan(scan, &upto, 1, NULL, 0);
	any = index_getnext_slot(scan, BackwardScanDirection, slot);
	if (any)
	{
		Event event;
		bytea *hash;

		read_event(slot, &event);
		found->id = DatumGetInt64(event.value[EVENT_ID - 1]);
		hash = DatumGetByteaPP(event.value[EVENT_HASH - 1]);
		memcpy(found->hash, VARDATA_ANY(hash), Min(VARSIZE_ANY_EXHDR(hash), HASH_OCTETS));
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(history, AccessShareLock);
	return any;
}
