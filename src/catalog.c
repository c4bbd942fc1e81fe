/*
 * catalog.c
 *		The extension's own catalog entries: OIDs of its tables, indexes and enum values.
 *
 * Looked up by name once in a session and kept. The schema is a member of the extension, so whatever
 * DROP EXTENSION, CREATE EXTENSION or a rollback of either does, pg_namespace changes and our callback
 * forgets everything. REINDEX CONCURRENTLY makes an index with another OID under the same name; the message about the old
 * one makes us look its name up again. So an OID never outlives the object it named.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "catalog.h"

static const char *const relation_names[CMBLOCK_RELATIONS] = {
	[REL_THIS_SITE] = "this_site",
	[REL_SITE] = "site",
	[REL_CLIENT] = "client",
	[REL_CERTIFICATE] = "certificate",
	[REL_BLOCK_EVENT] = "block_event",
	[REL_CERTIFICATE_AUTHORITY] = "certificate_authority",
	[REL_CRL] = "crl",
	[REL_CRL_SCOPE] = "crl_scope",
	[REL_REPLICATION_LINK] = "replication_link",
	[REL_REPLICATION_CURSOR] = "replication_cursor",
	[IDX_SITE_CODE] = "site_pkey",
	[IDX_CLIENT_SMSID] = "client_pkey",
	[IDX_CLIENT_BLOCKED_HARDWARE_ID] = "client_blocked_hardware_id",
	[IDX_CERTIFICATE_SHA256] = "certificate_pkey",
	[IDX_CERTIFICATE_SHA1] = "certificate_sha1",
	[IDX_CERTIFICATE_KEY] = "certificate_key",
	[IDX_BLOCK_EVENT_ID] = "block_event_pkey",
	[IDX_CRL_SHA256] = "crl_pkey",
	[IDX_REPLICATION_LINK] = "replication_link_pkey",
	[IDX_SITE_CHANGE_XID] = "site_change_xid",
	[IDX_CLIENT_CHANGE_XID] = "client_change_xid",
	[IDX_CERTIFICATE_CHANGE_XID] = "certificate_change_xid",
};

#define MAX_LABELS 8

typedef struct EnumLabels
{
	const char *type;
	const char *label[MAX_LABELS]; /* ends with NULL when shorter */
} EnumLabels;

static const EnumLabels enum_labels[CMBLOCK_ENUMS] = {
	[ENUM_SITE_KIND] = {"site_kind", {"central", "primary", "secondary"}},
	[ENUM_CLIENT_KIND] = {"client_kind", {"computer", "mac", "mobile_device"}},
	[ENUM_CERTIFICATE_TYPE] = {"certificate_type",
							   {"client", "boot_media", "distribution_point", "isv_proxy"}},
	[ENUM_TRANSPORT] = {"transport", {"http", "enhanced_http", "https"}},
	[ENUM_REQUEST_KIND] = {"request_kind",
						   {"policy", "inventory", "state_message", "status_message", "registration",
							"content", "os_deployment"}},
	[ENUM_ASSURANCE] = {"assurance", {"limited", "full"}},
	[ENUM_BLOCK_OUTCOME] = {"block_outcome",
							{"blocked", "unblocked", "unchanged", "not_found", "not_assigned_here",
							 "isv_proxied"}},
	[ENUM_CRL_POLICY] = {"crl_policy", {"required", "best_effort", "off"}},
	[ENUM_REVOCATION] = {"revocation", {"good", "revoked", "unknown"}},
	[ENUM_BLOCK_ACTION] = {"block_action",
						   {"blocked", "unblocked", "reassigned", "deleted", "recovered", "conflict",
							"seized"}},
	[ENUM_CRL_KEY_POLICY] = {"crl_key_policy", {"automatic", "same_key", "any_key"}},
	[ENUM_DELTA_POLICY] = {"delta_policy", {"required", "when_held", "optional"}},
	[ENUM_CRL_STATE] = {"crl_state", {"current", "held_back"}},
	[ENUM_ENFORCEMENT_STATE] = {"enforcement_state", {"enforced", "pending", "unknown"}},
};

static Oid relation_oids[CMBLOCK_RELATIONS];
static Oid enum_oids[CMBLOCK_ENUMS][MAX_LABELS];
static uint64 generation = 1;
static bool callback_registered = false;

static void
forget_everything(Datum arg, int cacheid, uint32 hashvalue)
{
	memset(relation_oids, 0, sizeof(relation_oids));
	memset(enum_oids, 0, sizeof(enum_oids));
	generation++;
}

static void
forget_relation(Datum arg, Oid relid)
{
	for (int i = 0; i < CMBLOCK_RELATIONS; i++)
		if (relation_oids[i] == relid || !OidIsValid(relid))
			relation_oids[i] = InvalidOid;
}

uint64
cmblock_catalog_generation(void)
{
	return generation;
}

Oid
cmblock_schema(void)
{
	if (!callback_registered)
	{
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_everything, (Datum) 0);
		CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
		callback_registered = true;
	}
	return get_namespace_oid("cmblock", true);
}

static void
missing(const char *kind, const char *name)
{
	ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE), errmsg("%s \"cmblock.%s\" does not exist", kind, name),
			errhint("Install the extension in this database: CREATE EXTENSION cmblock."));
}

bool
cmblock_is_installed(void)
{
	return OidIsValid(get_extension_oid("cmblock", true));
}

Oid
cmblock_relation(CmblockRelation which)
{
	if (!OidIsValid(relation_oids[which]))
	{
		Oid schema = cmblock_schema();
		Oid oid = OidIsValid(schema) ? get_relname_relid(relation_names[which], schema) : InvalidOid;

		if (!OidIsValid(oid))
			missing("relation", relation_names[which]);
		relation_oids[which] = oid;
	}
	return relation_oids[which];
}

Oid
cmblock_type(const char *name)
{
	Oid schema = cmblock_schema();
	Oid oid = OidIsValid(schema) ? GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name),
												   ObjectIdGetDatum(schema))
								 : InvalidOid;

	if (!OidIsValid(oid))
		missing("type", name);
	return oid;
}

static void
load_enum(CmblockEnum which)
{
	const EnumLabels *e = &enum_labels[which];
	Oid type = cmblock_type(e->type);
	Oid loaded[MAX_LABELS] = {0};

	for (int i = 0; i < MAX_LABELS && e->label[i]; i++)
	{
		loaded[i] = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(type),
									CStringGetDatum(e->label[i]));
		if (!OidIsValid(loaded[i]))
			missing("enum label", psprintf("%s.%s", e->type, e->label[i]));
	}
	memcpy(enum_oids[which], loaded, sizeof(loaded));
}

int
cmblock_enum_value(CmblockEnum which, Oid oid)
{
	if (!OidIsValid(enum_oids[which][0]))
		load_enum(which);
	for (int i = 0; i < MAX_LABELS; i++)
		if (enum_oids[which][i] == oid)
			return i;
	elog(ERROR, "unexpected value %u of enum cmblock.%s", oid, enum_labels[which].type);
}

Datum
cmblock_enum_datum(CmblockEnum which, int value)
{
	if (!OidIsValid(enum_oids[which][0]))
		load_enum(which);
	return ObjectIdGetDatum(enum_oids[which][value]);
}

const char *
cmblock_enum_label(CmblockEnum which, int value)
{
	return enum_labels[which].label[value];
}
