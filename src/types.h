/*
 * types.h
 *		The four data types of cmblock, as C sees them.
 *
 * site_code			pass-by-value, 4 bytes: three characters A-Z 0-9, the first in the highest
 *						of the three low octets, so that unsigned order is alphabetical order
 * smsid				fixed length, 16 bytes, by reference, byte order of its text form
 * thumbprint			varlena, 20 (SHA-1) or 32 (SHA-256) octets
 * certificate_serial	varlena, the content octets of an X.509 serial's DER INTEGER, sign included
 */
#ifndef CMBLOCK_TYPES_H
#define CMBLOCK_TYPES_H

#include "postgres.h"
#include "fmgr.h"

/* 0 is never a site: it means "none". */
typedef uint32 SiteCode;

#define NO_SITE ((SiteCode) 0)

#define DatumGetSiteCode(X) ((SiteCode) DatumGetUInt32(X))
#define SiteCodeGetDatum(X) UInt32GetDatum(X)
#define PG_GETARG_SITE_CODE(n) DatumGetSiteCode(PG_GETARG_DATUM(n))
#define PG_RETURN_SITE_CODE(x) return SiteCodeGetDatum(x)

/* Text of a site code: a palloc'd string of three characters. */
extern char *cmblock_site_code_string(SiteCode code);

#define SMSID_OCTETS 16

typedef struct Smsid
{
	unsigned char octet[SMSID_OCTETS];
} Smsid;

#define DatumGetSmsidP(X) ((Smsid *) DatumGetPointer(X))
#define SmsidPGetDatum(X) PointerGetDatum(X)
#define PG_GETARG_SMSID_P(n) DatumGetSmsidP(PG_GETARG_DATUM(n))

/* "GUID:" and the UUID in capitals: a palloc'd string. */
extern char *cmblock_smsid_string(const Smsid *smsid);

#define SHA1_OCTETS 20
#define SHA256_OCTETS 32

/* A thumbprint of 20 or 32 octets; the result is palloc'd. */
extern struct varlena *cmblock_make_thumbprint(const unsigned char *octets, int length);

/* A copy of these octets as a value of type bytea. */
extern bytea *cmblock_make_bytea(const void *octets, size_t size);

/* Hexadecimal in capitals without separators: a palloc'd string. */
extern char *cmblock_hex_string(const unsigned char *octets, int length);

/* Octets that a serial number may have: RFC 5280 says 20, the field has longer ones. */
#define MAX_SERIAL_OCTETS 64

/* A serial from the content octets of its INTEGER (at least one); the result is palloc'd. */
extern struct varlena *cmblock_make_serial(const unsigned char *octets, int length);

#endif
