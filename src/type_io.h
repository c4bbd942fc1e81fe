/*
 * type_io.h
 *		What the files of the four data types share, and nobody else needs.
 */
#ifndef CMBLOCK_TYPE_IO_H
#define CMBLOCK_TYPE_IO_H

#include "postgres.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

/* types.c */
extern void cmblock_refuse_text(FunctionCallInfo fcinfo, const char *type, const char *text, const char *why,
								const char *hint);
extern _Noreturn void cmblock_refuse_octets(const char *type, const char *why, const char *hint);
extern const unsigned char *cmblock_message_octets(StringInfo message, int *length);

/*
 * The six operators and the btree support function of a type, all from its "static int TYPE_compare(fcinfo)",
 * which says how the two arguments stand to one another.
 */
#define CMBLOCK_COMPARISON(type, name, result)                                                               \
	PG_FUNCTION_INFO_V1(cmblock_##type##_##name);                                                            \
	Datum cmblock_##type##_##name(PG_FUNCTION_ARGS)                                                          \
	{                                                                                                        \
		int order = type##_compare(fcinfo);                                                                  \
                                                                                                             \
		result;                                                                                              \
	}

#define CMBLOCK_COMPARISONS(type)                                                                            \
	CMBLOCK_COMPARISON(type, lt, PG_RETURN_BOOL(order < 0))                                                  \
	CMBLOCK_COMPARISON(type, le, PG_RETURN_BOOL(order <= 0))                                                 \
	CMBLOCK_COMPARISON(type, eq, PG_RETURN_BOOL(order == 0))                                                 \
	CMBLOCK_COMPARISON(type, ne, PG_RETURN_BOOL(order != 0))                                                 \
	CMBLOCK_COMPARISON(type, ge, PG_RETURN_BOOL(order >= 0))                                                 \
	CMBLOCK_COMPARISON(type, gt, PG_RETURN_BOOL(order > 0))                                                  \
	CMBLOCK_COMPARISON(type, cmp, PG_RETURN_INT32(order))                                                    \
	extern Datum cmblock_##type##_cmp(PG_FUNCTION_ARGS)

#endif
