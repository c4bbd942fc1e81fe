/*
 * crl_generate.h
 *		Signed CRLs of any size, made in memory, and what the benchmarks share.
 */
#ifndef CRL_GENERATE_H
#define CRL_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

#define SERIAL_OCTETS 20

/* The issuer of every CRL is CN=BENCH_CA. */
#define BENCH_CA "Bench"

typedef struct GenerateOptions
{
	uint32_t entries;
	uint32_t first;      /* serials "first" to "first + entries - 1" are listed */
	uint8_t number;      /* cRLNumber, below 128 */
	uint8_t base_number; /* of a delta CRL; 0: it is a full one */
	time_t this_update;
	time_t next_update;
} GenerateOptions;

typedef struct Generated
{
	uint8_t *der;
	size_t size;
	uint32_t entries;
} Generated;

/* Random serials of 20 octets, seven of ten with a reason; signed with SHA-256 and this RSA key. */
extern void generate_crl(const GenerateOptions *options, EVP_PKEY *key, Generated *crl);

/* A well-mixed number for each number (splitmix64). */
static inline uint64_t
mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* Serial number n, positive and of 20 octets: the same for the same n, and as good as random. */
static inline void
make_serial(uint64_t n, uint8_t serial[SERIAL_OCTETS])
{
	uint64_t words[3] = {mix(3 * n), mix(3 * n + 1), mix(3 * n + 2)};

	memcpy(serial, words, SERIAL_OCTETS);
	serial[0] = (uint8_t) ((serial[0] & 0x7f) | 0x01);
}

/* Ends the program when something that must work does not. */
extern void check(bool good, const char *what);
extern void *allocate(size_t size);

/* Seconds. */
extern double now(void);

#endif
