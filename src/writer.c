/*
 * writer.c
 *		Who is writing the guarded tables at this moment, in this process.
 */
#include "postgres.h"

#include "writer.h"

static Writer current = {.kind = WRITER_USER};

Writer
cmblock_set_writer(Writer writer)
{
	Writer before = current;

	current = writer;
	return before;
}

const Writer *
cmblock_current_writer(void)
{
	return &current;
}
