/*
 * quick_decision.c
 *		The common cases of the decision, from the cache: no snapshot, no table.
 *
 * decision.c is the decision; this file answers without it where the answer is plain: the request names a client, or shows
 * a registered certificate (by its SHA-256, or as DER), or both, for anything but a registration. What is unusual in any way,
 * and all that needs words, is left to decision.c. So an answer from here is allowed, or refused with its first reason.
 *
 * What is not in the cache is read, put in, and used: a miss costs what the decision would have cost anyway. The
 * facts come from the cache and the tables at different moments. That nobody changed any of the rows up to the end, says that
 * there was one moment at which all of them were true, after the decision began and before it ended.
 *
 * Of a certificate the cache holds the judgement of its validity, chain and revocation with the span of time for which it is the
 * same, and a hash of all that it depends on besides: the rows of the trust list and of the CRLs, and a setting. A
 * session computes that hash when it loads these (they change by messages, as the catalog does), so that a new CRL
 * makes what was judged by the old one worthless at the moment at which each session learns of it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "coverage.h"
#include "crl_table.h"
#include "decision_cache.h"
#include "quick_decision.h"
#include "records.h"
#include "revocation.h"
#include "scan.h"
#include "settings.h"
#include "site.h"
#include "trust.h"
#include "x509.h"

PG_FUNCTION_INFO_V1(cmblock_decision_cache);

/* Of this session. */
static struct
{
	uint64 quick;  /* answered here */
	uint64 reads;  /* rows read and put in */
	uint64 unsure; /* left to decision.c */
} counters;

/* The database, and at most: the client named, the certificate, the client that it is of. */
#define MAX_TICKETS 4

typedef struct Question
{
	const AccessRequest *request;
	uint64 tag;
	int tickets;
	CacheTicket ticket[MAX_TICKETS];
	uint32 reasons; /* to refuse: a bit for each Reason */
	bool warned;

	CachedClient claimed; /* if it is not the client that the certificate is of */
	CacheKey claimed_key;
	const CachedClient *requester; /* that, or the certificate's, or NULL */
	const Smsid *requester_id;

	bool has_certificate;
	CachedCertificate certificate;
	CacheKey certificate_key;
	uint64 certificate_tag;
	const CacheTicket *certificate_ticket;
	bool certificate_is_new; /* to be put in */
	unsigned char sha256[SHA256_OCTETS];
} Question;

/* ---------- rows ---------- */

static void
read_client(const ClientRecord *row, CachedClient *client)
{
	client->assigned_site = row->assigned_site;
	client->hardware = row->hardware_id ? cmblock_cache_hardware(row->hardware_id) : 0;
	client->flags = 0;
	if (row->block.blocked)
		client->flags |= FACT_BLOCKED;
	if (row->deleted)
		client->flags |= FACT_DELETED;
	if (row->isv_proxied)
		client->flags |= FACT_ISV_PROXIED;
	if (row->approval <= 0)
		client->flags |= FACT_NOT_APPROVED;
}

/* False: there is no such row, or it cannot be cached now. */
static bool
find_client(Question *q, const Smsid *smsid, const CacheKey *key, CachedClient *client)
{
	CacheTicket *ticket = &q->ticket[q->tickets++];
	Snapshot snapshot;
	ClientRecord row;
	bool found;

	switch (cmblock_cache_find_client(key, q->tag, client, ticket))
	{
		case CACHE_HIT:
			return true;
		case CACHE_BUSY:
			return false;
		case CACHE_MISS:
			break;
	}
	/* Not what a transaction may change that was prepared before the ticket was taken: it has no writer any more. */
	if (!cmblock_coverage_holds())
		return false;
	snapshot = RegisterSnapshot(cmblock_newest_snapshot());
	found = cmblock_find_client(snapshot, smsid, &row);
	UnregisterSnapshot(snapshot);
	/* Strangers can make up as many smsids as they like: those that nobody has are not kept. */
	if (!found)
		return false;
	read_client(&row, client);
	cmblock_cache_put_client(key, client, q->tag, ticket);
	counters.reads++;
	return true;
}

/* What certificates are judged by, besides the time: a hash of it. */
static uint64
current_world(void)
{
	static struct
	{
		unsigned char trust_list[SHA256_OCTETS];
		unsigned char crls[SHA256_OCTETS];
		uint64 allow_sha1;
	} known;
	static uint64 world = 0;
	const TrustList *list = cmblock_trust_list();
	const CrlSet *set = cmblock_crl_set();

	if (world == 0 || memcmp(known.trust_list, list->digest, SHA256_OCTETS) != 0 ||
		memcmp(known.crls, set->digest, SHA256_OCTETS) != 0 || known.allow_sha1 != cmblock_allow_sha1)
	{
		memcpy(known.trust_list, list->digest, SHA256_OCTETS);
		memcpy(known.crls, set->digest, SHA256_OCTETS);
		known.allow_sha1 = cmblock_allow_sha1;
		world = cmblock_cache_hash(&known, sizeof(known));
	}
	return world;
}

typedef struct LeafSource
{
	Snapshot snapshot;
	const unsigned char *sha256;
} LeafSource;

static X509 *
read_leaf(void *arg)
{
	const LeafSource *source = arg;
	bytea *der = cmblock_find_certificate_der(source->snapshot, source->sha256);

	return der ? cmblock_x509((const unsigned char *) VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der)) : NULL;
}

/*
 * Validity, chain and revocation at that time, and for which times the same would come out. False when that was not to be found
 * out, because CRLs were replaced meanwhile.
 */
static bool
judge_certificate(const CertificateRecord *row, Snapshot snapshot, TimestampTz at, CachedCertificate *c)
{
	LeafSource source = {.snapshot = snapshot, .sha256 = row->sha256};
	Leaf leaf = {.sha256 = row->sha256, .serial = row->serial, .read = read_leaf, .arg = &source};
	TimeSpan span = ALL_TIMES;
	TrustChain chain;
	RevocationAnswer answer;

	if (cmblock_is_before(at, row->not_before, &span))
		c->flags |= FACT_NOT_YET_VALID;
	if (cmblock_is_after(at, row->not_after, &span))
		c->flags |= FACT_EXPIRED;
	if (cmblock_trust(&leaf, at, &chain) == TRUST_OK)
	{
		c->flags |= FACT_CHAINED;
		cmblock_check_revocation(&leaf, &chain, at, true, &answer);
		if (answer.outdated)
			return false;
		cmblock_narrow_span(&span, &answer.span);
		if (answer.checked && answer.status != REVOCATION_GOOD)
			c->flags |= answer.status == REVOCATION_REVOKED ? FACT_REVOKED
						: answer.required                   ? FACT_CRL_MISSING
															: FACT_CRL_WARNING;
	}
	cmblock_narrow_span(&span, &chain.span);
	c->from = span.from;
	c->until = span.until;
	return true;
}

/* Like find_client, but what was read is put in later, when its client is known as well. */
static bool
find_certificate(Question *q)
{
	CacheTicket *ticket = &q->ticket[q->tickets++];
	CachedCertificate *c = &q->certificate;
	TimestampTz at = q->request->at;
	uint64 world = current_world();
	Snapshot snapshot;
	CertificateRecord row;
	bool found;

	q->certificate_tag = q->tag + world;
	q->certificate_ticket = ticket;
	q->certificate_is_new = false;
	switch (cmblock_cache_find_certificate(&q->certificate_key, q->certificate_tag, c, ticket))
	{
		case CACHE_HIT:
			if (at >= c->from && at <= c->until)
				return true;
			break;
		case CACHE_BUSY:
			return false;
		case CACHE_MISS:
			break;
	}
	if (!cmblock_coverage_holds())
		return false;
	memset(c, 0, sizeof(*c));
	snapshot = RegisterSnapshot(cmblock_newest_snapshot());
	found = cmblock_find_certificate(snapshot, q->sha256, SHA256_OCTETS, &row, NULL) > 0 &&
			judge_certificate(&row, snapshot, at, c);
	UnregisterSnapshot(snapshot);
	/* Trust list or CRLs may have become others on the way, and nobody can tell which of them judged. */
	if (!found || current_world() != world)
		return false;
	c->client = row.client;
	c->flags |= (uint32) row.type << FACT_TYPE_SHIFT;
	if (row.has_client)
		c->flags |= FACT_HAS_CLIENT;
	if (row.block.blocked)
		c->flags |= FACT_BLOCKED;
	if (row.deleted)
		c->flags |= FACT_DELETED;
	/* By this hierarchy, whatever any CRL says. */
	if (row.revoked)
		c->flags |= FACT_REVOKED;
	if (row.self_signed)
		c->flags |= FACT_SELF_SIGNED;
	q->certificate_is_new = true;
	counters.reads++;
	return true;
}

/* The client that the certificate is of: kept with it, or else looked for, and kept with it from then on. */
static bool
find_owner(Question *q)
{
	CachedCertificate *c = &q->certificate;
	CacheKey key = cmblock_cache_client_key(&c->client, false);
	CacheTicket *ticket = &q->ticket[q->tickets++];

	switch (cmblock_cache_check_stamp(&key, q->tag, c->owner_stamp, ticket))
	{
		case CACHE_HIT:
			return true;
		case CACHE_BUSY:
			return false;
		case CACHE_MISS:
			break;
	}
	q->tickets--;
	if (!find_client(q, &c->client, &key, &c->owner))
		return false;
	c->owner_stamp = cmblock_cache_stamp(q->tag, ticket);
	q->certificate_is_new = true;
	return true;
}

/* The SHA-256 of the certificate in the request. False where only decision.c knows what to make of it. */
static bool
read_thumbprint(const AccessRequest *request, unsigned char *sha256)
{
	bytea *input = cmblock_bounded_argument(request->certificate);
	CertificateProblem problem;
	const bytea *der;

	if (input == NULL || VARSIZE_ANY_EXHDR(input) == SHA1_OCTETS)
		return false;
	if (VARSIZE_ANY_EXHDR(input) == SHA256_OCTETS)
	{
		memcpy(sha256, VARDATA_ANY(input), SHA256_OCTETS);
		return true;
	}
	der = cmblock_certificate_der(input, &problem);
	if (der == NULL)
		return false;
	cmblock_sha256(VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der), sha256);
	return true;
}

/* ---------- the steps: see those of the same names in decision.c ---------- */

/* Each of them is false where the answer is not plain. A refusal ends nothing: what is unsure comes first. */

static void
refuse_if(Question *q, bool condition, Reason reason)
{
	q->reasons |= (uint32) condition << reason;
}

static CertificateType
type_of(const CachedCertificate *c)
{
	return (CertificateType) (c->flags >> FACT_TYPE_SHIFT);
}

static bool
judge_requester(Question *q, const Smsid *smsid, const CachedClient *client)
{
	/* A deleted client may come with boot media, to be installed again. */
	if ((client->flags & FACT_DELETED) && q->has_certificate &&
		type_of(&q->certificate) != CERTIFICATE_CLIENT)
		return false;
	refuse_if(q, client->flags & FACT_DELETED, REASON_CLIENT_DELETED);
	refuse_if(q, client->flags & FACT_BLOCKED, REASON_CLIENT_BLOCKED);
	refuse_if(q, client->flags & FACT_NOT_APPROVED, REASON_NOT_APPROVED);
	q->requester = client;
	q->requester_id = smsid;
	return true;
}

static bool
judge_parties(Question *q)
{
	const Smsid *claimed = q->request->client;
	CachedCertificate *c = &q->certificate;
	bool has_owner = q->has_certificate && (c->flags & FACT_HAS_CLIENT);

	if (!claimed && !has_owner)
		return q->has_certificate;
	if (has_owner && (!claimed || memcmp(claimed, &c->client, SMSID_OCTETS) == 0))
	{
		if (!find_owner(q) || !judge_requester(q, &c->client, &c->owner))
			return false;
	}
	else
	{
		refuse_if(q, has_owner, REASON_CERTIFICATE_OF_ANOTHER_CLIENT);
		if (!find_client(q, claimed, &q->claimed_key, &q->claimed) ||
			!judge_requester(q, claimed, &q->claimed))
			return false;
	}
	if (claimed && q->has_certificate && type_of(c) == CERTIFICATE_ISV_PROXY)
		refuse_if(q, !(q->requester->flags & FACT_ISV_PROXIED), REASON_CERTIFICATE_OF_ANOTHER_CLIENT);
	return true;
}

static void
step_certificate(Question *q)
{
	uint32 flags = q->certificate.flags;
	bool self_signed_counts = (flags & FACT_SELF_SIGNED) && q->request->transport != TRANSPORT_HTTPS;

	refuse_if(q, flags & FACT_DELETED, REASON_CERTIFICATE_DELETED);
	refuse_if(q, flags & FACT_NOT_YET_VALID, REASON_CERTIFICATE_NOT_YET_VALID);
	refuse_if(q, flags & FACT_EXPIRED, REASON_CERTIFICATE_EXPIRED);
	refuse_if(q, !(flags & FACT_CHAINED) && !self_signed_counts, REASON_CERTIFICATE_UNTRUSTED);
	refuse_if(q, flags & FACT_REVOKED, REASON_CERTIFICATE_REVOKED);
	refuse_if(q, flags & FACT_CRL_MISSING, REASON_CRL_UNAVAILABLE);
	refuse_if(q, flags & FACT_BLOCKED, REASON_CERTIFICATE_BLOCKED);
	q->warned |= (flags & FACT_CRL_WARNING) != 0;
}

static void
add_hardware(text *hardware_id)
{
	cmblock_cache_add_blocked_hardware(cmblock_cache_hardware(hardware_id));
}

/*
 * The guard adds the hardware ids of clients that are blocked from now on. After a restart, and after what the guard did
 * not see, the first session that needs them adds those that are blocked already.
 */
static void
complete_hardware(uint64 coverage_tag)
{
	Snapshot snapshot;

	if (cmblock_cache_hardware_tag() == coverage_tag)
		return;
	snapshot = RegisterSnapshot(cmblock_newest_snapshot());
	cmblock_each_blocked_hardware(snapshot, add_hardware);
	UnregisterSnapshot(snapshot);
	cmblock_cache_set_hardware_tag(coverage_tag);
}

/* A hardware id of a blocked client refuses or warns, as the policy says. decision.c knows whether it is one. */
static bool
step_hardware(Question *q, Wordiness words, uint64 coverage_tag)
{
	text *given = q->request->hardware_id;
	uint32 registered = q->requester ? q->requester->hardware : 0;

	if ((!given && !registered) || (words == WORDS_NONE && cmblock_rejoin_policy == REJOIN_REPORT))
		return true;
	complete_hardware(coverage_tag);
	return !(registered && cmblock_cache_hardware_may_be_blocked(registered)) &&
		   !(given && cmblock_cache_hardware_may_be_blocked(cmblock_cache_hardware(given)));
}

/* ---------- the decision ---------- */

static void
fill_in_parties(const Question *q, AccessDecision *decision)
{
	const AccessRequest *request = q->request;
	const CachedClient *client = q->requester;

	decision->assurance =
		q->has_certificate && (q->certificate.flags & FACT_CHAINED) && request->transport == TRANSPORT_HTTPS
			? ASSURANCE_FULL
			: ASSURANCE_LIMITED;
	decision->has_client = client != NULL;
	decision->assigned_site = NO_SITE;
	if (client)
	{
		decision->client = *q->requester_id;
		decision->assigned_site = client->assigned_site;
	}
	decision->has_certificate = q->has_certificate;
	if (q->has_certificate)
		memcpy(decision->certificate, q->sha256, SHA256_OCTETS);
	decision->count = 0;
}

/* Says what will be asked for, early. False where there is no cache, or the request is not for this file. */
static bool
prepare(Question *q, const AccessRequest *request)
{
	if (request->kind == REQUEST_REGISTRATION || !cmblock_cache_exists())
		return false;
	q->has_certificate = request->has_certificate;
	if (q->has_certificate)
	{
		if (!read_thumbprint(request, q->sha256))
			return false;
		q->certificate_key = cmblock_cache_certificate_key(q->sha256);
	}
	/* What is known of a certificate's client is usually kept with it. */
	if (request->client)
		q->claimed_key = cmblock_cache_client_key(request->client, !q->has_certificate);
	q->request = request;
	q->reasons = 0;
	q->warned = false;
	q->requester = NULL;
	return true;
}

/* The reasons are in the order in which decision.c asks, but for this: a certificate's own deletion is before its client's. */
static Reason
first_reason(const Question *q)
{
	uint32 reasons = q->reasons;

	if (reasons == 0)
		return REASON_NONE;
	if (q->request->client == NULL && (reasons & (1U << REASON_CERTIFICATE_DELETED)))
		return REASON_CERTIFICATE_DELETED;
	return (Reason) pg_rightmost_one_pos32(reasons);
}

static bool
answer(const AccessRequest *request, Wordiness words, AccessDecision *decision, Reason *reason)
{
	Question q;
	const SiteIdentity *site;
	uint64 coverage_tag;

	if (!prepare(&q, request) || cmblock_coverage(&coverage_tag) != COVERED)
		return false;
	site = cmblock_this_site();
	if (site == NULL)
		return false;

	q.tag = coverage_tag;
	q.tickets = 1;
	if (!cmblock_cache_begin(&q.tag, &q.ticket[0]))
		return false;
	if (q.has_certificate && !find_certificate(&q))
		return false;
	if (!judge_parties(&q))
		return false;
	if (q.has_certificate)
	{
		if (q.certificate_is_new)
			cmblock_cache_put_certificate(&q.certificate_key, &q.certificate, q.certificate_tag,
										  q.certificate_ticket);
		step_certificate(&q);
	}
	if (!step_hardware(&q, words, coverage_tag) || (q.warned && words != WORDS_NONE))
		return false;
	if (!cmblock_cache_is_unchanged(q.ticket, q.tickets) || !cmblock_coverage_holds())
		return false;

	fill_in_parties(&q, decision);
	decision->site = site->code;
	*reason = first_reason(&q);
	decision->allowed = *reason == REASON_NONE;
	return decision->allowed || words == WORDS_NONE;
}

bool
cmblock_decide_quickly(const AccessRequest *request, Wordiness words, AccessDecision *decision,
					   Reason *reason)
{
	bool answered = answer(request, words, decision, reason);

	if (answered)
		counters.quick++;
	else
		counters.unsure++;
	return answered;
}

/* ---------- for people ---------- */

Datum
cmblock_decision_cache(PG_FUNCTION_ARGS)
{
	TupleDesc desc;
	Datum values[5];
	bool nulls[5] = {0};
	uint64 tag;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 5)
		elog(ERROR, "decision_cache does not return what it should");
	desc = BlessTupleDesc(desc);
	values[0] = CStringGetTextDatum(cmblock_coverage_text(cmblock_coverage(&tag)));
	values[1] = Int64GetDatum(cmblock_cache_exists() ? (int64) cmblock_decision_cache_size * 1024 : 0);
	values[2] = Int64GetDatum(counters.quick);
	values[3] = Int64GetDatum(counters.reads);
	values[4] = Int64GetDatum(counters.unsure);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
