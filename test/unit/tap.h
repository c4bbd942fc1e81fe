/*
 * tap.h
 *		Just enough of the Test Anything Protocol for unit tests in C.
 */
#ifndef CMBLOCK_TEST_TAP_H
#define CMBLOCK_TEST_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int tap_tests = 0;
static int tap_failures = 0;

static bool __attribute__((format(printf, 2, 3))) ok(bool good, const char *format, ...)
{
	va_list arguments;

	printf("%s %d - ", good ? "ok" : "not ok", ++tap_tests);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	if (!good)
		tap_failures++;
	return good;
}

static inline bool
is_number(long long found, long long expected, const char *name)
{
	bool good = ok(found == expected, "%s", name);

	if (!good)
		printf("#   found %lld, expected %lld\n", found, expected);
	return good;
}

static inline void
skip(const char *name, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tap_tests, name, why);
}

/* The plan, and the exit status of the program. */
static int
done_testing(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failures == 0 ? 0 : 1;
}

#endif
