/*
 * crl_checking.c
 *		Who checks whose certificates against CRLs, for one client.
 *
 * The site checks the certificate that a client shows, always and for every kind. The certificates of site systems are
 * checked by the clients themselves, and their kinds differ; that happens on the client, so here it is only told.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "catalog.h"
#include "compat.h"
#include "crl_import.h"
#include "statement.h"
#include "types.h"

PG_FUNCTION_INFO_V1(cmblock_crl_checking);

static ClientKind
kind_of(Datum smsid)
{
	static Statement find = {"SELECT kind FROM cmblock.client WHERE smsid = $1", {"smsid"}};
	ClientKind kind;
	bool isnull;

	SPI_connect();
	if (cmblock_execute(&find, &smsid, NULL) == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("client %s is not known to this site", cmblock_smsid_string(DatumGetSmsidP(smsid))),
				errhint("Table cmblock.client has the clients that this site knows."));
	kind = cmblock_enum_value(ENUM_CLIENT_KIND, DatumGetObjectId(cmblock_result(1, &isnull)));
	SPI_finish();
	return kind;
}

static void
put_row(ReturnSetInfo *result, const char *checker, const char *certificates, bool checks, const char *detail)
{
	Datum values[4] = {CStringGetTextDatum(checker), CStringGetTextDatum(certificates), BoolGetDatum(checks),
					   CStringGetTextDatum(detail)};
	bool nulls[4] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
cmblock_crl_checking(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ClientKind kind = kind_of(PG_GETARG_DATUM(0));

	InitMaterializedSRF(fcinfo, 0);
	put_row(result, "site", "client", true,
			"The site checks the certificate of every client, whatever its kind.");
	switch (kind)
	{
		case CLIENT_COMPUTER:
			put_row(result, "client", "site_system", cmblock_clients_check_crl,
					cmblock_clients_check_crl
						? "Windows clients check them while cmblock.clients_check_crl is on at this site."
						: "Windows clients do not check them, because cmblock.clients_check_crl is off at "
						  "this site.");
			break;
		case CLIENT_MAC:
			put_row(result, "client", "site_system", true, "Macs always check them; nothing turns that off.");
			break;
		case CLIENT_MOBILE_DEVICE:
			put_row(result, "client", "site_system", false, "Mobile devices never check them.");
			break;
	}
	return (Datum) 0;
}
