/*
 * trust.c
 *		The site's trust list, and the chain from a certificate up to it.
 *
 * The list names the CAs that this site accepts. A CA in it whose own issuer is in it too is linked to that issuer,
 * and what the issuer says (validity, constraints, revocation) counts; a CA whose issuer is not in it is an anchor.
 * Links are made by name, key identifiers and signature when the list is read, not at each request. They are made
 * whatever digest the CA's own signature has: an administrator has named that CA, and a missing link would only set
 * it free from its issuer. One that names a CA of the list as its issuer, by name and key identifier, and has a
 * signature that this CA's key did not make is no anchor but damaged or forged, and nothing below it is trusted.
 *
 * The list and what was found out about certificates are kept in the session, in one memory context that is thrown
 * away as a whole when the table changes. A statement trigger on certificate_authority sends a relcache
 * invalidation. PostgreSQL delivers it after the change is visible and replays it when a transaction, a savepoint
 * or a prepared transaction that made it goes away, so the list never outlives the rows it was read from.
 *
 * Decisions run on certificates of strangers, so what is kept about certificates has a bound.
 */
#include "postgres.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "decision_cache.h"
#include "scan.h"
#include "trust.h"
#include "x509.h"

bool cmblock_allow_sha1 = false;

/* What was found out about one certificate, whatever the time. */
typedef struct KnownLeaf
{
	unsigned char sha256[SHA256_OCTETS]; /* hash key */
	Bitmapset *issuers;                  /* CAs whose key verified the signature */
	Bitmapset *excluded_by;              /* CAs whose nameConstraints its name breaks */
	TrustResult flaw;                    /* what is wrong with it under any CA; TRUST_OK when nothing */
	bool for_clients;                    /* its extended key usage allows client authentication */
	bool constrains_policies;            /* has policyConstraints */
} KnownLeaf;

#define MAX_KNOWN_LEAVES 4096

/* Steps of one search for a path: far above any real list, and an end to a maze of cross-certificates. */
#define MAX_PATH_STEPS 256

static TrustList current;
static bool current_valid = false;
static Oid current_relation = InvalidOid;
static uint64 invalidations = 0;
static MemoryContext list_context = NULL;
static MemoryContext leaf_context = NULL;
static HTAB *known_leaves = NULL;

/* ---------- reading the list ---------- */

static void
forget_list(Datum arg, Oid relid)
{
	if (relid == current_relation || !OidIsValid(relid))
		invalidations++;
}

/* Added to the time of any CRL it is within the range of timestamptz. */
#define LONGEST_INTERVAL (10000 * INT64CONST(366) * USECS_PER_DAY)

/* In microseconds, of which an interval can have more than fit, infinity among them; 0 for NULL. */
static int64
interval_column(TupleTableSlot *slot, TupleDesc desc, const char *name)
{
	bool isnull;
	Datum value = cmblock_slot_column(slot, desc, name, &isnull);
	Interval *interval = DatumGetIntervalP(value);
	int64 sum;

	if (isnull)
		return 0;
	if (pg_mul_s64_overflow(interval->day + interval->month * (int64) DAYS_PER_MONTH, USECS_PER_DAY, &sum) ||
		pg_add_s64_overflow(sum, interval->time, &sum))
		return LONGEST_INTERVAL;
	return Min(sum, LONGEST_INTERVAL);
}

static void
read_expectations(TupleTableSlot *slot, TupleDesc desc, CrlExpectations *crls)
{
	bool isnull;

	crls->base_grace = interval_column(slot, desc, "base_grace");
	crls->delta_grace = interval_column(slot, desc, "delta_grace");
	crls->max_age = interval_column(slot, desc, "max_age");
	crls->key_policy = cmblock_enum_value(
		ENUM_CRL_KEY_POLICY, DatumGetObjectId(cmblock_slot_column(slot, desc, "key_policy", &isnull)));
	crls->delta_policy = cmblock_enum_value(
		ENUM_DELTA_POLICY, DatumGetObjectId(cmblock_slot_column(slot, desc, "delta_policy", &isnull)));
	crls->allow_sha1 = DatumGetBool(cmblock_slot_column(slot, desc, "allow_sha1", &isnull));
	crls->require_number = DatumGetBool(cmblock_slot_column(slot, desc, "require_number", &isnull));
}

/* szOID_CERTSRV_CA_VERSION */
static bool
has_ca_version(X509 *certificate)
{
	ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.4.1.311.21.1", 1);
	bool found = oid != NULL && X509_get_ext_by_OBJ(certificate, oid, -1) >= 0;

	ASN1_OBJECT_free(oid);
	return found;
}

/* One row of certificate_authority. False when its certificate cannot be read: somebody wrote the table by hand. */
static bool
read_authority(TupleTableSlot *slot, TupleDesc desc, Authority *a)
{
	CertificateProblem problem;
	CertificateFacts *facts;
	bytea *der;
	bool isnull;

	der = DatumGetByteaPP(cmblock_slot_column(slot, desc, "der", &isnull));
	facts = cmblock_read_certificate(der, &problem);
	if (facts == NULL)
	{
		ereport(WARNING, errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("a row of cmblock.certificate_authority holds no certificate and is ignored"),
				errdetail("%s", problem.detail),
				errhint("Add the CA again with cmblock.add_certificate_authority."));
		return false;
	}
	memset(a, 0, sizeof(*a));
	memcpy(a->sha256, facts->sha256, SHA256_OCTETS);
	memcpy(a->sha1, facts->sha1, SHA1_OCTETS);
	a->subject = facts->subject;
	a->serial = facts->serial;
	a->not_before = facts->not_before;
	a->not_after = facts->not_after;
	a->policy = cmblock_enum_value(ENUM_CRL_POLICY,
								   DatumGetObjectId(cmblock_slot_column(slot, desc, "policy", &isnull)));
	memcpy(a->key_sha256, facts->key_sha256, SHA256_OCTETS);
	read_expectations(slot, desc, &a->crls);
	a->crl_signer = DatumGetBool(cmblock_slot_column(slot, desc, "crl_signer", &isnull));
	a->ca_version = has_ca_version(facts->x509);
	a->is_ca = facts->is_ca;
	a->self_signed = facts->self_signed;
	a->self_issued =
		X509_NAME_cmp(X509_get_subject_name(facts->x509), X509_get_issuer_name(facts->x509)) == 0;
	a->path_length = (int) X509_get_pathlen(facts->x509);
	a->constrains_names = X509_get_ext_by_NID(facts->x509, NID_name_constraints, -1) >= 0;
	a->constrains_policies = X509_get_ext_by_NID(facts->x509, NID_policy_constraints, -1) >= 0;
	a->x509 = facts->x509;
	return true;
}

/* Newest first, so that of several paths the one that lasts longest is tried first; then by thumbprint. */
static int
compare_authorities(const void *left, const void *right)
{
	const Authority *a = left;
	const Authority *b = right;

	if (a->not_after != b->not_after)
		return a->not_after > b->not_after ? -1 : 1;
	return memcmp(a->sha256, b->sha256, SHA256_OCTETS);
}

static void
read_rows(TrustList *list)
{
	Relation relation = table_open(current_relation, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(cmblock_newest_snapshot());
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	TableScanDesc scan = table_beginscan(relation, snapshot, 0, NULL);
	int room = 16;

	list->authority = palloc(room * sizeof(Authority));
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		cmblock_digest_row(slot, list->digest);
		if (list->count == room)
		{
			room *= 2;
			list->authority = repalloc(list->authority, room * sizeof(Authority));
		}
		if (read_authority(slot, RelationGetDescr(relation), &list->authority[list->count]))
			list->count++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
	qsort(list->authority, list->count, sizeof(Authority), compare_authorities);
}

/* ---------- who signed whom ---------- */

static bool
signed_by(X509 *certificate, X509 *issuer)
{
	EVP_PKEY *key = X509_get0_pubkey(issuer);
	bool yes = key != NULL && X509_verify(certificate, key) == 1;

	ERR_clear_error();
	return yes;
}

/* Places of the CAs whose nameConstraints the certificate's names break; what cannot be judged counts as broken. */
static Bitmapset *
find_exclusions(const TrustList *list, X509 *certificate)
{
	Bitmapset *excluded_by = NULL;

	for (int i = 0; i < list->count; i++)
	{
		NAME_CONSTRAINTS *constraints;
		bool kept;

		if (!list->authority[i].constrains_names)
			continue;
		constraints = X509_get_ext_d2i(list->authority[i].x509, NID_name_constraints, NULL, NULL);
		kept = constraints != NULL && NAME_CONSTRAINTS_check(certificate, constraints) == X509_V_OK;
		NAME_CONSTRAINTS_free(constraints);
		ERR_clear_error();
		if (!kept)
			excluded_by = bms_add_member(excluded_by, i);
	}
	return excluded_by;
}

/*
 * Places of the CAs that signed the certificate. named says whether at least one had the right name.
 * X509_check_issued compares names, key identifiers and keyUsage; the signature is ours to verify.
 */
static Bitmapset *
find_issuers(const TrustList *list, X509 *certificate, bool *named)
{
	Bitmapset *issuers = NULL;

	*named = false;
	for (int i = 0; i < list->count; i++)
	{
		X509 *issuer = list->authority[i].x509;

		if (list->authority[i].crl_signer ||
			X509_NAME_cmp(X509_get_subject_name(issuer), X509_get_issuer_name(certificate)) != 0)
			continue;
		*named = true;
		if (X509_check_issued(issuer, certificate) == X509_V_OK && signed_by(certificate, issuer))
			issuers = bms_add_member(issuers, i);
	}
	return issuers;
}

/* Can OpenSSL check such a signature of the key, and may it by its configuration? Else a failure says nothing. */
static bool
can_verify(X509 *certificate, EVP_PKEY *key)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int digest;
	bool yes = context && X509_get_signature_info(certificate, &digest, NULL, NULL, NULL) == 1 &&
			   EVP_DigestVerifyInit(context, NULL, EVP_get_digestbynid(digest), NULL, key) == 1;

	EVP_MD_CTX_free(context);
	return yes;
}

/*
 * For a certificate that no CA of the list signed: the one that it says did. Without a key identifier it can as well have been
 * an older key of that CA.
 */
static const Authority *
find_false_issuer(const TrustList *list, X509 *certificate)
{
	const Authority *found = NULL;

	if (X509_get0_authority_key_id(certificate) == NULL)
		return NULL;
	for (int i = 0; i < list->count && !found; i++)
	{
		const Authority *a = &list->authority[i];
		EVP_PKEY *key = X509_get0_pubkey(a->x509);

		if (!a->crl_signer && key && X509_get0_subject_key_id(a->x509) &&
			X509_check_issued(a->x509, certificate) == X509_V_OK && can_verify(certificate, key))
			found = a;
	}
	ERR_clear_error();
	return found;
}

const Authority *
cmblock_false_issuer(X509 *certificate)
{
	const TrustList *list = cmblock_trust_list();
	bool named;

	return find_issuers(list, certificate, &named) ? NULL : find_false_issuer(list, certificate);
}

static void
link_authorities(TrustList *list)
{
	for (int i = 0; i < list->count; i++)
	{
		Authority *a = &list->authority[i];
		bool named;

		CHECK_FOR_INTERRUPTS();
		if (!a->self_signed)
		{
			a->parents = find_issuers(list, a->x509, &named);
			a->damaged = !a->parents && find_false_issuer(list, a->x509);
		}
		a->excluded_by = find_exclusions(list, a->x509);
	}
}

/* ---------- keeping the list ---------- */

static void
forget_leaves(void)
{
	known_leaves = NULL;
	if (leaf_context)
		MemoryContextReset(leaf_context);
	else
		leaf_context =
			AllocSetContextCreate(CacheMemoryContext, "cmblock known certificates", ALLOCSET_DEFAULT_SIZES);
}

/* Reads the list into a context of its own; on an error that goes away with the caller's, and nothing was changed. */
static void
load_list(void)
{
	static bool callback_registered = false;
	TrustList next = {0};
	MemoryContext context;
	MemoryContext caller;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(forget_list, (Datum) 0);
		callback_registered = true;
	}
	current_valid = false;
	current_relation = cmblock_relation(REL_CERTIFICATE_AUTHORITY);
	/* Taken before the rows are read: an invalidation that arrives meanwhile must win. */
	next.generation = invalidations;

	context = AllocSetContextCreate(CurrentMemoryContext, "cmblock trust list", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	read_rows(&next);
	link_authorities(&next);
	MemoryContextSwitchTo(caller);

	forget_leaves();
	if (list_context)
		MemoryContextDelete(list_context);
	MemoryContextSetParent(context, CacheMemoryContext);
	list_context = context;
	current = next;
	current_valid = true;
}

const TrustList *
cmblock_trust_list(void)
{
	AcceptInvalidationMessages();
	if (!current_valid || current.generation != invalidations ||
		current_relation != cmblock_relation(REL_CERTIFICATE_AUTHORITY))
		load_list();
	return &current;
}

const TrustList *
cmblock_current_trust_list(void)
{
	return &current;
}

/* ---------- certificates ---------- */

/* What is wrong with the certificate itself, under whatever CA. */
static TrustResult
find_flaw(X509 *certificate)
{
	int digest = NID_undef;

	if (X509_get_signature_info(certificate, &digest, NULL, NULL, NULL) != 1 || digest == NID_md5 ||
		digest == NID_md4 || digest == NID_md2 || digest == NID_md5_sha1)
		return TRUST_BROKEN_DIGEST;
	if (X509_get_extension_flags(certificate) & EXFLAG_CRITICAL)
		return TRUST_UNKNOWN_CRITICAL;
	return digest == NID_sha1 ? TRUST_SHA1 : TRUST_OK;
}

static HTAB *
leaf_table(void)
{
	HASHCTL control = {.keysize = SHA256_OCTETS, .entrysize = sizeof(KnownLeaf), .hcxt = leaf_context};

	if (known_leaves && hash_get_num_entries(known_leaves) >= MAX_KNOWN_LEAVES)
		forget_leaves();
	if (!known_leaves)
		known_leaves =
			hash_create("cmblock known certificates", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return known_leaves;
}

/*
 * That a CA's key verified a signature is true for good, whatever becomes of the rows, so what was found out is kept in
 * shared memory for all sessions, also on a standby: in the usual case, that nothing is wrong and one CA signed it. The number
 * is that CA's place in the list, which the list's digest fixes; no number, 0, is for all other cases.
 */
static uint64
list_hash(const TrustList *list)
{
	return cmblock_cache_hash(list->digest, sizeof(list->digest));
}

static void
recall(const TrustList *list, const unsigned char *sha256)
{
	KnownLeaf found = {.flaw = TRUST_OK, .for_clients = true};
	uint32 memo = cmblock_cache_exists() ? cmblock_cache_find_memo(sha256, list_hash(list)) : 0;
	MemoryContext caller;

	if (memo == 0 || memo > list->count)
		return;
	caller = MemoryContextSwitchTo(leaf_context);
	memcpy(found.sha256, sha256, SHA256_OCTETS);
	found.issuers = bms_make_singleton((int) memo - 1);
	*(KnownLeaf *) hash_search(known_leaves, sha256, HASH_ENTER, NULL) = found;
	MemoryContextSwitchTo(caller);
}

static void
share(const TrustList *list, const KnownLeaf *leaf)
{
	int place;

	if (cmblock_cache_exists() && leaf->flaw == TRUST_OK && leaf->for_clients && !leaf->excluded_by &&
		!leaf->constrains_policies && bms_get_singleton_member(leaf->issuers, &place))
		cmblock_cache_put_memo(leaf->sha256, list_hash(list), (uint32) place + 1);
}

/* The certificate's entry, made on first sight; NULL when it cannot be read. */
static const KnownLeaf *
know_leaf(const TrustList *list, const Leaf *leaf)
{
	KnownLeaf found;
	KnownLeaf *entry;
	X509 *certificate;
	bool named;
	MemoryContext caller;

	entry = hash_search(leaf_table(), leaf->sha256, HASH_FIND, NULL);
	if (entry)
		return entry;
	recall(list, leaf->sha256);
	entry = hash_search(leaf_table(), leaf->sha256, HASH_FIND, NULL);
	if (entry)
		return entry;
	certificate = leaf->read(leaf->arg);
	if (certificate == NULL)
		return NULL;

	/* Worked out before the entry exists, so that an error leaves none half made. */
	caller = MemoryContextSwitchTo(leaf_context);
	memcpy(found.sha256, leaf->sha256, SHA256_OCTETS);
	ERR_clear_error();
	found.flaw = find_flaw(certificate);
	/* No extended key usage at all reads as all bits set. */
	found.for_clients = X509_get_extended_key_usage(certificate) & (XKU_SSL_CLIENT | XKU_ANYEKU);
	found.constrains_policies = X509_get_ext_by_NID(certificate, NID_policy_constraints, -1) >= 0;
	found.issuers = find_issuers(list, certificate, &named);
	found.excluded_by = found.issuers ? find_exclusions(list, certificate) : NULL;
	ERR_clear_error();
	if (!found.issuers)
		found.flaw = named ? TRUST_BAD_SIGNATURE : TRUST_NO_ISSUER;
	entry = hash_search(known_leaves, leaf->sha256, HASH_ENTER, NULL);
	*entry = found;
	MemoryContextSwitchTo(caller);
	share(list, entry);
	return entry;
}

/* ---------- the path ---------- */

typedef struct PathSearch
{
	const TrustList *list;
	const KnownLeaf *leaf;
	const Leaf *certificate; /* of which the path is, or ... */
	X509 *x509;              /* ... that of a signer of CRLs */
	TimestampTz at;
	const Authority *anchor; /* where the path must end; NULL: at any anchor */
	TrustChain *chain;
	TrustResult problem;
	int steps;
	int skip; /* so many paths */
} PathSearch;

/* May this CA stand where it stands: above the certificate and the CAs already in the chain? */
static TrustResult
judge_authority(const PathSearch *search, int place)
{
	const Authority *a = &search->list->authority[place];
	int intermediates = 0;

	if (cmblock_is_before(search->at, a->not_before, &search->chain->span) ||
		cmblock_is_after(search->at, a->not_after, &search->chain->span))
		return TRUST_CA_NOT_VALID;
	if (a->damaged)
		return TRUST_CA_DAMAGED;
	/* RFC 5280 6.1.4 (k). An anchor is a CA because it is in the list, and another key of a CA is of the same CA. */
	if (!a->is_ca && !a->self_issued && !bms_is_empty(a->parents))
		return TRUST_NO_CA;
	if (bms_is_member(place, search->leaf->excluded_by))
		return TRUST_CONSTRAINTS;
	for (int i = 0; i < search->chain->length; i++)
	{
		const Authority *below = search->chain->ca[i];

		if (below == a)
			return TRUST_CONSTRAINTS;
		if (below->self_issued)
			continue;
		intermediates++;
		if (bms_is_member(place, below->excluded_by))
			return TRUST_CONSTRAINTS;
	}
	if (a->path_length >= 0 && intermediates > a->path_length)
		return TRUST_CONSTRAINTS;
	return TRUST_OK;
}

/*
 * Certificate policies (RFC 5280 6.1): they count where a certificate of the path, other than the anchor's, wants that
 * one be valid for all of the path. Any policy will do.
 */
static bool
has_valid_policy(PathSearch *search)
{
	const TrustChain *chain = search->chain;
	bool wanted = search->leaf->constrains_policies;
	STACK_OF(X509) * path;
	STACK_OF(ASN1_OBJECT) * any;
	X509_POLICY_TREE *tree = NULL;
	int explicit_policy;
	bool valid;

	for (int i = 0; i < chain->length - 1; i++)
		wanted |= chain->ca[i]->constrains_policies;
	if (!wanted)
		return true;
	if (search->x509 == NULL)
		search->x509 = search->certificate->read(search->certificate->arg);
	path = sk_X509_new_null();
	any = sk_ASN1_OBJECT_new_null();
	valid = search->x509 && path && sk_X509_push(path, search->x509) > 0 && any &&
			sk_ASN1_OBJECT_push(any, OBJ_nid2obj(NID_any_policy)) > 0;
	for (int i = 0; valid && i < chain->length; i++)
		valid = sk_X509_push(path, chain->ca[i]->x509) > 0;
	valid = valid && X509_policy_check(&tree, &explicit_policy, path, any, 0) == X509_PCY_TREE_VALID;
	X509_policy_tree_free(tree);
	sk_ASN1_OBJECT_free(any);
	sk_X509_free(path);
	ERR_clear_error();
	return valid;
}

/* Is this path complete, and good as a whole? */
static bool
is_path(PathSearch *search, const Authority *last)
{
	if (search->anchor != NULL && search->anchor != last)
		return false;
	if (has_valid_policy(search))
		return search->skip-- == 0;
	search->problem = TRUST_POLICIES;
	return false;
}

/* Goes up through one of these CAs to an anchor. */
static bool
climb(PathSearch *search, Bitmapset *candidates)
{
	int place = -1;

	while ((place = bms_next_member(candidates, place)) >= 0)
	{
		const Authority *a = &search->list->authority[place];
		TrustResult judged = judge_authority(search, place);

		if (judged == TRUST_OK && (search->chain->length == MAX_CHAIN || ++search->steps > MAX_PATH_STEPS))
			judged = TRUST_CONSTRAINTS;
		if (judged != TRUST_OK)
		{
			search->problem = judged;
			continue;
		}
		search->chain->ca[search->chain->length++] = a;
		if (bms_is_empty(a->parents) ? is_path(search, a) : climb(search, a->parents))
			return true;
		search->chain->length--;
	}
	return false;
}

static TrustResult
find_chain(const Leaf *leaf, TimestampTz at, bool for_clients, TrustChain *chain)
{
	const TrustList *list = cmblock_trust_list();
	PathSearch search = {
		.list = list, .certificate = leaf, .at = at, .chain = chain, .problem = TRUST_NO_ISSUER};

	chain->length = 0;
	chain->span = ALL_TIMES;
	if (list->count == 0)
		return TRUST_LIST_EMPTY;
	search.leaf = know_leaf(list, leaf);
	if (search.leaf == NULL)
		return TRUST_UNREADABLE;
	if (search.leaf->flaw != TRUST_OK && !(search.leaf->flaw == TRUST_SHA1 && cmblock_allow_sha1))
		return search.leaf->flaw;
	if (for_clients && !search.leaf->for_clients)
		return TRUST_NOT_FOR_CLIENTS;
	return climb(&search, search.leaf->issuers) ? TRUST_OK : search.problem;
}

TrustResult
cmblock_trust(const Leaf *leaf, TimestampTz at, TrustChain *chain)
{
	return find_chain(leaf, at, true, chain);
}

TrustResult
cmblock_trust_any_use(const Leaf *leaf, TimestampTz at, TrustChain *chain)
{
	return find_chain(leaf, at, false, chain);
}

bool
cmblock_trust_other_path(const Leaf *leaf, TimestampTz at, int number, TrustChain *chain)
{
	PathSearch search = {
		.list = &current, .leaf = know_leaf(&current, leaf), .certificate = leaf, .at = at, .chain = chain};

	chain->length = 0;
	chain->span = ALL_TIMES;
	search.skip = number;
	return search.leaf && climb(&search, search.leaf->issuers);
}

bool
cmblock_trust_authority(const Authority *authority, const Authority *anchor, TimestampTz at,
						TrustChain *chain)
{
	KnownLeaf below = {.issuers = authority->parents,
					   .excluded_by = authority->excluded_by,
					   .constrains_policies = authority->constrains_policies};
	PathSearch search = {.list = &current,
						 .leaf = &below,
						 .x509 = authority->x509,
						 .at = at,
						 .chain = chain,
						 .anchor = anchor};

	chain->length = 0;
	chain->span = ALL_TIMES;
	if (cmblock_is_before(at, authority->not_before, &chain->span) ||
		cmblock_is_after(at, authority->not_after, &chain->span))
		return false;
	return authority == anchor || climb(&search, authority->parents);
}

const Authority *
cmblock_find_authority(const unsigned char *thumbprint, int length)
{
	const TrustList *list = cmblock_trust_list();

	for (int i = 0; i < list->count; i++)
	{
		const Authority *a = &list->authority[i];

		if (memcmp(length == SHA1_OCTETS ? a->sha1 : a->sha256, thumbprint, length) == 0)
			return a;
	}
	return NULL;
}

const char *
cmblock_trust_sentence(TrustResult result)
{
	switch (result)
	{
		case TRUST_OK:
			return "It is signed by a CA of the trust list.";
		case TRUST_LIST_EMPTY:
			return "The trust list of this site is empty.";
		case TRUST_UNREADABLE:
			return "The certificate that is held for it cannot be read.";
		case TRUST_NO_ISSUER:
			return "No CA of the trust list has the name of its issuer.";
		case TRUST_BAD_SIGNATURE:
			return "A CA of the trust list has the name of its issuer, but did not sign it with its key, or "
				   "may not sign certificates.";
		case TRUST_BROKEN_DIGEST:
			return "It is signed with MD5 or with an algorithm that is not known.";
		case TRUST_SHA1:
			return "It is signed with SHA-1, which cmblock.allow_sha1 does not allow.";
		case TRUST_UNKNOWN_CRITICAL:
			return "It has a critical extension that is not known.";
		case TRUST_NOT_FOR_CLIENTS:
			return "Its extended key usage does not allow client authentication.";
		case TRUST_CA_NOT_VALID:
			return "A CA above it is not in its validity.";
		case TRUST_CA_DAMAGED:
			return "A CA above it names a CA of the trust list as its issuer, and the signature was not made "
				   "with that CA's key.";
		case TRUST_NO_CA:
			return "A certificate above it does not say that it is a CA, and is no root.";
		case TRUST_POLICIES:
			return "A CA above it wants a certificate policy that is valid for all of the path, and there is "
				   "none.";
		case TRUST_CONSTRAINTS:
			return "A CA above it does not allow it: path length, name constraints or depth.";
	}
	return "";
}
