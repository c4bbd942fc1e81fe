/*
 * records.h
 *		Rows of client and certificate as decisions read them: straight from the index, all with one snapshot.
 */
#ifndef CMBLOCK_RECORDS_H
#define CMBLOCK_RECORDS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"

#include "catalog.h"
#include "types.h"

/* Texts are palloc'd copies, and NULL where the row has none. */
typedef struct BlockState
{
	bool blocked;
	/* of the block; not read when there is none */
	char *reason;
	char *ticket;
	char *changed_by;
	TimestampTz changed_at;
} BlockState;

typedef struct ClientRecord
{
	Smsid smsid;
	SiteCode assigned_site;
	text *hardware_id;
	int16 approval;
	bool isv_proxied;
	bool deleted;
	BlockState block;
} ClientRecord;

typedef struct CertificateRecord
{
	unsigned char sha256[SHA256_OCTETS];
	CertificateType type;
	bool has_client;
	Smsid client;
	SiteCode assigned_site;
	struct varlena *serial;
	TimestampTz not_before;
	TimestampTz not_after;
	bool self_signed;
	bool deleted;
	bool revoked; /* by this hierarchy, at revoked_at */
	TimestampTz revoked_at;
	BlockState block;
} CertificateRecord;

extern bool cmblock_find_client(Snapshot snapshot, const Smsid *smsid, ClientRecord *client);

/* A blocked client with this hardware id, other than `except` (which may be NULL). */
extern bool cmblock_find_blocked_hardware(Snapshot snapshot, text *hardware_id, const Smsid *except,
										  ClientRecord *client);

/* Calls back for the hardware id of each blocked client that has one. */
extern void cmblock_each_blocked_hardware(Snapshot snapshot, void (*take)(text *hardware_id));

/*
 * The certificates with this thumbprint of 20 or 32 octets: how many, and the first. There is at most one for a
 * SHA-256; a second for a SHA-1 goes to `other`, which may be NULL.
 */
extern int cmblock_find_certificate(Snapshot snapshot, const unsigned char *thumbprint, int length,
									CertificateRecord *certificate, CertificateRecord *other);

/* The certificates with this public key: a list of CertificateRecord, at most MAX_KIN but for revoked ones,
 * blocked ones first. */
#define MAX_KIN 32
extern List *cmblock_find_certificates_by_key(Snapshot snapshot, const unsigned char *key_sha256);

/* The DER of a registered certificate, or NULL when there is none. */
extern bytea *cmblock_find_certificate_der(Snapshot snapshot, const unsigned char *sha256);

#endif
