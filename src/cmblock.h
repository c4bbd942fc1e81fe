/*
 * cmblock.h
 *		The library as a whole: its version and its entry point.
 */
#ifndef CMBLOCK_H
#define CMBLOCK_H

#include "postgres.h"
#include "fmgr.h"

/* The one place that holds the version; t/001_version.pl compares the other files with it. */
#define CMBLOCK_VERSION "1.0"

extern PGDLLEXPORT void _PG_init(void);

#endif
