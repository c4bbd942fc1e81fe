/*
 * records.c
 *		Rows of client and certificate as decisions read them: straight from the index, all with one snapshot.
 *
 * SPI would cost more than the whole decision. No privilege on the tables is asked for: EXECUTE on the function
 * that decides is the gate. What a decision does not look at (names, the DER) is not copied out of the row.
 *
 * Column numbers and the equality functions of the index keys are looked up once in a session, by the OID of the
 * relation: DROP EXTENSION and CREATE EXTENSION give new ones.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "records.h"
#include "scan.h"

/* ---------- columns ---------- */

typedef enum ClientColumn
{
	CLIENT_SMSID,
	CLIENT_ASSIGNED_SITE,
	CLIENT_HARDWARE_ID,
	CLIENT_APPROVAL,
	CLIENT_ISV_PROXIED,
	CLIENT_DELETED_AT,
	CLIENT_BLOCK, /* and the four columns of BlockState after it */
	CLIENT_COLUMNS = CLIENT_BLOCK + 5
} ClientColumn;

typedef enum CertificateColumn
{
	CERT_SHA256,
	CERT_TYPE,
	CERT_CLIENT,
	CERT_ASSIGNED_SITE,
	CERT_SERIAL,
	CERT_NOT_BEFORE,
	CERT_NOT_AFTER,
	CERT_SELF_SIGNED,
	CERT_DELETED_AT,
	CERT_REVOKED_AT,
	CERT_DER,
	CERT_BLOCK,
	CERT_COLUMNS = CERT_BLOCK + 5
} CertificateColumn;

#define BLOCK_COLUMNS "blocked", "block_reason", "block_ticket", "block_changed_by", "block_changed_at"

#define MAX_COLUMNS CERT_COLUMNS

typedef struct Columns
{
	const char *const name[MAX_COLUMNS];
	int count;
	Oid relation;
	int natts;
	AttrNumber number[MAX_COLUMNS];
} Columns;

static Columns client_columns = {
	.name = {"smsid", "assigned_site", "hardware_id", "approval", "isv_proxied", "deleted_at", BLOCK_COLUMNS},
	.count = CLIENT_COLUMNS};

static Columns certificate_columns = {.name = {"sha256", "type", "client", "assigned_site", "serial",
											   "not_before", "not_after", "self_signed", "deleted_at",
											   "revoked_at", "der", BLOCK_COLUMNS},
									  .count = CERT_COLUMNS};

static void
resolve_columns(Columns *columns, Relation relation)
{
	TupleDesc desc = RelationGetDescr(relation);

	if (columns->relation == RelationGetRelid(relation) && columns->natts == desc->natts)
		return;
	columns->relation = InvalidOid;
	for (int i = 0; i < columns->count; i++)
		columns->number[i] = cmblock_column_number(desc, columns->name[i]);
	columns->natts = desc->natts;
	columns->relation = RelationGetRelid(relation);
}

/* ---------- scans ---------- */

typedef struct RowScan
{
	Relation table;
	Relation index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	const AttrNumber *number;
} RowScan;

static FmgrInfo *
equality(CmblockRelation which, Relation index)
{
	static struct
	{
		Oid index;
		FmgrInfo function;
	} known[CMBLOCK_RELATIONS];

	if (known[which].index != RelationGetRelid(index))
	{
		Oid type = index->rd_opcintype[0];
		Oid equal = get_opfamily_member(index->rd_opfamily[0], type, type, BTEqualStrategyNumber);

		known[which].index = InvalidOid;
		fmgr_info_cxt(get_opcode(equal), &known[which].function, TopMemoryContext);
		known[which].index = RelationGetRelid(index);
	}
	return &known[which].function;
}

/* The rows whose leading index column equals the key; all rows of the index where there is none. */
static void
begin_scan(RowScan *rows, Columns *columns, CmblockRelation table, CmblockRelation index, Snapshot snapshot,
		   const Datum *key)
{
	ScanKeyData equal;

	rows->table = table_open(cmblock_relation(table), AccessShareLock);
	rows->index = cmblock_open_index(index);
	resolve_columns(columns, rows->table);
	rows->number = columns->number;
	if (key)
		ScanKeyEntryInitializeWithInfo(&equal, 0, 1, BTEqualStrategyNumber, InvalidOid,
									   rows->index->rd_indcollation[0], equality(index, rows->index), *key);
	rows->slot = table_slot_create(rows->table, NULL);
	rows->scan = cmblock_index_beginscan(rows->table, rows->index, snapshot, key ? 1 : 0, 0);
	index_rescan(rows->scan, key ? &equal : NULL, key ? 1 : 0, NULL, 0);
}

static bool
next_row(RowScan *rows)
{
	return index_getnext_slot(rows->scan, ForwardScanDirection, rows->slot);
}

static void
end_scan(RowScan *rows)
{
	index_endscan(rows->scan);
	ExecDropSingleTupleTableSlot(rows->slot);
	index_close(rows->index, AccessShareLock);
	table_close(rows->table, AccessShareLock);
}

/* ---------- rows ---------- */

static Datum
column(RowScan *rows, int which, bool *isnull)
{
	return slot_getattr(rows->slot, rows->number[which], isnull);
}

static Datum
required(RowScan *rows, int which)
{
	bool isnull;

	return column(rows, which, &isnull);
}

static bool
is_set(RowScan *rows, int which)
{
	bool isnull;

	(void) column(rows, which, &isnull);
	return !isnull;
}

static char *
optional_text(RowScan *rows, int which)
{
	bool isnull;
	Datum value = column(rows, which, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static void
read_block(RowScan *rows, int first, BlockState *block)
{
	block->blocked = DatumGetBool(required(rows, first));
	if (!block->blocked)
		return;
	block->reason = optional_text(rows, first + 1);
	block->ticket = optional_text(rows, first + 2);
	block->changed_by = optional_text(rows, first + 3);
	block->changed_at = DatumGetTimestampTz(required(rows, first + 4));
}

static void
read_client(RowScan *rows, ClientRecord *client)
{
	bool isnull;
	Datum hardware_id;

	memset(client, 0, sizeof(*client));
	client->smsid = *DatumGetSmsidP(required(rows, CLIENT_SMSID));
	client->assigned_site = DatumGetSiteCode(required(rows, CLIENT_ASSIGNED_SITE));
	hardware_id = column(rows, CLIENT_HARDWARE_ID, &isnull);
	if (!isnull)
		client->hardware_id = DatumGetTextPCopy(hardware_id);
	client->approval = DatumGetInt16(required(rows, CLIENT_APPROVAL));
	client->isv_proxied = DatumGetBool(required(rows, CLIENT_ISV_PROXIED));
	client->deleted = is_set(rows, CLIENT_DELETED_AT);
	read_block(rows, CLIENT_BLOCK, &client->block);
}

static void
read_certificate(RowScan *rows, CertificateRecord *certificate)
{
	bool isnull;
	Datum client;

	memset(certificate, 0, sizeof(*certificate));
	memcpy(certificate->sha256, VARDATA_ANY(DatumGetPointer(required(rows, CERT_SHA256))), SHA256_OCTETS);
	certificate->type =
		cmblock_enum_value(ENUM_CERTIFICATE_TYPE, DatumGetObjectId(required(rows, CERT_TYPE)));
	client = column(rows, CERT_CLIENT, &isnull);
	certificate->has_client = !isnull;
	if (!isnull)
		certificate->client = *DatumGetSmsidP(client);
	certificate->assigned_site = DatumGetSiteCode(required(rows, CERT_ASSIGNED_SITE));
	certificate->serial = PG_DETOAST_DATUM_COPY(required(rows, CERT_SERIAL));
	certificate->not_before = DatumGetTimestampTz(required(rows, CERT_NOT_BEFORE));
	certificate->not_after = DatumGetTimestampTz(required(rows, CERT_NOT_AFTER));
	certificate->self_signed = DatumGetBool(required(rows, CERT_SELF_SIGNED));
	certificate->deleted = is_set(rows, CERT_DELETED_AT);
	certificate->revoked_at = DatumGetTimestampTz(column(rows, CERT_REVOKED_AT, &isnull));
	certificate->revoked = !isnull;
	read_block(rows, CERT_BLOCK, &certificate->block);
}

/* ---------- lookups ---------- */

bool
cmblock_find_client(Snapshot snapshot, const Smsid *smsid, ClientRecord *client)
{
	RowScan rows;
	Datum key = SmsidPGetDatum(smsid);
	bool found;

	begin_scan(&rows, &client_columns, REL_CLIENT, IDX_CLIENT_SMSID, snapshot, &key);
	found = next_row(&rows);
	if (found)
		read_client(&rows, client);
	end_scan(&rows);
	return found;
}

bool
cmblock_find_blocked_hardware(Snapshot snapshot, text *hardware_id, const Smsid *except, ClientRecord *client)
{
	RowScan rows;
	Datum key = PointerGetDatum(hardware_id);
	bool found = false;

	/* The index holds blocked clients only: placeholders that thousands of machines share cost nothing. */
	begin_scan(&rows, &client_columns, REL_CLIENT, IDX_CLIENT_BLOCKED_HARDWARE_ID, snapshot, &key);
	while (!found && next_row(&rows))
	{
		if (except && memcmp(DatumGetSmsidP(required(&rows, CLIENT_SMSID)), except, SMSID_OCTETS) == 0)
			continue;
		found = true;
		read_client(&rows, client);
	}
	end_scan(&rows);
	return found;
}

void
cmblock_each_blocked_hardware(Snapshot snapshot, void (*take)(text *hardware_id))
{
	RowScan rows;

	begin_scan(&rows, &client_columns, REL_CLIENT, IDX_CLIENT_BLOCKED_HARDWARE_ID, snapshot, NULL);
	while (next_row(&rows))
	{
		bool isnull;
		Datum hardware_id = column(&rows, CLIENT_HARDWARE_ID, &isnull);

		CHECK_FOR_INTERRUPTS();
		if (!isnull)
			take(DatumGetTextPP(hardware_id));
	}
	end_scan(&rows);
}

int
cmblock_find_certificate(Snapshot snapshot, const unsigned char *thumbprint, int length,
						 CertificateRecord *certificate, CertificateRecord *other)
{
	RowScan rows;
	Datum key = PointerGetDatum(cmblock_make_thumbprint(thumbprint, length));
	int found = 0;

	begin_scan(&rows, &certificate_columns, REL_CERTIFICATE,
			   length == SHA1_OCTETS ? IDX_CERTIFICATE_SHA1 : IDX_CERTIFICATE_SHA256, snapshot, &key);
	while (found < 2 && next_row(&rows))
	{
		if (found == 0)
			read_certificate(&rows, certificate);
		else if (other)
			read_certificate(&rows, other);
		found++;
	}
	end_scan(&rows);
	return found;
}

List *
cmblock_find_certificates_by_key(Snapshot snapshot, const unsigned char *key_sha256)
{
	RowScan rows;
	Datum key = PointerGetDatum(cmblock_make_thumbprint(key_sha256, SHA256_OCTETS));
	List *found = NIL;

	begin_scan(&rows, &certificate_columns, REL_CERTIFICATE, IDX_CERTIFICATE_KEY, snapshot, &key);
	while (next_row(&rows))
	{
		CertificateRecord *certificate;

		if (list_length(found) >= MAX_KIN && !DatumGetBool(required(&rows, CERT_BLOCK)) &&
			!is_set(&rows, CERT_REVOKED_AT))
			continue;
		certificate = palloc(sizeof(CertificateRecord));
		read_certificate(&rows, certificate);
		found = certificate->block.blocked ? lcons(certificate, found) : lappend(found, certificate);
		if (certificate->block.blocked && list_length(found) >= MAX_KIN)
			break;
	}
	end_scan(&rows);
	return found;
}

bytea *
cmblock_find_certificate_der(Snapshot snapshot, const unsigned char *sha256)
{
	RowScan rows;
	Datum key = PointerGetDatum(cmblock_make_thumbprint(sha256, SHA256_OCTETS));
	bytea *der = NULL;

	begin_scan(&rows, &certificate_columns, REL_CERTIFICATE, IDX_CERTIFICATE_SHA256, snapshot, &key);
	if (next_row(&rows))
		der = DatumGetByteaPCopy(required(&rows, CERT_DER));
	end_scan(&rows);
	return der;
}
