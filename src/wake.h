/*
 * wake.h
 *		Telling the background workers, at commit, that there is news.
 */
#ifndef CMBLOCK_WAKE_H
#define CMBLOCK_WAKE_H

/*
 * This transaction changes replicated rows (site, client, certificate): when it commits, the replicator
 * of this database is woken. Cheap, may be called once a row. Does nothing when the library is not preloaded.
 */
extern void cmblock_wake_at_commit(void);

/* The same for a transaction that changes which links exist, or who this site is. */
extern void cmblock_wake_links_at_commit(void);

/* The same for the refresher: this transaction changes sources of CRLs, CRLs or the trust list. */
extern void cmblock_wake_refresher_at_commit(void);

/*
 * A command that needs the database to itself stopped its workers (cmblock_slots_hold): lets them start again
 * when this transaction ends, whichever way.
 */
extern void cmblock_release_at_end(Oid database);

/* Wakes now, for a change that another transaction committed: COMMIT PREPARED. */
extern void cmblock_wake_now(void);

#endif
