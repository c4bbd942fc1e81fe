/*
 * durable.c
 *		What has to outlast a crash before somebody else may rely on it.
 *
 * Batches of a neighbour are committed asynchronously, so rows are in force before they are on disk. Whoever acknowledges them
 * to another site waits here first; if it is interrupted, it acknowledges nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"

#include "compat.h"
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

/* Have the synchronous standbys everything up to there, as far as this session's synchronous_commit asks for it? */
static bool
is_at_standbys(XLogRecPtr end)
{
	int mode = synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_WRITE   ? SYNC_REP_WAIT_WRITE
			   : synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_APPLY ? SYNC_REP_WAIT_APPLY
																	   : SYNC_REP_WAIT_FLUSH;
	bool is_there;

	if (!SyncRepRequested())
		return true;
	LWLockAcquire(SyncRepLock, LW_SHARED);
	is_there = !cmblock_sync_standbys_defined() || WalSndCtl->lsn[mode] >= end;
	LWLockRelease(SyncRepLock);
	return is_there;
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
	/* PostgreSQL gives up this wait with a warning, since a commit cannot be taken back. What the caller wants to say can. */
	if (!is_at_standbys(end))
		ereport(ERROR, errcode(ERRCODE_QUERY_CANCELED),
				errmsg("canceling statement: a synchronous standby has not received what was committed here"),
				errhint("View pg_stat_replication has the standbys, setting synchronous_standby_names those "
						"that are waited for."));
}
