/*
 * siphash.h
 *		SipHash (Aumasson and Bernstein, 2012): a hash with a key of 16 octets, for tables whose keys come
 *		from outside.
 *
 * Who writes a CRL chooses its serials. With a hash that he could compute he would make them collide; with a
 * random key he cannot. Of the family, SipHash-2-4 is the one of the paper, which the unit test checks against the
 * paper's vectors, and SipHash-1-3 the faster one that Python, Ruby and Rust use for their tables.
 */
#ifndef CMBLOCK_SIPHASH_H
#define CMBLOCK_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SIPHASH_KEY_OCTETS 16

typedef struct SipKey
{
	uint64_t k0;
	uint64_t k1;
} SipKey;

static inline uint64_t
siphash_little_endian(const uint8_t *p)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return word;
#else
	uint64_t word = 0;
	int i;

	for (i = 7; i >= 0; i--)
		word = word << 8 | p[i];
	return word;
#endif
}

static inline SipKey
siphash_key(const uint8_t octets[SIPHASH_KEY_OCTETS])
{
	SipKey key = {siphash_little_endian(octets), siphash_little_endian(octets + 8)};

	return key;
}

#define SIPHASH_ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

static inline void
siphash_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = SIPHASH_ROTATE(v[1], 13) ^ v[0];
	v[0] = SIPHASH_ROTATE(v[0], 32);
	v[2] += v[3];
	v[3] = SIPHASH_ROTATE(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = SIPHASH_ROTATE(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = SIPHASH_ROTATE(v[1], 17) ^ v[2];
	v[2] = SIPHASH_ROTATE(v[2], 32);
}

/* Takes the data in: c rounds a word. */
static inline void
siphash_absorb(uint64_t v[4], int c_rounds, SipKey key, const uint8_t *data, size_t size)
{
	uint64_t word;
	uint8_t last[8] = {0};
	size_t left = size;
	int i;

	v[0] = key.k0 ^ UINT64_C(0x736f6d6570736575);
	v[1] ^= key.k1 ^ UINT64_C(0x646f72616e646f6d);
	v[2] = key.k0 ^ UINT64_C(0x6c7967656e657261);
	v[3] = key.k1 ^ UINT64_C(0x7465646279746573);
	for (; left >= 8; left -= 8, data += 8)
	{
		word = siphash_little_endian(data);
		v[3] ^= word;
		for (i = 0; i < c_rounds; i++)
			siphash_round(v);
		v[0] ^= word;
	}
	if (left > 0)
		memcpy(last, data, left);
	last[7] = (uint8_t) size;
	word = siphash_little_endian(last);
	v[3] ^= word;
	for (i = 0; i < c_rounds; i++)
		siphash_round(v);
	v[0] ^= word;
}

static inline uint64_t
siphash_squeeze(uint64_t v[4], int d_rounds)
{
	int i;

	for (i = 0; i < d_rounds; i++)
		siphash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* SipHash-c-d: c rounds a word of data, d rounds at the end. */
static inline uint64_t
siphash(int c_rounds, int d_rounds, SipKey key, const uint8_t *data, size_t size)
{
	uint64_t v[4] = {0};

	siphash_absorb(v, c_rounds, key, data, size);
	v[2] ^= 0xff;
	return siphash_squeeze(v, d_rounds);
}

/* The variant with a result of two words. */
static inline void
siphash_double(int c_rounds, int d_rounds, SipKey key, const uint8_t *data, size_t size, uint64_t result[2])
{
	uint64_t v[4] = {0, 0xee};

	siphash_absorb(v, c_rounds, key, data, size);
	v[2] ^= 0xee;
	result[0] = siphash_squeeze(v, d_rounds);
	v[1] ^= 0xdd;
	result[1] = siphash_squeeze(v, d_rounds);
}

#endif
