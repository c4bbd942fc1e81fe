/*
 * crl_url.c
 *		The addresses that a CRL may be fetched from.
 *
 * An address comes from a PKI administrator, from a CA certificate or CRL, or from a server that redirects. All three
 * go through the same check: printable ASCII, one of three schemes, a host, and no user name or password, since
 * addresses are shown in views and logs.
 */
#include "postgres.h"

#include "crl_url.h"

typedef struct SchemeName
{
	const char *prefix;
	UrlScheme scheme;
} SchemeName;

static const SchemeName schemes[] = {
	{"http://", URL_HTTP}, {"https://", URL_HTTPS}, {"file://", URL_FILE},
	{"ldap:", URL_LDAP},   {"ldaps:", URL_LDAP},
};

static const SchemeName *
find_scheme(const char *url, size_t length)
{
	for (int i = 0; i < lengthof(schemes); i++)
	{
		size_t prefix_length = strlen(schemes[i].prefix);

		if (length >= prefix_length && pg_strncasecmp(url, schemes[i].prefix, prefix_length) == 0)
			return &schemes[i];
	}
	return NULL;
}

UrlScheme
cmblock_url_scheme(const char *url)
{
	const SchemeName *found = find_scheme(url, strlen(url));

	return found ? found->scheme : URL_OTHER;
}

static bool
printable(const char *url, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (url[i] <= ' ' || url[i] >= 0x7f)
			return false;
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decodes %xx. Returns the length of the path, or -1 when an escape is malformed or stands for a zero octet. */
static int
decode_path(const char *in, size_t length, char *out)
{
	int written = 0;

	for (size_t i = 0; i < length; i++)
	{
		char c = in[i];

		if (c == '%')
		{
			int high = i + 2 < length ? hex_digit(in[i + 1]) : -1;
			int low = i + 2 < length ? hex_digit(in[i + 2]) : -1;

			if (high < 0 || low < 0 || (high == 0 && low == 0))
				return -1;
			c = (char) (high * 16 + low);
			i += 2;
		}
		out[written++] = c;
	}
	out[written] = '\0';
	return written;
}

static const char *
file_problem(const char *rest, size_t length)
{
	char path[MAX_URL_OCTETS + 1];

	if (length == 0 || rest[0] != '/')
		return "A file address has three slashes, file:///directory/name: it names no other host.";
	if (decode_path(rest, length, path) < 0)
		return "The address has a malformed % escape.";
	for (const char *p = path; (p = strstr(p, "/..")) != NULL; p += 3)
		if (p[3] == '/' || p[3] == '\0')
			return "The path goes up with \"..\".";
	return NULL;
}

const char *
cmblock_url_problem(const char *url, size_t length)
{
	const SchemeName *found;
	const char *rest;
	size_t rest_length;
	size_t host_length = 0;

	if (length > MAX_URL_OCTETS)
		return "The address is longer than 2048 octets.";
	if (!printable(url, length))
		return "The address has characters that must be escaped with %: only printable ASCII without blanks "
			   "is taken.";
	found = find_scheme(url, length);
	if (!found)
		return "The address begins with none of http://, https:// and file://.";
	if (found->scheme == URL_LDAP)
		return "LDAP is not supported: a CA that publishes there can publish over http as well.";
	rest = url + strlen(found->prefix);
	rest_length = length - strlen(found->prefix);
	if (found->scheme == URL_FILE)
		return file_problem(rest, rest_length);

	while (host_length < rest_length && strchr("/?#", rest[host_length]) == NULL)
		host_length++;
	if (host_length == 0 || rest[0] == ':')
		return "The address has no host.";
	if (memchr(rest, '@', host_length))
		return "The address has a user name or password: addresses are shown in views and logs.";
	return NULL;
}

char *
cmblock_url_path(const char *url)
{
	const char *rest = url + strlen("file://");
	char *path = palloc(strlen(rest) + 1);

	if (decode_path(rest, strlen(rest), path) < 0)
		elog(ERROR, "malformed file address");
	return path;
}
