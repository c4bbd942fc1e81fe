/*
 * decision.c
 *		May this request be served? One evaluation, whose findings answer check_access, is_allowed and explain_access.
 *
 * Every step is asked, also after one refused, because an administrator who lifts one hindrance wants to know of the
 * next. What the steps need is looked up once, at the start, and with one snapshot: the newest there is, so a block
 * is seen by every decision that begins after its COMMIT, whatever the isolation level, and so are changes of the
 * own transaction. Nothing is written and no row is locked, so decisions run on a hot standby and in parallel
 * workers.
 *
 * The request comes from a stranger. Nothing in it raises an error: octets that are no certificate are a reason
 * to refuse like any other. What cannot be found out refuses.
 *
 * Who is asking. A request may name a client (its smsid), show a certificate, or both. A registered certificate
 * speaks for the client it was registered for; one of boot media or of a distribution point stands for machines that
 * are no clients yet, and that of an ISV proxy for the clients that were registered as reached through one.
 *
 * A certificate that nobody registered is the weak spot. It is let in when a CA of the trust list signed it and
 * the request names a client that is known, because clients renew their certificates before they
 * register the new one; the warning certificate_unregistered says so. So that a renewed or re-encoded certificate does
 * not get past a block, it is compared with the registered ones by its public key: the block of a certificate
 * with that key, and of the client that has it, count. An ECDSA signature can be rewritten by anybody without the
 * key into another valid one, which gives the same certificate another thumbprint; the key finds that, too.
 *
 * Registration is how an unknown client becomes known, so it may be unknown, deleted or not approved; but never
 * blocked, and over HTTPS an unknown client needs a certificate of the trust list.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "decision.h"
#include "records.h"
#include "revocation.h"
#include "scan.h"
#include "settings.h"
#include "site.h"
#include "stranger.h"
#include "trust.h"
#include "x509.h"

/* ---------- vocabulary ---------- */

static const char *const reason_names[] = {
	[REASON_NONE] = NULL,
	[REASON_SITE_NOT_SET_UP] = "site_not_set_up",
	[REASON_NO_IDENTITY] = "no_identity",
	[REASON_CLIENT_UNKNOWN] = "client_unknown",
	[REASON_CLIENT_DELETED] = "client_deleted",
	[REASON_CERTIFICATE_UNKNOWN] = "certificate_unknown",
	[REASON_CERTIFICATE_DELETED] = "certificate_deleted",
	[REASON_CERTIFICATE_OF_ANOTHER_CLIENT] = "certificate_of_another_client",
	[REASON_CERTIFICATE_UNREGISTERED] = "certificate_unregistered",
	[REASON_CERTIFICATE_MALFORMED] = "certificate_malformed",
	[REASON_CERTIFICATE_NOT_YET_VALID] = "certificate_not_yet_valid",
	[REASON_CERTIFICATE_EXPIRED] = "certificate_expired",
	[REASON_CERTIFICATE_UNTRUSTED] = "certificate_untrusted",
	[REASON_CERTIFICATE_REVOKED] = "certificate_revoked",
	[REASON_CRL_UNAVAILABLE] = "crl_unavailable",
	[REASON_CERTIFICATE_BLOCKED] = "certificate_blocked",
	[REASON_CLIENT_BLOCKED] = "client_blocked",
	[REASON_HARDWARE_BLOCKED] = "hardware_blocked",
	[REASON_NOT_APPROVED] = "not_approved",
};

static const char *const step_questions[] = {
	[STEP_SITE] = "Is this database a site?",
	[STEP_KNOWN] = "Is the requester known here?",
	[STEP_FORM] = "Is the certificate well formed?",
	[STEP_VALIDITY] = "Is the certificate within its validity?",
	[STEP_TRUST] = "Is the certificate signed by a CA of the trust list?",
	[STEP_REVOCATION] = "Are the certificate and the CAs above it free of revocation?",
	[STEP_CERTIFICATE_BLOCK] = "Is the certificate free of a block?",
	[STEP_CLIENT_BLOCK] = "Is the client free of a block?",
	[STEP_HARDWARE] = "Is the hardware free of a block?",
	[STEP_APPROVAL] = "Is the client approved?",
};

static const char *const answer_names[] = {
	[ANSWER_PASSED] = "passed",
	[ANSWER_NOTED] = "noted",
	[ANSWER_SKIPPED] = "skipped",
	[ANSWER_REFUSED] = "refused",
};

const char *
cmblock_reason_name(Reason reason)
{
	return reason_names[reason];
}

const char *
cmblock_step_question(Step step)
{
	return step_questions[step];
}

const char *
cmblock_answer_name(StepAnswer answer)
{
	return answer_names[answer];
}

/* ---------- the evaluation ---------- */

typedef enum CertificateForm
{
	FORM_NONE,       /* no certificate in the request */
	FORM_MALFORMED,  /* octets that are none */
	FORM_THUMBPRINT, /* a thumbprint that nobody registered */
	FORM_AMBIGUOUS,  /* a SHA-1 that several registered certificates have */
	FORM_REGISTERED, /* found among the registered ones: `certificate` is its row */
	FORM_STRANGE     /* well formed, not registered: `facts` are its own */
} CertificateForm;

typedef struct Evaluation
{
	const AccessRequest *request;
	AccessDecision *decision;
	Wordiness words;
	Snapshot snapshot;
	bool registering;

	bool claimed_known; /* the client that the request names */
	ClientRecord claimed;

	CertificateForm form;
	CertificateProblem problem;    /* FORM_MALFORMED */
	CertificateRecord certificate; /* FORM_REGISTERED */
	const CertificateFacts *facts; /* FORM_STRANGE */
	const bytea *der;              /* the same */
	List *kin;                     /* FORM_STRANGE: registered certificates with its key */

	bool owner_known; /* the client that the registered certificate is of */
	ClientRecord owner;

	bool chained;
	TrustChain chain;
} Evaluation;

static void
find(Evaluation *e, Step step, StepAnswer answer, Reason reason, char *detail)
{
	AccessDecision *d = e->decision;

	if (d->count == MAX_FINDINGS)
		elog(ERROR, "a decision has more than %d findings", MAX_FINDINGS);
	d->finding[d->count++] = (Finding){.step = step, .answer = answer, .reason = reason, .detail = detail};
}

/* Details are only written for those who asked for them: is_allowed has no use for words. */
#define DETAIL(e, least, ...) ((e)->words >= (least) ? psprintf(__VA_ARGS__) : NULL)
#define PASS(e, step, ...) find(e, step, ANSWER_PASSED, REASON_NONE, DETAIL(e, WORDS_ALL, __VA_ARGS__))
#define SKIP(e, step, ...) find(e, step, ANSWER_SKIPPED, REASON_NONE, DETAIL(e, WORDS_ALL, __VA_ARGS__))
#define NOTE(e, step, reason, ...) find(e, step, ANSWER_NOTED, reason, DETAIL(e, WORDS_ALL, __VA_ARGS__))
#define REFUSE(e, step, reason, ...)                                                                         \
	find(e, step, ANSWER_REFUSED, reason, DETAIL(e, WORDS_REFUSALS, __VA_ARGS__))

static char *
time_text(TimestampTz time)
{
	return pstrdup(timestamptz_to_str(time));
}

static bool
same_client(const Smsid *a, const Smsid *b)
{
	return memcmp(a, b, SMSID_OCTETS) == 0;
}

/* Has the step said anything yet? */
static bool
has_finding(const Evaluation *e, Step step)
{
	return e->decision->count > 0 && e->decision->finding[e->decision->count - 1].step == step;
}

static bool
has_certificate(const Evaluation *e)
{
	return e->form == FORM_REGISTERED || e->form == FORM_STRANGE;
}

/* Boot media and distribution points: every machine booted from them shows the same certificate. */
static bool
stands_for_machines(const Evaluation *e)
{
	return e->form == FORM_REGISTERED && (e->certificate.type == CERTIFICATE_BOOT_MEDIA ||
										  e->certificate.type == CERTIFICATE_DISTRIBUTION_POINT);
}

/* The client that is asking, or NULL when it is not known. */
static const ClientRecord *
requester(const Evaluation *e)
{
	if (e->request->client)
		return e->claimed_known ? &e->claimed : NULL;
	return e->owner_known ? &e->owner : NULL;
}

/* Who blocked it, why, and who can lift it: what an administrator has to know. */
static char *
block_text(const BlockState *block, SiteCode site, const char *command)
{
	return psprintf("Blocked by %s at %s%s%s%s%s. Site %s can lift it with cmblock.%s.",
					block->changed_by ? block->changed_by : "an unknown role", time_text(block->changed_at),
					block->reason ? ", reason: " : "", block->reason ? block->reason : "",
					block->ticket ? ", ticket: " : "", block->ticket ? block->ticket : "",
					cmblock_site_code_string(site), command);
}

/* ---------- looking up ---------- */

static void
look_up_thumbprint(Evaluation *e, const unsigned char *octets, int length)
{
	int found = cmblock_find_certificate(e->snapshot, octets, length, &e->certificate, NULL);

	e->form = found == 1 ? FORM_REGISTERED : found == 0 ? FORM_THUMBPRINT : FORM_AMBIGUOUS;
}

static void
look_up_octets(Evaluation *e, const bytea *input)
{
	const bytea *der = cmblock_certificate_der(input, &e->problem);
	unsigned char sha256[SHA256_OCTETS];

	e->form = FORM_MALFORMED;
	if (der == NULL)
		return;
	/* The octets of a registered certificate were parsed when it was registered. */
	cmblock_sha256(VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der), sha256);
	if (cmblock_find_certificate(e->snapshot, sha256, SHA256_OCTETS, &e->certificate, NULL) > 0)
	{
		e->form = FORM_REGISTERED;
		return;
	}
	e->der = der;
	e->facts = cmblock_stranger(der, sha256, &e->problem);
	if (e->facts == NULL)
		return;
	e->form = FORM_STRANGE;
	e->kin = cmblock_find_certificates_by_key(e->snapshot, e->facts->key_sha256);
}

static void
look_up_certificate(Evaluation *e)
{
	bytea *input;
	int length;

	if (!e->request->has_certificate)
		return;
	input = cmblock_bounded_argument(e->request->certificate);
	if (input == NULL)
	{
		e->form = FORM_MALFORMED;
		e->problem.detail = psprintf("It has more than %d octets.", MAX_CERTIFICATE_OCTETS);
		return;
	}
	length = VARSIZE_ANY_EXHDR(input);
	if (length == SHA1_OCTETS || length == SHA256_OCTETS)
		look_up_thumbprint(e, (const unsigned char *) VARDATA_ANY(input), length);
	else
		look_up_octets(e, input);
}

static void
look_up(Evaluation *e)
{
	const Smsid *client = e->request->client;

	if (client)
		e->claimed_known = cmblock_find_client(e->snapshot, client, &e->claimed);
	look_up_certificate(e);
	if (e->form == FORM_REGISTERED && e->certificate.has_client)
	{
		if (client && same_client(client, &e->certificate.client))
		{
			e->owner_known = e->claimed_known;
			e->owner = e->claimed;
		}
		else
			e->owner_known = cmblock_find_client(e->snapshot, &e->certificate.client, &e->owner);
	}
}

/* ---------- known to this site ---------- */

static void
judge_known_client(Evaluation *e, const Smsid *smsid, const ClientRecord *client)
{
	bool may_be_new = e->registering || stands_for_machines(e);

	if (client && !client->deleted)
		return;
	if (client && may_be_new)
		NOTE(e, STEP_KNOWN, REASON_CLIENT_DELETED,
			 "Client %s was deleted here and may come back by registering.", cmblock_smsid_string(smsid));
	else if (client)
		REFUSE(e, STEP_KNOWN, REASON_CLIENT_DELETED, "Client %s was deleted. It has to register again.",
			   cmblock_smsid_string(smsid));
	else if (e->registering && e->request->transport == TRANSPORT_HTTPS && e->form == FORM_NONE)
		REFUSE(e, STEP_KNOWN, REASON_CLIENT_UNKNOWN,
			   "Client %s is not registered, and registers over HTTPS only with a certificate.",
			   cmblock_smsid_string(smsid));
	else if (!may_be_new)
		REFUSE(e, STEP_KNOWN, REASON_CLIENT_UNKNOWN,
			   "Client %s is not registered at any site that this one knows of.",
			   cmblock_smsid_string(smsid));
}

static void
judge_registered_certificate(Evaluation *e)
{
	const CertificateRecord *certificate = &e->certificate;
	const Smsid *claimed = e->request->client;

	if (certificate->deleted && e->registering)
		NOTE(e, STEP_KNOWN, REASON_CERTIFICATE_DELETED,
			 "The certificate was deleted here and may be registered again.");
	else if (certificate->deleted)
		REFUSE(e, STEP_KNOWN, REASON_CERTIFICATE_DELETED,
			   "The certificate was deleted. It has to be registered again.");

	if (certificate->has_client && claimed && !same_client(claimed, &certificate->client))
		REFUSE(e, STEP_KNOWN, REASON_CERTIFICATE_OF_ANOTHER_CLIENT,
			   "The request names client %s, but the certificate is registered for client %s.",
			   cmblock_smsid_string(claimed), cmblock_smsid_string(&certificate->client));
	if (certificate->has_client && !claimed)
		judge_known_client(e, &certificate->client, requester(e));
	if (certificate->type == CERTIFICATE_ISV_PROXY && e->claimed_known && !e->claimed.isv_proxied)
		REFUSE(e, STEP_KNOWN, REASON_CERTIFICATE_OF_ANOTHER_CLIENT,
			   "The certificate is that of an ISV proxy, and client %s is not registered as reached through "
			   "one.",
			   cmblock_smsid_string(claimed));
}

/* A live client other than the one named that has a certificate with the same key, or NULL. */
static const Smsid *
other_client_with_key(const Evaluation *e)
{
	ListCell *cell;

	foreach (cell, e->kin)
	{
		const CertificateRecord *kin = lfirst(cell);

		if (kin->has_client && !kin->deleted && !same_client(&kin->client, e->request->client))
			return &kin->client;
	}
	return NULL;
}

static void
judge_strange_certificate(Evaluation *e)
{
	const Smsid *other = e->request->client ? other_client_with_key(e) : NULL;

	if (other)
		REFUSE(e, STEP_KNOWN, REASON_CERTIFICATE_OF_ANOTHER_CLIENT,
			   "The request names client %s, but a certificate with this key is registered for client %s.",
			   cmblock_smsid_string(e->request->client), cmblock_smsid_string(other));
	else if (e->registering)
		return;
	else if (!e->request->client)
		REFUSE(e, STEP_KNOWN, REASON_CERTIFICATE_UNKNOWN,
			   "No such certificate is registered, and the request names no client.");
	else if (e->claimed_known)
		NOTE(
			e, STEP_KNOWN, REASON_CERTIFICATE_UNREGISTERED,
			"The certificate is not registered for client %s. Register it with cmblock.register_certificate.",
			cmblock_smsid_string(e->request->client));
}

static void
step_known(Evaluation *e)
{
	if (!e->request->client && e->form == FORM_NONE)
	{
		REFUSE(e, STEP_KNOWN, REASON_NO_IDENTITY, "The request names no client and shows no certificate.");
		return;
	}
	if (e->request->client)
		judge_known_client(e, e->request->client, requester(e));
	if (e->form == FORM_REGISTERED)
		judge_registered_certificate(e);
	else if (e->form == FORM_STRANGE)
		judge_strange_certificate(e);
	else if (e->form == FORM_THUMBPRINT)
		REFUSE(e, STEP_KNOWN, REASON_CERTIFICATE_UNKNOWN,
			   "No certificate with this thumbprint is registered.");
	else if (e->form == FORM_AMBIGUOUS)
		REFUSE(e, STEP_KNOWN, REASON_CERTIFICATE_UNKNOWN,
			   "More than one registered certificate has this SHA-1 thumbprint. Ask by SHA-256.");
	if (has_finding(e, STEP_KNOWN))
		return;
	if (requester(e))
		PASS(e, STEP_KNOWN, "Client %s is assigned to site %s.", cmblock_smsid_string(&requester(e)->smsid),
			 cmblock_site_code_string(requester(e)->assigned_site));
	else if (e->form == FORM_REGISTERED)
		PASS(e, STEP_KNOWN, "The certificate is registered, with type %s.",
			 cmblock_enum_label(ENUM_CERTIFICATE_TYPE, e->certificate.type));
	else if (e->form == FORM_MALFORMED && !e->registering)
		SKIP(e, STEP_KNOWN, "The request names no client, and its certificate cannot be read.");
	else
		PASS(e, STEP_KNOWN, "It is not known yet, and asks to be registered.");
}

/* ---------- the certificate: form, validity, trust, revocation ---------- */

static void
step_form(Evaluation *e)
{
	switch (e->form)
	{
		case FORM_NONE:
			SKIP(e, STEP_FORM, "The request shows no certificate.");
			break;
		case FORM_MALFORMED:
			REFUSE(e, STEP_FORM, REASON_CERTIFICATE_MALFORMED, "%s", e->problem.detail);
			break;
		case FORM_THUMBPRINT:
		case FORM_AMBIGUOUS:
			SKIP(e, STEP_FORM, "The request shows a thumbprint, and there is no certificate to it.");
			break;
		case FORM_REGISTERED:
			PASS(e, STEP_FORM, "It was read when it was registered.");
			break;
		case FORM_STRANGE:
			PASS(e, STEP_FORM, "Its subject is \"%s\".", e->facts->subject);
			break;
	}
}

static void
step_validity(Evaluation *e)
{
	TimestampTz not_before;
	TimestampTz not_after;

	if (!has_certificate(e))
	{
		SKIP(e, STEP_VALIDITY, "There is no certificate to look at.");
		return;
	}
	not_before = e->facts ? e->facts->not_before : e->certificate.not_before;
	not_after = e->facts ? e->facts->not_after : e->certificate.not_after;
	if (e->request->at < not_before)
		REFUSE(e, STEP_VALIDITY, REASON_CERTIFICATE_NOT_YET_VALID, "It is valid only from %s on.",
			   time_text(not_before));
	if (e->request->at > not_after)
		REFUSE(e, STEP_VALIDITY, REASON_CERTIFICATE_EXPIRED, "It expired at %s.", time_text(not_after));
	if (!has_finding(e, STEP_VALIDITY))
		PASS(e, STEP_VALIDITY, "It is valid from %s to %s.", time_text(not_before), time_text(not_after));
}

/* Reads the certificate for those who must: see Leaf. */
static X509 *
read_leaf(void *arg)
{
	Evaluation *e = arg;
	const bytea *der = e->der;

	if (e->facts && e->facts->x509)
		return e->facts->x509;
	if (!e->facts)
		der = cmblock_find_certificate_der(e->snapshot, e->certificate.sha256);
	return der ? cmblock_x509((const unsigned char *) VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der)) : NULL;
}

static Leaf
leaf_of(Evaluation *e)
{
	return (Leaf){.sha256 = e->facts ? e->facts->sha256 : e->certificate.sha256,
				  .serial = e->facts ? e->facts->serial : e->certificate.serial,
				  .read = read_leaf,
				  .arg = e};
}

static void
step_trust(Evaluation *e)
{
	Leaf leaf;
	TrustResult result;

	if (!has_certificate(e))
	{
		SKIP(e, STEP_TRUST, "There is no certificate to look at.");
		return;
	}
	leaf = leaf_of(e);
	result = cmblock_trust(&leaf, e->request->at, &e->chain);
	e->chained = result == TRUST_OK;
	if (e->chained)
		PASS(e, STEP_TRUST, "It is signed by \"%s\", and the chain ends at \"%s\".", e->chain.ca[0]->subject,
			 e->chain.ca[e->chain.length - 1]->subject);
	else if (!(e->facts ? e->facts->self_signed : e->certificate.self_signed))
		REFUSE(e, STEP_TRUST, REASON_CERTIFICATE_UNTRUSTED, "%s", cmblock_trust_sentence(result));
	else if (e->request->transport == TRANSPORT_HTTPS)
		REFUSE(e, STEP_TRUST, REASON_CERTIFICATE_UNTRUSTED,
			   "It is self-signed, which counts over HTTP only.");
	else if (e->form == FORM_REGISTERED || e->registering)
		PASS(e, STEP_TRUST, "It is self-signed. Over HTTP that is enough, with limited assurance.");
	else
		REFUSE(e, STEP_TRUST, REASON_CERTIFICATE_UNTRUSTED, "It is self-signed and not registered.");
}

/* The certificate, or one with its key, where this hierarchy revoked it, whatever any CRL says. */
static const CertificateRecord *
revoked_here(const Evaluation *e)
{
	ListCell *cell;

	if (e->form == FORM_REGISTERED && e->certificate.revoked)
		return &e->certificate;
	foreach (cell, e->kin)
	{
		const CertificateRecord *kin = lfirst(cell);

		if (kin->revoked)
			return kin;
	}
	return NULL;
}

static void
step_revocation(Evaluation *e)
{
	const CertificateRecord *revoked;
	RevocationAnswer answer;
	Leaf leaf;

	revoked = revoked_here(e);
	if (revoked)
	{
		REFUSE(e, STEP_REVOCATION, REASON_CERTIFICATE_REVOKED,
			   "%sThis hierarchy revoked it at %s, when the mobile device that it was of was deleted.",
			   e->form == FORM_STRANGE ? psprintf("It has the key of certificate %s. ",
												  cmblock_hex_string(revoked->sha256, SHA256_OCTETS))
									   : "",
			   time_text(revoked->revoked_at));
		return;
	}
	if (!e->chained)
	{
		SKIP(e, STEP_REVOCATION, "There is no chain to the trust list to ask along.");
		return;
	}
	leaf = leaf_of(e);
	cmblock_check_revocation(&leaf, &e->chain, e->request->at, true, &answer);
	if (!answer.checked)
		SKIP(e, STEP_REVOCATION, "%s", cmblock_revocation_detail(&answer));
	else if (answer.status == REVOCATION_REVOKED)
		REFUSE(e, STEP_REVOCATION, REASON_CERTIFICATE_REVOKED, "%s", cmblock_revocation_detail(&answer));
	else if (answer.status == REVOCATION_GOOD)
		PASS(e, STEP_REVOCATION, "%s", cmblock_revocation_detail(&answer));
	else if (answer.required)
		REFUSE(e, STEP_REVOCATION, REASON_CRL_UNAVAILABLE, "%s", cmblock_revocation_detail(&answer));
	else
		NOTE(e, STEP_REVOCATION, REASON_CRL_UNAVAILABLE, "%s", cmblock_revocation_detail(&answer));
}

/* ---------- blocks ---------- */

static void
step_certificate_block(Evaluation *e)
{
	const CertificateRecord *blocked = NULL;

	if (!has_certificate(e))
	{
		SKIP(e, STEP_CERTIFICATE_BLOCK, "There is no certificate to look at.");
		return;
	}
	if (e->form == FORM_REGISTERED && e->certificate.block.blocked)
		blocked = &e->certificate;
	/* Blocked ones come first. */
	if (e->kin && ((CertificateRecord *) linitial(e->kin))->block.blocked)
		blocked = linitial(e->kin);

	if (!blocked)
		PASS(e, STEP_CERTIFICATE_BLOCK, "It is not blocked.");
	else
		REFUSE(e, STEP_CERTIFICATE_BLOCK, REASON_CERTIFICATE_BLOCKED, "%s%s",
			   e->form == FORM_STRANGE ? psprintf("It has the key of certificate %s. ",
												  cmblock_hex_string(blocked->sha256, SHA256_OCTETS))
									   : "",
			   block_text(&blocked->block, blocked->assigned_site, "unblock_certificate"));
}

/* A blocked client that has a certificate with the strange certificate's key. */
static bool
find_blocked_kin(const Evaluation *e, ClientRecord *client)
{
	ListCell *cell;

	foreach (cell, e->kin)
	{
		const CertificateRecord *kin = lfirst(cell);

		if (kin->has_client && cmblock_find_client(e->snapshot, &kin->client, client) &&
			client->block.blocked)
			return true;
	}
	return false;
}

static void
refuse_blocked_client(Evaluation *e, const ClientRecord *client, const char *how)
{
	REFUSE(e, STEP_CLIENT_BLOCK, REASON_CLIENT_BLOCKED, "Client %s%s. %s",
		   cmblock_smsid_string(&client->smsid), how,
		   block_text(&client->block, client->assigned_site, "unblock_client"));
}

static void
step_client_block(Evaluation *e)
{
	bool claimed_blocked = e->claimed_known && e->claimed.block.blocked;
	ClientRecord kin;

	if (claimed_blocked)
		refuse_blocked_client(e, &e->claimed, " is blocked");
	if (e->owner_known && e->owner.block.blocked &&
		!(claimed_blocked && same_client(&e->owner.smsid, &e->claimed.smsid)))
		refuse_blocked_client(e, &e->owner, ", for which the certificate is registered, is blocked");
	if (find_blocked_kin(e, &kin) && !(claimed_blocked && same_client(&kin.smsid, &e->claimed.smsid)))
		refuse_blocked_client(e, &kin, ", which has a certificate with the same key, is blocked");
	if (has_finding(e, STEP_CLIENT_BLOCK))
		return;
	if (e->claimed_known || e->owner_known)
		PASS(e, STEP_CLIENT_BLOCK, "It is not blocked.");
	else
		SKIP(e, STEP_CLIENT_BLOCK, "No client is known for the request.");
}

static void
judge_hardware(Evaluation *e, text *hardware_id, const Smsid *self)
{
	ClientRecord blocked;

	if (!cmblock_find_blocked_hardware(e->snapshot, hardware_id, self, &blocked))
		return;
	find(e, STEP_HARDWARE, cmblock_rejoin_policy == REJOIN_REFUSE ? ANSWER_REFUSED : ANSWER_NOTED,
		 REASON_HARDWARE_BLOCKED,
		 DETAIL(e, WORDS_REFUSALS, "Hardware id \"%s\" is that of blocked client %s. %s",
				text_to_cstring(hardware_id), cmblock_smsid_string(&blocked.smsid),
				block_text(&blocked.block, blocked.assigned_site, "unblock_client")));
}

static bool
same_text(text *a, text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static void
step_hardware(Evaluation *e)
{
	text *given = e->request->hardware_id;
	const ClientRecord *client = requester(e);
	text *registered = client ? client->hardware_id : NULL;
	const Smsid *self = client ? &client->smsid : e->request->client;

	/* Where it would only warn, and nobody listens, the index needs not be asked. */
	if (e->words == WORDS_NONE && cmblock_rejoin_policy == REJOIN_REPORT)
		return;
	if (!given && !registered)
	{
		SKIP(e, STEP_HARDWARE, "No hardware id is given or registered.");
		return;
	}
	if (given)
		judge_hardware(e, given, self);
	if (registered && !(given && same_text(given, registered)))
		judge_hardware(e, registered, self);
	if (!has_finding(e, STEP_HARDWARE))
		PASS(e, STEP_HARDWARE, "No other client with this hardware id is blocked.");
}

/* ---------- approval ---------- */

static void
step_approval(Evaluation *e)
{
	const ClientRecord *client = requester(e);

	if (!client)
		SKIP(e, STEP_APPROVAL, "No client is known for the request.");
	else if (client->approval > 0)
		PASS(e, STEP_APPROVAL, "%s",
			 client->approval == 1 ? "It is approved." : "Approval does not apply to it.");
	else if (e->registering)
		SKIP(e, STEP_APPROVAL, "It is not approved, and need not be to register.");
	else
		REFUSE(e, STEP_APPROVAL, REASON_NOT_APPROVED, "It waits for approval: its column approval is 0.");
}

/* ---------- the decision ---------- */

/* Says for whom the decision was made. */
static void
fill_in_parties(Evaluation *e)
{
	AccessDecision *d = e->decision;
	const ClientRecord *client = requester(e);

	if (e->request->client)
		d->client = *e->request->client;
	else if (client)
		d->client = client->smsid;
	d->has_client = e->request->client || client;
	d->assigned_site = client ? client->assigned_site : NO_SITE;
	d->has_certificate = has_certificate(e);
	if (d->has_certificate)
		memcpy(d->certificate, leaf_of(e).sha256, SHA256_OCTETS);
}

static void
evaluate(Evaluation *e)
{
	look_up(e);
	step_known(e);
	step_form(e);
	step_validity(e);
	step_trust(e);
	step_revocation(e);
	step_certificate_block(e);
	step_client_block(e);
	step_hardware(e);
	step_approval(e);
	fill_in_parties(e);
}

/*
 * Allowed when nothing refuses. Sure of the other side when it came over HTTPS with a certificate of the trust list
 * that nothing is wrong with; that it is blocked says nothing against it being who it is.
 */
static void
sum_up(Evaluation *e)
{
	AccessDecision *d = e->decision;
	bool identified = e->chained && e->request->transport == TRANSPORT_HTTPS;

	d->allowed = true;
	for (int i = 0; i < d->count; i++)
	{
		if (d->finding[i].answer != ANSWER_REFUSED)
			continue;
		d->allowed = false;
		if (d->finding[i].step <= STEP_REVOCATION)
			identified = false;
	}
	d->assurance = identified ? ASSURANCE_FULL : ASSURANCE_LIMITED;
}

void
cmblock_decide(const AccessRequest *request, Wordiness words, AccessDecision *decision)
{
	Evaluation e = {.request = request,
					.decision = decision,
					.words = words,
					.registering = request->kind == REQUEST_REGISTRATION};
	const SiteIdentity *site = cmblock_this_site();

	memset(decision, 0, offsetof(AccessDecision, finding));
	if (site)
	{
		decision->site = site->code;
		PASS(&e, STEP_SITE, "It is site %s.", cmblock_site_code_string(site->code));
		e.snapshot = RegisterSnapshot(cmblock_newest_snapshot());
		evaluate(&e);
		UnregisterSnapshot(e.snapshot);
	}
	else
		REFUSE(&e, STEP_SITE, REASON_SITE_NOT_SET_UP,
			   "This database is not a site yet. An administrator has to call cmblock.setup_site.");

	sum_up(&e);
}
