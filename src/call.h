/*
 * call.h
 *		Who is calling: what every function that a neighbour calls checks first.
 */
#ifndef CMBLOCK_CALL_H
#define CMBLOCK_CALL_H

#include "postgres.h"
#include "fmgr.h"
#include "utils/uuid.h"

#include "neighbour.h"

/* The arguments that every call begins with. */
typedef struct Call
{
	int32 protocol;
	pg_uuid_t *hierarchy;
	SiteCode sender;
	SiteCode receiver;
	char *incarnation;
} Call;

/* Reads the first five arguments; an error (22004) when one of them is null. */
extern void cmblock_read_call(FunctionCallInfo fcinfo, Call *call);

/*
 * Fills in who the sender is to this site, or raises: not its role, another protocol or hierarchy, not a neighbour, a
 * site that sends nothing, a standby. Inside SPI.
 */
extern void cmblock_check_call(const Call *call, Neighbour *neighbour);

#endif
