/*
 * crl_points.c
 *		The addresses of CRLs that the trust list's certificates and the CRLs held name.
 *
 * The distribution points in the certificate of a CA say where the CRL is that could revoke this CA: its issuer's. So
 * they are sources for the issuer's CRLs, the same file that its other certificates name. A root names itself, if
 * anybody. Where cRLIssuer names somebody else, it is a source for that one's CRLs, if the trust list knows him.
 *
 * A freshestCRL extension, in the certificate or in a full CRL, says where the delta CRLs are.
 *
 * Addresses that cannot be fetched are reported as well, as far as they are printable, so that crl_status shows them:
 * an administrator who wonders why nothing is fetched sees that there was only LDAP. But no file addresses: it is not
 * for a certificate to say which files this server reads.
 */
#include "postgres.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "executor/spi.h"
#include "utils/builtins.h"

#include "compat.h"
#include "crl_points.h"
#include "crl_url.h"
#include "statement.h"
#include "trust.h"

/* Addresses taken from one extension: Microsoft's CAs have at most a handful. */
#define MAX_NAMED 16

static bool
same_source(const NamedSource *a, const NamedSource *b)
{
	return a->delta == b->delta && strcmp(a->url, b->url) == 0 &&
		   memcmp(a->authority, b->authority, SHA256_OCTETS) == 0;
}

static List *
add_source(List *sources, const unsigned char *authority, const char *url, size_t length, bool delta,
		   const char *origin)
{
	NamedSource *source;
	ListCell *cell;

	if (length == 0 || length > MAX_URL_OCTETS)
		return sources;
	for (size_t i = 0; i < length; i++)
		if (url[i] <= ' ' || url[i] >= 0x7f)
			return sources;

	source = palloc(sizeof(NamedSource));
	memcpy(source->authority, authority, SHA256_OCTETS);
	source->url = pnstrdup(url, length);
	source->delta = delta;
	source->origin = origin;
	if (cmblock_url_scheme(source->url) == URL_FILE)
		return sources;
	foreach (cell, sources)
		if (same_source(lfirst(cell), source))
			return sources;
	return lappend(sources, source);
}

/* ---------- certificates of the trust list ---------- */

static const Authority *
find_by_name(const TrustList *list, const X509_NAME *name)
{
	for (int i = 0; i < list->count; i++)
		if (X509_NAME_cmp(X509_get_subject_name(list->authority[i].x509), name) == 0)
			return &list->authority[i];
	return NULL;
}

/* Whose CRLs are at this distribution point of a certificate that `issuer` signed? NULL: nobody's of the trust list. */
static const Authority *
crl_issuer(const TrustList *list, const DIST_POINT *point, const Authority *issuer)
{
	if (!point->CRLissuer)
		return issuer;
	for (int i = 0; i < sk_GENERAL_NAME_num(point->CRLissuer); i++)
	{
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(point->CRLissuer, i);
		const Authority *found = name->type == GEN_DIRNAME ? find_by_name(list, name->d.directoryName) : NULL;

		if (found)
			return found;
	}
	return NULL;
}

static List *
add_points(List *sources, const TrustList *list, const Authority *authority, const Authority *issuer,
		   int extension)
{
	CRL_DIST_POINTS *points = X509_get_ext_d2i(authority->x509, extension, NULL, NULL);
	int taken = 0;

	for (int i = 0; points && i < sk_DIST_POINT_num(points); i++)
	{
		const DIST_POINT *point = sk_DIST_POINT_value(points, i);
		const Authority *whose = crl_issuer(list, point, issuer);

		/* type 0 is fullName; a name relative to the issuer is no address */
		if (!whose || !point->distpoint || point->distpoint->type != 0)
			continue;
		for (int j = 0; j < sk_GENERAL_NAME_num(point->distpoint->name.fullname) && taken < MAX_NAMED; j++)
		{
			const GENERAL_NAME *name = sk_GENERAL_NAME_value(point->distpoint->name.fullname, j);
			const ASN1_IA5STRING *uri;

			if (name->type != GEN_URI)
				continue;
			uri = name->d.uniformResourceIdentifier;
			sources = add_source(sources, whose->sha256, (const char *) ASN1_STRING_get0_data(uri),
								 ASN1_STRING_length(uri), extension == NID_freshest_crl, "ca_certificate");
			taken++;
		}
	}
	CRL_DIST_POINTS_free(points);
	return sources;
}

static List *
add_certificates(List *sources)
{
	const TrustList *list = cmblock_trust_list();

	for (int i = 0; i < list->count; i++)
	{
		const Authority *authority = &list->authority[i];
		int parent = bms_next_member(authority->parents, -1);
		const Authority *issuer = authority->self_signed ? authority
								  : parent >= 0          ? &list->authority[parent]
														 : NULL;

		if (!issuer)
			continue;
		sources = add_points(sources, list, authority, issuer, NID_crl_distribution_points);
		sources = add_points(sources, list, authority, issuer, NID_freshest_crl);
	}
	ERR_clear_error();
	return sources;
}

/* ---------- CRLs ---------- */

static List *
add_crls(List *sources)
{
	static Statement named = {"SELECT DISTINCT c.signer, u.url FROM cmblock.crl c, unnest(c.freshest) u(url) "
							  "WHERE c.state = 'current' AND NOT c.is_delta "
							  "AND EXISTS (SELECT FROM cmblock.certificate_authority a WHERE a.sha256 "
							  "= c.signer)",
							  {NULL}};
	uint64 count = cmblock_execute(&named, NULL, NULL);

	for (uint64 i = 0; i < count; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		struct varlena *signer = PG_DETOAST_DATUM_PACKED(SPI_getbinval(tuple, desc, 1, &isnull));
		char *url = TextDatumGetCString(SPI_getbinval(tuple, desc, 2, &isnull));

		if (VARSIZE_ANY_EXHDR(signer) == SHA256_OCTETS)
			sources = add_source(sources, (unsigned char *) VARDATA_ANY(signer), url, strlen(url), true,
								 "freshest_crl");
	}
	return sources;
}

List *
cmblock_named_sources(void)
{
	return add_crls(add_certificates(NIL));
}
