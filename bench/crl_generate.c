/*
 * crl_generate.c
 *		Signed CRLs of any size, made in memory, and what the benchmarks share.
 */
#include "crl_generate.h"

#include <stdio.h>
#include <stdlib.h>

/* Room for an entry, and for everything else. */
#define ENTRY_ROOM 60
#define OTHER_ROOM 2048

void
check(bool good, const char *what)
{
	if (!good)
	{
		fprintf(stderr, "benchmark: %s failed\n", what);
		exit(1);
	}
}

void *
allocate(size_t size)
{
	void *memory = malloc(size);

	check(memory != NULL, "malloc");
	return memory;
}

double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

/* Tag and a length of four octets' room at most; DER wants the fewest. */
static uint8_t *
put_header(uint8_t *p, uint8_t tag, size_t length)
{
	int octets = length < 0x80 ? 0 : length < 0x100 ? 1 : length < 0x10000 ? 2 : length < 0x1000000 ? 3 : 4;

	*p++ = tag;
	if (octets == 0)
		*p++ = (uint8_t) length;
	else
	{
		*p++ = (uint8_t) (0x80 | octets);
		while (octets-- > 0)
			*p++ = (uint8_t) (length >> (8 * octets));
	}
	return p;
}

static uint8_t *
put_octets(uint8_t *p, const void *octets, size_t size)
{
	memcpy(p, octets, size);
	return p + size;
}

static uint8_t *
put_element(uint8_t *p, uint8_t tag, const void *content, size_t size)
{
	return put_octets(put_header(p, tag, size), content, size);
}

static uint8_t *
put_time(uint8_t *p, time_t time)
{
	char text[32];

	strftime(text, sizeof(text), "%y%m%d%H%M%SZ", gmtime(&time));
	return put_element(p, 0x17, text, 13);
}

static uint8_t *
put_entry(uint8_t *p, const uint8_t *serial, uint32_t i)
{
	static const uint8_t reason[] = {0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55,
									 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01, 0x05};
	bool has_reason = i % 10 < 7;
	char date[32];

	snprintf(date, sizeof(date), "25%02u%02u%02u%02u%02uZ", i / 7 % 12 + 1, i % 28 + 1, i % 24, i % 59,
			 i % 57);
	p = put_header(p, 0x30, 2 + SERIAL_OCTETS + 15 + (has_reason ? sizeof(reason) : 0));
	p = put_element(p, 0x02, serial, SERIAL_OCTETS);
	p = put_element(p, 0x17, date, 13);
	return has_reason ? put_octets(p, reason, sizeof(reason)) : p;
}

/* cRLNumber, and of a delta CRL the critical deltaCRLIndicator. */
static uint8_t *
put_extensions(uint8_t *p, const GenerateOptions *options)
{
	const uint8_t number[] = {0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d,
							  0x14, 0x04, 0x03, 0x02, 0x01, options->number};
	const uint8_t base[] = {0x30, 0x0d, 0x06, 0x03, 0x55,
							0x1d, 0x1b, 0x01, 0x01, 0xff,
							0x04, 0x03, 0x02, 0x01, options->base_number};
	size_t size = sizeof(number) + (options->base_number ? sizeof(base) : 0);

	p = put_header(p, 0xa0, size + 2);
	p = put_header(p, 0x30, size);
	p = put_octets(p, number, sizeof(number));
	return options->base_number ? put_octets(p, base, sizeof(base)) : p;
}

/* What is signed, without its tag and length. */
static uint8_t *
put_body(uint8_t *p, const GenerateOptions *options)
{
	static const uint8_t head[] = {0x02, 0x01, 0x01, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7,
								   0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00, 0x30, 0x10, 0x31, 0x0e, 0x30, 0x0c,
								   0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x05, 'B',  'e',  'n',  'c',  'h'};
	uint8_t *list = allocate((size_t) options->entries * ENTRY_ROOM + 1);
	uint8_t *end = list;
	uint32_t i;

	for (i = 0; i < options->entries; i++)
	{
		uint8_t serial[SERIAL_OCTETS];

		make_serial((uint64_t) options->first + i, serial);
		end = put_entry(end, serial, i);
	}
	p = put_octets(p, head, sizeof(head));
	p = put_time(p, options->this_update);
	p = put_time(p, options->next_update);
	p = put_element(p, 0x30, list, (size_t) (end - list));
	free(list);
	return put_extensions(p, options);
}

void
generate_crl(const GenerateOptions *options, EVP_PKEY *key, Generated *crl)
{
	static const uint8_t algorithm[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
										0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00};
	size_t room = (size_t) options->entries * ENTRY_ROOM + OTHER_ROOM;
	uint8_t *body = allocate(room);
	uint8_t *tbs = allocate(room);
	uint8_t signature[1024] = {0};
	size_t signature_size = sizeof(signature) - 1;
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t *end;

	end = put_body(body, options);
	end = put_element(tbs, 0x30, body, (size_t) (end - body));
	check(context != NULL && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
			  EVP_DigestSign(context, signature + 1, &signature_size, tbs, (size_t) (end - tbs)) == 1,
		  "signing");
	EVP_MD_CTX_free(context);

	end = put_octets(body, tbs, (size_t) (end - tbs));
	end = put_octets(end, algorithm, sizeof(algorithm));
	end = put_element(end, 0x03, signature, signature_size + 1);
	crl->entries = options->entries;
	crl->der = allocate(room);
	crl->size = (size_t) (put_element(crl->der, 0x30, body, (size_t) (end - body)) - crl->der);
	free(body);
	free(tbs);
}
