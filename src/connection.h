/*
 * connection.h
 *		How to reach a neighbour: libpq's options from a foreign server and its user mapping.
 */
#ifndef CMBLOCK_CONNECTION_H
#define CMBLOCK_CONNECTION_H

#include "postgres.h"

typedef struct ConnectionOptions
{
	const char **keywords; /* end with NULL, with room for `spare` more */
	const char **values;
	int count;
	bool
		password_required; /* the server's owner is no superuser: only a password of his own may open the door */
	bool has_password;
} ConnectionOptions;

/*
 * Options of the server and of its owner's user mapping, or else PUBLIC's. An error (42704) when there is none or the
 * server is not one of cmblock_fdw. Everything is allocated in the current memory context.
 */
extern ConnectionOptions *cmblock_connection_options(const char *server, int spare);

/* Appends one; of two with the same keyword libpq takes the later. */
extern void cmblock_add_option(ConnectionOptions *options, const char *keyword, const char *value);

/* OID of the server; the same errors as above. */
extern Oid cmblock_server_oid(const char *server);

#endif
