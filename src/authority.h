/*
 * authority.h
 *		The commands of the trust list.
 */
#ifndef CMBLOCK_AUTHORITY_H
#define CMBLOCK_AUTHORITY_H

#include "postgres.h"

/* Defines the trust list's settings; called once when the library is loaded. */
extern void cmblock_authority_init(void);

/* The SHA-256 of the authority that a thumbprint of either kind names: an error (42704) when there is none. */
extern Datum cmblock_listed_authority(const struct varlena *thumbprint);

#endif
