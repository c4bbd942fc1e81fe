/*
 * crl_vectors_test.c
 *		CRLs that nobody here made: NIST's PKITS, BoringSSL's, and some of real CAs.
 *
 * The directory is CMBLOCK_VECTORS, or ../shared/crl-vectors beside the repository; of PKITS, all CRLs are in Debian's
 * package python3-cryptography-vectors. What is absent is skipped.
 * Every CRL that the reader takes is compared, entry by entry, with what OpenSSL makes of it.
 */
#include <dirent.h>
#include <unistd.h>

#include <openssl/x509v3.h>

#include "crl_index.h"
#include "crl_verify.h"
#include "pem.h"

#include "crl_expect.h"

static const CrlLimits large = {64 << 20, 10000000};
static const CrlAlgorithmPolicy policy = {true};
static const char package[] = "/usr/lib/python3/dist-packages/cryptography_vectors/x509/PKITS_data";
static const char *vectors;

/* A file's content, or nothing; to be freed. */
static Bytes
slurp(const char *directory, const char *file)
{
	char path[1024];
	FILE *stream;
	Bytes result = nothing;
	uint8_t *data;
	long size;

	snprintf(path, sizeof(path), "%s/%s/%s", vectors, directory, file);
	stream = fopen(path, "rb");
	if (stream == NULL)
		return result;
	fseek(stream, 0, SEEK_END);
	size = ftell(stream);
	rewind(stream);
	data = malloc((size_t) size + 1);
	result.data = data;
	result.size = fread(data, 1, (size_t) size, stream);
	fclose(stream);
	return result;
}

static X509 *
read_certificate(const char *directory, const char *file)
{
	Bytes der = slurp(directory, file);
	const unsigned char *p = der.data;
	X509 *certificate = der.data == NULL ? NULL : d2i_X509(NULL, &p, (long) der.size);

	free((void *) der.data);
	return certificate;
}

static int64_t
seconds_of(const ASN1_TIME *time)
{
	struct tm broken_down;

	return ASN1_TIME_to_tm(time, &broken_down) == 1 ? (int64_t) timegm(&broken_down) : INT64_MIN;
}

/* Content octets of an INTEGER as OpenSSL has it. */
static Bytes
content_of(const ASN1_INTEGER *number, uint8_t *room, size_t size)
{
	unsigned char *der = NULL;
	int der_size = i2d_ASN1_INTEGER(number, &der);
	DerSpan span = {der, der_size > 0 ? (size_t) der_size : 0};
	DerSpan content = {NULL, 0};
	Bytes result = {room, 0};

	if (der_expect(&span, DER_INTEGER, &content) && content.size <= size)
	{
		memcpy(room, content.data, content.size);
		result.size = content.size;
	}
	OPENSSL_free(der);
	return result;
}

/* Does the index say of every entry what OpenSSL says? */
static bool
agrees_with_openssl(Bytes der)
{
	static const uint8_t key[SIPHASH_KEY_OCTETS] = {9};
	static const uint8_t sha256[CRL_SHA256_OCTETS] = {0};
	const unsigned char *p = der.data;
	X509_CRL *theirs = d2i_X509_CRL(NULL, &p, (long) der.size);
	STACK_OF(X509_REVOKED) *list = theirs == NULL ? NULL : X509_CRL_get_REVOKED(theirs);
	size_t size = cmblock_crl_index_size(&crl);
	void *buffer = malloc(size);
	CrlIndex index;
	CrlWalk walk;
	CrlEntry walked;
	int count = list == NULL ? 0 : sk_X509_REVOKED_num(list);
	bool agrees = theirs != NULL && cmblock_crl_index_build(&crl, key, sha256, buffer, size) &&
				  cmblock_crl_index_open(buffer, size, &index) && (int) crl.entry_count == count &&
				  crl.this_update == seconds_of(X509_CRL_get0_lastUpdate(theirs));
	int i;

	/* OpenSSL keeps them in their order, and the walk tells under which issuer they stand. */
	cmblock_crl_walk(&crl, &walk);
	for (i = 0; agrees && i < count && cmblock_crl_next(&walk, &walked); i++)
	{
		X509_REVOKED *revoked = sk_X509_REVOKED_value(list, i);
		uint8_t room[64];
		Bytes serial = content_of(X509_REVOKED_get0_serialNumber(revoked), room, sizeof(room));
		ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(revoked, NID_crl_reason, NULL, NULL);
		long code = reason == NULL ? CRLREASON_NONE : ASN1_ENUMERATED_get(reason);
		CrlEntry entry;

		ASN1_ENUMERATED_free(reason);
		agrees = cmblock_crl_index_find(&index, serial.data, serial.size, walked.issuer, &entry) &&
				 entry.reason == code &&
				 entry.revocation_date == seconds_of(X509_REVOKED_get0_revocationDate(revoked));
	}
	agrees &= i == count;
	if (theirs != NULL && crl.next_update != 0)
		agrees &= crl.next_update == seconds_of(X509_CRL_get0_nextUpdate(theirs));
	free(buffer);
	X509_CRL_free(theirs);
	return agrees;
}

static bool
lists_serial_of(X509 *certificate)
{
	uint8_t room[64];
	Bytes serial = content_of(X509_get0_serialNumber(certificate), room, sizeof(room));
	CrlWalk walk;
	CrlEntry entry;

	cmblock_crl_walk(&crl, &walk);
	while (cmblock_crl_next(&walk, &entry))
	{
		if (span_is(entry.serial, serial))
			return true;
	}
	return false;
}

static bool
verified_by(X509 *certificate)
{
	return certificate != NULL && cmblock_crl_check_signer(&crl, certificate) == CRLSIGNER_POSSIBLE &&
		   cmblock_crl_verify(&crl, X509_get0_pubkey(certificate), &policy) == CRLSIG_VALID;
}

/*
 * Those of BoringSSL's that are not malformed by our rules, or are refused later: an empty list is accepted with a flag
 * (rule 11), the certificate is at fault, or the CRL's signer may not sign.
 */
static bool
reader_takes(const char *name)
{
	return strcmp(name, "invalid_revoked_empty_sequence") == 0 ||
		   strcmp(name, "invalid_idp_onlycontainsusercerts_v1_leaf") == 0 ||
		   strcmp(name, "invalid_issuer_keyusage_no_crlsign") == 0 ||
		   strcmp(name, "invalid_key_rollover_issuer_keyusage_no_crlsign") == 0;
}

static void
test_boringssl_line(char *line)
{
	static const char directory[] = "boringssl-crl";
	char *fields[8] = {NULL};
	char *rest = line;
	int n;
	Bytes der;
	CrlError error;
	X509 *leaf;
	X509 *ca;
	X509 *ca2;
	bool verified;

	for (n = 0; n < 8; n++)
		fields[n] = strsep(&rest, "\t\n");
	if (fields[7] == NULL)
		return;
	der = slurp(directory, fields[4]);
	error = cmblock_crl_read(der.data, der.size, &large, &crl);
	if (strcmp(fields[7], "UNKNOWN(malformed CRL)") == 0 && !reader_takes(fields[0]))
		ok(error != CRLERR_NONE, "boringssl: %s is refused: %s", fields[0], cmblock_crl_error_text(error));
	else if (strcmp(fields[0], "bad_fake_critical_extension") == 0)
		ok(error == CRLERR_UNKNOWN_CRITICAL_EXTENSION, "boringssl: %s is refused", fields[0]);
	else
		ok(error == CRLERR_NONE && agrees_with_openssl(der), "boringssl: %s is read as OpenSSL reads it",
		   fields[0]);

	leaf = read_certificate(directory, fields[1]);
	ca = read_certificate(directory, fields[2]);
	ca2 = fields[3][0] == '\0' ? NULL : read_certificate(directory, fields[3]);
	verified = error == CRLERR_NONE && (verified_by(ca) || verified_by(ca2));
	if (strcmp(fields[7], "GOOD") == 0)
		ok(verified && !lists_serial_of(leaf), "boringssl: %s is signed and does not list the certificate",
		   fields[0]);
	else if (strcmp(fields[7], "REVOKED") == 0)
		ok(verified && lists_serial_of(leaf), "boringssl: %s is signed and lists the certificate", fields[0]);
	else if (strstr(fields[0], "signature") != NULL || strstr(fields[0], "keyusage") != NULL ||
			 strstr(fields[0], "wrong_issuer") != NULL)
		ok(!verified, "boringssl: %s is not signed by who may", fields[0]);
	X509_free(leaf);
	X509_free(ca);
	X509_free(ca2);
	free((void *) der.data);
}

static void
test_boringssl(void)
{
	Bytes table = slurp("boringssl-crl", "index.tsv");
	char *lines;
	char *line;
	char *rest;

	if (table.data == NULL)
	{
		skip("boringssl", "no index.tsv");
		return;
	}
	lines = rest = strndup((const char *) table.data, table.size);
	while ((line = strsep(&rest, "\n")) != NULL)
	{
		if (line[0] != '\0' && line[0] != '#')
			test_boringssl_line(line);
	}
	free(lines);
	free((void *) table.data);
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
is_crl(const struct dirent *entry)
{
	return strstr(entry->d_name, "crl") != NULL || strstr(entry->d_name, "CRL") != NULL;
}

/* All CRLs of a directory are taken, but for those that are broken on purpose. */
static void
test_directory(const char *directory)
{
	char path[1024];
	struct dirent **files;
	int count;
	int i;

	snprintf(path, sizeof(path), "%s/%s", vectors, directory);
	count = scandir(path, &files, is_crl, by_name);
	if (count <= 0)
	{
		skip(directory, "no CRLs there");
		return;
	}
	for (i = 0; i < count; i++)
	{
		const char *name = files[i]->d_name;
		Bytes der = slurp(directory, name);
		CrlError error;

		if (strstr(name, ".pem") != NULL)
		{
			Bytes pem = der;
			uint8_t *out = malloc(pem.size);

			ok(cmblock_pem_decode(pem.data, pem.size, "X509 CRL", out, &der.size) == PEM_DECODED,
			   "%s: %s is PEM", directory, name);
			der.data = out;
			free((void *) pem.data);
		}
		error = cmblock_crl_read(der.data, der.size, &large, &crl);
		if (strcmp(name, "BadCRLSignatureCACRL.crl") == 0)
			ok(error == CRLERR_BAD_SIGNATURE_VALUE, "%s: %s is refused", directory, name);
		else if (strcmp(name, "UnknownCRLExtensionCACRL.crl") == 0)
			ok(error == CRLERR_UNKNOWN_CRITICAL_EXTENSION, "%s: %s is refused", directory, name);
		else
			ok(error == CRLERR_NONE && agrees_with_openssl(der),
			   "%s: %s of %u entries is read as OpenSSL reads it", directory, name, crl.entry_count);
		free((void *) der.data);
		free(files[i]);
	}
	free(files);
}

int
main(void)
{
	const char *beside = getenv("CMBLOCK_VECTORS");

	if (beside == NULL)
		beside = "../shared/crl-vectors";
	vectors = beside;
	test_boringssl();
	test_directory("public-cas");
	test_directory("adcs");
	if (access(package, R_OK) == 0)
		vectors = package;
	test_directory(vectors == package ? "crls" : "pkits/crls");
	return done_testing();
}
