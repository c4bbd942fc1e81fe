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

/* Since 16 one function answers for every kind of object. */
#if PG_VERSION_NUM >= 160000
#define cmblock_owns_database(oid) object_ownercheck(DatabaseRelationId, oid, GetUserId())
#define cmblock_server_usage(oid, role) object_aclcheck(ForeignServerRelationId, oid, role, ACL_USAGE)
#else
#define cmblock_owns_database(oid) pg_database_ownercheck(oid, GetUserId())
#define cmblock_server_usage(oid, role) pg_foreign_server_aclcheck(oid, role, ACL_USAGE)
#endif

/* Since 16 the executor asks which relations a plan changes; ours has no plan. */
#if PG_VERSION_NUM >= 160000
#define cmblock_evalplanqual_init(epq, estate) EvalPlanQualInit(epq, estate, NULL, NIL, -1, NIL)
#else
#define cmblock_evalplanqual_init(epq, estate) EvalPlanQualInit(epq, estate, NULL, NIL, -1)
#endif

/* Since 17 a set of wait events belongs to a resource owner; ours outlives transactions. */
#if PG_VERSION_NUM >= 170000
#define cmblock_create_wait_set(events) CreateWaitEventSet(NULL, events)
#else
#define cmblock_create_wait_set(events) CreateWaitEventSet(TopMemoryContext, events)
#endif

/* Since 18 this comes before the declaration; the older attribute may stand there, too. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Since 18 an index scan can be instrumented. */
#if PG_VERSION_NUM >= 180000
#define cmblock_index_beginscan(table, index, snapshot, keys, orders)                                        \
	index_beginscan(table, index, snapshot, NULL, keys, orders)
#else
#define cmblock_index_beginscan index_beginscan
#endif

/* A wait event of our own where an extension can have one; 15 and 16 have a single one for all extensions. */
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#define cmblock_wait_event(name) WaitEventExtensionNew(name)
#else
#define cmblock_wait_event(name) PG_WAIT_EXTENSION
#endif

/* catalog/pg_database.h: minor versions of 2023 brought a mark for a database whose DROP was interrupted. */
#ifdef DATCONNLIMIT_INVALID_DB
#define cmblock_database_is_invalid(form) ((form)->datconnlimit == DATCONNLIMIT_INVALID_DB)
#else
#define cmblock_database_is_invalid(form) false
#endif

/* replication/walsender_private.h: minor versions of 2025 made flags of it, in each branch. */
#ifdef SYNC_STANDBY_DEFINED
#define cmblock_sync_standbys_defined() ((WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0)
#else
#define cmblock_sync_standbys_defined() (WalSndCtl->sync_standbys_defined)
#endif

#endif
