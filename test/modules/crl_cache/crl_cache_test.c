/*
 * crl_cache_test.c
 *		SQL functions that play the users of the CRL cache, so that a test can stop them at any point.
 *
 * The loader reads table crls(sha256, der): a lock on that table stops a build in its middle, and what the table holds
 * under a digest may be missing or wrong. Linked with the cache's own files; see the Makefile.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/resowner.h"

#include "crl_cache.h"
#include "shmem.h"
#include "x509.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

PG_FUNCTION_INFO_V1(test_make_crl);
PG_FUNCTION_INFO_V1(test_serial);
PG_FUNCTION_INFO_V1(test_find);
PG_FUNCTION_INFO_V1(test_hold);
PG_FUNCTION_INFO_V1(test_hand_over_hand);
PG_FUNCTION_INFO_V1(test_nest);
PG_FUNCTION_INFO_V1(test_preload);
PG_FUNCTION_INFO_V1(test_retire);
PG_FUNCTION_INFO_V1(test_time);

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

static void
request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(cmblock_crl_cache_shmem_size());
	RequestNamedLWLockTranche("crl_cache_test", CMBLOCK_LOCKS);
}

static void
startup(void)
{
	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	cmblock_crl_cache_startup();
	LWLockRelease(AddinShmemInitLock);
}

/* In place of shmem.c, which knows users that are not part of this library. */
LWLock *
cmblock_lock(CmblockLock which)
{
	return &GetNamedLWLockTranche("crl_cache_test")[which].lock;
}

void
_PG_init(void)
{
	cmblock_crl_cache_define_settings();
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/* ---------- CRLs of any size; nobody looks at their signature ---------- */

#define SERIAL_OCTETS 20

/* Serial n of CRL "seed": distinct, positive, spread. */
static void
make_serial(uint32 seed, uint32 n, uint8 *serial)
{
	uint32 words[5] = {0x01000000 | (seed & 0xffffff), n * 2654435761u, seed ^ n, ~n, n};

	for (int i = 0; i < SERIAL_OCTETS; i++)
		serial[i] = (uint8) (words[i / 4] >> (24 - 8 * (i % 4)));
}

/* DER is written from its end, so that lengths are known. */
typedef struct Writer
{
	uint8 *start;
	uint8 *at;
} Writer;

static void
put(Writer *w, const void *data, Size size)
{
	w->at -= size;
	Assert(w->at >= w->start);
	memcpy(w->at, data, size);
}

static void
put_header(Writer *w, uint8 tag, const uint8 *end)
{
	Size size = end - w->at;

	if (size < 128)
		*--w->at = (uint8) size;
	else
	{
		uint8 octets = 0;

		for (; size > 0; size >>= 8, octets++)
			*--w->at = (uint8) size;
		*--w->at = 0x80 | octets;
	}
	*--w->at = tag;
}

static const uint8 sha256_with_rsa[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
										0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00};
static const uint8 crl_number_1[] = {0xa0, 0x0e, 0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03,
									 0x55, 0x1d, 0x14, 0x04, 0x03, 0x02, 0x01, 0x01};
static const uint8 version_2[] = {0x02, 0x01, 0x01};
static const uint8 common_name[] = {0x06, 0x03, 0x55, 0x04, 0x03};
static const uint8 signature[] = {0x03, 0x02, 0x00, 0x55};
static const char this_update[] = "\x17\x0d"
								  "260101000000Z";
static const char next_update[] = "\x17\x0d"
								  "460101000000Z";

static void
put_name(Writer *w, uint32 seed)
{
	uint8 *end = w->at;
	char *name = psprintf("Test CA %u", seed);

	put(w, name, strlen(name));
	put_header(w, 0x0c, end);
	put(w, common_name, sizeof(common_name));
	put_header(w, 0x30, end);
	put_header(w, 0x31, end);
	put_header(w, 0x30, end);
}

static void
put_entries(Writer *w, uint32 seed, uint32 entries)
{
	uint8 *end = w->at;

	for (uint32 n = entries; n-- > 0;)
	{
		uint8 *entry_end = w->at;
		uint8 *serial_end;
		uint8 serial[SERIAL_OCTETS];

		put(w, this_update, 15);
		serial_end = w->at;
		make_serial(seed, n, serial);
		put(w, serial, SERIAL_OCTETS);
		put_header(w, 0x02, serial_end);
		put_header(w, 0x30, entry_end);
	}
	if (entries > 0)
		put_header(w, 0x30, end);
}

Datum
test_make_crl(PG_FUNCTION_ARGS)
{
	uint32 seed = PG_GETARG_INT32(0);
	uint32 entries = PG_GETARG_INT32(1);
	Size room = 1024 + (Size) entries * 48;
	uint8 *buffer = palloc(room);
	uint8 *end = buffer + room;
	Writer w = {buffer, end};
	uint8 *tbs_end;
	bytea *result;

	put(&w, signature, sizeof(signature));
	put(&w, sha256_with_rsa, sizeof(sha256_with_rsa));
	tbs_end = w.at;
	put(&w, crl_number_1, sizeof(crl_number_1));
	put_entries(&w, seed, entries);
	put(&w, next_update, 15);
	put(&w, this_update, 15);
	put_name(&w, seed);
	put(&w, sha256_with_rsa, sizeof(sha256_with_rsa));
	put(&w, version_2, sizeof(version_2));
	put_header(&w, 0x30, tbs_end);
	put_header(&w, 0x30, end);

	result = palloc(VARHDRSZ + (end - w.at));
	SET_VARSIZE(result, VARHDRSZ + (end - w.at));
	memcpy(VARDATA(result), w.at, end - w.at);
	PG_RETURN_BYTEA_P(result);
}

Datum
test_serial(PG_FUNCTION_ARGS)
{
	bytea *result = palloc(VARHDRSZ + SERIAL_OCTETS);

	SET_VARSIZE(result, VARHDRSZ + SERIAL_OCTETS);
	make_serial(PG_GETARG_INT32(0), PG_GETARG_INT32(1), (uint8 *) VARDATA(result));
	PG_RETURN_BYTEA_P(result);
}

/* ---------- users of the cache ---------- */

static bytea *
load(const uint8 *sha256, void *arg)
{
	Oid type = BYTEAOID;
	bytea *digest = palloc(VARHDRSZ + CRL_SHA256_OCTETS);
	Datum argument = PointerGetDatum(digest);
	bytea *der = NULL;

	SET_VARSIZE(digest, VARHDRSZ + CRL_SHA256_OCTETS);
	memcpy(VARDATA(digest), sha256, CRL_SHA256_OCTETS);
	SPI_connect();
	if (SPI_execute_with_args("SELECT der FROM crls WHERE sha256 = $1", 1, &type, &argument, NULL, true, 1) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not read table crls");
	if (SPI_processed > 0)
	{
		bool isnull;
		bytea *stored =
			DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));

		der = SPI_palloc(VARSIZE_ANY(stored));
		memcpy(der, stored, VARSIZE_ANY(stored));
	}
	SPI_finish();
	return der;
}

static const uint8 *
digest_argument(FunctionCallInfo fcinfo, int n)
{
	bytea *digest = PG_GETARG_BYTEA_PP(n);

	if (VARSIZE_ANY_EXHDR(digest) != CRL_SHA256_OCTETS)
		elog(ERROR, "not a digest");
	return (const uint8 *) VARDATA_ANY(digest);
}

/* What the CRL says about a serial: true, false, or NULL where there is no such CRL. */
Datum
test_find(PG_FUNCTION_ARGS)
{
	bytea *serial = PG_GETARG_BYTEA_PP(1);
	const CrlIndex *index;
	CrlPin pin;
	bool found;

	index = cmblock_crl_pin(digest_argument(fcinfo, 0), load, NULL, &pin);
	if (!index)
		PG_RETURN_NULL();
	found = cmblock_crl_index_find(index, (const uint8_t *) VARDATA_ANY(serial), VARSIZE_ANY_EXHDR(serial), 0,
								   NULL);
	cmblock_crl_unpin(&pin);
	cmblock_crl_unpin(&pin);
	PG_RETURN_BOOL(found);
}

/* Pins until the transaction ends, or (second argument false) until the statement does. */
Datum
test_hold(PG_FUNCTION_ARGS)
{
	ResourceOwner owner = CurrentResourceOwner;
	CrlPin pin;
	bool found;

	if (PG_GETARG_BOOL(1))
		CurrentResourceOwner = TopTransactionResourceOwner;
	found = cmblock_crl_pin(digest_argument(fcinfo, 0), load, NULL, &pin) != NULL;
	CurrentResourceOwner = owner;
	PG_RETURN_BOOL(found);
}

/* Takes so many pins, each before the last one but one is given back. */
Datum
test_hand_over_hand(PG_FUNCTION_ARGS)
{
	const uint8 *digest = digest_argument(fcinfo, 0);
	CrlPin pin[2] = {0};

	for (int i = 0; i < PG_GETARG_INT32(1); i++)
	{
		cmblock_crl_unpin(&pin[i % 2]);
		if (!cmblock_crl_pin(digest, load, NULL, &pin[i % 2]))
			PG_RETURN_BOOL(false);
	}
	cmblock_crl_unpin(&pin[0]);
	cmblock_crl_unpin(&pin[1]);
	PG_RETURN_BOOL(true);
}

typedef struct Nest
{
	const uint8 *inner;
	int pins;
} Nest;

/* A loader that uses the cache itself, and keeps many pins of another CRL. */
static bytea *
load_and_pin(const uint8 *sha256, void *arg)
{
	Nest *nest = arg;
	CrlPin pin;

	for (int i = 0; i < nest->pins; i++)
		if (!cmblock_crl_pin(nest->inner, load, NULL, &pin))
			elog(ERROR, "no such CRL");
	return load(sha256, NULL);
}

Datum
test_nest(PG_FUNCTION_ARGS)
{
	Nest nest = {digest_argument(fcinfo, 1), PG_GETARG_INT32(2)};
	CrlPin pin;

	PG_RETURN_BOOL(cmblock_crl_pin(digest_argument(fcinfo, 0), load_and_pin, &nest, &pin) != NULL);
}

Datum
test_preload(PG_FUNCTION_ARGS)
{
	bytea *der = PG_GETARG_BYTEA_PP(0);
	CrlLimits limits = {SIZE_MAX, UINT32_MAX};
	uint8 digest[CRL_SHA256_OCTETS];
	Crl crl;

	if (cmblock_crl_read((const uint8_t *) VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der), &limits, &crl) !=
		CRLERR_NONE)
		elog(ERROR, "not a CRL");
	cmblock_sha256(VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der), digest);
	cmblock_crl_preload(digest, &crl);
	PG_RETURN_VOID();
}

Datum
test_retire(PG_FUNCTION_ARGS)
{
	cmblock_crl_retire(digest_argument(fcinfo, 0));
	PG_RETURN_VOID();
}

/* Nanoseconds for a pin and its release, over so many of them; each also finds a serial if one is given. */
Datum
test_time(PG_FUNCTION_ARGS)
{
	const uint8 *digest = digest_argument(fcinfo, 0);
	int seed = PG_GETARG_INT32(1);
	int count = PG_GETARG_INT32(2);
	bool find = PG_GETARG_BOOL(3);
	instr_time start;
	instr_time end;

	INSTR_TIME_SET_CURRENT(start);
	for (int i = 0; i < count; i++)
	{
		CrlPin pin;
		const CrlIndex *index = cmblock_crl_pin(digest, load, NULL, &pin);
		uint8 serial[SERIAL_OCTETS];

		if (find)
		{
			make_serial(seed, (uint32) i * 7919 % 1000000, serial);
			if (!index || !cmblock_crl_index_find(index, serial, SERIAL_OCTETS, 0, NULL))
				elog(ERROR, "serial %d is missing", i);
		}
		cmblock_crl_unpin(&pin);
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(end) * 1e9 / count);
}
