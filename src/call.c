/*
 * call.c
 *		Who is calling: what every function that a neighbour calls checks first.
 *
 * The login role must be the one that accept_link named for the sender, then protocol, hierarchy and site codes must
 * match. These functions run as the extension's owner, so nothing before these checks touches more than the arguments.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "batch.h"
#include "call.h"
#include "statement.h"

static Statement accepted_role = {"SELECT peer_role FROM cmblock.replication_link WHERE neighbour = $1",
								  {"site_code"}};

/* Inside SPI. */
static void
check_role(SiteCode sender)
{
	char *caller = GetUserNameFromId(GetSessionUserId(), false);
	Datum value = SiteCodeGetDatum(sender);
	bool isnull = true;
	Datum role = (Datum) 0;

	if (cmblock_execute(&accepted_role, &value, NULL) > 0)
		role = cmblock_result(1, &isnull);
	if (isnull || strcmp(NameStr(*DatumGetName(role)), caller) != 0)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("role \"%s\" is not the one accepted for site %s", caller,
					   cmblock_site_code_string(sender)),
				errhint("At site %s: SELECT cmblock.accept_link('%s', '%s').",
						cmblock_site_code_string(cmblock_require_site()->code),
						cmblock_site_code_string(sender), caller));
}

void
cmblock_read_call(FunctionCallInfo fcinfo, Call *call)
{
	for (int i = 0; i < 5; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("protocol, hierarchy, sender, receiver and incarnation cannot be null"));
	call->protocol = PG_GETARG_INT32(0);
	call->hierarchy = PG_GETARG_UUID_P(1);
	call->sender = PG_GETARG_SITE_CODE(2);
	call->receiver = PG_GETARG_SITE_CODE(3);
	call->incarnation = text_to_cstring(PG_GETARG_TEXT_PP(4));
}

/* The role comes first: a stranger learns nothing else about this site. */
void
cmblock_check_call(const Call *call, Neighbour *neighbour)
{
	const SiteIdentity *here = cmblock_require_site();

	check_role(call->sender);
	if (call->protocol != CMBLOCK_PROTOCOL)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("protocol %d is not spoken by site %s", call->protocol,
					   cmblock_site_code_string(here->code)),
				errdetail("It speaks protocol %d.", CMBLOCK_PROTOCOL),
				errhint("Run versions of cmblock at both sites that speak the same protocol."));
	if (memcmp(call->hierarchy, &here->hierarchy, sizeof(pg_uuid_t)) != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("site %s belongs to another hierarchy", cmblock_site_code_string(call->sender)),
				errdetail("It sent hierarchy %s, this site's is %s.",
						  DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(call->hierarchy))),
						  DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&here->hierarchy)))),
				errhint("The uuid is given to setup_site; nothing crosses from one hierarchy into another."));
	if (call->receiver != here->code)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("this is site %s, not site %s", cmblock_site_code_string(here->code),
					   cmblock_site_code_string(call->receiver)),
				errhint("At site %s, correct the server that leads to site %s.",
						cmblock_site_code_string(call->sender), cmblock_site_code_string(call->receiver)));
	cmblock_find_neighbour(call->sender, neighbour);
	if (!neighbour->is_parent && here->kind != SITE_CENTRAL)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("a secondary site sends nothing"),
				errdetail("Site %s is a secondary site.", cmblock_site_code_string(call->sender)));
	if (RecoveryInProgress())
		ereport(
			ERROR, errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			errmsg("site %s is a standby and takes nothing in", cmblock_site_code_string(here->code)),
			errhint("Let the server of this link name all hosts and say target_session_attrs 'read-write'."));
}
