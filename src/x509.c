/*
 * x509.c
 *		One certificate: from the octets somebody sent to the facts that cmblock keeps and decides by.
 *
 * The octets come from strangers. Their size is bounded before anything reads them. OpenSSL parses; our own strict
 * reader then takes the fields of which every octet counts (serial number, validity, public key) from the DER
 * itself, since OpenSSL's objects have lost how a number was written.
 *
 * A certificate is known by the SHA-256 of its DER, so there must be only one way to write it. What the CA signed is
 * fixed by the signature, but the shell around it is not: OpenSSL reads other encodings of it too. Such a copy would
 * carry the same signature under another thumbprint, and a blocked certificate would get past its block. So the
 * octets must be exactly those that OpenSSL writes for what it read.
 *
 * Failure: reading answers NULL and a problem in words, because a decision refuses bad octets and does not raise.
 * Every X509 belongs to a memory context from the moment it exists, so an error anywhere frees it.
 */
#include "postgres.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "access/detoast.h"
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "der.h"
#include "pem.h"
#include "x509.h"

static const char certificate_hint[] = "Give one X.509 certificate, as DER or PEM.";

/* Always false. */
static bool
refuse(CertificateProblem *problem, const char *detail)
{
	problem->detail = detail;
	problem->hint = certificate_hint;
	return false;
}

/* ---------- digests ---------- */

/* Fetched once in a process: OpenSSL would look its providers through at every call. */
static void
digest(EVP_MD **algorithm, const char *name, const void *data, size_t length, unsigned char *result)
{
	if (*algorithm == NULL)
		*algorithm = EVP_MD_fetch(NULL, name, NULL);
	if (*algorithm == NULL || EVP_Digest(data, length, result, NULL, *algorithm, NULL) != 1)
	{
		ERR_clear_error();
		ereport(ERROR, errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				errmsg("OpenSSL could not compute a %s digest", name));
	}
}

void
cmblock_sha256(const void *data, size_t length, unsigned char *result)
{
	static EVP_MD *algorithm = NULL;

	digest(&algorithm, "SHA256", data, length, result);
}

void
cmblock_sha1(const void *data, size_t length, unsigned char *result)
{
	static EVP_MD *algorithm = NULL;

	digest(&algorithm, "SHA1", data, length, result);
}

/* ---------- PEM ---------- */

static const bytea *
unwrap_pem(const char *text, size_t length, CertificateProblem *problem)
{
	bytea *der = palloc(VARHDRSZ + length);
	size_t size;
	PemResult result =
		cmblock_pem_decode((const uint8_t *) text, length, "CERTIFICATE", (uint8_t *) VARDATA(der), &size);

	ERR_clear_error();
	if (result == PEM_NOT_PEM)
	{
		refuse(problem, "The value is neither DER, which begins with octet 30, nor PEM.");
		return NULL;
	}
	if (result != PEM_DECODED)
	{
		refuse(problem, cmblock_pem_error_text(result));
		return NULL;
	}
	SET_VARSIZE(der, VARHDRSZ + size);
	return der;
}

const bytea *
cmblock_certificate_der(const bytea *input, CertificateProblem *problem)
{
	size_t length = VARSIZE_ANY_EXHDR(input);
	const char *data = VARDATA_ANY(input);

	if (length == 0)
	{
		refuse(problem, "The value is empty.");
		return NULL;
	}
	if (length > MAX_CERTIFICATE_OCTETS)
	{
		refuse(problem,
			   psprintf("The value has %zu octets; the limit is %d.", length, MAX_CERTIFICATE_OCTETS));
		return NULL;
	}
	if ((unsigned char) data[0] == DER_SEQUENCE)
		return input;
	return unwrap_pem(data, length, problem);
}

/* ---------- an X509 that belongs to a memory context ---------- */

typedef struct OwnedX509
{
	MemoryContextCallback callback;
	X509 *x509;
} OwnedX509;

static void
free_owned_x509(void *arg)
{
	X509_free(((OwnedX509 *) arg)->x509);
}

X509 *
cmblock_x509(const unsigned char *der, size_t length)
{
	OwnedX509 *owned = palloc0(sizeof(OwnedX509));
	const unsigned char *end = der;

	owned->callback.func = free_owned_x509;
	owned->callback.arg = owned;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &owned->callback);

	ERR_clear_error();
	owned->x509 = d2i_X509(NULL, &end, (long) length);
	if (owned->x509 && end != der + length)
	{
		X509_free(owned->x509);
		owned->x509 = NULL;
	}
	ERR_clear_error();
	return owned->x509;
}

/* Are the octets those that OpenSSL writes for what it has read? */
static bool
is_written_one_way(X509 *x509, const unsigned char *der, size_t length)
{
	int size = i2d_X509(x509, NULL);
	unsigned char *copy;
	unsigned char *end;
	bool same;

	if (size <= 0 || (size_t) size != length)
		return false;
	copy = end = palloc(size);
	same = i2d_X509(x509, &end) == size && memcmp(copy, der, size) == 0;
	pfree(copy);
	return same;
}

/* ---------- names ---------- */

/* A name as OpenSSL prints it with these flags, or NULL when it cannot. */
static char *
print_name(X509_NAME *name, unsigned long flags)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *printed = NULL;

	if (out && X509_NAME_print_ex(out, name, 0, flags) >= 0)
	{
		char *data;
		long length = BIO_get_mem_data(out, &data);

		printed = palloc_extended(length + 1, MCXT_ALLOC_NO_OOM);
		if (printed)
		{
			memcpy(printed, data, length);
			printed[length] = '\0';
		}
	}
	BIO_free(out);
	ERR_clear_error();
	return printed;
}

/* UTF-8 to the database encoding, or NULL when it is not UTF-8 or has characters that the encoding lacks. */
static char *
from_utf8(char *text)
{
	int length = strlen(text);
	int encoding = GetDatabaseEncoding();
	Oid conversion;
	char *result;

	if (!pg_verify_mbstr(PG_UTF8, text, length, true))
		return NULL;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return text;
	conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(conversion))
		return NULL;
	result = palloc(length * MAX_CONVERSION_GROWTH + 1);
	if (pg_do_encoding_conversion_buf(conversion, PG_UTF8, encoding, (unsigned char *) text, length,
									  (unsigned char *) result, length * MAX_CONVERSION_GROWTH + 1,
									  true) != length)
		return NULL;
	return result;
}

/*
 * RFC 2253 text of a name. Control characters, embedded zeros among them, come out as \00 and the like. When the
 * database encoding lacks a character, all that are not ASCII come out as \U65E5 or \F6. A name is for people to
 * read; no decision depends on this text.
 */
static char *
name_text(X509_NAME *name)
{
	char *text = print_name(name, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);

	if (text)
		text = from_utf8(text);
	if (!text)
		text = print_name(name, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_UTF8_CONVERT);
	return text ? text : pstrdup("(unreadable)");
}

char *
cmblock_name_text(const unsigned char *der, size_t length)
{
	X509_NAME *name = length <= LONG_MAX ? d2i_X509_NAME(NULL, &der, (long) length) : NULL;
	char *volatile text;

	ERR_clear_error();
	if (!name)
		return pstrdup("(unreadable)");
	PG_TRY();
	{
		text = name_text(name);
	}
	PG_FINALLY();
	{
		X509_NAME_free(name);
	}
	PG_END_TRY();
	return text;
}

/* ---------- the fields ---------- */

static bool
read_time(DerSpan *in, TimestampTz *time)
{
	int64_t seconds;

	if (!cmblock_der_read_time(in, &seconds))
		return false;
	*time = time_t_to_timestamptz((pg_time_t) seconds);
	return true;
}

/* The fields of which every octet counts. */
static bool
read_exact_fields(const bytea *der, CertificateFacts *facts, CertificateProblem *problem)
{
	DerSpan in = {(const uint8_t *) VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der)};
	DerSpan certificate;
	DerSpan tbs;
	DerSpan validity;
	DerSpan serial;
	DerSpan key;
	DerSpan unused;

	if (!der_expect(&in, DER_SEQUENCE, &certificate) || !der_expect(&certificate, DER_SEQUENCE, &tbs) ||
		(der_peek(&tbs) == DER_CONTEXT_CONSTRUCTED(0) &&
		 !der_expect(&tbs, DER_CONTEXT_CONSTRUCTED(0), &unused)) ||
		!der_expect(&tbs, DER_INTEGER, &serial) || !der_expect(&tbs, DER_SEQUENCE, &unused) ||
		!der_expect(&tbs, DER_SEQUENCE, &unused) || !der_expect(&tbs, DER_SEQUENCE, &validity) ||
		!der_expect(&tbs, DER_SEQUENCE, &unused) || !der_expect_whole(&tbs, DER_SEQUENCE, &key, &unused))
		return refuse(problem, "The certificate is not written in DER.");
	if (serial.size < 1 || serial.size > MAX_SERIAL_OCTETS)
		return refuse(problem, psprintf("The serial number has %zu octets; 1 to %d are allowed.", serial.size,
										MAX_SERIAL_OCTETS));
	if (!read_time(&validity, &facts->not_before) || !read_time(&validity, &facts->not_after) ||
		validity.size != 0)
		return refuse(problem, "The validity is not two times as RFC 5280 writes them.");

	facts->serial = cmblock_make_serial(serial.data, (int) serial.size);
	cmblock_sha256(key.data, key.size, facts->key_sha256);
	return true;
}

static bool
read_extensions(X509 *x509, CertificateFacts *facts, CertificateProblem *problem)
{
	uint32 flags = X509_get_extension_flags(x509);

	if (flags & EXFLAG_INVALID)
		return refuse(problem, "An extension of the certificate is malformed or there twice.");
	facts->is_ca = (flags & EXFLAG_CA) != 0;
	facts->is_v1 = (flags & EXFLAG_V1) != 0;
	facts->has_key_usage = (flags & EXFLAG_KUSAGE) != 0;
	facts->key_usage = facts->has_key_usage ? X509_get_key_usage(x509) : 0;
	facts->has_unknown_critical = (flags & EXFLAG_CRITICAL) != 0;
	return true;
}

static bool
is_self_signed(X509 *x509)
{
	EVP_PKEY *key;

	if (X509_NAME_cmp(X509_get_subject_name(x509), X509_get_issuer_name(x509)) != 0)
		return false;
	key = X509_get0_pubkey(x509);
	return key != NULL && X509_verify(x509, key) == 1;
}

CertificateFacts *
cmblock_read_certificate(const bytea *der, CertificateProblem *problem)
{
	const unsigned char *data = (const unsigned char *) VARDATA_ANY(der);
	size_t length = VARSIZE_ANY_EXHDR(der);
	CertificateFacts *facts = palloc0(sizeof(CertificateFacts));
	bool extensions_ok;

	facts->x509 = cmblock_x509(data, length);
	if (facts->x509 == NULL)
	{
		refuse(
			problem,
			"OpenSSL cannot read it as one certificate: it is damaged, cut off, or followed by more octets.");
		return NULL;
	}
	if (!is_written_one_way(facts->x509, data, length))
	{
		refuse(problem, "The certificate is not written in DER.");
		return NULL;
	}
	if (!read_exact_fields(der, facts, problem))
		return NULL;
	extensions_ok = read_extensions(facts->x509, facts, problem);
	facts->self_signed = extensions_ok && is_self_signed(facts->x509);
	ERR_clear_error();
	if (!extensions_ok)
		return NULL;

	facts->subject = name_text(X509_get_subject_name(facts->x509));
	facts->issuer = name_text(X509_get_issuer_name(facts->x509));
	cmblock_sha256(data, length, facts->sha256);
	cmblock_sha1(data, length, facts->sha1);
	facts->der = cmblock_make_bytea(data, length);
	return facts;
}

/* ---------- arguments ---------- */

bytea *
cmblock_bounded_argument(Datum argument)
{
	if (toast_raw_datum_size(argument) > MAX_CERTIFICATE_OCTETS + VARHDRSZ)
		return NULL;
	return DatumGetByteaPP(argument);
}

CertificateFacts *
cmblock_certificate_argument(Datum argument)
{
	CertificateProblem problem = {0};
	bytea *input = cmblock_bounded_argument(argument);
	CertificateFacts *facts = NULL;

	if (input == NULL)
		refuse(&problem,
			   psprintf("The value has %zu octets; the limit is %d.",
						(size_t) toast_raw_datum_size(argument) - VARHDRSZ, MAX_CERTIFICATE_OCTETS));
	else
	{
		const bytea *der = cmblock_certificate_der(input, &problem);

		if (der)
			facts = cmblock_read_certificate(der, &problem);
	}
	if (facts == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid certificate"),
				errdetail("%s", problem.detail), errhint("%s", problem.hint));
	return facts;
}
