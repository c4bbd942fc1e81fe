/*
 * crl_url.h
 *		The addresses that a CRL may be fetched from.
 */
#ifndef CMBLOCK_CRL_URL_H
#define CMBLOCK_CRL_URL_H

#include "postgres.h"

/* Longest address that is taken: as long as any server in the field accepts. */
#define MAX_URL_OCTETS 2048

typedef enum UrlScheme
{
	URL_HTTP,
	URL_HTTPS,
	URL_FILE,
	URL_LDAP, /* and ldaps */
	URL_OTHER
} UrlScheme;

extern UrlScheme cmblock_url_scheme(const char *url);

/*
 * Why this address cannot be used: a sentence that is a constant, or NULL when it can. Looks at its form only: `length` octets,
 * which need not end with a zero. A file address is judged further when it is opened.
 */
extern const char *cmblock_url_problem(const char *url, size_t length);

/* The path of a file address, percent-decoded and palloc'd. Only for what cmblock_url_problem accepts. */
extern char *cmblock_url_path(const char *url);

#endif
