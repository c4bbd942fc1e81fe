/*
 * authority.c
 *		The commands of the trust list: which CAs this site accepts.
 *
 * Each site has a list of its own, whatever its kind; it is not replicated. Adding a CA again changes its policy.
 * The commands only write the table: every session learns of it by the table's trigger (see trust.c), so that a
 * change by hand works the same way.
 */
#include "postgres.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "authority.h"
#include "catalog.h"
#include "command.h"
#include "compat.h"
#include "statement.h"
#include "trust.h"
#include "types.h"
#include "wake.h"
#include "x509.h"

PG_FUNCTION_INFO_V1(cmblock_add_certificate_authority);
PG_FUNCTION_INFO_V1(cmblock_remove_certificate_authority);
PG_FUNCTION_INFO_V1(cmblock_set_crl_policy);
PG_FUNCTION_INFO_V1(cmblock_certificate_authority_changed);

void
cmblock_authority_init(void)
{
	DefineCustomBoolVariable("cmblock.allow_sha1", "Accepts certificates that a CA signed with SHA-1.",
							 "SHA-1 can be forged by those who can pay for it. MD5 is never accepted.",
							 &cmblock_allow_sha1, false, PGC_SUSET, 0, NULL, NULL, NULL);
}

static void
refuse_authority(const CertificateFacts *facts, const char *detail)
{
	ereport(
		ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		errmsg("certificate \"%s\" cannot be a certificate authority", facts->subject),
		errdetail("%s", detail),
		errhint("Give the certificate of the CA that signs the clients' certificates, not a client's own."));
}

/*
 * May it be in the list, and as what? True for a signer of CRLs alone: its key usage has cRLSign and not keyCertSign,
 * whatever its basic constraints say. Who signs certificates has to be a CA by its basic constraints. Old roots
 * and some private CAs lack those; an administrator who names such a certificate is believed and told, since
 * its key usage says it, or its age excuses it.
 */
static bool
check_authority(const CertificateFacts *facts)
{
	bool says_nothing = !(X509_get_extension_flags(facts->x509) & EXFLAG_BCONS);

	if (facts->has_unknown_critical)
		refuse_authority(facts, "It has a critical extension that is not known.");
	if (X509_get0_pubkey(facts->x509) == NULL)
		refuse_authority(
			facts, "OpenSSL cannot read its public key: the algorithm, or its parameters, are not known.");
	ERR_clear_error();
	if (facts->has_key_usage && !(facts->key_usage & KU_KEY_CERT_SIGN))
	{
		if (!(facts->key_usage & KU_CRL_SIGN))
			refuse_authority(facts, "Its key usage lets it sign neither certificates nor CRLs.");
		return true;
	}
	if (facts->is_ca)
		return false;
	if (facts->is_v1 && facts->self_signed)
		ereport(NOTICE, errmsg("certificate \"%s\" is too old to say whether it is a CA", facts->subject),
				errdetail("It is a self-signed certificate of X.509 version 1, and is taken as a root."));
	else if (says_nothing && facts->has_key_usage)
		ereport(
			NOTICE, errmsg("certificate \"%s\" has no basic constraints", facts->subject),
			errdetail("Its key usage lets it sign certificates, so it is taken as a root. Below another CA "
					  "of the trust list it can have issued nothing."));
	else
		refuse_authority(facts, "Its basic constraints do not say that it is a CA.");
	return false;
}

static void
refuse_damaged(const CertificateFacts *facts)
{
	const Authority *issuer = facts->self_signed ? NULL : cmblock_false_issuer(facts->x509);

	if (issuer)
		refuse_authority(facts,
						 psprintf("It names \"%s\" of the trust list as its issuer, and its signature was "
								  "not made with that CA's key.",
								  issuer->subject));
}

static void
warn_about_validity(const CertificateFacts *facts)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now >= facts->not_before && now <= facts->not_after)
		return;
	ereport(WARNING, errcode(ERRCODE_WARNING),
			errmsg("certificate authority \"%s\" is %s", facts->subject,
				   now > facts->not_after ? "expired" : "not valid yet"),
			errdetail("Its validity is from %s to %s.", pstrdup(timestamptz_to_str(facts->not_before)),
					  pstrdup(timestamptz_to_str(facts->not_after))),
			errhint("Certificates that it signed are refused outside of that time."));
}

Datum
cmblock_add_certificate_authority(PG_FUNCTION_ARGS)
{
	static Statement add = {
		.sql = "INSERT INTO cmblock.certificate_authority (sha256, subject, issuer, serial, not_before, "
			   "not_after,"
			   " key_sha256, self_signed, policy, der, crl_signer, added_by, added_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, session_user, now())"
			   " ON CONFLICT (sha256) DO UPDATE SET policy = excluded.policy"
			   " WHERE certificate_authority.policy <> excluded.policy",
		.parameter = {"thumbprint", "text", "text", "certificate_serial", "timestamptz", "timestamptz",
					  "thumbprint", "bool", "crl_policy", "bytea", "bool"},
	};
	CertificateFacts *facts;
	Datum thumbprint;
	Datum values[11];

	cmblock_begin_command(fcinfo, 0);
	facts = cmblock_certificate_argument(PG_GETARG_DATUM(0));
	values[10] = BoolGetDatum(check_authority(facts));
	refuse_damaged(facts);
	warn_about_validity(facts);

	thumbprint = PointerGetDatum(cmblock_make_thumbprint(facts->sha256, SHA256_OCTETS));
	values[0] = thumbprint;
	values[1] = CStringGetTextDatum(facts->subject);
	values[2] = CStringGetTextDatum(facts->issuer);
	values[3] = PointerGetDatum(facts->serial);
	values[4] = TimestampTzGetDatum(facts->not_before);
	values[5] = TimestampTzGetDatum(facts->not_after);
	values[6] = PointerGetDatum(cmblock_make_thumbprint(facts->key_sha256, SHA256_OCTETS));
	values[7] = BoolGetDatum(facts->self_signed);
	values[8] = PG_GETARG_DATUM(1);
	values[9] = PointerGetDatum(facts->der);
	SPI_connect();
	cmblock_execute(&add, values, NULL);
	SPI_finish();
	PG_RETURN_DATUM(thumbprint);
}

Datum
cmblock_listed_authority(const struct varlena *thumbprint)
{
	const unsigned char *octets = (const unsigned char *) VARDATA_ANY(thumbprint);
	const Authority *authority = cmblock_find_authority(octets, VARSIZE_ANY_EXHDR(thumbprint));

	if (authority == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("certificate authority %s is not in the trust list",
					   cmblock_hex_string(octets, VARSIZE_ANY_EXHDR(thumbprint))),
				errhint("Table cmblock.certificate_authority shows the list of this site."));
	return PointerGetDatum(cmblock_make_thumbprint(authority->sha256, SHA256_OCTETS));
}

Datum
cmblock_remove_certificate_authority(PG_FUNCTION_ARGS)
{
	static Statement remove = {
		.sql = "DELETE FROM cmblock.certificate_authority WHERE sha256 = $1",
		.parameter = {"thumbprint"},
	};
	static Statement remove_sources = {
		.sql = "DELETE FROM cmblock.crl_source WHERE authority = $1",
		.parameter = {"thumbprint"},
	};
	Datum sha256;

	cmblock_begin_command(fcinfo, 0);
	sha256 = cmblock_listed_authority(PG_GETARG_VARLENA_PP(0));
	SPI_connect();
	cmblock_execute(&remove, &sha256, NULL);
	cmblock_execute(&remove_sources, &sha256, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

static void
refuse_negative(FunctionCallInfo fcinfo, int n, const char *name)
{
	Interval zero = {0};

	if (!PG_ARGISNULL(n) &&
		DatumGetBool(DirectFunctionCall2(interval_lt, PG_GETARG_DATUM(n), PointerGetDatum(&zero))))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" of set_crl_policy cannot be negative", name));
}

Datum
cmblock_set_crl_policy(PG_FUNCTION_ARGS)
{
	static Statement change = {
		.sql = "UPDATE cmblock.certificate_authority SET policy = coalesce($2, policy),"
			   " base_grace = coalesce($3, base_grace), delta_grace = coalesce($4, delta_grace),"
			   " max_age = nullif(coalesce($5, max_age), '0'), key_policy = coalesce($6, key_policy),"
			   " delta_policy = coalesce($7, delta_policy), allow_sha1 = coalesce($8, allow_sha1),"
			   " require_number = coalesce($9, require_number) WHERE sha256 = $1",
		.parameter = {"thumbprint", "crl_policy", "interval", "interval", "interval", "crl_key_policy",
					  "delta_policy", "bool", "bool"},
	};
	Datum values[9];
	char nulls[9];

	cmblock_begin_command(fcinfo, ~MAY_BE_NULL(0));
	refuse_negative(fcinfo, 2, "base_grace");
	refuse_negative(fcinfo, 3, "delta_grace");
	refuse_negative(fcinfo, 4, "max_age");
	values[0] = cmblock_listed_authority(PG_GETARG_VARLENA_PP(0));
	nulls[0] = ' ';
	for (int i = 1; i < lengthof(values); i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	SPI_connect();
	cmblock_execute(&change, values, nulls);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
cmblock_certificate_authority_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.certificate_authority_changed() can only be called as a trigger"));
	CacheInvalidateRelcache(trigger->tg_relation);
	cmblock_wake_refresher_at_commit();
	PG_RETURN_POINTER(NULL);
}
