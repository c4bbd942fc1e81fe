/*
 * certificate.c
 *		Registering certificates: of clients, boot media, distribution points and ISV proxies.
 *
 * A certificate is known by the SHA-256 of its DER and stays what it was registered as: the same certificate
 * for another client or with another type is an error, also after its client was deleted. Otherwise deleting a blocked
 * client would set its certificate free. Registering it again for the same client brings a deleted one back, with
 * its block.
 *
 * Locking: the client's row is locked FOR SHARE, so that it cannot be deleted or handed over meanwhile. Two sessions
 * that register the same certificate meet at the primary key: the second waits, and then finds it registered.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "certificate.h"
#include "client.h"
#include "command.h"
#include "compat.h"
#include "guard.h"
#include "records.h"
#include "scan.h"
#include "site.h"
#include "statement.h"
#include "trust.h"
#include "types.h"
#include "x509.h"

PG_FUNCTION_INFO_V1(cmblock_register_certificate);

typedef struct Registration
{
	CertificateFacts *facts;
	struct varlena *sha256;
	const Smsid *client; /* NULL for all types but client */
	CertificateType type;
} Registration;

static const char *
describe(const Registration *r)
{
	return psprintf("certificate %s", cmblock_hex_string(r->facts->sha256, SHA256_OCTETS));
}

/* ---------- the client ---------- */

static Statement lock_client = {
	"SELECT assigned_site, deleted_at IS NOT NULL FROM cmblock.client WHERE smsid = $1 FOR SHARE", {"smsid"}};

/* Inside SPI. */
static void
lock_own_client(const Smsid *client)
{
	Datum key = SmsidPGetDatum(client);
	bool isnull;

	if (cmblock_execute(&lock_client, &key, NULL) == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("client %s is not known to this site", cmblock_smsid_string(client)),
				errhint("Register it first, with cmblock.register_client."));
	cmblock_require_assigned_here(DatumGetSiteCode(cmblock_result(1, &isnull)),
								  psprintf("client %s", cmblock_smsid_string(client)));
	if (DatumGetBool(cmblock_result(2, &isnull)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("client %s is deleted", cmblock_smsid_string(client)),
				errhint("Register it again with cmblock.register_client, then its certificate."));
}

/* ---------- the certificate ---------- */

static Statement lock_certificate = {
	"SELECT client, type, assigned_site, deleted_at IS NOT NULL, revoked_at IS NOT NULL FROM "
	"cmblock.certificate WHERE sha256 = $1 FOR UPDATE",
	{"thumbprint"}};

static Statement insert_certificate = {
	"INSERT INTO cmblock.certificate (sha256, sha1, type, client, assigned_site, subject, issuer, serial, "
	"not_before, "
	"not_after, self_signed, key_sha256, der, registered_at, blocked, version, origin_site, change_xid, "
	"changed_by, "
	"changed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now(), false, 1, $5, "
	"pg_current_xact_id(), session_user, now()) ON CONFLICT (sha256) DO NOTHING",
	{"thumbprint", "thumbprint", "certificate_type", "smsid", "site_code", "text", "text",
	 "certificate_serial", "timestamptz", "timestamptz", "bool", "thumbprint", "bytea"}};

static Statement revive_certificate = {"UPDATE cmblock.certificate SET deleted_at = NULL WHERE sha256 = $1",
									   {"thumbprint"}};

static bool
insert(const Registration *r)
{
	const CertificateFacts *f = r->facts;
	Datum values[13] = {
		PointerGetDatum(r->sha256),
		PointerGetDatum(cmblock_make_thumbprint(f->sha1, SHA1_OCTETS)),
		cmblock_enum_datum(ENUM_CERTIFICATE_TYPE, r->type),
		SmsidPGetDatum(r->client),
		SiteCodeGetDatum(cmblock_require_site()->code),
		CStringGetTextDatum(f->subject),
		CStringGetTextDatum(f->issuer),
		PointerGetDatum(f->serial),
		TimestampTzGetDatum(f->not_before),
		TimestampTzGetDatum(f->not_after),
		BoolGetDatum(f->self_signed),
		PointerGetDatum(cmblock_make_thumbprint(f->key_sha256, SHA256_OCTETS)),
		PointerGetDatum(f->der),
	};

	return cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &insert_certificate, values,
							  r->client ? NULL : "   n         ") > 0;
}

static void
refuse_other_owner(const Registration *r, const Smsid *client, CertificateType type)
{
	ereport(
		ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
		client ? errmsg("%s is registered for client %s", describe(r), cmblock_smsid_string(client))
			   : errmsg("%s is registered with type %s", describe(r),
						cmblock_enum_label(ENUM_CERTIFICATE_TYPE, type)),
		errdetail("A certificate stays what it was registered as, so that its block cannot be shaken off."),
		errhint("Issue a new certificate, with a new key."));
}

/* The row that lock_certificate found: is it the same registration? Brings a deleted one back. */
static void
confirm(const Registration *r)
{
	bool has_no_client;
	bool isnull;
	Datum client = cmblock_result(1, &has_no_client);
	CertificateType type =
		cmblock_enum_value(ENUM_CERTIFICATE_TYPE, DatumGetObjectId(cmblock_result(2, &isnull)));
	Datum key = PointerGetDatum(r->sha256);

	if (type != r->type || (r->client && memcmp(DatumGetSmsidP(client), r->client, SMSID_OCTETS) != 0))
		refuse_other_owner(r, has_no_client ? NULL : DatumGetSmsidP(client), type);
	cmblock_require_assigned_here(DatumGetSiteCode(cmblock_result(3, &isnull)), describe(r));
	if (DatumGetBool(cmblock_result(5, &isnull)))
		ereport(WARNING, errcode(ERRCODE_WARNING), errmsg("%s is revoked and stays revoked", describe(r)),
				errdetail("The mobile device that it was of was deleted."),
				errhint("Issue a new certificate, with a new key."));
	if (DatumGetBool(cmblock_result(4, &isnull)))
		cmblock_execute_as(cmblock_writer(WRITER_COMMAND), &revive_certificate, &key, NULL);
}

static void
store(const Registration *r)
{
	Datum key = PointerGetDatum(r->sha256);
	bool known;

	SPI_connect();
	if (r->client)
	{
		lock_own_client(r->client);
		cmblock_watch_rejoin(r->client, NULL, NULL,
							 cmblock_make_thumbprint(r->facts->key_sha256, SHA256_OCTETS));
	}
	/* Somebody else may register it between our look and our insert: then it is there at the second look. */
	while (!(known = cmblock_execute(&lock_certificate, &key, NULL) > 0) && !insert(r))
		CHECK_FOR_INTERRUPTS();
	if (known)
		confirm(r);
	SPI_finish();
}

/* ---------- the command ---------- */

static X509 *
read_leaf(void *arg)
{
	return ((CertificateFacts *) arg)->x509;
}

/*
 * It may be registered before its CA is in the trust list, but the administrator should know what that means. To register
 * the file of the CA in place of the client's is easy to do, and decisions would take it for the client's.
 */
static void
warn_of_mistakes(const CertificateFacts *facts)
{
	Leaf leaf = {.sha256 = facts->sha256,
				 .serial = facts->serial,
				 .read = read_leaf,
				 .arg = unconstify(CertificateFacts *, facts)};
	TimestampTz now = GetCurrentTimestamp();
	TrustChain chain;
	TrustResult result;

	if (cmblock_find_authority(facts->sha256, SHA256_OCTETS))
		ereport(WARNING, errcode(ERRCODE_WARNING),
				errmsg("this is the certificate of a certificate authority of the trust list"),
				errhint("Register the one that the CA issued to the client, or to whatever it is of."));
	if (now < facts->not_before || now > facts->not_after)
		ereport(WARNING, errcode(ERRCODE_WARNING),
				errmsg("decisions refuse this certificate: it is not in its validity"),
				errdetail("It is valid from %s to %s.", pstrdup(timestamptz_to_str(facts->not_before)),
						  pstrdup(timestamptz_to_str(facts->not_after))));
	if (facts->self_signed)
		return;
	result = cmblock_trust(&leaf, now, &chain);
	if (result != TRUST_OK)
		ereport(
			WARNING, errcode(ERRCODE_WARNING), errmsg("decisions refuse this certificate: it is not trusted"),
			errdetail("%s", cmblock_trust_sentence(result)),
			errhint(
				"Its issuer is \"%s\". Add that CA with cmblock.add_certificate_authority if the site is to "
				"accept it.",
				facts->issuer));
}

static void
check_arguments(FunctionCallInfo fcinfo, const Registration *r)
{
	if ((r->type == CERTIFICATE_CLIENT) == (r->client != NULL))
		return;
	if (r->client == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a certificate of type client needs the client it is of"),
				errhint("Give the argument \"client\", or say which type the certificate is."));
	ereport(
		ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		errmsg("a certificate of type %s has no client", cmblock_enum_label(ENUM_CERTIFICATE_TYPE, r->type)),
		errhint("Leave the argument \"client\" out."));
}

Datum
cmblock_register_certificate(PG_FUNCTION_ARGS)
{
	Registration r = {0};
	const SiteIdentity *here;

	cmblock_begin_command(fcinfo, MAY_BE_NULL(1));
	r.client = PG_ARGISNULL(1) ? NULL : PG_GETARG_SMSID_P(1);
	r.type = cmblock_enum_value(ENUM_CERTIFICATE_TYPE, PG_GETARG_OID(2));
	check_arguments(fcinfo, &r);
	here = cmblock_require_site();
	if (here->kind != SITE_PRIMARY)
		cmblock_require_assigned_here(here->code, "a certificate");
	r.facts = cmblock_certificate_argument(PG_GETARG_DATUM(0));
	r.sha256 = cmblock_make_thumbprint(r.facts->sha256, SHA256_OCTETS);
	store(&r);
	warn_of_mistakes(r.facts);
	PG_RETURN_POINTER(r.sha256);
}

/* ---------- for other parts ---------- */

struct varlena *
cmblock_resolve_thumbprint(const struct varlena *thumbprint)
{
	Snapshot snapshot = RegisterSnapshot(cmblock_newest_snapshot());
	CertificateRecord first;
	CertificateRecord second;
	int found = cmblock_find_certificate(snapshot, (const unsigned char *) VARDATA_ANY(thumbprint),
										 VARSIZE_ANY_EXHDR(thumbprint), &first, &second);

	UnregisterSnapshot(snapshot);
	if (found > 1)
		ereport(ERROR, errcode(ERRCODE_CARDINALITY_VIOLATION),
				errmsg("two certificates have this SHA-1 thumbprint"),
				errdetail("Their SHA-256 thumbprints are %s and %s.",
						  cmblock_hex_string(first.sha256, SHA256_OCTETS),
						  cmblock_hex_string(second.sha256, SHA256_OCTETS)),
				errhint("Name the certificate by its SHA-256 thumbprint."));
	return found == 1 ? cmblock_make_thumbprint(first.sha256, SHA256_OCTETS) : NULL;
}
