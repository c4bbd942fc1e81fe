/*
 * type_parse.c
 *		The text forms of the four data types, parsed without PostgreSQL.
 *
 * A thumbprint or a serial number names a certificate that somebody wants shut out, and a typing error that is
 * read as another value shuts out the wrong one or nothing at all. So the parsers guess nothing: no missing
 * digits are filled in, no prefix is skipped, and a separator may stand between octets only, since "1:2" means
 * 0102 to one tool and 12 to another.
 *
 * Characters are compared as ASCII octets and never through <ctype.h>: the result must not depend on a locale.
 */
#include "type_parse.h"

#include <stddef.h>
#include <string.h>

#define SITE_CODE_OCTETS 3
#define GUID_OCTETS 16

static bool
refuse(const char **why, const char *reason)
{
	*why = reason;
	return false;
}

static char
fold(char c)
{
	return c >= 'a' && c <= 'z' ? (char) (c - 'a' + 'A') : c;
}

/* Value of a hexadecimal digit, or -1. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = fold(c);
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Reads two digits; the second is not looked at if the first is none, so NUL ends the text safely. */
static bool
hex_octet(const char *text, unsigned char *octet)
{
	int high = hex_value(text[0]);
	int low = high < 0 ? -1 : hex_value(text[1]);

	if (low < 0)
		return false;
	*octet = (unsigned char) (high << 4 | low);
	return true;
}

/*
 * Windows names that no directory can have, and two that the site's own shares take: a site with such a code
 * could not be installed.
 */
static bool
is_reserved_site_code(const char *code)
{
	static const char reserved[][SITE_CODE_OCTETS + 1] = {"AUX", "CON", "NUL", "PRN", "SMS", "ENV"};

	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
	{
		if (memcmp(code, reserved[i], SITE_CODE_OCTETS) == 0)
			return true;
	}
	return false;
}

bool
cmblock_parse_site_code(const char *text, uint32_t *code, const char **why)
{
	char folded[SITE_CODE_OCTETS];

	for (int i = 0; i < SITE_CODE_OCTETS; i++)
	{
		char c = fold(text[i]);

		if (c == '\0')
			return refuse(why, "It has fewer than three characters.");
		if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
			return refuse(why, "It has a character other than A to Z and 0 to 9.");
		folded[i] = c;
	}
	if (text[SITE_CODE_OCTETS] != '\0')
		return refuse(why, "It has more than three characters.");
	if (is_reserved_site_code(folded))
		return refuse(why, "This name is reserved and cannot be a site code.");
	*code = (uint32_t) folded[0] << 16 | (uint32_t) folded[1] << 8 | (uint32_t) folded[2];
	return true;
}

/* The prefix in any case; returns the text after it, or the text itself if there is none. */
static const char *
skip_guid_prefix(const char *text)
{
	static const char prefix[] = "GUID:";

	for (size_t i = 0; i < sizeof(prefix) - 1; i++)
	{
		if (fold(text[i]) != prefix[i])
			return text;
	}
	return text + sizeof(prefix) - 1;
}

/* 8-4-4-4-12 digits; returns the text after them, or NULL. */
static const char *
parse_uuid(const char *text, unsigned char *octets)
{
	for (int i = 0; i < GUID_OCTETS; i++)
	{
		if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
			return NULL;
		if (!hex_octet(text, &octets[i]))
			return NULL;
		text += 2;
	}
	return text;
}

/*
 * GUID:xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx, or without the prefix, or in braces. Prefix and braces together
 * are no form that any tool writes.
 */
bool
cmblock_parse_smsid(const char *text, unsigned char *octets, const char **why)
{
	const char *uuid = skip_guid_prefix(text);
	bool braced = uuid == text && *text == '{';
	const char *end = parse_uuid(braced ? text + 1 : uuid, octets);

	if (end == NULL)
		return refuse(why, "It is not a UUID of 8-4-4-4-12 hexadecimal digits.");
	if (braced && *end++ != '}')
		return refuse(why, "The closing brace is missing.");
	if (*end != '\0')
		return refuse(why, "Something follows the last digit of the UUID.");
	return true;
}

/*
 * Left-to-right mark in UTF-8: Windows puts it, invisible, before a thumbprint that is copied from its
 * certificate window. It is refused like any other character, but whoever cannot see it has to be told.
 */
static bool
is_left_to_right_mark(const char *text)
{
	return strncmp(text, "\xE2\x80\x8E", 3) == 0;
}

static bool
is_separator(char c)
{
	return c == ' ' || c == ':';
}

/* Pairs of digits with any separators round them; *length becomes 0 to limit. */
static bool
parse_octets(const char *text, unsigned char *octets, int limit, int *length, const char *too_long,
			 const char **why)
{
	int n = 0;

	for (;;)
	{
		while (is_separator(*text))
			text++;
		if (*text == '\0')
			break;
		if (hex_value(text[0]) < 0 && is_left_to_right_mark(text))
			return refuse(why, "It has an invisible character (U+200E), as copied from a Windows dialog.");
		if (hex_value(text[0]) < 0)
			return refuse(why, "It has a character other than hexadecimal digits, spaces and colons.");
		if (text[1] == '\0')
			return refuse(why, "It has an odd number of hexadecimal digits.");
		if (is_separator(text[1]))
			return refuse(why, "A separator stands inside an octet.");
		if (n == limit)
			return refuse(why, too_long);
		if (!hex_octet(text, &octets[n++]))
			return refuse(why, "It has a character other than hexadecimal digits, spaces and colons.");
		text += 2;
	}
	*length = n;
	return true;
}

static const char thumbprint_length[] = "It has neither 20 octets (SHA-1) nor 32 octets (SHA-256).";
static const char serial_too_long[] = "It has more octets than a serial number may have.";

bool
cmblock_check_thumbprint_length(int length, const char **why)
{
	return length == 20 || length == 32 || refuse(why, thumbprint_length);
}

bool
cmblock_parse_thumbprint(const char *text, unsigned char *octets, int *length, const char **why)
{
	return parse_octets(text, octets, 32, length, thumbprint_length, why) &&
		   cmblock_check_thumbprint_length(*length, why);
}

bool
cmblock_check_serial_length(int length, int limit, const char **why)
{
	if (length < 1)
		return refuse(why, "It has no octets.");
	return length <= limit || refuse(why, serial_too_long);
}

bool
cmblock_parse_serial(const char *text, unsigned char *octets, int limit, int *length, const char **why)
{
	return parse_octets(text, octets, limit, length, serial_too_long, why) &&
		   cmblock_check_serial_length(*length, limit, why);
}
