/*
 * smsid.c
 *		The type smsid: the identity of a client, a UUID written GUID:… in capitals.
 *
 * The octets stand in the order in which they are written, as in uuid: the two are binary-coercible, and sort
 * the same way.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/hyperloglog.h"
#include "libpq/pqformat.h"
#include "port/pg_bswap.h"
#include "utils/sortsupport.h"

#include "compat.h"
#include "type_io.h"
#include "type_parse.h"
#include "types.h"

static const char hint[] = "Write GUID:01234567-89AB-CDEF-0123-456789ABCDEF; the prefix may be left out.";

char *
cmblock_smsid_string(const Smsid *smsid)
{
	const unsigned char *o = smsid->octet;

	return psprintf("GUID:%02X%02X%02X%02X-%02X%02X-%02X%02X-%02X%02X-%02X%02X%02X%02X%02X%02X", o[0], o[1],
					o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15]);
}

PG_FUNCTION_INFO_V1(cmblock_smsid_in);
Datum
cmblock_smsid_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	Smsid *smsid = palloc(sizeof(Smsid));
	const char *why;

	if (!cmblock_parse_smsid(text, smsid->octet, &why))
	{
		cmblock_refuse_text(fcinfo, "smsid", text, why, hint);
		PG_RETURN_NULL();
	}
	PG_RETURN_POINTER(smsid);
}

PG_FUNCTION_INFO_V1(cmblock_smsid_out);
Datum
cmblock_smsid_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(cmblock_smsid_string(PG_GETARG_SMSID_P(0)));
}

PG_FUNCTION_INFO_V1(cmblock_smsid_recv);
Datum
cmblock_smsid_recv(PG_FUNCTION_ARGS)
{
	int length;
	const unsigned char *octets = cmblock_message_octets((StringInfo) PG_GETARG_POINTER(0), &length);
	Smsid *smsid = palloc(sizeof(Smsid));

	if (length != SMSID_OCTETS)
		cmblock_refuse_octets("smsid", "It does not have 16 octets.", NULL);
	memcpy(smsid->octet, octets, SMSID_OCTETS);
	PG_RETURN_POINTER(smsid);
}

PG_FUNCTION_INFO_V1(cmblock_smsid_send);
Datum
cmblock_smsid_send(PG_FUNCTION_ARGS)
{
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendbytes(&message, (const char *) PG_GETARG_SMSID_P(0)->octet, SMSID_OCTETS);
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

static int
smsid_compare(FunctionCallInfo fcinfo)
{
	return memcmp(PG_GETARG_SMSID_P(0)->octet, PG_GETARG_SMSID_P(1)->octet, SMSID_OCTETS);
}

CMBLOCK_COMPARISONS(smsid);

PG_FUNCTION_INFO_V1(cmblock_smsid_hash);
Datum
cmblock_smsid_hash(PG_FUNCTION_ARGS)
{
	return hash_any(PG_GETARG_SMSID_P(0)->octet, SMSID_OCTETS);
}

PG_FUNCTION_INFO_V1(cmblock_smsid_hash_extended);
Datum
cmblock_smsid_hash_extended(PG_FUNCTION_ARGS)
{
	return hash_any_extended(PG_GETARG_SMSID_P(0)->octet, SMSID_OCTETS, PG_GETARG_INT64(1));
}

/*
 * Sorting compares the first octets as one number. Where many ids share them (made from a counter, say), the
 * estimate of distinct numbers shows it early and the sort goes on with whole values: the same rule as uuid's.
 */
typedef struct AbbreviationState
{
	int64 converted;
	bool estimating;
	hyperLogLogState distinct;
} AbbreviationState;

/* No decision before this many values; from this many distinct numbers on the matter is settled. */
#define MIN_VALUES_TO_JUDGE 10000
#define ENOUGH_DISTINCT 100000.0
#define TOLERATED_VALUES_PER_NUMBER 2000.0

static int
smsid_fast_compare(Datum a, Datum b, SortSupport ssup)
{
	return memcmp(DatumGetSmsidP(a)->octet, DatumGetSmsidP(b)->octet, SMSID_OCTETS);
}

static Datum
smsid_abbreviate(Datum original, SortSupport ssup)
{
	AbbreviationState *state = ssup->ssup_extra;
	Datum number;

	memcpy(&number, DatumGetSmsidP(original)->octet, sizeof(number));
	state->converted++;
	if (state->estimating)
	{
		uint32 folded = (uint32) number;

#if SIZEOF_DATUM == 8
		folded ^= (uint32) ((uint64) number >> 32);
#endif
		addHyperLogLog(&state->distinct, DatumGetUInt32(hash_uint32(folded)));
	}
	return DatumBigEndianToNative(number);
}

static bool
smsid_abbreviation_is_useless(int memtupcount, SortSupport ssup)
{
	AbbreviationState *state = ssup->ssup_extra;
	double distinct;

	if (memtupcount < MIN_VALUES_TO_JUDGE || state->converted < MIN_VALUES_TO_JUDGE || !state->estimating)
		return false;
	distinct = estimateHyperLogLog(&state->distinct);
	if (distinct > ENOUGH_DISTINCT)
	{
		state->estimating = false;
		return false;
	}
	return distinct < state->converted / TOLERATED_VALUES_PER_NUMBER + 0.5;
}

PG_FUNCTION_INFO_V1(cmblock_smsid_sortsupport);
Datum
cmblock_smsid_sortsupport(PG_FUNCTION_ARGS)
{
	SortSupport ssup = (SortSupport) PG_GETARG_POINTER(0);

	ssup->comparator = smsid_fast_compare;
	if (ssup->abbreviate)
	{
		MemoryContext caller = MemoryContextSwitchTo(ssup->ssup_cxt);
		AbbreviationState *state = palloc(sizeof(AbbreviationState));

		state->converted = 0;
		state->estimating = true;
		initHyperLogLog(&state->distinct, 10);
		ssup->ssup_extra = state;
		ssup->comparator = ssup_datum_unsigned_cmp;
		ssup->abbrev_converter = smsid_abbreviate;
		ssup->abbrev_abort = smsid_abbreviation_is_useless;
		ssup->abbrev_full_comparator = smsid_fast_compare;
		MemoryContextSwitchTo(caller);
	}
	PG_RETURN_VOID();
}
