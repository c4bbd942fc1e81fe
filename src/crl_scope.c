/*
 * crl_scope.c
 *		Does a series of CRLs cover a certificate, and for which reasons (rules 27 to 31)?
 *
 * RFC 5280 6.3.3 (b) with all distribution points at once: any of the certificate's distribution points may lead to the
 * CRL, with any of its names. A CRL of the certificate's own issuer that has no distribution point covers all that the
 * issuer issued. So does, by RFC 5280, one whose distribution point is named like the issuer; here that shows only those
 * to be good that name no distribution point themselves, since the CA has said where the others are to be looked up.
 *
 * Names that are relative to the CRL's issuer are made whole by OpenSSL, and compared as X.509 wants it.
 */
#include "postgres.h"

#include <openssl/err.h>

#include "compat.h"
#include "crl_scope.h"

/* ---------- what the certificate says ---------- */

typedef struct OwnedPoints
{
	MemoryContextCallback callback;
	STACK_OF(DIST_POINT) * points;
} OwnedPoints;

static void
free_owned_points(void *arg)
{
	CRL_DIST_POINTS_free(((OwnedPoints *) arg)->points);
}

/* The name that a distribution point's relative name is relative to: that of the CRL's issuer. */
static const X509_NAME *
crl_issuer_of(const CrlSubject *subject, const DIST_POINT *point)
{
	if (point->CRLissuer == NULL)
		return subject->issuer;
	if (sk_GENERAL_NAME_num(point->CRLissuer) == 1 &&
		sk_GENERAL_NAME_value(point->CRLissuer, 0)->type == GEN_DIRNAME)
		return sk_GENERAL_NAME_value(point->CRLissuer, 0)->d.directoryName;
	return NULL;
}

static bool
complete_names(const CrlSubject *subject, STACK_OF(DIST_POINT) * points)
{
	for (int i = 0; i < sk_DIST_POINT_num(points); i++)
	{
		DIST_POINT *point = sk_DIST_POINT_value(points, i);
		const X509_NAME *relative_to = crl_issuer_of(subject, point);

		if (point->distpoint == NULL || point->distpoint->type != 1)
			continue;
		if (relative_to == NULL || !DIST_POINT_set_dpname(point->distpoint, relative_to))
			return false;
	}
	return true;
}

static X509 *
certificate(CrlSubject *subject)
{
	if (!subject->x509 && !subject->x509_read)
	{
		subject->x509_read = true;
		subject->x509 = subject->leaf->read(subject->leaf->arg);
	}
	return subject->x509;
}

static void
read_points(CrlSubject *subject)
{
	OwnedPoints *owned;
	int critical;

	if (subject->points_read)
		return;
	subject->points_read = true;
	owned = palloc0(sizeof(OwnedPoints));
	owned->callback.func = free_owned_points;
	owned->callback.arg = owned;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &owned->callback);

	ERR_clear_error();
	owned->points = X509_get_ext_d2i(subject->x509, NID_crl_distribution_points, &critical, NULL);
	/* -1: it has no such extension; anything else without a value: it has one that is malformed, or two. */
	subject->points_bad = owned->points ? !complete_names(subject, owned->points) : critical != -1;
	subject->points = subject->points_bad ? NULL : owned->points;
	ERR_clear_error();
}

/* ---------- names ---------- */

static bool
has_directory_name(const GENERAL_NAMES *names, const X509_NAME *name)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
	{
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);

		if (n->type == GEN_DIRNAME && X509_NAME_cmp(n->d.directoryName, name) == 0)
			return true;
	}
	return false;
}

static bool
have_common_name(const GENERAL_NAMES *a, const GENERAL_NAMES *b)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(a); i++)
		for (int j = 0; j < sk_GENERAL_NAME_num(b); j++)
			if (GENERAL_NAME_cmp(sk_GENERAL_NAME_value(a, i), sk_GENERAL_NAME_value(b, j)) == 0)
				return true;
	return false;
}

/* Type 1 is a relative name, which stands completed in dpname. */
static bool
is_named(const DIST_POINT_NAME *point, const X509_NAME *name)
{
	if (point->type == 1)
		return point->dpname != NULL && X509_NAME_cmp(point->dpname, name) == 0;
	return has_directory_name(point->name.fullname, name);
}

static bool
same_point(const DIST_POINT_NAME *a, const DIST_POINT_NAME *b)
{
	if (a->type == 1)
		return a->dpname != NULL && is_named(b, a->dpname);
	if (b->type == 1)
		return b->dpname != NULL && is_named(a, b->dpname);
	return have_common_name(a->name.fullname, b->name.fullname);
}

static bool
is_one_of(const DIST_POINT_NAME *point, const GENERAL_NAMES *names)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
	{
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);

		if (n->type == GEN_DIRNAME && is_named(point, n->d.directoryName))
			return true;
	}
	return false;
}

/* ---------- the rules ---------- */

static uint16
point_reasons(const DIST_POINT *point)
{
	uint16 bits = 0;

	if (point->reasons == NULL)
		return CRL_ALL_REASONS;
	for (int i = 1; i <= 8; i++)
		if (ASN1_BIT_STRING_get_bit(point->reasons, i))
			bits |= 1 << i;
	return bits;
}

/* Does this distribution point of the certificate lead to the series (rules 28 and 30)? */
static bool
leads_to(const DIST_POINT *point, const CrlSeries *series, bool direct)
{
	const DIST_POINT_NAME *name = series->idp->distpoint;

	if (point->CRLissuer)
	{
		if (!series->idp->indirectCRL || !has_directory_name(point->CRLissuer, series->issuer))
			return false;
	}
	else if (!direct)
		return false;
	if (name == NULL)
		return true;
	if (point->distpoint)
		return same_point(name, point->distpoint);
	return point->CRLissuer != NULL && is_one_of(name, point->CRLissuer);
}

/* Rule 27. RFC 5280 5.2.5: CRLs with these flags never cover certificates that are older than version 3. */
static bool
is_of_the_kind(const ISSUING_DIST_POINT *idp, X509 *x509)
{
	bool is_ca = (X509_get_extension_flags(x509) & EXFLAG_CA) != 0;

	if (idp->onlyattr)
		return false;
	if ((idp->onlyuser || idp->onlyCA) && X509_get_version(x509) < 2)
		return false;
	return !(idp->onlyuser && is_ca) && !(idp->onlyCA && !is_ca);
}

uint16
cmblock_crl_covers(const CrlSeries *series, CrlSubject *subject, bool direct)
{
	uint16 reasons = 0;

	if (series->idp == NULL)
		return direct ? CRL_ALL_REASONS : 0;
	if (certificate(subject) == NULL || !is_of_the_kind(series->idp, subject->x509))
		return 0;
	read_points(subject);
	for (int i = 0; i < sk_DIST_POINT_num(subject->points); i++)
	{
		const DIST_POINT *point = sk_DIST_POINT_value(subject->points, i);

		if (leads_to(point, series, direct))
			reasons |= point_reasons(point) & series->reasons;
	}
	if (direct && series->idp->distpoint == NULL)
		reasons |= series->reasons;
	else if (direct && is_named(series->idp->distpoint, subject->issuer))
		reasons |= subject->points || subject->points_bad ? CRL_REVOKES : series->reasons;
	return reasons;
}
