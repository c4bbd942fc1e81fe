/*
 * command.h
 *		What every command asks first: were the arguments given, and may this transaction write?
 */
#ifndef CMBLOCK_COMMAND_H
#define CMBLOCK_COMMAND_H

#include "postgres.h"
#include "fmgr.h"

/* The bit of an argument that may be null. */
#define MAY_BE_NULL(n) (UINT32_C(1) << (n))

/*
 * Refuses a null (22004) among the arguments but those in `optional`. A command is not STRICT: one that does nothing
 * for a null, and returns void, looks as if it had done its work.
 */
extern void cmblock_require_arguments(FunctionCallInfo fcinfo, uint32 optional);

/* The same for a command that writes, which also refuses in a read-only transaction and on a standby (25006). */
extern void cmblock_begin_command(FunctionCallInfo fcinfo, uint32 optional);

#endif
