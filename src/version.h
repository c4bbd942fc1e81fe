/*
 * version.h
 *		The versions of rows: how they count, and how a seizure outbids what it cannot see.
 *
 * Each change by the owner counts one up. The central site cannot know what a site that is gone did meanwhile; so when it seizes a client, the
 * version goes up by SEIZURE_STEP at least, which nobody reaches by counting. It is also at least the time in seconds, in steps: a central
 * site that was set back to before a seizure outbids that one, too, when it seizes again. A rise of more than half a step is how
 * everybody knows a seizure, whatever happened to the row afterwards.
 *
 * Nobody may send a version that is further ahead than the clocks can be apart. So what a lying site sends can always be outbid.
 */
#ifndef CMBLOCK_VERSION_H
#define CMBLOCK_VERSION_H

#include "postgres.h"
#include "utils/timestamp.h"

#define SEIZURE_STEP (INT64CONST(1) << 31)

/* Seconds since 2025-01-01 00:00 UTC, in microseconds since 2000: enough room until 2161. */
#define VERSION_EPOCH (INT64CONST(9132) * USECS_PER_DAY)

#define VERSION_SLACK_SECONDS INT64CONST(86400)

static inline int64
cmblock_version_of_now(void)
{
	return Max(GetCurrentTimestamp() - VERSION_EPOCH, 0) / USECS_PER_SEC * SEIZURE_STEP;
}

/* The version of a row that the central site takes away, or writes into, without being its owner. */
static inline int64
cmblock_seizure_version(int64 version)
{
	return Max(version + SEIZURE_STEP, cmblock_version_of_now());
}

/* Can the central site outbid this version, and go on doing so? What a child causes it to write must not use up the room. */
static inline bool
cmblock_version_has_room(int64 version)
{
	return version < cmblock_version_of_now() + VERSION_SLACK_SECONDS / 24 * SEIZURE_STEP;
}

static inline bool
cmblock_versions_seized(int64 before, int64 after)
{
	return after - before > SEIZURE_STEP / 2;
}

/* The parent may be a day further: it has to be able to outbid a child at its limit. Sites are never seized. */
static inline int64
cmblock_highest_version(bool seizable, bool from_parent)
{
	int64 days = from_parent ? 2 : 1;

	return seizable ? cmblock_version_of_now() + days * VERSION_SLACK_SECONDS * SEIZURE_STEP
					: days * (INT64CONST(1) << 40);
}

#endif
