/*
 * revocation.c
 *		Has a CA revoked the certificate, or a CA above it?
 *
 * The verdict is a function of the certificate, the CAs above it, the current CRLs and a time; it writes nothing and
 * keeps nothing. It has three values, and they are not alike: one entry in any CRL that speaks of the certificate makes it
 * revoked, however old that CRL is, but it is good only when CRLs that are valid at that time cover it for every reason
 * (rules 19 and 29). Whatever is in doubt is unknown, with the reason.
 *
 * A series of CRLs (crl_table.h) speaks of a certificate when its issuer is the certificate's, or is named in
 * the cRLIssuer of one of its distribution points; when the key policy of the CA lets that key speak; and when the
 * issuing distribution point covers the certificate (crl_scope.c). Its signer has to be in the trust list below the same
 * anchor, and not revoked itself. Where the signer is one of the CAs above the certificate, that is asked anyway. Where it
 * is a separate one it is judged the same way; a signer that is being judged already is taken for good at that place,
 * because a CRL issuer's own certificate may be covered by the CRL that it signs, and nothing else.
 *
 * The certificate itself is parsed only when some CRL at hand covers less than all of an issuer's certificates.
 */
#include "postgres.h"

#include <openssl/err.h>

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "crl_scope.h"
#include "crl_verify.h"
#include "revocation.h"

/* A CA may back-date its CRLs, and clocks differ (rule 18). */
#define CLOCK_SKEW (10 * SECS_PER_MINUTE * USECS_PER_SEC)

/* Separate signers of the CRLs about separate signers: nobody has more. */
#define MAX_DEPTH 6

/* Paths of one certificate that are asked about. */
#define MAX_PATHS 8

/* ---------- one certificate under judgement ---------- */

typedef struct Judgement
{
	CrlSubject subject;
	const Authority *const *above; /* its issuer first, the anchor last */
	int above_count;
	TimestampTz at;
	const CrlSet *set;
	const struct Judgement *outer; /* for which this signer is being judged, or NULL */
	int depth;
	TimeSpan *span; /* for which the answer is the same */
	ElementStatus *status;
	bool *outdated; /* set when a CRL of the set was replaced meanwhile */
	uint16 covered; /* reasons for which it is known to be good */
} Judgement;

static void judge(Judgement *j);

static const CrlExpectations *
expectations(const Judgement *j)
{
	return &j->above[0]->crls;
}

/* Keeps the reason that came nearest to an answer, with what it was about. */
static void
doubt(Judgement *j, RevocationReason reason, const CrlSeries *series, const Authority *signer)
{
	ElementStatus *status = j->status;

	if (reason <= status->reason)
		return;
	status->reason = reason;
	status->series = series;
	status->base = series ? series->base : NULL;
	status->delta = series ? (series->delta ? series->delta : series->early_delta) : NULL;
	status->signer = signer;
}

/* ---------- the signer ---------- */

static bool
is_above(const Judgement *j, const Authority *authority)
{
	for (int i = 0; i < j->above_count; i++)
		if (j->above[i] == authority)
			return true;
	return false;
}

static bool
is_being_judged(const Judgement *j, const Authority *authority)
{
	for (; j; j = j->outer)
		if (j->subject.authority == authority)
			return true;
	return false;
}

/* Could this certificate be that of the key that signed the series? */
static bool
is_signer(const CrlSeries *series, const Authority *a)
{
	return memcmp(a->key_sha256, series->signer_key, SHA256_OCTETS) == 0 &&
		   X509_NAME_cmp(X509_get_subject_name(a->x509), series->issuer) == 0 &&
		   cmblock_crl_may_sign(a->x509) == CRLSIGNER_POSSIBLE;
}

/*
 * The certificate under which the key of the series counts here: one of the CAs above where possible, else one that
 * has a path of its own to the same anchor (rule 16).
 */
static const Authority *
find_signer(const Judgement *j, const CrlSeries *series, TrustChain *chain)
{
	const TrustList *list = cmblock_current_trust_list();

	chain->length = 0;
	for (int i = 0; i < j->above_count; i++)
		if (is_signer(series, j->above[i]))
			return j->above[i];
	for (int i = 0; i < list->count; i++)
	{
		bool trusted;

		if (!is_signer(series, &list->authority[i]))
			continue;
		trusted = cmblock_trust_authority(&list->authority[i], j->above[j->above_count - 1], j->at, chain);
		cmblock_narrow_span(j->span, &chain->span);
		if (trusted)
			return &list->authority[i];
	}
	return NULL;
}

/* Is a separate signer, or a CA above it that is not above the certificate, known not to be revoked? */
static RevocationReason
judge_signer(const Judgement *j, const Authority *signer, const TrustChain *chain)
{
	RevocationReason worst = REV_NONE;

	if (is_above(j, signer))
		return REV_NONE;
	if (j->depth >= MAX_DEPTH)
		return REV_SIGNER_UNKNOWN;
	for (int i = -1; i < chain->length - 1; i++)
	{
		const Authority *element = i < 0 ? signer : chain->ca[i];
		ElementStatus status;
		Judgement inner = {.subject = {.authority = element},
						   .above = chain->ca + i + 1,
						   .above_count = chain->length - i - 1,
						   .at = j->at,
						   .set = j->set,
						   .outer = j,
						   .depth = j->depth + 1,
						   .span = j->span,
						   .status = &status,
						   .outdated = j->outdated};

		if (is_above(j, element) || is_being_judged(j, element))
			continue;
		judge(&inner);
		if (status.status == REVOCATION_REVOKED)
			return REV_SIGNER_REVOKED;
		if (status.status == REVOCATION_UNKNOWN)
			worst = REV_SIGNER_UNKNOWN;
	}
	return worst;
}

/*
 * Rule 17. A signer that signs no certificates is there for the CA's CRLs, whatever the policy; so is the issuer of
 * an indirect CRL.
 */
static bool
key_may_speak(const Judgement *j, const CrlSeries *series, const Authority *signer, bool direct)
{
	const Authority *issuer = j->above[0];
	CrlKeyPolicy policy = issuer->crls.key_policy;

	if (!direct || signer->crl_signer || memcmp(series->signer_key, issuer->key_sha256, SHA256_OCTETS) == 0)
		return true;
	if (policy == CRL_KEY_AUTOMATIC)
		return !issuer->ca_version && !(series->base && series->base->ca_version);
	return policy == CRL_KEY_ANY;
}

/* ---------- entries ---------- */

typedef enum Found
{
	FOUND_NOTHING,
	FOUND_REVOKED,
	FOUND_REMOVED,
	FOUND_NO_CRL
} Found;

/* The serial under the certificate's issuer: in an indirect CRL wherever its name stands (rule 30). */
static bool
find_under_issuer(const Judgement *j, const CrlSeries *series, const CrlIndex *index, bool direct,
				  CrlEntry *entry)
{
	const uint8 *serial = (const uint8 *) VARDATA_ANY(j->subject.serial);
	size_t size = VARSIZE_ANY_EXHDR(j->subject.serial);
	Crl facts;
	bool found = false;

	if (direct && cmblock_crl_index_find(index, serial, size, 0, entry))
		found = true;
	if (series->idp == NULL || !series->idp->indirectCRL)
		return found;
	cmblock_crl_index_facts(index, &facts);
	for (uint32 i = 0; i < facts.issuer_count; i++)
	{
		CrlEntry other;

		if (!cmblock_crl_name_equals(facts.certificate_issuer[i], X509_get_subject_name(j->above[0]->x509)) ||
			!cmblock_crl_index_find(index, serial, size, (uint8) (i + 1), &other))
			continue;
		/* The same serial under the same name twice: revoked wins. */
		if (!found || entry->removed)
			*entry = other;
		found = true;
	}
	return found;
}

static Found
look_up(const Judgement *j, const CrlSeries *series, const HeldCrl *crl, bool direct, CrlEntry *entry)
{
	CrlPin pin;
	const CrlIndex *index;
	bool found;

	if (crl == NULL)
		return FOUND_NOTHING;
	index = cmblock_open_crl(crl, &pin);
	if (index == NULL)
	{
		*j->outdated |= cmblock_crl_set_is_outdated(crl);
		return FOUND_NO_CRL;
	}
	found = find_under_issuer(j, series, index, direct, entry);
	/* Its serial lies in the index. */
	entry->serial = (DerSpan){NULL, 0};
	cmblock_crl_unpin(&pin);
	if (!found)
		return FOUND_NOTHING;
	return entry->removed ? FOUND_REMOVED : FOUND_REVOKED;
}

static void
conclude_revoked(Judgement *j, const CrlSeries *series, const Authority *signer, const HeldCrl *delta,
				 const CrlEntry *entry)
{
	ElementStatus *status = j->status;

	status->status = REVOCATION_REVOKED;
	status->reason = REV_REVOKED;
	status->series = series;
	status->base = series->base;
	status->delta = delta ? delta : series->delta;
	status->signer = signer;
	status->revoked_at = time_t_to_timestamptz((pg_time_t) entry->revocation_date);
	status->code = entry->reason;
}

/* ---------- time ---------- */

/* Is the CRL in force (rules 18 and 19)? REV_NONE, or what is wrong in terms of a full CRL. */
static RevocationReason
check_window(const HeldCrl *crl, const Judgement *j, int64 grace, int64 max_age)
{
	TimestampTz until = DT_NOEND;

	if (cmblock_is_before(j->at, crl->this_update - CLOCK_SKEW, j->span))
		return REV_CRL_NOT_YET_VALID;
	if (crl->has_next_update)
		until = crl->next_update + grace;
	if (max_age > 0)
		until = Min(until, crl->this_update + max_age);
	if (until == DT_NOEND)
		return REV_NO_NEXT_UPDATE;
	return cmblock_is_after(j->at, until, j->span) ? REV_CRL_EXPIRED : REV_NONE;
}

static RevocationReason
check_delta_window(const HeldCrl *delta, const Judgement *j, int64 grace)
{
	switch (check_window(delta, j, grace, 0))
	{
		case REV_NONE:
			return REV_NONE;
		case REV_CRL_NOT_YET_VALID:
			return REV_DELTA_NOT_YET_VALID;
		default:
			return REV_DELTA_EXPIRED;
	}
}

/*
 * Is a valid delta wanted on top of the base, and missing (rule 24)? A base that has all that was in the newest delta is as good
 * as a delta of its own date, for as long as deltas of that CA are in force.
 */
static RevocationReason
check_delta(const Judgement *j, const CrlSeries *series)
{
	const CrlExpectations *crls = expectations(j);
	RevocationReason window;

	if (crls->delta_policy == DELTA_OPTIONAL)
		return REV_NONE;
	if (series->delta)
	{
		window = check_delta_window(series->delta, j, crls->delta_grace);
		if (window == REV_NONE && series->delta->unknown_critical_entry)
			return REV_UNKNOWN_CRITICAL_ENTRY;
		return window;
	}
	if (series->early_delta)
		return REV_BASE_TOO_OLD;
	if (!series->had_delta)
		return crls->delta_policy == DELTA_REQUIRED && series->base->names_freshest ? REV_DELTA_MISSING
																					: REV_NONE;
	if (series->delta_is_superseded &&
		!cmblock_is_after(j->at, series->base->this_update + series->delta_period + crls->delta_grace,
						  j->span))
		return REV_NONE;
	return REV_DELTA_MISSING;
}

/* ---------- one series ---------- */

/* May a series of CRLs that does not list the certificate show it to be good? */
static RevocationReason
check_proof(const Judgement *j, const CrlSeries *series)
{
	const CrlExpectations *crls = expectations(j);
	RevocationReason reason;

	if (series->base == NULL)
		return REV_CRL_MISSING;
	reason = check_window(series->base, j, crls->base_grace, crls->max_age);
	if (reason != REV_NONE)
		return reason;
	if (series->base->unknown_critical_entry)
		return REV_UNKNOWN_CRITICAL_ENTRY;
	return check_delta(j, series);
}

/*
 * The entry for the certificate in the CRLs of the series, the newest first. What a delta removed counts as removed only
 * while that delta is in force; anything else that is listed is revoked (rules 19, 24, 25).
 */
static Found
look_through(const Judgement *j, const CrlSeries *series, bool direct, const HeldCrl **delta, CrlEntry *entry)
{
	Found in_delta;
	Found in_base;

	*delta = series->early_delta;
	if (look_up(j, series, series->early_delta, direct, entry) == FOUND_REVOKED)
		return FOUND_REVOKED;
	*delta = series->delta;
	in_delta = look_up(j, series, series->delta, direct, entry);
	if (in_delta == FOUND_REVOKED ||
		(in_delta == FOUND_REMOVED &&
		 check_delta_window(series->delta, j, expectations(j)->delta_grace) == REV_NONE))
		return in_delta;
	in_base = look_up(j, series, series->base, direct, entry);
	if (in_base == FOUND_NOTHING && in_delta == FOUND_NO_CRL)
		return FOUND_NO_CRL;
	return in_base;
}

/* True when it makes the certificate revoked, and nothing else needs to be asked. */
static bool
ask_series(Judgement *j, const CrlSeries *series)
{
	bool direct = X509_NAME_cmp(series->issuer, X509_get_subject_name(j->above[0]->x509)) == 0;
	TrustChain signer_chain;
	const Authority *signer;
	const HeldCrl *delta;
	RevocationReason reason;
	uint16 reasons;
	CrlEntry entry;
	Found found;

	if (!direct && !(series->idp && series->idp->indirectCRL))
		return false;
	reasons = cmblock_crl_covers(series, &j->subject, direct);
	if (reasons == 0)
	{
		if (direct)
			doubt(j, REV_PARTITION_NOT_HELD, series, NULL);
		return false;
	}
	signer = find_signer(j, series, &signer_chain);
	if (signer == NULL)
	{
		doubt(j, REV_SIGNER_UNTRUSTED, series, NULL);
		return false;
	}
	if (!key_may_speak(j, series, signer, direct))
	{
		doubt(j, REV_OTHER_KEY, series, signer);
		return false;
	}

	found = look_through(j, series, direct, &delta, &entry);
	if (found == FOUND_REVOKED)
	{
		conclude_revoked(j, series, signer, delta, &entry);
		return true;
	}
	if (found == FOUND_NO_CRL)
		reason = REV_CRL_DAMAGED;
	else
		reason = reasons & CRL_ALL_REASONS ? check_proof(j, series) : REV_PARTITION_NOT_HELD;
	if (reason == REV_NONE)
		reason = judge_signer(j, signer, &signer_chain);
	if (reason != REV_NONE)
	{
		doubt(j, reason, series, signer);
		return false;
	}
	if (j->covered == 0)
	{
		/* The CRL that is shown for a good answer: the first that covers it. */
		j->status->series = series;
		j->status->base = series->base;
		j->status->delta = series->delta;
		j->status->signer = signer;
	}
	j->covered |= reasons & CRL_ALL_REASONS;
	return false;
}

/* ---------- one element ---------- */

static void
judge(Judgement *j)
{
	ElementStatus *status = j->status;
	ElementStatus good;

	CHECK_FOR_INTERRUPTS();
	memset(status, 0, sizeof(*status));
	status->status = REVOCATION_UNKNOWN;
	status->authority = j->subject.authority;
	status->issuer = j->above[0];
	status->code = CRLREASON_NONE;
	if (j->subject.authority)
	{
		j->subject.serial = j->subject.authority->serial;
		j->subject.x509 = j->subject.authority->x509;
	}
	j->subject.issuer = X509_get_subject_name(j->above[0]->x509);

	memset(&good, 0, sizeof(good));
	for (int i = 0; i < j->set->count; i++)
	{
		uint16 before = j->covered;

		if (ask_series(j, &j->set->series[i]))
			return;
		if (before == 0 && j->covered != 0)
			good = *status;
	}
	if (j->covered == CRL_ALL_REASONS)
	{
		*status = good;
		status->status = REVOCATION_GOOD;
		status->reason = REV_NONE;
		return;
	}
	if (j->covered != 0)
		doubt(j, REV_REASONS_NOT_COVERED, good.series, good.signer);
	doubt(j, REV_CRL_MISSING, NULL, NULL);
}

/* ---------- the chain ---------- */

/* Which element gives the status of the whole. */
static void
add_up(RevocationAnswer *answer)
{
	answer->status = REVOCATION_GOOD;
	for (int i = 0; i < answer->count; i++)
	{
		const ElementStatus *e = &answer->element[i];
		bool required = e->issuer->policy == CRL_REQUIRED;

		if (e->status == REVOCATION_GOOD)
			continue;
		if (answer->status == REVOCATION_GOOD ||
			(e->status == REVOCATION_REVOKED && answer->status == REVOCATION_UNKNOWN) ||
			(e->status == REVOCATION_UNKNOWN && answer->status == REVOCATION_UNKNOWN && required &&
			 !answer->required))
			answer->deciding = i;
		if (e->status == REVOCATION_REVOKED)
			answer->status = REVOCATION_REVOKED;
		else if (answer->status == REVOCATION_GOOD)
			answer->status = REVOCATION_UNKNOWN;
		answer->required |= required;
	}
}

static void
check_chain(const Leaf *leaf, const TrustChain *chain, const CrlSet *set, TimestampTz at, bool by_policy,
			RevocationAnswer *answer)
{
	memset(answer, 0, offsetof(RevocationAnswer, element));
	answer->span = ALL_TIMES;
	/* ca[0] signed the certificate, ca[1] signed ca[0], and so on; nobody above revokes the anchor. */
	for (int i = 0; i < chain->length; i++)
	{
		Judgement j = {.subject = {.authority = i > 0 ? chain->ca[i - 1] : NULL},
					   .above = chain->ca + i,
					   .above_count = chain->length - i,
					   .at = at,
					   .set = set,
					   .outdated = &answer->outdated,
					   .span = &answer->span,
					   .status = &answer->element[answer->count]};

		if (by_policy && chain->ca[i]->policy == CRL_OFF)
			continue;
		if (i == 0)
		{
			j.subject.serial = leaf->serial;
			j.subject.leaf = leaf;
		}
		judge(&j);
		answer->count++;
	}
	answer->checked = answer->count > 0;
	add_up(answer);
}

/* Nothing that another path could say changes it: the certificate is good on this one, or is itself revoked. */
static bool
is_settled(const RevocationAnswer *answer)
{
	return answer->status == REVOCATION_GOOD ||
		   (answer->status == REVOCATION_REVOKED && answer->element[answer->deciding].authority == NULL);
}

/*
 * RFC 5280 wants one path that is good as a whole: that a CA took back its cross-certificate for another CA, or that its
 * CRL is not at hand, does not concern those who have another path. If none is good, one revoked is revoked.
 */
static void
check_paths(const Leaf *leaf, const TrustChain *chain, TimestampTz at, bool by_policy,
			RevocationAnswer *answer)
{
	const CrlSet *set = cmblock_crl_set();

	check_chain(leaf, chain, set, at, by_policy, answer);
	for (int number = 1; number < MAX_PATHS && !is_settled(answer); number++)
	{
		TrustChain other;
		RevocationAnswer next;
		bool found = cmblock_trust_other_path(leaf, at, number, &other);

		cmblock_narrow_span(&answer->span, &other.span);
		if (!found)
			break;
		check_chain(leaf, &other, set, at, by_policy, &next);
		cmblock_narrow_span(&next.span, &answer->span);
		next.outdated |= answer->outdated;
		if (is_settled(&next) || (next.status == REVOCATION_REVOKED && answer->status == REVOCATION_UNKNOWN))
			*answer = next;
		answer->span = next.span;
		answer->outdated = next.outdated;
	}
}

void
cmblock_check_revocation(const Leaf *leaf, const TrustChain *chain, TimestampTz at, bool by_policy,
						 RevocationAnswer *answer)
{
	/* A CRL that was replaced while it was being asked for is no reason to refuse: ask its successor. */
	for (int tries = 0; tries < 3; tries++)
	{
		check_paths(leaf, chain, at, by_policy, answer);
		if (!answer->outdated)
			return;
	}
}
