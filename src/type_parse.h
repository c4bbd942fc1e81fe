/*
 * type_parse.h
 *		The text forms of the four data types: pure C, no PostgreSQL, so that a fuzzer can drive it.
 *
 * Each parser takes NUL-terminated text, reads no further than its end, and says true, or false with *why: a
 * constant sentence fit for an error's DETAIL. What it returned through the other pointers is then undefined.
 */
#ifndef CMBLOCK_TYPE_PARSE_H
#define CMBLOCK_TYPE_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/* type_parse.c */

/* text has three octets; the code is packed as types.h says. */
extern bool cmblock_parse_site_code(const char *text, uint32_t *code, const char **why);

/* octets has room for 16. */
extern bool cmblock_parse_smsid(const char *text, unsigned char *octets, const char **why);

/* octets has room for 32; *length becomes 20 or 32. */
extern bool cmblock_parse_thumbprint(const char *text, unsigned char *octets, int *length, const char **why);

/* octets has room for limit; *length becomes 1 to limit. */
extern bool cmblock_parse_serial(const char *text, unsigned char *octets, int limit, int *length,
								 const char **why);

/* The same rules for octets that come in binary. */
extern bool cmblock_check_thumbprint_length(int length, const char **why);
extern bool cmblock_check_serial_length(int length, int limit, const char **why);

#endif
