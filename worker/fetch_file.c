/*
 * fetch_file.c
 *		Reading a CRL from a file that another service put there.
 *
 * The server process can read much that a PKI administrator, who is no superuser, may not. So file addresses lead
 * only below the directory that a superuser named in cmblock.crl_file_directory; without it there are none. Symbolic
 * links are resolved first and the result is compared, and what is opened must be a plain file: a FIFO or device
 * would block. Whoever can write to that directory can still swap a link between the two steps; the directory is the
 * superuser's choice. Errors tell no more about the file than that it is no CRL.
 */
#include "postgres.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"

#include "crl_import.h"
#include "crl_source.h"
#include "crl_url.h"
#include "fetch.h"

/* The directory may be written with slashes at its end. */
static bool
is_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	while (length > 0 && directory[length - 1] == '/')
		length--;
	return strncmp(path, directory, length) == 0 && path[length] == '/';
}

static void
fail(Fetch *fetch, const char *sentence)
{
	strlcpy(fetch->error, sentence, sizeof(fetch->error));
	fetch->outcome = FETCH_FAILED;
}

/* Reads the open file. Between two pieces a shutdown is let in: a disk may be slow. */
static void
read_file(Fetch *fetch, int fd)
{
	size_t limit = (size_t) cmblock_crl_max_size * 1024;
	struct stat info;
	size_t size;

	if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
	{
		fail(fetch, "The address does not lead to a plain file.");
		return;
	}
	if (info.st_size > limit)
	{
		fail(fetch, "The file is larger than cmblock.crl_max_size allows.");
		return;
	}
	size = (size_t) info.st_size;
	fetch->body = malloc(size + 1);
	if (!fetch->body)
	{
		fail(fetch, "There is not enough memory for the file.");
		return;
	}
	while (fetch->size < size)
	{
		ssize_t got = read(fd, fetch->body + fetch->size, Min(size - fetch->size, 1024 * 1024));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
		{
			fail(fetch, got < 0 ? "The file could not be read." : "The file shrank while it was read.");
			return;
		}
		fetch->size += got;
		if (ProcDiePending)
			break;
	}
	fetch->outcome = FETCH_RECEIVED;
}

void
cmblock_fetch_file(Fetch *fetch)
{
	char directory[PATH_MAX];
	char file[PATH_MAX];
	char *path;
	int fd;

	if (cmblock_crl_file_directory[0] == '\0')
	{
		fail(fetch, "File addresses are switched off: a superuser can name a directory in "
					"cmblock.crl_file_directory.");
		return;
	}
	if (!realpath(cmblock_crl_file_directory, directory))
	{
		fail(fetch, "The directory that cmblock.crl_file_directory names is not there.");
		return;
	}
	path = cmblock_url_path(fetch->url);
	if (!is_below(path, cmblock_crl_file_directory) && !is_below(path, directory))
		fail(fetch, "The file is not below cmblock.crl_file_directory.");
	else if (!realpath(path, file))
		fail(fetch, errno == ENOENT ? "There is no such file." : "The file cannot be reached.");
	else if (!is_below(file, directory))
		fail(fetch, "The file is not below cmblock.crl_file_directory.");
	else if ((fd = open(file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0)
		fail(fetch, "The file cannot be opened.");
	else
	{
		read_file(fetch, fd);
		close(fd);
	}
	pfree(path);
}
