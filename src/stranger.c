/*
 * stranger.c
 *		What certificates say that nobody registered, read once in a session.
 *
 * A registered certificate is recognised by its SHA-256. For another one OpenSSL takes a sixth of a millisecond, most of
 * it for the key in it, and a decision needs a few of its fields. The same octets always say the same, so these are kept
 * by the SHA-256, and nothing ever makes them wrong.
 *
 * Strangers can show as many certificates as they like: when the table is full it is emptied, and what has very long
 * names is not kept.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "stranger.h"

#define MAX_STRANGERS 1024
#define MAX_NAME_OCTETS 1024

typedef struct Stranger
{
	unsigned char sha256[SHA256_OCTETS];
	CertificateFacts facts;
} Stranger;

static MemoryContext context = NULL;
static HTAB *strangers = NULL;

static HTAB *
table(void)
{
	HASHCTL control = {.keysize = SHA256_OCTETS, .entrysize = sizeof(Stranger)};

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "cmblock unregistered certificates",
										ALLOCSET_DEFAULT_SIZES);
	if (strangers && hash_get_num_entries(strangers) >= MAX_STRANGERS)
	{
		strangers = NULL;
		MemoryContextReset(context);
	}
	if (strangers == NULL)
	{
		control.hcxt = context;
		strangers = hash_create("cmblock unregistered certificates", 64, &control,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	return strangers;
}

static void
keep(const CertificateFacts *facts)
{
	HTAB *known = table();
	CertificateFacts kept = *facts;

	if (strlen(facts->subject) > MAX_NAME_OCTETS || strlen(facts->issuer) > MAX_NAME_OCTETS)
		return;
	kept.subject = MemoryContextStrdup(context, facts->subject);
	kept.issuer = MemoryContextStrdup(context, facts->issuer);
	kept.serial = MemoryContextAlloc(context, VARSIZE_ANY(facts->serial));
	memcpy(kept.serial, facts->serial, VARSIZE_ANY(facts->serial));
	kept.der = NULL;
	kept.x509 = NULL;
	((Stranger *) hash_search(known, facts->sha256, HASH_ENTER, NULL))->facts = kept;
}

const CertificateFacts *
cmblock_stranger(const bytea *der, const unsigned char *sha256, CertificateProblem *problem)
{
	const Stranger *known = strangers ? hash_search(strangers, sha256, HASH_FIND, NULL) : NULL;
	const CertificateFacts *facts;

	if (known)
		return &known->facts;
	facts = cmblock_read_certificate(der, problem);
	if (facts)
		keep(facts);
	return facts;
}
