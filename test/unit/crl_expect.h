/*
 * crl_expect.h
 *		What the unit tests of the CRL reader share: reading a made-up CRL and comparing the answer.
 *
 * The numbers in the names of the tests are those of the rules for taking in and using CRLs.
 */
#ifndef CMBLOCK_TEST_CRL_EXPECT_H
#define CMBLOCK_TEST_CRL_EXPECT_H

#include "crl_reader.h"

#include "der_builder.h"
#include "tap.h"

static const CrlLimits limits = {1 << 20, 1000};

/* Which errors some test has seen. */
static bool seen[CRLERR_COUNT];

static Crl crl;

/* Read, and say whether the answer is this one. The CRL stays in "crl". */
static inline bool
expect(CrlError expected, Bytes der, const char *name)
{
	/* A copy of just that size, so that the sanitizer sees a read past its end. */
	uint8_t *copy = malloc(der.size > 0 ? der.size : 1);
	CrlError error;
	bool good;

	if (der.size > 0)
		memcpy(copy, der.data, der.size);
	error = cmblock_crl_read(copy, der.size, &limits, &crl);
	free(copy);
	seen[error] = true;
	good = ok(error == expected, "%s", name);
	if (!good)
		printf("#   %d: %s\n", error, cmblock_crl_error_text(error));

	/* The spans must lead somewhere that still exists. */
	if (error == CRLERR_NONE)
		cmblock_crl_read(der.data, der.size, &limits, &crl);
	return good;
}

/* A CRL in which one extension has been added to the number. */
static inline Bytes
with_extension(Bytes extension)
{
	CrlParts parts = usual_parts();

	parts.extensions = concat(parts.extensions, extension);
	return build_crl(parts);
}

static inline Bytes
with_only_extensions(Bytes extensions)
{
	CrlParts parts = usual_parts();

	parts.extensions = extensions;
	return build_crl(parts);
}

static inline Bytes
with_entries(Bytes entries)
{
	CrlParts parts = usual_parts();

	parts.revoked = wrap(0x30, entries);
	return build_crl(parts);
}

static inline Bytes
with_idp(Bytes content)
{
	return with_extension(critical_extension(ISSUING_POINT, wrap(0x30, content)));
}

#define CHANGED(part, value)                                                                                 \
	({                                                                                                       \
		CrlParts parts_ = usual_parts();                                                                     \
		parts_.part = (value);                                                                               \
		build_crl(parts_);                                                                                   \
	})

/* An indirect CRL, or a delta, with entries. */
static inline Bytes
with_both(Bytes extension, Bytes entries)
{
	CrlParts parts = usual_parts();

	parts.extensions = concat(parts.extensions, extension);
	parts.revoked = wrap(0x30, entries);
	return build_crl(parts);
}

static inline bool
span_is(DerSpan span, Bytes expected)
{
	return span.data != NULL && span.size == expected.size &&
		   memcmp(span.data, expected.data, span.size) == 0;
}

/* Every error from "first" to "last" must have been brought about, and have a sentence. */
static inline void
check_errors(CrlError first, CrlError last)
{
	bool all_seen = true;
	bool all_sentences = true;
	int error;

	for (error = first; error <= (int) last; error++)
	{
		const char *sentence = cmblock_crl_error_text((CrlError) error);

		if (!seen[error])
			printf("#   not seen: %s\n", sentence);
		all_seen &= seen[error];
		all_sentences &= sentence != NULL && sentence[0] != '\0' && sentence[strlen(sentence) - 1] == '.';
	}
	ok(all_seen, "every error from %d to %d was brought about by some test", first, last);
	ok(all_sentences, "and has a sentence");
}

typedef void (*TestFunction)(void);

static inline void
run_tests(const TestFunction *tests, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
	{
		tests[i]();
		builder_reset();
	}
}

#endif
