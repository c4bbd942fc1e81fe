/*
 * pem.c
 *		Taking DER out of PEM, strictly.
 *
 * The lines are found here; OpenSSL decodes the base64 between them. OpenSSL's own PEM_read_bio reads on to
 * the next block that it likes and stops after the first, so that what a person reads and what is taken could differ.
 */
#include <string.h>

#include <openssl/evp.h>

#include "pem.h"

#define BEGIN_MARK "-----BEGIN "
#define END_MARK "-----END "
#define DASHES "-----"

/* EVP_DecodeUpdate counts in int. */
#define DECODE_CHUNK (1 << 20)

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Does the text at "p" begin with this? */
static bool
starts_with(const uint8_t *p, const uint8_t *end, const char *text)
{
	size_t length = strlen(text);

	return (size_t) (end - p) >= length && memcmp(p, text, length) == 0;
}

/* First line from "p" that begins with "mark", or NULL. */
static const uint8_t *
find_line(const uint8_t *p, const uint8_t *end, const char *mark)
{
	while (p < end)
	{
		const uint8_t *newline;

		if (starts_with(p, end, mark))
			return p;
		newline = memchr(p, '\n', (size_t) (end - p));
		if (newline == NULL)
			return NULL;
		p = newline + 1;
	}
	return NULL;
}

/* Past "<mark><label>-----" and the white space to the end of its line; NULL where it is not that. */
static const uint8_t *
skip_mark(const uint8_t *p, const uint8_t *end, const char *mark, const char *label)
{
	p += strlen(mark);
	if (!starts_with(p, end, label))
		return NULL;
	p += strlen(label);
	if (!starts_with(p, end, DASHES))
		return NULL;
	p += strlen(DASHES);
	while (p < end && is_space(*p) && *p != '\n')
		p++;
	if (p < end && *p != '\n')
		return NULL;
	return p;
}

/* Only the alphabet and white space, and at most two "=" with nothing after them. */
static bool
is_base64(const uint8_t *p, const uint8_t *end)
{
	size_t digits = 0;
	int padding = 0;

	for (; p < end; p++)
	{
		bool digit = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') ||
					 *p == '+' || *p == '/';

		if (*p == '=')
			padding++;
		else if (digit && padding == 0)
			digits++;
		else if (!is_space(*p))
			return false;
	}
	return padding <= 2 && digits > 0 && (digits + (size_t) padding) % 4 == 0;
}

static bool
decode(EVP_ENCODE_CTX *context, const uint8_t *p, const uint8_t *end, uint8_t *out, size_t *out_size)
{
	size_t total = 0;
	int written;

	EVP_DecodeInit(context);
	while (p < end)
	{
		size_t chunk = (size_t) (end - p) < DECODE_CHUNK ? (size_t) (end - p) : DECODE_CHUNK;

		if (EVP_DecodeUpdate(context, out + total, &written, p, (int) chunk) < 0)
			return false;
		total += (size_t) written;
		p += chunk;
	}
	if (EVP_DecodeFinal(context, out + total, &written) < 0)
		return false;
	*out_size = total + (size_t) written;
	return true;
}

PemResult
cmblock_pem_decode(const uint8_t *in, size_t size, const char *label, uint8_t *out, size_t *out_size)
{
	const uint8_t *end = in + size;
	const uint8_t *begin_line;
	const uint8_t *body;
	const uint8_t *end_line;
	const uint8_t *after;
	EVP_ENCODE_CTX *context;
	bool decoded;

	*out_size = 0;
	begin_line = find_line(in, end, BEGIN_MARK);
	if (begin_line == NULL)
		return PEM_NOT_PEM;
	body = skip_mark(begin_line, end, BEGIN_MARK, label);
	if (body == NULL)
		return PEM_WRONG_LABEL;
	end_line = find_line(body, end, END_MARK);
	if (end_line == NULL)
		return PEM_MALFORMED;
	after = skip_mark(end_line, end, END_MARK, label);
	if (after == NULL || !is_base64(body, end_line))
		return PEM_MALFORMED;
	if (find_line(after, end, BEGIN_MARK) != NULL)
		return PEM_SEVERAL;
	while (after < end && is_space(*after))
		after++;
	if (after < end)
		return PEM_TRAILING_DATA;

	context = EVP_ENCODE_CTX_new();
	if (context == NULL)
		return PEM_OUT_OF_MEMORY;
	decoded = decode(context, body, end_line, out, out_size);
	EVP_ENCODE_CTX_free(context);
	return decoded ? PEM_DECODED : PEM_MALFORMED;
}

const char *
cmblock_pem_error_text(PemResult result)
{
	switch (result)
	{
		case PEM_DECODED:
			return "The PEM block is well formed.";
		case PEM_NOT_PEM:
			return "There is no PEM block.";
		case PEM_WRONG_LABEL:
			return "The PEM block is of another kind.";
		case PEM_SEVERAL:
			return "There is more than one PEM block.";
		case PEM_MALFORMED:
			return "The PEM block has no matching end line, or something in it is not base64.";
		case PEM_TRAILING_DATA:
			return "There are data after the PEM block.";
		case PEM_OUT_OF_MEMORY:
			return "There was not enough memory to decode the PEM block.";
	}
	return "The PEM block could not be decoded.";
}
