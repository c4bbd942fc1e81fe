/*
 * client.h
 *		Clients: what other parts need to know about registering them.
 */
#ifndef CMBLOCK_CLIENT_H
#define CMBLOCK_CLIENT_H

#include "postgres.h"

#include "types.h"

/*
 * Compares what is being registered with the blocked clients (other than `client` itself) and acts as
 * cmblock.rejoin_policy says: a WARNING with the evidence, or an error (55000). Any evidence may be NULL.
 * `key_sha256` is the thumbprint of a certificate's public key.
 */
extern void cmblock_watch_rejoin(const Smsid *client, const char *name, const char *hardware_id,
								 struct varlena *key_sha256);

#endif
