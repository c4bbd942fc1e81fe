/*
 * crl_sql_bench.c
 *		Revocation through SQL beside processes that use OpenSSL's X509_CRL, in one run on one machine.
 *
 *		usage: crl_sql_bench [entries ...]		(1000 50000 1000000 by default)
 *
 * Needs a server with cmblock in shared_preload_libraries, on this machine, where libpq's variables lead as a
 * superuser; RESTART is the command that restarts it. crl_sql.sh sets all that up. For each size, in a database of its own:
 *
 *		import_crl		a full CRL, from the client's memory to committed and ready for all
 *		first call		of revocation_status in a session, the CRL being in shared memory
 *		after restart	the first call of all: the CRL is loaded from its table and indexed again
 *		later calls		one at a time from the client, and many in one statement
 *		delta			import_crl of a delta CRL of 100 entries, until another session refuses what it revokes
 *		memory			what twenty sessions have grown by after many calls each, and the cache, once
 *
 * OpenSSL's side is what each session would have to do by itself with d2i_X509_CRL, X509_CRL_verify and
 * X509_CRL_get0_by_serial: a process that does this is measured, and twenty take twenty times its memory.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libpq-fe.h>
#include <openssl/x509v3.h>

#include "crl_generate.h"

#define SESSIONS 20
#define CALLS 2000
#define MANY_CALLS 20000

/* A certificate, DER. */
typedef struct Certificate
{
	uint8_t *der;
	int size;
} Certificate;

typedef struct OpensslFigures
{
	double first; /* seconds: decode, verify, first lookup */
	double later;
	double memory; /* kB, private */
} OpensslFigures;

/* ---------- certificates ---------- */

static void
add_extension(X509 *x509, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&context, x509, x509, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	check(extension != NULL && X509_add_ext(x509, extension, -1) == 1, "adding an extension");
	X509_EXTENSION_free(extension);
}

/* A CA, or a client's certificate with serial n of the CRL's series. */
static Certificate
make_certificate(const char *subject, uint64_t n, EVP_PKEY *key)
{
	X509 *x509 = X509_new();
	X509_NAME *name;
	uint8_t octets[SERIAL_OCTETS];
	BIGNUM *number;
	Certificate certificate = {NULL, 0};
	bool is_ca = strcmp(subject, BENCH_CA) == 0;

	make_serial(n, octets);
	number = BN_bin2bn(octets, SERIAL_OCTETS, NULL);
	check(x509 != NULL && number != NULL && X509_set_version(x509, 2) == 1 &&
			  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)) != NULL,
		  "making a certificate");
	BN_free(number);
	X509_gmtime_adj(X509_getm_notBefore(x509), -86400);
	X509_gmtime_adj(X509_getm_notAfter(x509), 365 * 86400);
	name = X509_get_subject_name(x509);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *) subject, -1, -1, 0);
	name = X509_get_issuer_name(x509);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *) BENCH_CA, -1, -1, 0);
	X509_set_pubkey(x509, key);
	add_extension(x509, NID_basic_constraints, is_ca ? "critical,CA:TRUE" : "CA:FALSE");
	add_extension(x509, NID_key_usage, is_ca ? "critical,keyCertSign,cRLSign" : "digitalSignature");
	if (!is_ca)
		add_extension(x509, NID_ext_key_usage, "clientAuth");
	check(X509_sign(x509, key, EVP_sha256()) > 0, "signing a certificate");
	certificate.size = i2d_X509(x509, &certificate.der);
	check(certificate.size > 0, "encoding a certificate");
	X509_free(x509);
	return certificate;
}

/* ---------- the server ---------- */

static PGconn *
connect_to(const char *database)
{
	char conninfo[256];
	PGconn *connection;

	snprintf(conninfo, sizeof(conninfo), "dbname=%s options='-c client_min_messages=error'", database);
	connection = PQconnectdb(conninfo);
	if (PQstatus(connection) != CONNECTION_OK)
		fprintf(stderr, "%s", PQerrorMessage(connection));
	check(PQstatus(connection) == CONNECTION_OK, "connecting");
	return connection;
}

/* Runs a statement with at most one parameter, in binary form. The first column of the first row goes to "answer". */
static void
query(PGconn *connection, const char *sql, const void *octets, size_t size, char *answer, size_t room)
{
	const Oid type = 17; /* bytea */
	const char *value = octets;
	const int length = (int) size;
	const int format = 1;
	PGresult *result = PQexecParams(connection, sql, octets ? 1 : 0, &type, &value, &length, &format, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(connection));
		check(false, sql);
	}
	if (answer)
		snprintf(answer, room, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
}

static void
run_sql(PGconn *connection, const char *sql)
{
	query(connection, sql, NULL, 0, NULL, 0);
}

static double
ask_number(PGconn *connection, const char *sql)
{
	char answer[64];

	query(connection, sql, NULL, 0, answer, sizeof(answer));
	return atof(answer);
}

static void
import_crl(PGconn *connection, const Generated *crl)
{
	char outcome[64];

	query(connection, "SELECT (cmblock.import_crl($1)).outcome", crl->der, crl->size, outcome,
		  sizeof(outcome));
	if (strcmp(outcome, "accepted") != 0)
		fprintf(stderr, "%s\n", outcome);
	check(strcmp(outcome, "accepted") == 0, "import_crl");
}

static bool
has_status(PGconn *connection, const Certificate *certificate, const char *expected)
{
	char status[64];

	query(connection, "SELECT (cmblock.revocation_status($1)).status", certificate->der,
		  (size_t) certificate->size, status, sizeof(status));
	return strcmp(status, expected) == 0;
}

/* Seconds for one call. */
static double
time_call(PGconn *connection, const Certificate *certificate, const char *expected)
{
	double start = now();

	check(has_status(connection, certificate, expected), "revocation_status");
	return now() - start;
}

/* ---------- memory ---------- */

/* kB of a line of /proc/PID/smaps_rollup. Shared memory counts for nobody in Private_*; see the report. */
static double
memory_of(int pid, const char *line)
{
	char path[64];
	char text[256];
	double kb = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	while (fgets(text, sizeof(text), file))
		if (strncmp(text, line, strlen(line)) == 0)
			kb += atof(strchr(text, ':') + 1);
	fclose(file);
	return kb;
}

static double
sum_of_memory(PGconn **session, const char *line)
{
	double sum = 0;

	for (int i = 0; i < SESSIONS; i++)
		sum += memory_of(PQbackendPID(session[i]), line);
	return sum;
}

/* ---------- OpenSSL ---------- */

static void
measure_openssl(const Generated *generated, EVP_PKEY *key, OpensslFigures *figures)
{
	const unsigned char *p = generated->der;
	uint8_t octets[SERIAL_OCTETS];
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	X509_REVOKED *entry;
	double before = memory_of(getpid(), "Anonymous");
	double start = now();
	X509_CRL *crl = d2i_X509_CRL(NULL, &p, (long) generated->size);

	make_serial(0, octets);
	ASN1_STRING_set(serial, octets, SERIAL_OCTETS);
	check(crl != NULL && X509_CRL_verify(crl, key) == 1 && X509_CRL_get0_by_serial(crl, &entry, serial) == 1,
		  "OpenSSL");
	figures->first = now() - start;
	start = now();
	for (int i = 0; i < CALLS; i++)
	{
		make_serial((uint64_t) i * 7919 % generated->entries, octets);
		ASN1_STRING_set(serial, octets, SERIAL_OCTETS);
		check(X509_CRL_get0_by_serial(crl, &entry, serial) == 1, "OpenSSL's lookup");
	}
	figures->later = (now() - start) / CALLS;
	figures->memory = memory_of(getpid(), "Anonymous") - before;
}

/* In a process of its own, so that its memory is its own. */
static void
run_openssl(const Generated *generated, EVP_PKEY *key, OpensslFigures *figures)
{
	int ends[2];
	pid_t child;
	int status;

	check(pipe(ends) == 0, "pipe");
	child = fork();
	check(child >= 0, "fork");
	if (child == 0)
	{
		measure_openssl(generated, key, figures);
		_exit(write(ends[1], figures, sizeof(*figures)) == sizeof(*figures) ? 0 : 1);
	}
	check(read(ends[0], figures, sizeof(*figures)) == sizeof(*figures) && waitpid(child, &status, 0) == child,
		  "the process for OpenSSL");
	close(ends[0]);
	close(ends[1]);
}

/* ---------- the report ---------- */

static void
line(const char *what, const char *theirs, const char *format, ...)
{
	char ours[64];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(ours, sizeof(ours), format, arguments);
	va_end(arguments);
	printf("  %-44s %14s %14s\n", what, theirs, ours);
	fflush(stdout);
}

static const char *
text(const char *format, double value)
{
	static char buffer[64];

	snprintf(buffer, sizeof(buffer), format, value);
	return buffer;
}

static void
measure_sessions(const char *database, const Certificate *good, const Certificate *revoked,
				 const OpensslFigures *openssl)
{
	static const char *many =
		"SELECT count(*) FROM generate_series(1, 100) WHERE (cmblock.revocation_status($1)).status = 'good'";
	PGconn *session[SESSIONS];
	double private_before;
	double pss_before;
	double cache;
	double grown;

	for (int i = 0; i < SESSIONS; i++)
	{
		session[i] = connect_to(database);
		run_sql(session[i], "SELECT cmblock.version()");
	}
	private_before = sum_of_memory(session, "Private");
	pss_before = sum_of_memory(session, "Pss:");
	for (int i = 0; i < SESSIONS; i++)
	{
		check(has_status(session[i], revoked, "revoked"), "revocation_status");
		query(session[i], many, good->der, (size_t) good->size, NULL, 0);
	}
	cache = ask_number(session[0], "SELECT sum(bytes) / 1024 FROM cmblock.crl_cache WHERE place = 'shared'"
								   " AND sha256 IN (SELECT sha256 FROM cmblock.crl)");
	grown = sum_of_memory(session, "Private") - private_before;
	line("memory of 20 sessions: the cache, once", "", "%.1f MB", cache / 1024);
	line("  and what each has for itself", text("%.1f MB", openssl->memory / 1024), "%.2f MB",
		 grown / SESSIONS / 1024);
	line("  together", text("%.0f MB", openssl->memory * SESSIONS / 1024), "%.0f MB", (cache + grown) / 1024);
	line("  growth of the sum of Pss", "", "%.1f MB", (sum_of_memory(session, "Pss:") - pss_before) / 1024);
	for (int i = 0; i < SESSIONS; i++)
		PQfinish(session[i]);
}

static void
measure_later_calls(PGconn *session, const Certificate *good, const OpensslFigures *openssl)
{
	static const char *many = "SELECT count(*) FROM generate_series(1, 20000) WHERE "
							  "(cmblock.revocation_status($1)).status = 'good'";
	char count[64];
	double start = now();

	for (int i = 0; i < CALLS; i++)
		time_call(session, good, "good");
	line("later calls, each from the client", "", "%.1f us", (now() - start) / CALLS * 1e6);
	start = now();
	query(session, many, good->der, (size_t) good->size, count, sizeof(count));
	check(atoi(count) == MANY_CALLS, "many calls");
	line("later calls in one statement (a lookup)", text("%.2f us", openssl->later * 1e6), "%.2f us",
		 (now() - start) / MANY_CALLS * 1e6);
}

static void
measure_delta(PGconn *importer, PGconn *session, const Certificate *good, EVP_PKEY *key, uint32_t entries)
{
	const GenerateOptions options = {.entries = 100,
									 .first = entries + 1,
									 .number = 43,
									 .base_number = 42,
									 .this_update = time(NULL) - 3500,
									 .next_update = time(NULL) + 86400};
	Generated delta;
	double start;
	double imported;

	generate_crl(&options, key, &delta);
	start = now();
	import_crl(importer, &delta);
	imported = now() - start;
	check(has_status(session, good, "revoked"), "the delta CRL in force");
	line("delta of 100: import_crl", "", "%.2f ms", imported * 1e3);
	line("  until another session refuses", "", "%.2f ms", (now() - start) * 1e3);
	free(delta.der);
}

static void
run(uint32_t entries, EVP_PKEY *key)
{
	const GenerateOptions options = {.entries = entries,
									 .number = 42,
									 .this_update = time(NULL) - 3600,
									 .next_update = time(NULL) + 604800};
	Certificate ca = make_certificate(BENCH_CA, UINT64_MAX / 4, key);
	Certificate revoked = make_certificate("revoked", 0, key);
	Certificate good = make_certificate("good", (uint64_t) entries + 1, key);
	const char *restart = getenv("RESTART");
	OpensslFigures openssl;
	Generated crl;
	PGconn *connection;
	PGconn *other;
	char database[64];
	char sql[128];
	double start;

	generate_crl(&options, key, &crl);
	run_openssl(&crl, key, &openssl);
	printf("\n%u entries, %.1f MB of DER\n", entries, (double) crl.size / 1e6);
	printf("  %-44s %14s %14s\n", "", "openssl", "cmblock");

	snprintf(database, sizeof(database), "bench_%u", entries);
	connection = connect_to("postgres");
	snprintf(sql, sizeof(sql), "CREATE DATABASE %s", database);
	run_sql(connection, sql);
	PQfinish(connection);
	connection = connect_to(database);
	run_sql(connection, "CREATE EXTENSION cmblock");
	query(connection, "SELECT cmblock.add_certificate_authority($1)", ca.der, (size_t) ca.size, NULL, 0);

	start = now();
	import_crl(connection, &crl);
	line("import_crl", "", "%.1f ms", (now() - start) * 1e3);
	line("  of that, building the index", "", "%.1f ms",
		 ask_number(connection, "SELECT build_ms FROM cmblock.crl_cache JOIN cmblock.crl USING (sha256)"));
	line("octets an entry, in shared memory", text("%.1f each", openssl.memory * 1024 / entries), "%.1f once",
		 ask_number(
			 connection,
			 "SELECT bytes::float8 / c.entries FROM cmblock.crl_cache c JOIN cmblock.crl USING (sha256)"));
	other = connect_to(database);
	line("first call of a session", text("%.1f ms", openssl.first * 1e3), "%.2f ms",
		 time_call(other, &revoked, "revoked") * 1e3);
	measure_later_calls(other, &good, &openssl);
	measure_sessions(database, &good, &revoked, &openssl);
	measure_delta(connection, other, &good, key, entries);
	PQfinish(other);
	PQfinish(connection);

	if (restart)
	{
		check(system(restart) == 0, "restarting the server");
		connection = connect_to(database);
		line("first call after a restart", text("%.1f ms", openssl.first * 1e3), "%.1f ms",
			 time_call(connection, &revoked, "revoked") * 1e3);
		PQfinish(connection);
	}
	free(crl.der);
	OPENSSL_free(ca.der);
	OPENSSL_free(revoked.der);
	OPENSSL_free(good.der);
}

int
main(int argc, char **argv)
{
	EVP_PKEY *key = EVP_RSA_gen(2048);
	int i;

	check(key != NULL, "making a key");
	printf("%s; libpq %d\n", OpenSSL_version(OPENSSL_VERSION), PQlibVersion());
	if (argc < 2)
	{
		run(1000, key);
		run(50000, key);
		run(1000000, key);
	}
	for (i = 1; i < argc; i++)
		run((uint32_t) strtoul(argv[i], NULL, 10), key);
	EVP_PKEY_free(key);
	return 0;
}
