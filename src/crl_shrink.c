/*
 * crl_shrink.c
 *		The guard against a CRL from which entries have vanished by accident (rule 35).
 *
 * A CA that lost its database publishes an empty CRL, duly signed, with the next number, and every revoked certificate
 * would be good again. So a new full CRL is compared with what is in force: an entry of the base, or of the delta on
 * top of it, that is not in the new one has vanished. Some may: an entry that a delta removed, one on hold (a full CRL
 * releases it by leaving it out), and that of an expired certificate, as far as this site knows the certificate.
 *
 * The old index is walked and the new one asked: a second or two at a million entries, and only when a new full CRL
 * comes in.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "crl_import.h"
#include "crl_table.h"
#include "statement.h"

/* An index with the facts that its entries refer to. */
typedef struct Side
{
	const CrlIndex *index;
	CrlPin pin;
	Crl facts;
} Side;

typedef struct Comparison
{
	Side base;
	Side delta; /* its index is NULL where there is none */
	Side next;
} Comparison;

static DerSpan
issuer_name(const Side *side, uint8 issuer)
{
	return issuer == 0 ? side->facts.issuer : side->facts.certificate_issuer[issuer - 1];
}

/* Look an entry of one CRL up in another: in an indirect CRL the issuers may be numbered differently. */
static bool
find_same(const Side *from, const CrlEntry *entry, const Side *in, CrlEntry *found)
{
	DerSpan name = issuer_name(from, entry->issuer);

	if (in->index == NULL)
		return false;
	for (uint32 i = 0; i <= in->facts.issuer_count; i++)
		if ((entry->issuer == 0 && i == 0) || der_equal(name, issuer_name(in, (uint8) i)))
			if (cmblock_crl_index_find(in->index, entry->serial.data, entry->serial.size, (uint8) i, found))
				return true;
	return false;
}

static bool
has_vanished(const Comparison *c, const Side *from, const CrlEntry *entry)
{
	CrlEntry other;

	if (entry->removed || entry->reason == CRLREASON_CERTIFICATE_HOLD ||
		find_same(from, entry, &c->next, &other))
		return false;
	if (from == &c->base)
		return !(find_same(from, entry, &c->delta, &other) && other.removed);
	/* Of the delta only what the base has not: the rest was counted there. */
	return !find_same(from, entry, &c->base, &other);
}

static uint64
count_vanished(const Comparison *c, const Side *from)
{
	uint64 vanished = 0;
	uint64 position = 0;
	uint64 seen = 0;
	CrlEntry entry;

	while (from->index && cmblock_crl_index_next(from->index, &position, &entry))
	{
		if (++seen % 4096 == 0)
			CHECK_FOR_INTERRUPTS();
		if (has_vanished(c, from, &entry))
			vanished++;
	}
	return vanished;
}

/* How many of them are of certificates that this site knows to have expired? */
static uint64
count_expired(const Comparison *c, const char *issuer)
{
	static Statement find = {
		"SELECT DISTINCT serial FROM cmblock.certificate WHERE issuer = $1 AND not_after < now()", {"text"}};
	Datum value = CStringGetTextDatum(issuer);
	uint64 rows = cmblock_execute(&find, &value, NULL);
	uint64 expired = 0;

	for (uint64 i = 0; i < rows; i++)
	{
		bool isnull;
		struct varlena *serial =
			PG_DETOAST_DATUM_PACKED(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		CrlEntry entry;

		if ((cmblock_crl_index_find(c->base.index, (uint8 *) VARDATA_ANY(serial), VARSIZE_ANY_EXHDR(serial),
									0, &entry) &&
			 has_vanished(c, &c->base, &entry)) ||
			(c->delta.index &&
			 cmblock_crl_index_find(c->delta.index, (uint8 *) VARDATA_ANY(serial), VARSIZE_ANY_EXHDR(serial),
									0, &entry) &&
			 has_vanished(c, &c->delta, &entry)))
			expired++;
	}
	return expired;
}

static bool
is_beyond(uint64 vanished, uint64 total)
{
	return vanished > (uint64) cmblock_crl_shrink_entries &&
		   (double) vanished * 100 > (double) total * cmblock_crl_shrink_percent;
}

static bool
open_side(Side *side, const HeldCrl *crl)
{
	side->index = cmblock_open_crl(crl, &side->pin);
	if (side->index)
		cmblock_crl_index_facts(side->index, &side->facts);
	return side->index != NULL;
}

static bytea *
give_der(const uint8 *sha256, void *arg)
{
	const bytea *der = arg;

	return cmblock_make_bytea(VARDATA_ANY(der), VARSIZE_ANY_EXHDR(der));
}

static char *
compare(Comparison *c, const JudgedCrl *judged)
{
	CrlIndexCounts counts;
	uint64 total;
	uint64 vanished;
	uint64 expired;

	cmblock_crl_index_counts(c->base.index, &counts);
	total = counts.distinct;
	vanished = count_vanished(c, &c->base) + count_vanished(c, &c->delta);
	if (!is_beyond(vanished, total))
		return NULL;
	expired = count_expired(c, judged->taking->issuer);
	vanished -= Min(expired, vanished);
	if (!is_beyond(vanished, total))
		return NULL;
	return psprintf(
		"%llu of the %llu entries in force are not in it, and no delta CRL removed them (rule 35).",
		(unsigned long long) vanished, (unsigned long long) total);
}

char *
cmblock_crl_shrinks(const JudgedCrl *judged)
{
	const CrlSet *set = cmblock_crl_set();
	Comparison *c;
	char *verdict = NULL;

	for (int i = 0; i < set->count; i++)
	{
		const CrlSeries *series = &set->series[i];

		if (memcmp(series->scope, judged->taking->scope, SHA256_OCTETS) != 0 || series->base == NULL)
			continue;
		c = palloc0(sizeof(Comparison));
		if (open_side(&c->base, series->base))
		{
			if (series->delta)
				(void) open_side(&c->delta, series->delta);
			c->next.index = cmblock_crl_pin(judged->taking->sha256, give_der,
											unconstify(bytea *, judged->der), &c->next.pin);
			cmblock_crl_index_facts(c->next.index, &c->next.facts);
			verdict = compare(c, judged);
			cmblock_crl_unpin(&c->next.pin);
			cmblock_crl_unpin(&c->delta.pin);
			cmblock_crl_unpin(&c->base.pin);
		}
		pfree(c);
		break;
	}
	return verdict;
}
