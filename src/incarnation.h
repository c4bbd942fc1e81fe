/*
 * incarnation.h
 *		Which life of a database a snapshot of it belongs to.
 */
#ifndef CMBLOCK_INCARNATION_H
#define CMBLOCK_INCARNATION_H

#include "postgres.h"

/*
 * The system identifier of the cluster, the timeline and the OID of the database, as text: palloc'd. A transaction
 * number means something within one incarnation only. Not to be called in recovery.
 */
extern char *cmblock_incarnation(void);

#endif
