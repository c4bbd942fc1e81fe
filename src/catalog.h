/*
 * catalog.h
 *		The extension's own catalog entries: OIDs of its tables, indexes and enum values.
 */
#ifndef CMBLOCK_CATALOG_H
#define CMBLOCK_CATALOG_H

#include "postgres.h"

typedef enum CmblockRelation
{
	REL_THIS_SITE,
	REL_SITE,
	REL_CLIENT,
	REL_CERTIFICATE,
	REL_BLOCK_EVENT,
	REL_CERTIFICATE_AUTHORITY,
	REL_CRL,
	REL_CRL_SCOPE,
	REL_REPLICATION_LINK,
	REL_REPLICATION_CURSOR,
	IDX_SITE_CODE,
	IDX_CLIENT_SMSID,
	IDX_CLIENT_BLOCKED_HARDWARE_ID,
	IDX_CERTIFICATE_SHA256,
	IDX_CERTIFICATE_SHA1,
	IDX_CERTIFICATE_KEY,
	IDX_BLOCK_EVENT_ID,
	IDX_CRL_SHA256,
	IDX_REPLICATION_LINK,
	IDX_SITE_CHANGE_XID,
	IDX_CLIENT_CHANGE_XID,
	IDX_CERTIFICATE_CHANGE_XID
} CmblockRelation;

#define CMBLOCK_RELATIONS (IDX_CERTIFICATE_CHANGE_XID + 1)

typedef enum CmblockEnum
{
	ENUM_SITE_KIND,
	ENUM_CLIENT_KIND,
	ENUM_CERTIFICATE_TYPE,
	ENUM_TRANSPORT,
	ENUM_REQUEST_KIND,
	ENUM_ASSURANCE,
	ENUM_BLOCK_OUTCOME,
	ENUM_CRL_POLICY,
	ENUM_REVOCATION,
	ENUM_BLOCK_ACTION,
	ENUM_CRL_KEY_POLICY,
	ENUM_DELTA_POLICY,
	ENUM_CRL_STATE,
	ENUM_ENFORCEMENT_STATE
} CmblockEnum;

#define CMBLOCK_ENUMS (ENUM_ENFORCEMENT_STATE + 1)

/* The values of each enum, in the order of their SQL labels. */
typedef enum SiteKind
{
	SITE_CENTRAL,
	SITE_PRIMARY,
	SITE_SECONDARY
} SiteKind;

typedef enum ClientKind
{
	CLIENT_COMPUTER,
	CLIENT_MAC,
	CLIENT_MOBILE_DEVICE
} ClientKind;

typedef enum CertificateType
{
	CERTIFICATE_CLIENT,
	CERTIFICATE_BOOT_MEDIA,
	CERTIFICATE_DISTRIBUTION_POINT,
	CERTIFICATE_ISV_PROXY
} CertificateType;

typedef enum Transport
{
	TRANSPORT_HTTP,
	TRANSPORT_ENHANCED_HTTP,
	TRANSPORT_HTTPS
} Transport;

typedef enum RequestKind
{
	REQUEST_POLICY,
	REQUEST_INVENTORY,
	REQUEST_STATE_MESSAGE,
	REQUEST_STATUS_MESSAGE,
	REQUEST_REGISTRATION,
	REQUEST_CONTENT,
	REQUEST_OS_DEPLOYMENT
} RequestKind;

typedef enum Assurance
{
	ASSURANCE_LIMITED,
	ASSURANCE_FULL
} Assurance;

typedef enum BlockOutcome
{
	OUTCOME_BLOCKED,
	OUTCOME_UNBLOCKED,
	OUTCOME_UNCHANGED,
	OUTCOME_NOT_FOUND,
	OUTCOME_NOT_ASSIGNED_HERE,
	OUTCOME_ISV_PROXIED
} BlockOutcome;

typedef enum CrlPolicy
{
	CRL_REQUIRED,
	CRL_BEST_EFFORT,
	CRL_OFF
} CrlPolicy;

typedef enum Revocation
{
	REVOCATION_GOOD,
	REVOCATION_REVOKED,
	REVOCATION_UNKNOWN
} Revocation;

typedef enum CrlKeyPolicy
{
	CRL_KEY_AUTOMATIC,
	CRL_KEY_SAME,
	CRL_KEY_ANY
} CrlKeyPolicy;

typedef enum DeltaPolicy
{
	DELTA_REQUIRED,
	DELTA_WHEN_HELD,
	DELTA_OPTIONAL
} DeltaPolicy;

typedef enum CrlState
{
	CRL_CURRENT,
	CRL_HELD_BACK
} CrlState;

typedef enum EnforcementState
{
	ENFORCEMENT_ENFORCED,
	ENFORCEMENT_PENDING,
	ENFORCEMENT_UNKNOWN
} EnforcementState;

typedef enum BlockAction
{
	ACTION_BLOCKED,
	ACTION_UNBLOCKED,
	ACTION_REASSIGNED,
	ACTION_DELETED,
	ACTION_RECOVERED,
	ACTION_CONFLICT,
	ACTION_SEIZED
} BlockAction;

/* OID of a table or index of the extension. Errors out (42P01) when the extension is not in this database. */
extern Oid cmblock_relation(CmblockRelation which);

/* OID of the extension's schema, or InvalidOid. */
extern Oid cmblock_schema(void);

/* OID of a type of the extension, by its name in schema cmblock. Not cached: for set-up code. */
extern Oid cmblock_type(const char *name);

/* Place of an enum value among its labels (0, 1, ...), and back. */
extern int cmblock_enum_value(CmblockEnum which, Oid oid);
extern Datum cmblock_enum_datum(CmblockEnum which, int value);

/* SQL label of an enum value: a constant string. */
extern const char *cmblock_enum_label(CmblockEnum which, int value);

/* Grows whenever what was looked up here may have changed: anything kept by OID must be thrown away then. */
extern uint64 cmblock_catalog_generation(void);

/* Is the extension in this database? */
extern bool cmblock_is_installed(void);

#endif
