/*
 * sleep.c
 *		Sleeping until something happens on the latch or on a link's socket.
 *
 * libpq may close a socket and open another while it connects, and the kernel gives out the same number again. So the set of what to wait
 * for is built anew whenever a connection is made or ends, and otherwise kept: with 250 links building it costs more than all else
 * that a change does.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "links.h"
#include "sleep.h"

static WaitEventSet *set = NULL;
static WaitEvent *events = NULL;
static int size = 0;
static bool changed = true;

void
cmblock_sockets_changed(void)
{
	changed = true;
}

static int
count_links(dlist_head *links)
{
	int count = 0;
	dlist_iter iter;

	dlist_foreach (iter, links)
		count++;
	return count;
}

static void
rebuild(dlist_head *links)
{
	dlist_iter iter;

	if (set)
		FreeWaitEventSet(set);
	if (events)
		pfree(events);
	size = count_links(links) + 2;
	events = MemoryContextAlloc(TopMemoryContext, size * sizeof(WaitEvent));
	set = cmblock_create_wait_set(size);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	dlist_foreach (iter, links)
	{
		Link *link = dlist_container(Link, node, iter.cur);

		link->wait_position = -1;
		if (link->peer.phase == PEER_OFFLINE || cmblock_peer_socket(&link->peer) == PGINVALID_SOCKET)
			continue;
		link->wait_position =
			AddWaitEventToSet(set, link->peer.wants, cmblock_peer_socket(&link->peer), NULL, link);
		link->waits_for = link->peer.wants;
	}
	changed = false;
}

static void
prepare(dlist_head *links)
{
	dlist_iter iter;

	if (changed || !set)
	{
		rebuild(links);
		return;
	}
	dlist_foreach (iter, links)
	{
		Link *link = dlist_container(Link, node, iter.cur);

		if (link->wait_position < 0 || link->waits_for == link->peer.wants)
			continue;
		ModifyWaitEvent(set, link->wait_position, link->peer.wants, NULL);
		link->waits_for = link->peer.wants;
	}
}

void
cmblock_sleep(dlist_head *links, long timeout)
{
	int count;

	prepare(links);
	count = WaitEventSetWait(set, timeout, events, size, PG_WAIT_EXTENSION);
	for (int i = 0; i < count; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		else if (events[i].user_data)
			((Link *) events[i].user_data)->ready = events[i].events;
	}
}
