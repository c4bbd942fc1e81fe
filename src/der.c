/*
 * der.c
 *		Those parts of the DER reader that are too long to be inline: times, and checks of whole structures.
 */
#include "der.h"

bool
cmblock_der_oid_is_valid(DerSpan content)
{
	bool at_start = true;
	size_t i;

	if (content.size == 0)
		return false;
	for (i = 0; i < content.size; i++)
	{
		if (at_start && content.data[i] == 0x80)
			return false;
		at_start = (content.data[i] & 0x80) == 0;
	}
	return at_start;
}

/* Two decimal digits, or -1. */
static int
two_digits(const uint8_t *p)
{
	unsigned tens = (unsigned) p[0] - '0';
	unsigned ones = (unsigned) p[1] - '0';

	return tens <= 9 && ones <= 9 ? (int) (tens * 10 + ones) : -1;
}

static int
days_in_month(int year, int month)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return month == 2 && leap ? 29 : days[month - 1];
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar, year >= 0; a year here begins in March. */
static int64_t
days_since_epoch(int year, int month, int day)
{
	int y = year - (month <= 2) + 400; /* never negative; 400 years are whole weeks and leap cycles */
	int era = y / 400;
	int year_of_era = y % 400;
	int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return (int64_t) (era - 1) * 146097 + day_of_era - 719468;
}

bool
cmblock_der_time(uint8_t tag, DerSpan content, int64_t *seconds)
{
	const uint8_t *p = content.data;
	int year;
	int month;
	int day;
	int hour;
	int minute;
	int second;

	if (tag == DER_UTC_TIME && content.size == 13)
	{
		year = two_digits(p);
		if (year < 0)
			return false;
		year += year < 50 ? 2000 : 1900;
		p += 2;
	}
	else if (tag == DER_GENERALIZED_TIME && content.size == 15)
	{
		int century = two_digits(p);

		year = two_digits(p + 2);
		if (century < 0 || year < 0)
			return false;
		year += century * 100;
		p += 4;
	}
	else
		return false;

	month = two_digits(p);
	day = two_digits(p + 2);
	hour = two_digits(p + 4);
	minute = two_digits(p + 6);
	second = two_digits(p + 8);
	if (p[10] != 'Z' || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour < 0 ||
		hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59)
		return false;

	*seconds = days_since_epoch(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
	return true;
}

bool
cmblock_der_read_time(DerSpan *in, int64_t *seconds)
{
	uint8_t tag;
	DerSpan content;

	return der_read(in, &tag, &content) && cmblock_der_time(tag, content, seconds);
}

/* Content of a primitive element of a universal type, as far as a wrong one could mislead somebody. */
static bool
universal_is_valid(uint8_t tag, DerSpan content)
{
	bool ignored;

	switch (tag)
	{
		case DER_BOOLEAN:
			return der_boolean(content, &ignored);
		case DER_INTEGER:
		case DER_ENUMERATED:
			return der_integer_is_valid(content);
		case DER_BIT_STRING:
			return content.size > 0 && content.data[0] <= 7 && (content.size > 1 || content.data[0] == 0);
		case DER_NULL:
			return content.size == 0;
		case DER_OID:
			return cmblock_der_oid_is_valid(content);
		case 0x00: /* end-of-contents: belongs to indefinite lengths */
		case DER_SEQUENCE & ~DER_CONSTRUCTED:
		case DER_SET & ~DER_CONSTRUCTED:
			return false;
		default:
			return true;
	}
}

DerCheck
cmblock_der_check(DerSpan span, int max_depth)
{
	if (max_depth <= 0)
		return DER_CHECK_TOO_DEEP;

	while (span.size > 0)
	{
		uint8_t tag;
		DerSpan content;

		if (!der_read(&span, &tag, &content))
			return DER_CHECK_BAD;
		if (tag & DER_CONSTRUCTED)
		{
			DerCheck below;

			if ((tag & 0xc0) == 0 && tag != DER_SEQUENCE && tag != DER_SET)
				return DER_CHECK_BAD;
			below = content.size == 0 ? DER_CHECK_OK : cmblock_der_check(content, max_depth - 1);
			if (below != DER_CHECK_OK)
				return below;
		}
		else if ((tag & 0xc0) == 0 && !universal_is_valid(tag, content))
			return DER_CHECK_BAD;
	}
	return DER_CHECK_OK;
}

bool
cmblock_der_rdn_is_valid(DerSpan content)
{
	if (content.size == 0)
		return false;
	while (content.size > 0)
	{
		DerSpan attribute;
		DerSpan type;
		DerSpan value;
		uint8_t tag;

		if (!der_expect(&content, DER_SEQUENCE, &attribute) || !der_expect(&attribute, DER_OID, &type) ||
			!cmblock_der_oid_is_valid(type) || cmblock_der_check(attribute, DER_MAX_DEPTH) != DER_CHECK_OK ||
			!der_read(&attribute, &tag, &value) || attribute.size != 0)
			return false;
	}
	return true;
}

bool
cmblock_der_name_is_valid(DerSpan content)
{
	while (content.size > 0)
	{
		DerSpan rdn;

		if (!der_expect(&content, DER_SET, &rdn) || !cmblock_der_rdn_is_valid(rdn))
			return false;
	}
	return true;
}

bool
cmblock_der_general_names_are_valid(DerSpan content)
{
	if (content.size == 0)
		return false;
	while (content.size > 0)
	{
		uint8_t tag;
		DerSpan name;
		DerSpan inner;

		if (!der_read(&content, &tag, &name))
			return false;
		switch (tag)
		{
			case DER_CONTEXT_CONSTRUCTED(0): /* otherName */
				if (!der_expect(&name, DER_OID, &inner) || !cmblock_der_oid_is_valid(inner) ||
					!der_expect(&name, DER_CONTEXT_CONSTRUCTED(0), &inner) || name.size != 0 ||
					cmblock_der_check(inner, DER_MAX_DEPTH) != DER_CHECK_OK)
					return false;
				break;
			case DER_CONTEXT_CONSTRUCTED(3): /* x400Address */
			case DER_CONTEXT_CONSTRUCTED(5): /* ediPartyName */
				if (cmblock_der_check(name, DER_MAX_DEPTH) != DER_CHECK_OK)
					return false;
				break;
			case DER_CONTEXT_CONSTRUCTED(4): /* directoryName, explicit because Name is a CHOICE */
				if (!der_expect(&name, DER_SEQUENCE, &inner) || name.size != 0 ||
					!cmblock_der_name_is_valid(inner))
					return false;
				break;
			case DER_CONTEXT(1): /* rfc822Name */
			case DER_CONTEXT(2): /* dNSName */
			case DER_CONTEXT(6): /* uniformResourceIdentifier */
			case DER_CONTEXT(7): /* iPAddress */
				break;
			case DER_CONTEXT(8): /* registeredID */
				if (!cmblock_der_oid_is_valid(name))
					return false;
				break;
			default:
				return false;
		}
	}
	return true;
}
