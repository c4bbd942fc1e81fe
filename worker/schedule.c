/*
 * schedule.c
 *		When a source of CRLs is asked again.
 *
 * Microsoft's CAs say when they publish next, which is some time before the CRL ends; others only say when it ends. So
 * the fetch is due at next_publish, else when a tenth of the CRL's life is left; also where next_publish comes only after the
 * end, when nobody could be shown to be good in between. It is not put off for
 * longer than crl_refresh_interval, because a CA publishes early when something happened.
 *
 * When the time has passed and the server still has the old one, asking goes on at a pace that slows down as the delay
 * grows: a CA that is ten minutes late is asked every minute or so, one that is late by days at the usual interval.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "schedule.h"

/* No source is asked more often than this, unless the interval is shorter still. */
#define SHORTEST_SECONDS 30

#define MAX_SPREAD (5 * USECS_PER_MINUTE)

/* How long until the fetch is due by what the CRL says; negative when it is overdue. */
static int64
due_in(TimestampTz now, const CrlTimes *times)
{
	if (times->next_publish != DT_NOEND && times->next_publish <= times->next_update)
		return times->next_publish - now;
	if (times->next_update != DT_NOEND && times->next_update > times->this_update)
		return times->next_update - (times->next_update - times->this_update) / 10 - now;
	return PG_INT64_MAX;
}

static int64
at_most(int64 wait, int64 shortest, int64 longest)
{
	return Min(Max(wait, shortest), longest);
}

TimestampTz
cmblock_next_fetch(TimestampTz now, const CrlTimes *times, int interval, double random)
{
	int64 longest = interval * USECS_PER_SEC;
	int64 shortest = Min(SHORTEST_SECONDS * USECS_PER_SEC, longest);
	int64 wait = due_in(now, times);
	int64 spread;

	if (wait < 0)
		wait = -wait / 10;
	wait = at_most(wait, shortest, longest);
	/* Later, not earlier: before next_publish there is nothing to be had. */
	spread = Min(wait / 10, MAX_SPREAD);
	return now + wait + (int64) (spread * random);
}

TimestampTz
cmblock_next_try(TimestampTz now, int failures, int retry_after, int interval, double random)
{
	int64 longest = interval * USECS_PER_SEC;
	int64 shortest = Min(SHORTEST_SECONDS * USECS_PER_SEC, longest);
	int64 wait = shortest;

	for (int i = 1; i < failures && wait < longest; i++)
		wait *= 2;
	wait = at_most(Max(wait, retry_after * USECS_PER_SEC), shortest, longest);
	/* From three quarters to five quarters of it. */
	return now + wait * 3 / 4 + (int64) (wait / 2 * random);
}
