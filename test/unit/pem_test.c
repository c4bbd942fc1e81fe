/*
 * pem_test.c
 *		Taking DER out of PEM.
 */
#include <stdlib.h>
#include <string.h>

#include "pem.h"

#include "tap.h"

#define BEGIN "-----BEGIN X509 CRL-----\n"
#define END "-----END X509 CRL-----\n"

/* "in" decodes to "expected", or gives this result. */
static void
decode(PemResult result, const char *in, const char *expected, const char *name)
{
	size_t size = strlen(in);
	uint8_t *copy = malloc(size + 1);
	uint8_t *out = malloc(size + 1);
	size_t out_size = 99;
	PemResult found;

	/* Without the zero at the end, so that the sanitizer sees who looks for it. */
	copy = realloc(copy, size > 0 ? size : 1);
	out = realloc(out, size > 0 ? size : 1);
	memcpy(copy, in, size);
	found = cmblock_pem_decode(copy, size, "X509 CRL", out, &out_size);
	if (!ok(found == result && (found != PEM_DECODED ||
								(out_size == strlen(expected) && memcmp(out, expected, out_size) == 0)),
			"%s", name))
		printf("#   %s\n", cmblock_pem_error_text(found));
	free(copy);
	free(out);
}

static void
test_long(void)
{
	static const char line[] = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2\n";
	const size_t lines = 40000;
	char *in = malloc(sizeof(BEGIN) + sizeof(END) + lines * (sizeof(line) - 1));
	char *p = in;
	uint8_t *out;
	size_t out_size;
	size_t i;
	bool equal;

	p = stpcpy(p, BEGIN);
	for (i = 0; i < lines; i++)
		p = stpcpy(p, line);
	p = stpcpy(p, END);
	out = malloc((size_t) (p - in));
	equal = cmblock_pem_decode((const uint8_t *) in, (size_t) (p - in), "X509 CRL", out, &out_size) ==
				PEM_DECODED &&
			out_size == lines * 48;
	for (i = 0; equal && i < lines; i++)
		equal = memcmp(out + i * 48, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuv", 48) == 0;
	ok(equal, "a block of 2.6 MB");
	free(in);
	free(out);
}

int
main(void)
{
	decode(PEM_DECODED, BEGIN "aGVsbG8=\n" END, "hello", "a block");
	decode(PEM_DECODED, BEGIN "aGVsbG8=\n-----END X509 CRL-----", "hello", "without the last newline");
	decode(PEM_DECODED, "-----BEGIN X509 CRL-----\r\naGVs\r\nbG8=\r\n-----END X509 CRL-----\r\n", "hello",
		   "with carriage returns, in two lines");
	decode(PEM_DECODED, BEGIN "\naGVs\n\n bG8= \n\n" END "\n \n", "hello", "with blank lines");
	decode(PEM_DECODED, "Certificate Revocation List (CRL):\n  Version 2\n" BEGIN "aGVsbG8=\n" END, "hello",
		   "with text before it");
	decode(PEM_NOT_PEM, "", NULL, "nothing");
	decode(PEM_NOT_PEM, "0\202\001\001", NULL, "DER");
	decode(PEM_NOT_PEM, " " BEGIN "aGVsbG8=\n" END, NULL, "not at the beginning of a line");
	decode(PEM_WRONG_LABEL, "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", NULL,
		   "another kind");
	decode(PEM_WRONG_LABEL, "-----BEGIN X509 CRL", NULL, "a label that is cut off");
	decode(PEM_WRONG_LABEL, "-----BEGIN X509 CRL2-----\naGVsbG8=\n-----END X509 CRL2-----\n", NULL,
		   "a longer label");
	decode(PEM_WRONG_LABEL, "-----BEGIN X509 CRL----- x\naGVsbG8=\n" END, NULL, "something after the label");
	decode(PEM_MALFORMED, BEGIN "aGVsbG8=\n", NULL, "no END line");
	decode(PEM_MALFORMED, BEGIN "aGVsbG8=\n-----END CERTIFICATE-----\n", NULL, "another END line");
	decode(PEM_MALFORMED, BEGIN END, NULL, "nothing between the lines");
	decode(PEM_MALFORMED, BEGIN "aGVsbG8\n" END, NULL, "padding is missing");
	decode(PEM_MALFORMED, BEGIN "aGVsbG8==\n" END, NULL, "too much padding");
	decode(PEM_MALFORMED, BEGIN "aGVs=bG8\n" END, NULL, "padding in the middle");
	decode(PEM_MALFORMED, BEGIN "aGVsbG8_\n" END, NULL, "a digit that is none");
	decode(PEM_MALFORMED, BEGIN "Proc-Type: 4,ENCRYPTED\n\naGVsbG8=\n" END, NULL, "header lines");
	decode(PEM_MALFORMED, BEGIN "aGVs\n-----BEGIN X509 CRL-----\nbG8=\n" END, NULL, "a block within a block");
	decode(PEM_SEVERAL, BEGIN "aGVsbG8=\n" END BEGIN "aGVsbG8=\n" END, NULL, "two blocks");
	decode(PEM_SEVERAL, BEGIN "aGVsbG8=\n" END "-----BEGIN CERTIFICATE-----\n", NULL,
		   "a block of another kind after it");
	decode(PEM_TRAILING_DATA, BEGIN "aGVsbG8=\n" END "x\n", NULL, "something after it");
	test_long();
	return done_testing();
}
