/*
 * crl_reader_bench.c
 *		cmblock's CRL reader and index beside OpenSSL's X509_CRL, in one run on one machine.
 *
 *		usage: crl_reader_bench [entries ...]		(1000 50000 1000000 by default)
 *
 * For each size a CRL is made in memory and signed: random serials of 20 octets, seven of ten with a reason. Then, from the
 * same octets:
 *
 *		openssl		d2i_X509_CRL, X509_CRL_verify, and the first X509_CRL_get0_by_serial, which sorts the list
 *		cmblock		cmblock_crl_read, cmblock_crl_verify, SHA-256 of the DER, cmblock_crl_index_build
 *
 * Both start with DER and a public key and end verified and ready to look up. Memory is what is newly allocated and
 * stays. Lookups are timed one after the other, in random order, and for cmblock also with each waiting for the
 * answer to the one before, so that the processor cannot overlap their waiting for memory.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "crl_generate.h"
#include "crl_index.h"
#include "crl_reader.h"
#include "crl_verify.h"

#define LOOKUPS 1000000

typedef struct Figures
{
	double usable;      /* seconds */
	double octets;      /* an entry */
	double hit;         /* nanoseconds */
	double chained_hit; /* each lookup waits for the one before */
	double chained_miss;
	double memory;  /* nanoseconds: one random access to memory of the index's size */
	double miss;    /* nanoseconds */
	double step[4]; /* seconds; see report() */
} Figures;

/*
 * What to look up next: a listed serial, or one that is not. It is computed and not taken from an array, which would
 * drive the index out of the processor's cache; that takes some 3 ns of what is measured.
 */
static inline void
next_query(uint64_t *state, uint32_t entries, bool listed, uint8_t serial[SERIAL_OCTETS])
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	make_serial((listed ? 0 : (uint64_t) entries) + ((*state & UINT32_MAX) * entries >> 32), serial);
}

/* Nanoseconds a lookup: "chained", where each waits for the answer to the one before, or one after the other. */
static double
time_our_lookups(const CrlIndex *index, uint32_t entries, bool listed, bool chained)
{
	uint64_t state = 88172645463325252u;
	uint64_t found = 0;
	double start = now();
	uint32_t i;

	for (i = 0; i < LOOKUPS; i++)
	{
		uint8_t serial[SERIAL_OCTETS];
		CrlEntry entry;
		bool hit;

		next_query(&state, entries, listed, serial);
		hit = cmblock_crl_index_find(index, serial, SERIAL_OCTETS, 0, &entry);
		found += hit;
		if (chained)
			state ^= (uint64_t) hit + (hit ? entry.reason : 0);
	}
	start = now() - start;
	check(found == (listed ? LOOKUPS : 0), "lookup");
	return start / LOOKUPS * 1e9;
}

static double
time_openssl_lookups(X509_CRL *crl, uint32_t entries, bool listed)
{
	const uint32_t lookups = LOOKUPS / 10;
	uint64_t state = 88172645463325252u;
	uint64_t found = 0;
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	double start = now();
	uint32_t i;

	for (i = 0; i < lookups; i++)
	{
		uint8_t serial[SERIAL_OCTETS];
		X509_REVOKED *entry = NULL;

		/* A certificate has its serial decoded already: setting the octets is not what takes the time. */
		next_query(&state, entries, listed, serial);
		ASN1_STRING_set(number, serial, SERIAL_OCTETS);
		found += X509_CRL_get0_by_serial(crl, &entry, number) == 1;
	}
	start = now() - start;
	ASN1_INTEGER_free(number);
	check(found == (listed ? lookups : 0), "OpenSSL's lookup");
	return start / lookups * 1e9;
}

/* Nanoseconds for one access to a random place in this memory, each waiting for the one before: what no lookup can beat. */
static double
time_memory(const uint8_t *memory, size_t size)
{
	uint64_t state = 88172645463325252u;
	double start = now();
	uint32_t i;

	for (i = 0; i < LOOKUPS; i++)
	{
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		state += memory[(uint64_t) (((__uint128_t) state * size) >> 64)];
	}
	start = now() - start;
	check(state != 0, "reading memory");
	return start / LOOKUPS * 1e9;
}

static void
run_openssl(const Generated *generated, EVP_PKEY *key, Figures *figures)
{
	const unsigned char *p = generated->der;
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	double start = now();
	X509_CRL *crl = d2i_X509_CRL(NULL, &p, (long) generated->size);
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	X509_REVOKED *entry;
	uint8_t octets[SERIAL_OCTETS];

	check(crl != NULL, "d2i_X509_CRL");
	figures->step[0] = now() - start;
	check(X509_CRL_verify(crl, key) == 1, "X509_CRL_verify");
	figures->step[1] = now() - start - figures->step[0];
	make_serial(0, octets);
	ASN1_STRING_set(serial, octets, SERIAL_OCTETS);
	check(X509_CRL_get0_by_serial(crl, &entry, serial) == 1, "X509_CRL_get0_by_serial");
	figures->usable = now() - start;
	figures->step[2] = figures->usable - figures->step[0] - figures->step[1];
	figures->octets = (double) (mallinfo2().uordblks + mallinfo2().hblkhd - before) / generated->entries;
	figures->hit = time_openssl_lookups(crl, generated->entries, true);
	figures->miss = time_openssl_lookups(crl, generated->entries, false);
	ASN1_INTEGER_free(serial);
	X509_CRL_free(crl);
}

static void
run_cmblock(const Generated *generated, EVP_PKEY *key, Figures *figures)
{
	const CrlLimits limits = {(size_t) 1 << 30, 10000000};
	const CrlAlgorithmPolicy policy = {false};
	uint8_t hash_key[SIPHASH_KEY_OCTETS];
	uint8_t sha256[CRL_SHA256_OCTETS];
	uint8_t serial[SERIAL_OCTETS];
	Crl *crl = allocate(sizeof(Crl));
	CrlIndex index;
	CrlIndexCounts counts;
	double start = now();
	double t;
	size_t size;
	void *buffer;

	check(cmblock_crl_read(generated->der, generated->size, &limits, crl) == CRLERR_NONE, "cmblock_crl_read");
	t = now();
	figures->step[0] = t - start;
	check(cmblock_crl_verify(crl, key, &policy) == CRLSIG_VALID, "cmblock_crl_verify");
	figures->step[1] = now() - t;
	t = now();
	SHA256(generated->der, generated->size, sha256);
	figures->step[2] = now() - t;
	t = now();
	check(RAND_bytes(hash_key, sizeof(hash_key)) == 1, "RAND_bytes");
	size = cmblock_crl_index_size(crl);
	buffer = allocate(size);
	check(cmblock_crl_index_build(crl, hash_key, sha256, buffer, size) &&
			  cmblock_crl_index_open(buffer, size, &index),
		  "building the index");
	make_serial(0, serial);
	check(cmblock_crl_index_find(&index, serial, SERIAL_OCTETS, 0, NULL), "the first lookup");
	figures->step[3] = now() - t;
	figures->usable = now() - start;
	cmblock_crl_index_counts(&index, &counts);
	check(counts.distinct == generated->entries, "indexing every entry");
	figures->octets = (double) counts.size / generated->entries;
	figures->hit = time_our_lookups(&index, generated->entries, true, false);
	figures->miss = time_our_lookups(&index, generated->entries, false, false);
	figures->chained_hit = time_our_lookups(&index, generated->entries, true, true);
	figures->chained_miss = time_our_lookups(&index, generated->entries, false, true);
	figures->memory = time_memory(buffer, size);
	free(buffer);
	free(crl);
}

static void
report(const Generated *generated, const Figures *openssl, const Figures *ours)
{
	printf("\n%u entries, %.1f MB of DER\n", generated->entries, (double) generated->size / 1e6);
	printf("  %-34s %12s %12s %9s\n", "", "openssl", "cmblock", "ratio");
	printf("  %-34s %9.3f ms %9.3f ms %8.1fx\n", "DER to verified and usable", openssl->usable * 1e3,
		   ours->usable * 1e3, openssl->usable / ours->usable);
	printf("  %-34s %12.1f %12.1f %8.1fx\n", "octets an entry", openssl->octets, ours->octets,
		   openssl->octets / ours->octets);
	printf("  %-34s %9.0f ns %9.0f ns %8.1fx\n", "lookup, listed", openssl->hit, ours->hit,
		   openssl->hit / ours->hit);
	printf("  %-34s %9.0f ns %9.0f ns %8.1fx\n", "lookup, not listed", openssl->miss, ours->miss,
		   openssl->miss / ours->miss);
	printf("  %-34s %12s %9.0f ns\n", "each waits for the last, listed", "", ours->chained_hit);
	printf("  %-34s %12s %9.0f ns\n", "each waits for the last, not listed", "", ours->chained_miss);
	printf("  %-34s %12s %9.0f ns\n", "one access to memory of this size", "", ours->memory);
	printf("  openssl: decode %.3f ms, verify %.3f ms, first lookup %.3f ms\n", openssl->step[0] * 1e3,
		   openssl->step[1] * 1e3, openssl->step[2] * 1e3);
	printf("  cmblock: read %.3f ms, verify %.3f ms, digest of the DER %.3f ms, index %.3f ms\n",
		   ours->step[0] * 1e3, ours->step[1] * 1e3, ours->step[2] * 1e3, ours->step[3] * 1e3);
}

static void
run(uint32_t entries, EVP_PKEY *key)
{
	const GenerateOptions options = {.entries = entries,
									 .number = 42,
									 .this_update = time(NULL) - 3600,
									 .next_update = time(NULL) + 604800};
	Generated generated;
	Figures openssl;
	Figures ours;

	generate_crl(&options, key, &generated);
	run_cmblock(&generated, key, &ours);
	run_openssl(&generated, key, &openssl);
	report(&generated, &openssl, &ours);
	free(generated.der);
}

int
main(int argc, char **argv)
{
	EVP_PKEY *key = EVP_RSA_gen(2048);
	int i;

	check(key != NULL, "making a key");
	printf("%s\n", OpenSSL_version(OPENSSL_VERSION));
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
