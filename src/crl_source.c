/*
 * crl_source.c
 *		Where CRLs come from: the commands about sources, and the refresher's settings.
 *
 * The commands only write table crl_source; its trigger wakes the refresher at commit. A source that a
 * CA certificate or a CRL names would come back if its row were deleted, so it is switched off instead.
 *
 * What PKI administrators may say here makes the server open connections to hosts that they choose. They see nothing of
 * what such a host answers but a status and sizes; still, where that matters, crl_proxy lets a proxy decide.
 */
#include "postgres.h"

#include <limits.h>

#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "authority.h"
#include "catalog.h"
#include "command.h"
#include "compat.h"
#include "crl_points.h"
#include "crl_source.h"
#include "crl_url.h"
#include "slots.h"
#include "statement.h"
#include "types.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(cmblock_add_crl_distribution_point);
PG_FUNCTION_INFO_V1(cmblock_remove_crl_distribution_point);
PG_FUNCTION_INFO_V1(cmblock_refresh_crls);
PG_FUNCTION_INFO_V1(cmblock_refresher_state);
PG_FUNCTION_INFO_V1(cmblock_crl_source_changed);

int cmblock_crl_connect_timeout = 10000;
int cmblock_crl_fetch_timeout = 120000;
int cmblock_crl_refresh_interval = 3600;
char *cmblock_crl_proxy = NULL;
char *cmblock_crl_tls_ca_file = NULL;
char *cmblock_crl_file_directory = NULL;

/* ---------- settings ---------- */

/* Settings are read by everybody, so a password has no place in them. */
static bool
check_proxy(char **value, void **extra, GucSource source)
{
	if (strchr(*value, '@'))
	{
		GUC_check_errdetail(
			"A proxy with a user name and password is not supported: settings can be read by everyone.");
		return false;
	}
	if ((*value)[0] == '\0')
		return true;
	if (cmblock_url_problem(*value, strlen(*value)) || cmblock_url_scheme(*value) == URL_FILE)
	{
		GUC_check_errdetail("It has to be an address such as http://proxy.example.com:3128, or empty.");
		return false;
	}
	return true;
}

static bool
check_path(char **value, void **extra, GucSource source)
{
	if ((*value)[0] != '\0' && (*value)[0] != '/')
	{
		GUC_check_errdetail("It has to be an absolute path, or empty.");
		return false;
	}
	return true;
}

void
cmblock_crl_source_define_settings(void)
{
	DefineCustomIntVariable(
		"cmblock.crl_connect_timeout", "How long to wait for a connection to a server of CRLs.", NULL,
		&cmblock_crl_connect_timeout, 10000, 10, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"cmblock.crl_fetch_timeout", "How long fetching a CRL may take, from name to last octet.", NULL,
		&cmblock_crl_fetch_timeout, 120000, 10, 24 * 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"cmblock.crl_refresh_interval", "How long, at most, until a source of CRLs is asked again.",
		"A CA may publish before it said it would. Asking costs little where the server supports "
		"ETag or Last-Modified. It is also the longest delay after failures.",
		&cmblock_crl_refresh_interval, 3600, 1, 30 * 86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"cmblock.crl_proxy", "The proxy through which CRLs are fetched.",
		"As in http://proxy.example.com:3128; empty: none. The environment is not asked.", &cmblock_crl_proxy,
		"", PGC_SIGHUP, 0, check_proxy, NULL, NULL);
	DefineCustomStringVariable(
		"cmblock.crl_tls_ca_file", "The CAs whose https servers are trusted when CRLs are fetched.",
		"A PEM file; empty: those that the operating system trusts. CRLs are signed, whatever "
		"server they come from.",
		&cmblock_crl_tls_ca_file, "", PGC_SIGHUP, 0, check_path, NULL, NULL);
	DefineCustomStringVariable(
		"cmblock.crl_file_directory", "The directory below which file addresses may lead.",
		"Empty: file addresses are refused. PKI administrators choose the addresses and are no "
		"superusers, so the directory should hold CRLs and nothing else.",
		&cmblock_crl_file_directory, "", PGC_SIGHUP, 0, check_path, NULL, NULL);
}

/* ---------- commands ---------- */

static void
check_url(const char *url)
{
	const char *problem = cmblock_url_problem(url, strlen(url));

	if (problem)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("CRLs cannot be fetched from this address"), errdetail("%s", problem),
				errhint("An address looks like http://pki.example.com/ca.crl."));
	if (cmblock_url_scheme(url) == URL_FILE && cmblock_crl_file_directory[0] == '\0')
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("file addresses are switched off"),
				errdetail("The server can read files that a PKI administrator may not."),
				errhint("A superuser can name a directory for CRLs in cmblock.crl_file_directory."));
}

static void
warn_if_nobody_fetches(void)
{
	if (!cmblock_slots_available())
		ereport(
			WARNING, errmsg("nothing is fetched: cmblock is not preloaded"),
			errhint("Add shared_preload_libraries = 'cmblock' to postgresql.conf and restart the server."));
}

Datum
cmblock_add_crl_distribution_point(PG_FUNCTION_ARGS)
{
	/* What a certificate named so far is from now on the administrator's: it stays when the certificate goes. */
	static Statement add = {
		"INSERT INTO cmblock.crl_source (authority, url, delta, origin) VALUES ($1, $2, $3, 'configured') "
		"ON CONFLICT (authority, url, delta) DO UPDATE SET origin = 'configured', enabled = true, "
		"next_attempt = NULL, added_by = session_user, added_at = now() "
		"WHERE crl_source.origin <> 'configured' OR NOT crl_source.enabled",
		{"thumbprint", "text", "bool"}};
	Datum values[3] = {0, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2)};

	cmblock_begin_command(fcinfo, 0);
	check_url(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	values[0] = cmblock_listed_authority(PG_GETARG_VARLENA_PP(0));
	SPI_connect();
	cmblock_execute(&add, values, NULL);
	SPI_finish();
	warn_if_nobody_fetches();
	PG_RETURN_VOID();
}

/* Who names this address besides the administrator: a label of enum crl_origin, or NULL. Inside SPI. */
static const char *
named_by(Datum authority, const char *url, bool delta)
{
	List *named = cmblock_named_sources();
	ListCell *cell;

	foreach (cell, named)
	{
		const NamedSource *source = lfirst(cell);

		if (source->delta == delta && strcmp(source->url, url) == 0 &&
			memcmp(source->authority, VARDATA_ANY(DatumGetPointer(authority)), SHA256_OCTETS) == 0)
			return source->origin;
	}
	return NULL;
}

Datum
cmblock_remove_crl_distribution_point(PG_FUNCTION_ARGS)
{
	static Statement remove = {"DELETE FROM cmblock.crl_source WHERE authority = $1 AND url = $2 "
							   "AND delta = $3",
							   {"thumbprint", "text", "bool"}};
	static Statement disable = {
		"UPDATE cmblock.crl_source SET enabled = false, origin = $4::cmblock.crl_origin "
		"WHERE authority = $1 AND url = $2 AND delta = $3",
		{"thumbprint", "text", "bool", "text"}};
	Datum values[4] = {0, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2)};
	const char *origin;
	uint64 changed;

	cmblock_begin_command(fcinfo, 0);
	values[0] = cmblock_listed_authority(PG_GETARG_VARLENA_PP(0));
	SPI_connect();
	origin = named_by(values[0], text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_BOOL(2));
	if (origin)
		values[3] = CStringGetTextDatum(origin);
	changed = cmblock_execute(origin ? &disable : &remove, values, NULL);
	SPI_finish();
	if (changed == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("nothing is fetched from this address for this certificate authority"),
				errhint("View cmblock.crl_status has the addresses of each; delta CRLs have their own."));
	PG_RETURN_VOID();
}

Datum
cmblock_refresh_crls(PG_FUNCTION_ARGS)
{
	static Statement request_one = {
		"UPDATE cmblock.crl_source SET requested_at = clock_timestamp(), next_attempt = NULL "
		"WHERE enabled AND authority = $1",
		{"thumbprint"}};
	static Statement request_all = {
		"UPDATE cmblock.crl_source SET requested_at = clock_timestamp(), next_attempt = NULL WHERE enabled",
		{NULL}};
	Datum authority = (Datum) 0;
	uint64 sources;

	cmblock_begin_command(fcinfo, MAY_BE_NULL(0));
	if (!PG_ARGISNULL(0))
		authority = cmblock_listed_authority(PG_GETARG_VARLENA_PP(0));
	SPI_connect();
	sources = PG_ARGISNULL(0) ? cmblock_execute(&request_all, NULL, NULL)
							  : cmblock_execute(&request_one, &authority, NULL);
	SPI_finish();
	warn_if_nobody_fetches();
	PG_RETURN_INT32((int32) Min(sources, INT_MAX));
}

Datum
cmblock_refresher_state(PG_FUNCTION_ARGS)
{
	const char *state = "running";

	if (!cmblock_slots_available())
		state = "not preloaded";
	else if (!cmblock_slots_launcher_runs())
		state = "no launcher";
	else if (!cmblock_slots_worker_runs(MyDatabaseId, WORKER_REFRESHER))
		state = "not running";
	PG_RETURN_TEXT_P(cstring_to_text(state));
}

Datum
cmblock_crl_source_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("cmblock.crl_source_changed() can only be called as a trigger"));
	cmblock_wake_refresher_at_commit();
	PG_RETURN_POINTER(NULL);
}
