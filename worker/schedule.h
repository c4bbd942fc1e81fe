/*
 * schedule.h
 *		When a source of CRLs is asked again.
 */
#ifndef CMBLOCK_SCHEDULE_H
#define CMBLOCK_SCHEDULE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* The times of the CRL that a source has given: DT_NOEND where it does not say. */
typedef struct CrlTimes
{
	TimestampTz this_update;
	TimestampTz next_publish;
	TimestampTz next_update;
} CrlTimes;

/*
 * After a fetch that went well. `interval` is cmblock.crl_refresh_interval in seconds, `random` from 0 to below 1:
 * it spreads the sites, which would all ask in the same second else.
 */
extern TimestampTz cmblock_next_fetch(TimestampTz now, const CrlTimes *times, int interval, double random);

/* After `failures` in a row; the server asked to wait for `retry_after` seconds, or for nothing (0). */
extern TimestampTz cmblock_next_try(TimestampTz now, int failures, int retry_after, int interval,
									double random);

#endif
