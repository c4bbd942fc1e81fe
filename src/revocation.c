/*
 * revocation.c
 *		Has a CA revoked the certificate, or a CA above it?
 *
 * This site holds no CRLs, so nothing can be shown to be good. What that means is each CA's policy to say: "off"
 * asks nothing, "best_effort" lets unknown pass with a warning, "required" refuses. The answer never pretends: a
 * certificate that was not looked up is unknown, and so are all below a CA that could not be looked up.
 */
#include "postgres.h"

#include "revocation.h"

void
cmblock_check_revocation(const Leaf *leaf, const TrustChain *chain, TimestampTz at, RevocationAnswer *answer)
{
	const Authority *unknown = NULL;

	memset(answer, 0, sizeof(*answer));
	answer->status = REVOCATION_UNKNOWN;
	/* ca[0] signed the certificate, ca[1] signed ca[0], and so on; nobody above revokes the anchor. */
	for (int i = 0; i < chain->length; i++)
	{
		const Authority *issuer = chain->ca[i];

		if (issuer->policy == CRL_OFF)
			continue;
		answer->checked = true;
		if (unknown == NULL || (issuer->policy == CRL_REQUIRED && !answer->required))
			unknown = issuer;
		if (issuer->policy == CRL_REQUIRED)
			answer->required = true;
	}
	answer->detail = unknown
						 ? psprintf("No CRL of \"%s\" is held, and its policy is \"%s\".", unknown->subject,
									cmblock_enum_label(ENUM_CRL_POLICY, unknown->policy))
						 : "The policy of the CAs above it is \"off\".";
}
