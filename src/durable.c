/*
 * durable.c
 *		What has to outlast a crash before somebody else may rely on it.
 *
 * Batches of a neighbour are committed asynchronously, so rows are in force before they are on disk. Whoever acknowledges them
 * to another site waits here first.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "replication/syncrep.h"

#include "durable.h"

XLogRecPtr
cmblock_end_of_visible(void)
{
	XLogRecPtr end = GetXLogInsertRecPtr();

	/* At the beginning of a page that position is behind a header that is not there yet. */
	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD ||
		end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= end % XLOG_BLCKSZ;
	return end;
}

void
cmblock_make_durable(void)
{
	XLogRecPtr end;

	if (RecoveryInProgress())
		return;
	end = cmblock_end_of_visible();
	XLogFlush(end);
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(end, true);
	RESUME_INTERRUPTS();
}
