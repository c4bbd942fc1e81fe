/*
 * pem.h
 *		Taking DER out of PEM, strictly. No PostgreSQL in here.
 */
#ifndef CMBLOCK_PEM_H
#define CMBLOCK_PEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum PemResult
{
	PEM_DECODED,
	PEM_NOT_PEM,       /* there is no "-----BEGIN" line: perhaps it is DER */
	PEM_WRONG_LABEL,   /* a block, but of another kind */
	PEM_SEVERAL,       /* more than one block */
	PEM_MALFORMED,     /* no matching END line, header lines, or something that is not base64 */
	PEM_TRAILING_DATA, /* after the END line */
	PEM_OUT_OF_MEMORY
} PemResult;

/*
 * Decode the one block with this label ("X509 CRL", "CERTIFICATE"). Text before the BEGIN line is skipped, since
 * openssl writes it there (RFC 7468 5.2); after the END line only white space may follow, and a second
 * block is refused, because nobody could say which of the two was meant.
 *
 * "out" must have room for "size" octets, which is always enough. It may not overlap the input.
 */
extern PemResult cmblock_pem_decode(const uint8_t *in, size_t size, const char *label, uint8_t *out,
									size_t *out_size);

/* A sentence for errdetail. */
extern const char *cmblock_pem_error_text(PemResult result);

#endif
