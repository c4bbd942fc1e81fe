/*
 * sleep.h
 *		Sleeping until something happens on the latch or on a link's socket.
 */
#ifndef CMBLOCK_SLEEP_H
#define CMBLOCK_SLEEP_H

#include "postgres.h"
#include "lib/ilist.h"

/* A connection began, ended, or may have changed its socket. */
extern void cmblock_sockets_changed(void);

/* Sleeps so many milliseconds at most, and notes in each link what its socket is ready for. Resets the latch. */
extern void cmblock_sleep(dlist_head *links, long timeout);

#endif
