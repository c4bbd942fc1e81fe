/*
 * resolve.c
 *		Addresses of the hosts of a connection, found without blocking.
 *
 * libpq connects without blocking, except that it looks host names up with getaddrinfo, which may wait for name servers as long
 * as resolv.conf allows, and all links with it. There is no version of getaddrinfo that does not wait and starts no
 * threads, which a PostgreSQL process must not have. So a process of its own waits: getent, the program that comes with
 * the C library and asks what getaddrinfo asks (files, DNS, whatever nsswitch.conf says). It is started as archive_command is,
 * writes the addresses into a pipe, and is killed when nobody wants them any more. libpq then gets the addresses in
 * hostaddr, beside the names, which it still needs to check certificates and to find passwords.
 *
 * A host with several addresses becomes several hosts: libpq tries one after the other, as it would have. Of several hosts those without
 * an address are left out.
 *
 * Nothing here allocates with palloc or raises errors, like peer.c.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libpq/pqcomm.h"
#include "storage/fd.h"

#include "resolve.h"

#define MAX_HOSTS 16
#define MAX_ADDRESSES 32
#define OUTPUT_OCTETS 8192

extern char **environ;

typedef struct HostName
{
	const char *host;
	const char *port;
} HostName;

typedef struct Address
{
	HostName name;
	char text[64]; /* empty: none is needed */
} Address;

struct Resolver
{
	char *hosts; /* copies, cut into names */
	char *ports;
	HostName name[MAX_HOSTS];
	int names;
	int at; /* the name that is being looked up */
	Address address[MAX_ADDRESSES];
	int addresses;
	bool no_program;

	/* the process */
	pid_t pid; /* 0: none */
	int output;
	char text[OUTPUT_OCTETS];
	int length;

	/* the result */
	char *host;
	char *hostaddr;
	char *port;
};

static int under_way = 0;

int
cmblock_resolve_count(void)
{
	return under_way;
}

/* ---------- what is to be looked up ---------- */

static const char *
option(const ConnectionOptions *options, const char *keyword)
{
	const char *value = NULL;

	for (int i = 0; i < options->count; i++)
		if (strcmp(options->keywords[i], keyword) == 0)
			value = options->values[i];
	return value && value[0] != '\0' ? value : NULL;
}

/* A path, an address, or nothing, which means a path too; nor is there a host whose name looks like an option of getent. */
static bool
needs_no_lookup(const char *host)
{
	unsigned char address[16];
	const char *scope = strchr(host, '%');
	char bare[64];

	if (host[0] == '\0' || host[0] == '-' || is_unixsock_path(host))
		return true;
	strlcpy(bare, host, Min(sizeof(bare), scope ? scope - host + 1 : sizeof(bare)));
	return inet_pton(AF_INET, bare, address) == 1 || inet_pton(AF_INET6, bare, address) == 1;
}

/* Cuts a list at its commas; returns the number of parts, at most `max`. */
static int
cut(char *list, char **part, int max)
{
	int count = 0;

	while (list && count < max)
	{
		char *comma = strchr(list, ',');

		part[count++] = list;
		if (comma)
			*comma++ = '\0';
		list = comma;
	}
	return count;
}

bool
cmblock_resolve_needed(const ConnectionOptions *options)
{
	const char *host = option(options, "host");
	char list[1024];
	char *part[MAX_HOSTS];
	int parts;

	/* More than fits is libpq's. */
	if (!host || option(options, "hostaddr") || strlen(host) >= sizeof(list))
		return false;
	strlcpy(list, host, sizeof(list));
	parts = cut(list, part, MAX_HOSTS);
	for (int i = 0; i < parts; i++)
		if (!needs_no_lookup(part[i]))
			return true;
	return false;
}

/* ---------- the process ---------- */

static bool
start_process(Resolver *resolver, const char *host)
{
	char *argument[] = {"getent", "ahosts", (char *) host, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t signals;
	int pipe_ends[2];
	int error;

	if (!AcquireExternalFD())
		return false;
	if (pipe(pipe_ends) != 0)
	{
		ReleaseExternalFD();
		return false;
	}
	(void) fcntl(pipe_ends[0], F_SETFD, FD_CLOEXEC);
	(void) fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	if (pipe_ends[1] != STDOUT_FILENO)
		posix_spawn_file_actions_addclose(&actions, pipe_ends[1]);
	/* Of what this process handles or blocks, nothing. */
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	sigfillset(&signals);
	posix_spawnattr_setsigdefault(&attributes, &signals);
	sigemptyset(&signals);
	posix_spawnattr_setsigmask(&attributes, &signals);

	error = posix_spawnp(&resolver->pid, argument[0], &actions, &attributes, argument, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	close(pipe_ends[1]);
	if (error != 0)
	{
		close(pipe_ends[0]);
		ReleaseExternalFD();
		resolver->pid = 0;
		resolver->no_program = error == ENOENT;
		return resolver->no_program;
	}
	resolver->output = pipe_ends[0];
	resolver->length = 0;
	return true;
}

static void
end_process(Resolver *resolver)
{
	if (resolver->pid == 0)
		return;
	/* It has ended, or is not wanted any more. */
	(void) kill(resolver->pid, SIGKILL);
	while (waitpid(resolver->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	close(resolver->output);
	ReleaseExternalFD();
	resolver->pid = 0;
}

/* ---------- the addresses ---------- */

static void
add_address(Resolver *resolver, const char *text)
{
	const HostName *name = &resolver->name[resolver->at];

	if (resolver->addresses == MAX_ADDRESSES)
		return;
	resolver->address[resolver->addresses].name = *name;
	strlcpy(resolver->address[resolver->addresses].text, text, sizeof(resolver->address[0].text));
	resolver->addresses++;
}

/* Lines like "192.0.2.7       STREAM p01.example.com"; each address is there once more for other kinds of sockets. */
static void
take_output(Resolver *resolver)
{
	char *rest = NULL;

	resolver->text[resolver->length] = '\0';
	for (char *line = strtok_r(resolver->text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
	{
		char *words = NULL;
		char *address = strtok_r(line, " \t", &words);
		char *kind = strtok_r(NULL, " \t", &words);

		if (address && kind && strcmp(kind, "STREAM") == 0 && needs_no_lookup(address))
			add_address(resolver, address);
	}
}

/* Begins with the next name that has to be looked up. False: it could not. */
static bool
next_name(Resolver *resolver)
{
	while (resolver->at < resolver->names && needs_no_lookup(resolver->name[resolver->at].host))
	{
		add_address(resolver, "");
		resolver->at++;
	}
	return resolver->at == resolver->names || start_process(resolver, resolver->name[resolver->at].host);
}

static char *
join(const Resolver *resolver, const char *(*part)(const Address *) )
{
	int size = 1;
	char *text;

	for (int i = 0; i < resolver->addresses; i++)
		size += strlen(part(&resolver->address[i])) + 1;
	text = malloc(size);
	if (!text)
		return NULL;
	text[0] = '\0';
	for (int i = 0; i < resolver->addresses; i++)
	{
		if (i > 0)
			strlcat(text, ",", size);
		strlcat(text, part(&resolver->address[i]), size);
	}
	return text;
}

static const char *
part_host(const Address *address)
{
	return address->name.host;
}

static const char *
part_hostaddr(const Address *address)
{
	return address->text;
}

static const char *
part_port(const Address *address)
{
	return address->name.port;
}

static ResolveStep
finish(Resolver *resolver, char *message, int size)
{
	if (resolver->no_program)
		return RESOLVE_DONE;
	if (resolver->addresses == 0)
	{
		snprintf(message, size, "could not translate host name \"%s\" to address",
				 resolver->name[resolver->names - 1].host);
		return RESOLVE_FAILED;
	}
	resolver->host = join(resolver, part_host);
	resolver->hostaddr = join(resolver, part_hostaddr);
	resolver->port = join(resolver, part_port);
	if (resolver->host && resolver->hostaddr && resolver->port)
		return RESOLVE_DONE;
	strlcpy(message, "out of memory", size);
	return RESOLVE_FAILED;
}

/* ---------- from outside ---------- */

Resolver *
cmblock_resolve_begin(const ConnectionOptions *options)
{
	Resolver *resolver = calloc(1, sizeof(Resolver));
	const char *port = option(options, "port");
	char *host[MAX_HOSTS];
	char *ports[MAX_HOSTS];
	int count;

	if (!resolver)
		return NULL;
	under_way++;
	resolver->hosts = strdup(option(options, "host"));
	resolver->ports = strdup(port ? port : "");
	if (!resolver->hosts || !resolver->ports)
	{
		cmblock_resolve_free(resolver);
		return NULL;
	}
	resolver->names = cut(resolver->hosts, host, MAX_HOSTS);
	count = cut(resolver->ports, ports, MAX_HOSTS);
	for (int i = 0; i < resolver->names; i++)
	{
		/* One port is for all hosts; a number that does not fit is for libpq to complain about. */
		resolver->name[i].host = host[i];
		resolver->name[i].port = ports[Min(i, count - 1)];
	}
	if (next_name(resolver))
		return resolver;
	cmblock_resolve_free(resolver);
	return NULL;
}

ResolveStep
cmblock_resolve_advance(Resolver *resolver, char *message, int size)
{
	while (resolver->pid != 0)
	{
		int room = OUTPUT_OCTETS - 1 - resolver->length;
		int got = room > 0 ? read(resolver->output, resolver->text + resolver->length, room) : 0;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return RESOLVE_WAITS;
		if (got > 0)
		{
			resolver->length += got;
			continue;
		}
		end_process(resolver);
		take_output(resolver);
		resolver->at++;
		if (!next_name(resolver))
		{
			snprintf(message, size, "could not start a process to look up host names: %s", strerror(errno));
			return RESOLVE_FAILED;
		}
	}
	return finish(resolver, message, size);
}

int
cmblock_resolve_descriptor(const Resolver *resolver)
{
	return resolver->pid != 0 ? resolver->output : PGINVALID_SOCKET;
}

void
cmblock_resolve_apply(const Resolver *resolver, ConnectionOptions *options)
{
	if (resolver->no_program)
		return;
	cmblock_add_option(options, "host", resolver->host);
	cmblock_add_option(options, "hostaddr", resolver->hostaddr);
	cmblock_add_option(options, "port", resolver->port);
}

void
cmblock_resolve_free(Resolver *resolver)
{
	if (!resolver)
		return;
	end_process(resolver);
	free(resolver->hosts);
	free(resolver->ports);
	free(resolver->host);
	free(resolver->hostaddr);
	free(resolver->port);
	free(resolver);
	under_way--;
}
