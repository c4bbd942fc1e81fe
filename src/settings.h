/*
 * settings.h
 *		The settings that more than one subsystem reads; the others are where they are used.
 */
#ifndef CMBLOCK_SETTINGS_H
#define CMBLOCK_SETTINGS_H

#include "postgres.h"

typedef enum RejoinPolicy
{
	REJOIN_REPORT,
	REJOIN_REFUSE
} RejoinPolicy;

/* cmblock.restore: superusers only; the guard lets rows in as they come */
extern bool cmblock_restore;

/* cmblock.rejoin_policy: what happens when a registration or request looks like a blocked client coming back */
extern int cmblock_rejoin_policy;

/* For _PG_init. */
extern void cmblock_define_settings(void);

#endif
