/*
 * fetch.c
 *		Fetching files from http, https and file addresses, several at once, none of them able to hold the others up.
 *
 * The client is libcurl's multi interface. OpenSSL's own, OSSL_HTTP, was looked at first, since OpenSSL is linked
 * anyway. In OpenSSL 3.0 it resolves names and connects with blocking calls, so that a dead name server would hold
 * the process for longer than SIGTERM may wait; its deadline is looked at only while it sleeps by itself, not with
 * sockets of the caller's; it shows neither status nor headers of an answer, so there would be no conditional request
 * and no Retry-After; and TLS, proxies and redirects are left to callbacks. libcurl does all of that, and has been
 * attacked by strangers for 25 years. What it can do besides is switched off: see set_options.
 *
 * Design. libcurl says which sockets it waits for and how long; we wait for these together with the process's latch
 * and tell it what happened, so nothing here blocks. Names are resolved in threads of libcurl's. These inherit a mask
 * with every signal blocked, so that PostgreSQL's handlers only ever run in the main thread.
 *
 * A transfer has a deadline for the connection and one for everything, redirects included; a server that drips octets
 * gains nothing. Redirects are followed here and not by libcurl, because the rule that https never leads back to http
 * must hold along a whole chain.
 *
 * Failure. A transfer that fails ends with a sentence. Callbacks run inside libcurl, over which no error may jump:
 * they allocate with malloc and report through the Fetch.
 */
#include "postgres.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#ifdef USE_LIBCURL
#include <curl/curl.h>
#endif

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bswap.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "cmblock.h"
#include "compat.h"
#include "crl_import.h"
#include "crl_source.h"
#include "crl_url.h"
#include "fetch.h"

/* Hops from the address that was asked for. */
#define MAX_REDIRECTS 5

/* What is read of an answer that is not the file, and of headers, before it is taken for endless. */
#define MAX_OTHER_BODY (64 * 1024)
#define MAX_HEADERS (64 * 1024)

typedef struct FetchState
{
	bool taken; /* by cmblock_fetch_start */
	bool reported;
	int64 started;  /* by cmblock_fetch_clock */
	int64 deadline; /* the same */
	size_t limit;   /* of the body, as the setting was when the transfer began */
	size_t room;    /* allocated for it */
	size_t other_octets;
	size_t header_octets;
	int redirects;
	bool began_here;     /* the address asked for is one of this machine */
	char *current_url;   /* after redirects; NULL: the one asked for */
	const char *stopped; /* why we stopped it: a sentence */
#ifdef USE_LIBCURL
	CURL *easy;
	struct curl_slist *headers;
	char curl_error[CURL_ERROR_SIZE];
#endif
} FetchState;

static Fetch fetches[MAX_FETCHES];
static FetchState states[MAX_FETCHES];

int64
cmblock_fetch_clock(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

static void fail(Fetch *fetch, const char *format, ...) pg_attribute_printf(2, 3);

static void
fail(Fetch *fetch, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(fetch->error, sizeof(fetch->error), format, args);
	va_end(args);
	for (char *p = fetch->error; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	fetch->outcome = FETCH_FAILED;
}

/* ---------- http and https ---------- */

#ifdef USE_LIBCURL

/* A socket that libcurl waits for. Those of eight transfers: a handshake or two addresses at once make it more. */
#define MAX_SOCKETS (MAX_FETCHES * 8)

typedef struct WaitedSocket
{
	curl_socket_t fd;
	uint32 events; /* WL_SOCKET_... */
} WaitedSocket;

static CURLM *multi = NULL;
static WaitedSocket sockets[MAX_SOCKETS];
static int socket_count = 0;
static int64 curl_wants_call = PG_INT64_MAX;

/* The set is made anew when the sockets change: their numbers are used again, and a set would not notice. */
static WaitEventSet *wait_set = NULL;
static bool sockets_changed = true;

static int
socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	int i = 0;

	sockets_changed = true;
	while (i < socket_count && sockets[i].fd != fd)
		i++;
	if (what == CURL_POLL_REMOVE)
	{
		if (i < socket_count)
			sockets[i] = sockets[--socket_count];
		return 0;
	}
	if (i == MAX_SOCKETS)
		return -1;
	if (i == socket_count)
		sockets[socket_count++].fd = fd;
	sockets[i].events =
		((what & CURL_POLL_IN) ? WL_SOCKET_READABLE : 0) | ((what & CURL_POLL_OUT) ? WL_SOCKET_WRITEABLE : 0);
	return 0;
}

static int
timer_callback(CURLM *handle, long timeout_ms, void *arg)
{
	curl_wants_call = timeout_ms < 0 ? PG_INT64_MAX : cmblock_fetch_clock() + timeout_ms;
	return 0;
}

/*
 * Calls libcurl with all signals blocked: for the threads that it may start, and so that the sockets' callbacks see
 * no handler. Nothing in there waits.
 */
static void
drive(curl_socket_t fd, int events)
{
	sigset_t all;
	sigset_t before;
	int running;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	(void) curl_multi_socket_action(multi, fd, events, &running);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static size_t
stop(Fetch *fetch, const char *why)
{
	fetch->state->stopped = why;
	return 0; /* not what came in: libcurl ends the transfer */
}

static bool
make_room(Fetch *fetch, size_t needed)
{
	FetchState *state = fetch->state;
	size_t room = Max(state->room, 64 * 1024);
	unsigned char *bigger;

	if (needed <= state->room)
		return true;
	while (room < needed)
		room *= 2;
	room = Min(room, state->limit);
	bigger = realloc(fetch->body, room);
	if (!bigger)
		return false;
	fetch->body = bigger;
	state->room = room;
	return true;
}

static size_t
body_callback(char *data, size_t one, size_t length, void *arg)
{
	Fetch *fetch = arg;
	FetchState *state = fetch->state;
	long status = 0;

	curl_easy_getinfo(state->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200)
	{
		state->other_octets += length;
		if (state->other_octets > MAX_OTHER_BODY)
			return stop(fetch, status < 400 ? "The server's answer is no file, and does not end." : NULL);
		return length;
	}
	if (length > state->limit - fetch->size)
		return stop(fetch, "The file is larger than cmblock.crl_max_size allows.");
	if (!make_room(fetch, fetch->size + length))
		return stop(fetch, "There is not enough memory for the file.");
	memcpy(fetch->body + fetch->size, data, length);
	fetch->size += length;
	return length;
}

/* Keeps the value of a header if the line is one of that name: printable and whole, or not at all. */
static void
keep_header(const char *line, size_t length, const char *name, char *value, size_t room)
{
	size_t name_length = strlen(name);
	size_t begin = name_length + 1;

	if (length <= name_length || line[name_length] != ':' || pg_strncasecmp(line, name, name_length) != 0)
		return;
	value[0] = '\0';
	while (begin < length && (line[begin] == ' ' || line[begin] == '\t'))
		begin++;
	while (length > begin &&
		   (line[length - 1] == '\r' || line[length - 1] == '\n' || line[length - 1] == ' '))
		length--;
	if (length - begin >= room)
		return;
	for (size_t i = begin; i < length; i++)
		if (line[i] < ' ' || line[i] > '~')
			return;
	memcpy(value, line + begin, length - begin);
	value[length - begin] = '\0';
}

static size_t
header_callback(char *line, size_t one, size_t length, void *arg)
{
	Fetch *fetch = arg;

	fetch->state->header_octets += length;
	if (fetch->state->header_octets > MAX_HEADERS)
		return stop(fetch, "The server's headers do not end.");
	keep_header(line, length, "ETag", fetch->new_etag, sizeof(fetch->new_etag));
	keep_header(line, length, "Last-Modified", fetch->new_modified, sizeof(fetch->new_modified));
	keep_header(line, length, "Content-Type", fetch->content_type, sizeof(fetch->content_type));
	return length;
}

/* Loopback, link-local or unspecified: where nobody but this machine and its host can be. */
static bool
is_here(const struct sockaddr *address)
{
	uint32 a;

	if (address->sa_family == AF_INET6)
	{
		const struct in6_addr *a6 = &((const struct sockaddr_in6 *) address)->sin6_addr;

		if (!IN6_IS_ADDR_V4MAPPED(a6))
			return IN6_IS_ADDR_LOOPBACK(a6) || IN6_IS_ADDR_LINKLOCAL(a6) || IN6_IS_ADDR_UNSPECIFIED(a6);
		memcpy(&a, &a6->s6_addr[12], sizeof(a));
	}
	else if (address->sa_family == AF_INET)
		a = ((const struct sockaddr_in *) address)->sin_addr.s_addr;
	else
		return false;
	a = pg_ntoh32(a);
	return a >> 24 == 127 || a >> 24 == 0 || a >> 16 == (169 << 8 | 254);
}

/*
 * What listens only here trusts who asks from here, so it is not for a server elsewhere, or whoever speaks in its place,
 * to send us there.
 */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	Fetch *fetch = arg;
	FetchState *state = fetch->state;

	if (state->redirects == 0)
		state->began_here |= is_here(&address->addr);
	else if (!state->began_here && is_here(&address->addr))
	{
		(void) stop(fetch, "The server redirects to an address of this machine or its link.");
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* An option that libcurl does not take leaves a protection out, so it is an error. */
static void
check_option(CURLcode code, const char *name)
{
	if (code != CURLE_OK)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("libcurl does not take option %s: %s", name, curl_easy_strerror(code)));
}

#define SET(option, value) check_option(curl_easy_setopt(easy, option, value), #option)

static struct curl_slist *
append_header(struct curl_slist *list, const char *name, const char *value)
{
	char line[512];
	struct curl_slist *longer;

	if (!value || value[0] == '\0')
		return list;
	snprintf(line, sizeof(line), "%s: %s", name, value);
	longer = curl_slist_append(list, line);
	return longer ? longer : list;
}

static void
set_options(CURL *easy, Fetch *fetch)
{
	FetchState *state = fetch->state;

	SET(CURLOPT_PRIVATE, fetch);
	SET(CURLOPT_ERRORBUFFER, state->curl_error);
	SET(CURLOPT_USERAGENT, "cmblock/" CMBLOCK_VERSION);

	/* Two protocols and nothing else; no signals, files of the service's user, cookies or second thoughts. */
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_FORBID_REUSE, 1L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (cmblock_crl_tls_ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, cmblock_crl_tls_ca_file);
		/* Else the operating system's directory would be asked as well. */
		SET(CURLOPT_CAPATH, NULL);
	}
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	/* Set to empty strings, so that the environment has no say. */
	SET(CURLOPT_PROXY, cmblock_crl_proxy);
	SET(CURLOPT_NOPROXY, "");
	/* A proxy decides by itself, and may well be here. */
	if (cmblock_crl_proxy[0] == '\0')
	{
		SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
		SET(CURLOPT_OPENSOCKETDATA, fetch);
	}
	/* A thread that still waits for a name server must not be waited for when its transfer is given up. */
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif

	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) cmblock_crl_connect_timeout);
	SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) state->limit);
	SET(CURLOPT_WRITEFUNCTION, body_callback);
	SET(CURLOPT_WRITEDATA, fetch);
	SET(CURLOPT_HEADERFUNCTION, header_callback);
	SET(CURLOPT_HEADERDATA, fetch);

	state->headers = append_header(NULL, "If-None-Match", fetch->etag);
	state->headers = append_header(state->headers, "If-Modified-Since", fetch->last_modified);
	state->headers = append_header(state->headers, "Accept", "application/pkix-crl, */*;q=0.5");
	SET(CURLOPT_HTTPHEADER, state->headers);
}

/* The first request of a transfer, or the next one after a redirect. False: it failed. */
static bool
request(Fetch *fetch)
{
	FetchState *state = fetch->state;
	long left = (long) (state->deadline - cmblock_fetch_clock());
	sigset_t all;
	sigset_t before;
	CURLMcode code;

	if (left <= 0)
	{
		fail(fetch, "The file did not come within cmblock.crl_fetch_timeout.");
		return false;
	}
	state->header_octets = 0;
	state->other_octets = 0;
	fetch->size = 0;
	fetch->new_etag[0] = fetch->new_modified[0] = fetch->content_type[0] = '\0';
	if (curl_easy_setopt(state->easy, CURLOPT_TIMEOUT_MS, left) != CURLE_OK ||
		curl_easy_setopt(state->easy, CURLOPT_URL, state->current_url ? state->current_url : fetch->url) !=
			CURLE_OK)
	{
		fail(fetch, "There is not enough memory for the request.");
		return false;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	code = curl_multi_add_handle(multi, state->easy);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code != CURLM_OK)
	{
		fail(fetch, "The request could not be started: %s.", curl_multi_strerror(code));
		return false;
	}
	return true;
}

static void
start_http(Fetch *fetch)
{
	FetchState *state = fetch->state;

	state->easy = curl_easy_init();
	if (!state->easy)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	set_options(state->easy, fetch);
	(void) request(fetch);
}

/* The address for people: what may be a user name and password is left out. */
static void
without_login(const char *url, char *shown, size_t room)
{
	const char *host = strstr(url, "//");
	const char *end;
	const char *at = NULL;

	host = host ? host + 2 : url;
	end = host + strcspn(host, "/?#");
	for (const char *p = host; p < end; p++)
		if (*p == '@')
			at = p;
	snprintf(shown, room, "%.*s%.200s", (int) (at ? host - url : 0), url, at ? at : url);
}

/* Follows a redirect. False: it is not followed, and the transfer has failed. */
static bool
redirect(Fetch *fetch, const char *target)
{
	FetchState *state = fetch->state;
	const char *from = state->current_url ? state->current_url : fetch->url;
	const char *problem;
	UrlScheme scheme;
	char shown[256];
	char *copy;

	if (!target)
	{
		fail(fetch, "The server redirects without saying where to.");
		return false;
	}
	scheme = cmblock_url_scheme(target);
	problem = cmblock_url_problem(target, strlen(target));
	if (scheme != URL_HTTP && scheme != URL_HTTPS)
		problem = "Only http and https addresses are followed.";
	else if (scheme == URL_HTTP && cmblock_url_scheme(from) == URL_HTTPS)
		problem = "An https address may not lead to an http address.";
	without_login(target, shown, sizeof(shown));
	if (problem)
	{
		fail(fetch, "The server redirects to \"%s\". %s", shown, problem);
		return false;
	}
	if (++state->redirects > MAX_REDIRECTS)
	{
		fail(fetch, "The server redirects more than %d times, the last time to \"%s\".", MAX_REDIRECTS,
			 shown);
		return false;
	}
	copy = strdup(target);
	if (!copy)
	{
		fail(fetch, "There is not enough memory for the redirect.");
		return false;
	}
	free(state->current_url);
	state->current_url = copy;
	return request(fetch);
}

/* Why libcurl gave up, as a sentence. */
static void
explain(Fetch *fetch, CURLcode code)
{
	FetchState *state = fetch->state;
	const char *text = state->curl_error[0] != '\0' ? state->curl_error : curl_easy_strerror(code);
	curl_off_t expected = -1;
	long sent = 0;

	switch (code)
	{
		case CURLE_OPERATION_TIMEDOUT:
			/* The times of its steps tell nothing: versions differ on those that were not reached. */
			curl_easy_getinfo(state->easy, CURLINFO_REQUEST_SIZE, &sent);
			if (sent > 0)
				fail(fetch, "The file did not come within cmblock.crl_fetch_timeout: %zu octets had arrived.",
					 fetch->size);
			else
				fail(fetch, "No connection came about in time: %s.", text);
			break;
		case CURLE_PARTIAL_FILE:
			curl_easy_getinfo(state->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
			fail(fetch, "The server closed the connection after %zu of %lld octets.", fetch->size,
				 (long long) expected);
			break;
		case CURLE_FILESIZE_EXCEEDED:
			fail(fetch, "The file is larger than cmblock.crl_max_size allows.");
			break;
		default:
			fail(fetch, "%s.", text);
			break;
	}
}

static void
judge_answer(Fetch *fetch, CURLcode code)
{
	FetchState *state = fetch->state;
	curl_off_t retry_after = 0;
	long status = 0;
	char *target = NULL;

	curl_easy_getinfo(state->easy, CURLINFO_RESPONSE_CODE, &status);
	if (state->stopped)
		fail(fetch, "%s", state->stopped);
	else if (code != CURLE_OK && status < 400)
		explain(fetch, code);
	else if (status == 200)
		fetch->outcome = FETCH_RECEIVED;
	else if (status == 304 && (fetch->etag || fetch->last_modified))
		fetch->outcome = FETCH_NOT_MODIFIED;
	else if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308)
	{
		curl_easy_getinfo(state->easy, CURLINFO_REDIRECT_URL, &target);
		(void) redirect(fetch, target);
	}
	else
	{
		/* Whatever became of the error page, the status is what there is to say. */
		curl_easy_getinfo(state->easy, CURLINFO_RETRY_AFTER, &retry_after);
		fetch->retry_after = (int) Min(retry_after, 86400);
		fail(fetch, "The server answered with status %ld.", status);
	}
}

static void
collect_answers(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;
		Fetch *fetch;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &fetch);
		curl_multi_remove_handle(multi, easy);
		judge_answer(fetch, code);
	}
}

static void
end_http(FetchState *state)
{
	if (state->easy)
	{
		curl_multi_remove_handle(multi, state->easy);
		curl_easy_cleanup(state->easy);
	}
	curl_slist_free_all(state->headers);
}

void
cmblock_fetch_init(void)
{
	if (multi)
		return;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (multi = curl_multi_init()) == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not start libcurl"));
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_callback);
}

static void
rebuild_wait_set(void)
{
	if (wait_set)
		FreeWaitEventSet(wait_set);
	wait_set = cmblock_create_wait_set(socket_count + 2);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < socket_count; i++)
		AddWaitEventToSet(wait_set, sockets[i].events, sockets[i].fd, NULL, NULL);
	sockets_changed = false;
}

static bool
anything_ended(void)
{
	for (int i = 0; i < MAX_FETCHES; i++)
		if (states[i].taken && !states[i].reported && fetches[i].outcome != FETCH_UNDER_WAY)
			return true;
	return false;
}

void
cmblock_fetch_wait(long timeout_ms)
{
	int64 end = cmblock_fetch_clock() + timeout_ms;

	collect_answers();
	while (!anything_ended())
	{
		int64 left = Min(end, curl_wants_call) - cmblock_fetch_clock();
		WaitEvent events[MAX_SOCKETS + 2];
		bool latch_set = false;
		int count;

		if (sockets_changed)
			rebuild_wait_set();
		count = WaitEventSetWait(wait_set, (long) Min(Max(left, 0), INT_MAX), events, lengthof(events),
								 cmblock_wait_event("CmblockCrlFetch"));
		for (int i = 0; i < count; i++)
		{
			if (events[i].events & WL_LATCH_SET)
				latch_set = true;
			else if (events[i].fd != PGINVALID_SOCKET)
				drive(events[i].fd, ((events[i].events & WL_SOCKET_READABLE) ? CURL_CSELECT_IN : 0) |
										((events[i].events & WL_SOCKET_WRITEABLE) ? CURL_CSELECT_OUT : 0));
		}
		if (curl_wants_call <= cmblock_fetch_clock())
		{
			curl_wants_call = PG_INT64_MAX;
			drive(CURL_SOCKET_TIMEOUT, 0);
		}
		collect_answers();
		if (latch_set)
		{
			ResetLatch(MyLatch);
			break;
		}
		if (end <= cmblock_fetch_clock())
			break;
	}
}

#else /* without libcurl */

void
cmblock_fetch_init(void)
{
}

static void
start_http(Fetch *fetch)
{
	fail(fetch, "This build of cmblock fetches no http and https addresses: libcurl was missing when it was "
				"compiled.");
}

static void
end_http(FetchState *state)
{
}

void
cmblock_fetch_wait(long timeout_ms)
{
	for (int i = 0; i < MAX_FETCHES; i++)
		if (states[i].taken && !states[i].reported)
			return;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
					 cmblock_wait_event("CmblockCrlFetch"));
	ResetLatch(MyLatch);
}

#endif

/* ---------- all of them ---------- */

static char *
copy_or_null(const char *text)
{
	return text && text[0] != '\0' ? strdup(text) : NULL;
}

Fetch *
cmblock_fetch_start(const char *url, const char *etag, const char *last_modified, int64 tag)
{
	Fetch *fetch = NULL;
	FetchState *state;
	const char *problem;

	for (int i = 0; i < MAX_FETCHES && !fetch; i++)
	{
		if (states[i].taken)
			continue;
		fetch = &fetches[i];
		memset(fetch, 0, sizeof(*fetch));
		memset(&states[i], 0, sizeof(states[i]));
		fetch->state = &states[i];
	}
	if (!fetch)
		return NULL;
	state = fetch->state;
	fetch->tag = tag;
	fetch->url = strdup(url);
	if (!fetch->url)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	fetch->etag = copy_or_null(etag);
	fetch->last_modified = copy_or_null(last_modified);
	state->taken = true;
	state->limit = (size_t) cmblock_crl_max_size * 1024;
	state->started = cmblock_fetch_clock();
	state->deadline = state->started + cmblock_crl_fetch_timeout;

	problem = cmblock_url_problem(url, strlen(url));
	if (problem)
		fail(fetch, "%s", problem);
	else if (cmblock_url_scheme(url) == URL_FILE)
		cmblock_fetch_file(fetch);
	else
		start_http(fetch);
	return fetch;
}

int
cmblock_fetch_count(void)
{
	int count = 0;

	for (int i = 0; i < MAX_FETCHES; i++)
		count += states[i].taken ? 1 : 0;
	return count;
}

Fetch *
cmblock_fetch_done(void)
{
	for (int i = 0; i < MAX_FETCHES; i++)
		if (states[i].taken && !states[i].reported && fetches[i].outcome != FETCH_UNDER_WAY)
		{
			states[i].reported = true;
			fetches[i].milliseconds = cmblock_fetch_clock() - states[i].started;
			return &fetches[i];
		}
	return NULL;
}

void
cmblock_fetch_free(Fetch *fetch)
{
	FetchState *state = fetch->state;

	end_http(state);
	free(state->current_url);
	free(fetch->url);
	free(fetch->etag);
	free(fetch->last_modified);
	free(fetch->body);
	memset(state, 0, sizeof(*state));
	memset(fetch, 0, sizeof(*fetch));
}

void
cmblock_fetch_abandon(void)
{
	for (int i = 0; i < MAX_FETCHES; i++)
		if (states[i].taken)
			cmblock_fetch_free(&fetches[i]);
}
