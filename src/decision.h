/*
 * decision.h
 *		May this request be served? One evaluation, whose findings answer check_access, is_allowed and explain_access.
 */
#ifndef CMBLOCK_DECISION_H
#define CMBLOCK_DECISION_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog.h"
#include "types.h"

/*
 * Why a request is refused, in the order in which it is asked. The names in SQL are these in lower case without
 * REASON_, and are part of the interface. A reason that is only noted does not refuse: it is a warning.
 */
typedef enum Reason
{
	REASON_NONE,
	REASON_SITE_NOT_SET_UP,               /* this database is not a site */
	REASON_NO_IDENTITY,                   /* neither a client nor a certificate is named */
	REASON_CLIENT_UNKNOWN,                /* no client has this smsid */
	REASON_CLIENT_DELETED,                /* it was deleted */
	REASON_CERTIFICATE_UNKNOWN,           /* not registered, and no client is named that it could be of */
	REASON_CERTIFICATE_DELETED,           /* it went with its client */
	REASON_CERTIFICATE_OF_ANOTHER_CLIENT, /* the smsid and the certificate name different clients */
	REASON_CERTIFICATE_UNREGISTERED, /* warning: a certificate of the trust list that nobody registered */
	REASON_CERTIFICATE_MALFORMED,    /* the octets are no certificate */
	REASON_CERTIFICATE_NOT_YET_VALID,
	REASON_CERTIFICATE_EXPIRED,
	REASON_CERTIFICATE_UNTRUSTED, /* no chain to the trust list; self-signed over https */
	REASON_CERTIFICATE_REVOKED,   /* it, or a CA above it */
	REASON_CRL_UNAVAILABLE, /* revocation could not be looked up; a warning where the policy is best_effort */
	REASON_CERTIFICATE_BLOCKED, /* it, or a certificate with the same key */
	REASON_CLIENT_BLOCKED,      /* the client named, or the one that the certificate or its key is of */
	REASON_HARDWARE_BLOCKED, /* the hardware of a blocked client; a warning unless rejoin_policy is refuse */
	REASON_NOT_APPROVED      /* approval is 0 */
} Reason;

extern const char *cmblock_reason_name(Reason reason);

typedef enum Step
{
	STEP_SITE,
	STEP_KNOWN,
	STEP_FORM,
	STEP_VALIDITY,
	STEP_TRUST,
	STEP_REVOCATION,
	STEP_CERTIFICATE_BLOCK,
	STEP_CLIENT_BLOCK,
	STEP_HARDWARE,
	STEP_APPROVAL
} Step;

extern const char *cmblock_step_question(Step step);

typedef enum StepAnswer
{
	ANSWER_PASSED,
	ANSWER_NOTED, /* passed with a warning */
	ANSWER_SKIPPED,
	ANSWER_REFUSED
} StepAnswer;

extern const char *cmblock_answer_name(StepAnswer answer);

typedef struct Finding
{
	Step step;
	StepAnswer answer;
	Reason reason;
	char *detail; /* a sentence or two; NULL when less wordiness was asked for */
} Finding;

typedef enum Wordiness
{
	WORDS_NONE,     /* only the reasons */
	WORDS_REFUSALS, /* details of what refuses */
	WORDS_ALL
} Wordiness;

typedef struct AccessRequest
{
	const Smsid *client; /* NULL: not named */
	bool has_certificate;
	Datum certificate; /* bytea: DER, PEM, or a thumbprint of 20 or 32 octets */
	Transport transport;
	RequestKind kind;
	text *hardware_id; /* NULL: not given */
	TimestampTz at;    /* for validity and revocation; blocks are always those of now */
} AccessRequest;

/* A step has at most four findings. */
#define MAX_FINDINGS 40

typedef struct AccessDecision
{
	bool allowed;
	Assurance assurance;
	SiteCode site;   /* the one that decides: this one */
	bool has_client; /* the client is named or known from the certificate */
	Smsid client;
	SiteCode assigned_site; /* of the client; NO_SITE when it is not known */
	bool has_certificate;
	unsigned char certificate[SHA256_OCTETS];
	int count;
	Finding finding[MAX_FINDINGS];
} AccessDecision;

/* Decides. Bad request data are findings, never errors. Texts are palloc'd. */
extern void cmblock_decide(const AccessRequest *request, Wordiness words, AccessDecision *decision);

#endif
