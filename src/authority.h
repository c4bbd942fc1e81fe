/*
 * authority.h
 *		The commands of the trust list.
 */
#ifndef CMBLOCK_AUTHORITY_H
#define CMBLOCK_AUTHORITY_H

#include "postgres.h"

/* Defines the trust list's settings; called once when the library is loaded. */
extern void cmblock_authority_init(void);

#endif
