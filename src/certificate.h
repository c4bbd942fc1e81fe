/*
 * certificate.h
 *		Registered certificates, for other parts.
 */
#ifndef CMBLOCK_CERTIFICATE_H
#define CMBLOCK_CERTIFICATE_H

#include "postgres.h"

/*
 * The SHA-256 thumbprint of the registered certificate that a thumbprint of either kind names, with the newest
 * snapshot; NULL when there is none. An error (21000) when a SHA-1 is that of two certificates.
 */
extern struct varlena *cmblock_resolve_thumbprint(const struct varlena *thumbprint);

#endif
