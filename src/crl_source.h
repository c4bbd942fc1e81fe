/*
 * crl_source.h
 *		Where CRLs come from: the commands about sources, and the refresher's settings.
 */
#ifndef CMBLOCK_CRL_SOURCE_H
#define CMBLOCK_CRL_SOURCE_H

#include "postgres.h"

/* Settings, all PGC_SIGHUP; the strings are never NULL. */
extern int cmblock_crl_connect_timeout;  /* ms */
extern int cmblock_crl_fetch_timeout;    /* ms */
extern int cmblock_crl_refresh_interval; /* s */
extern char *cmblock_crl_proxy;
extern char *cmblock_crl_tls_ca_file;
extern char *cmblock_crl_file_directory;

/* Called once when the library is loaded. */
extern void cmblock_crl_source_define_settings(void);

#endif
