/*
 * fuzz/type_parse.c
 *		Fuzz target: the text forms of the four data types.
 *
 *		clang -g -O1 -fsanitize=fuzzer,address,undefined -Isrc fuzz/type_parse.c src/type_parse.c -o fuzz_type_parse
 *		./fuzz_type_parse -max_len=200 -max_total_time=60
 *
 * The text and each result stand in blocks of their exact size, so that one octet too many is seen. What a
 * parser accepts must be within its limits, and what it refuses must come with a reason.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "type_parse.h"

#define SERIAL_LIMIT 64

static void
check(bool holds)
{
	if (!holds)
		abort();
}

/* Room of exactly this size, filled with what no parser writes by chance. */
static void *
room(size_t size)
{
	void *block = malloc(size);

	check(block != NULL);
	memset(block, 0xA5, size);
	return block;
}

static bool
is_packed_site_code(uint32_t code)
{
	for (int shift = 0; shift <= 16; shift += 8)
	{
		unsigned char c = (unsigned char) (code >> shift & 0xFF);

		if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
			return false;
	}
	return code >> 24 == 0;
}

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = room(size + 1);
	unsigned char *smsid = room(16);
	unsigned char *thumbprint = room(32);
	unsigned char *serial = room(SERIAL_LIMIT);
	uint32_t code = 0;
	int length = -1;
	const char *why = NULL;

	memcpy(text, data, size);
	text[size] = '\0';

	check(cmblock_parse_site_code(text, &code, &why) ? is_packed_site_code(code) : why != NULL);
	why = NULL;
	check(cmblock_parse_smsid(text, smsid, &why) || why != NULL);
	why = NULL;
	check(cmblock_parse_thumbprint(text, thumbprint, &length, &why) ? length == 20 || length == 32
																	: why != NULL);
	why = NULL;
	check(cmblock_parse_serial(text, serial, SERIAL_LIMIT, &length, &why)
			  ? length >= 1 && length <= SERIAL_LIMIT
			  : why != NULL);
	free(text);
	free(smsid);
	free(thumbprint);
	free(serial);
	return 0;
}
