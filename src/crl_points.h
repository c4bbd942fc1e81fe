/*
 * crl_points.h
 *		The addresses of CRLs that the trust list's certificates and the CRLs held name.
 */
#ifndef CMBLOCK_CRL_POINTS_H
#define CMBLOCK_CRL_POINTS_H

#include "postgres.h"
#include "nodes/pg_list.h"

#include "types.h"

typedef struct NamedSource
{
	unsigned char authority[SHA256_OCTETS];
	char *url;
	bool delta;
	const char *origin; /* label of enum crl_origin */
} NamedSource;

/*
 * All of them, each once: a list of NamedSource in the current memory context. Inside SPI. Never what the certificate of
 * a client names: whoever presents one could choose whom this server connects to.
 */
extern List *cmblock_named_sources(void);

#endif
