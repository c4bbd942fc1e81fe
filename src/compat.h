/*
 * compat.h
 *		The differences between PostgreSQL 15 and 18: the only file that asks for the server's version.
 */
#ifndef CMBLOCK_COMPAT_H
#define CMBLOCK_COMPAT_H

#include "postgres.h"

/* Since 16 postgres.h leaves varlena to a header of its own, and an input function may refuse without raising. */
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#include "varatt.h"
#define cmblock_errsave(context, ...) errsave(context, __VA_ARGS__)
#else
#define cmblock_errsave(context, ...) ereport(ERROR, __VA_ARGS__)
#endif

#endif
