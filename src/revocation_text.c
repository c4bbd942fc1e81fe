/*
 * revocation_text.c
 *		What the CRLs say of a certificate, in words: the names of the reasons, and sentences for administrators.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "revocation.h"

const char *
cmblock_revocation_reason_name(RevocationReason reason)
{
	static const char *const names[] = {
		[REV_NONE] = NULL,
		[REV_CRL_MISSING] = "crl_missing",
		[REV_OTHER_KEY] = "other_key",
		[REV_PARTITION_NOT_HELD] = "partition_not_held",
		[REV_SIGNER_UNTRUSTED] = "signer_untrusted",
		[REV_CRL_DAMAGED] = "crl_damaged",
		[REV_SIGNER_REVOKED] = "signer_revoked",
		[REV_SIGNER_UNKNOWN] = "signer_unknown",
		[REV_NO_NEXT_UPDATE] = "no_next_update",
		[REV_CRL_NOT_YET_VALID] = "crl_not_yet_valid",
		[REV_CRL_EXPIRED] = "crl_expired",
		[REV_UNKNOWN_CRITICAL_ENTRY] = "unknown_critical_entry",
		[REV_DELTA_MISSING] = "delta_missing",
		[REV_BASE_TOO_OLD] = "base_too_old",
		[REV_DELTA_NOT_YET_VALID] = "delta_not_yet_valid",
		[REV_DELTA_EXPIRED] = "delta_expired",
		[REV_REASONS_NOT_COVERED] = "reasons_not_covered",
		[REV_REVOKED] = "revoked",
	};

	return names[reason];
}

const char *
cmblock_crl_reason_name(uint8 code)
{
	static const char *const names[] = {
		"unspecified",   "keyCompromise",        "cACompromise",    "affiliationChanged",
		"superseded",    "cessationOfOperation", "certificateHold", NULL,
		"removeFromCRL", "privilegeWithdrawn",   "aACompromise",
	};

	return code < lengthof(names) ? names[code] : NULL;
}

static char *
time_text(TimestampTz time)
{
	return pstrdup(timestamptz_to_str(time));
}

/* "CRL 12 of "CN=...": what an administrator looks for in crl_status. */
static char *
crl_text(const ElementStatus *e, const HeldCrl *crl)
{
	const char *kind = crl->is_delta ? "delta CRL" : "CRL";
	const char *issuer = e->series->issuer_text;

	if (crl->number == NULL)
		return psprintf("%s of \"%s\"", kind, issuer);
	return psprintf("%s %s of \"%s\"", kind,
					DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(crl->number))), issuer);
}

static char *
revoked_text(const ElementStatus *e)
{
	const char *code = cmblock_crl_reason_name(e->code);

	return psprintf("\"%s\" revoked it at %s%s%s%s.", e->issuer->subject, time_text(e->revoked_at),
					code ? " (" : "", code ? code : "", code ? ")" : "");
}

char *
cmblock_element_detail(const ElementStatus *e)
{
	const char *issuer = e->issuer->subject;
	const HeldCrl *base = e->base;
	const HeldCrl *delta = e->delta;

	switch (e->reason)
	{
		case REV_NONE:
			return psprintf("The %s does not list it%s.", crl_text(e, base),
							delta ? psprintf(", nor does %s", crl_text(e, delta)) : "");
		case REV_REVOKED:
			return revoked_text(e);
		case REV_CRL_MISSING:
			if (delta)
				return psprintf("Only the %s is held, no full one.", crl_text(e, delta));
			return psprintf("No CRL of \"%s\" is held.", issuer);
		case REV_OTHER_KEY:
			return psprintf(
				"The CRLs of \"%s\" that are held are signed by another key than the certificate, and the "
				"key policy is same_key.",
				issuer);
		case REV_PARTITION_NOT_HELD:
			return psprintf("The CRLs of \"%s\" that are held do not cover it: they are for %s.", issuer,
							e->series->partition ? e->series->partition : "others");
		case REV_SIGNER_UNTRUSTED:
			return psprintf(
				"The signer of the CRL of \"%s\" is not in the trust list below the same root, or not in "
				"its validity.",
				e->series->issuer_text);
		case REV_CRL_DAMAGED:
			return psprintf("The stored CRL of \"%s\" is damaged.", e->series->issuer_text);
		case REV_SIGNER_REVOKED:
			return psprintf("\"%s\", which signed the CRL, is revoked.", e->signer->subject);
		case REV_SIGNER_UNKNOWN:
			return psprintf("It is not known whether \"%s\", which signed the CRL, is revoked.",
							e->signer->subject);
		case REV_NO_NEXT_UPDATE:
			return psprintf("The %s has no next update, and the CA has no max_age.", crl_text(e, base));
		case REV_CRL_NOT_YET_VALID:
			return psprintf("The %s is valid only from %s on.", crl_text(e, base),
							time_text(base->this_update));
		case REV_CRL_EXPIRED:
			if (!base->has_next_update)
				return psprintf("The %s of %s is older than the max_age.", crl_text(e, base),
								time_text(base->this_update));
			return psprintf("The %s was to be replaced by %s.", crl_text(e, base),
							time_text(base->next_update));
		case REV_UNKNOWN_CRITICAL_ENTRY:
			return psprintf("The %s has an entry with a critical extension that is not known.",
							crl_text(e, base));
		case REV_DELTA_MISSING:
			return psprintf("The delta CRL to %s is not held.", crl_text(e, base));
		case REV_BASE_TOO_OLD:
			return psprintf("The %s needs a newer full CRL than the one that is held.", crl_text(e, delta));
		case REV_DELTA_NOT_YET_VALID:
			return psprintf("The %s is valid only from %s on.", crl_text(e, delta),
							time_text(delta->this_update));
		case REV_DELTA_EXPIRED:
			if (!delta->has_next_update)
				return psprintf("The %s has no next update.", crl_text(e, delta));
			return psprintf("The %s was to be replaced by %s.", crl_text(e, delta),
							time_text(delta->next_update));
		case REV_REASONS_NOT_COVERED:
			return psprintf("The CRLs of \"%s\" that are held cover only some reasons for revocation.",
							issuer);
	}
	return "";
}

char *
cmblock_revocation_detail(const RevocationAnswer *answer)
{
	const ElementStatus *e;
	char *detail;

	if (!answer->checked)
		return "The policy of the CAs above it is \"off\".";
	e = &answer->element[answer->deciding];
	detail = cmblock_element_detail(e);
	if (e->authority == NULL)
		return detail;
	if (e->status == REVOCATION_REVOKED)
		return psprintf("CA \"%s\" above it is revoked. %s", e->authority->subject, detail);
	if (e->status == REVOCATION_UNKNOWN)
		return psprintf("The status of CA \"%s\" above it is unknown. %s", e->authority->subject, detail);
	return detail;
}
