# cmblock: built with PGXS.
#
#   make, make install, make installcheck   as with every extension: against the PostgreSQL of PG_CONFIG
#   make check                              all tests, against a private copy of PostgreSQL; see test/README.md
#   make check-matrix                       the same with every PostgreSQL from 15 to 18 within reach
#   make check-package                      the Debian package, built and tested in roots of its own
#   make check-vectors                      the CRLs that nobody here made, with a table of the results
#   make bench                              all benchmarks side by side with other ways to do it; results in bench/results
#   make demo                               a hierarchy of four sites shows what the extension does
#   make report DB=site > report.html       the state of a running site as a web page
#   make indent                             format the C sources

# These goals must work on a machine that has no PostgreSQL yet, so they do not read the makefiles of PGXS.
# Their scripts install what is missing and call make again, in a copy of the sources.
STANDALONE = bench check check-matrix check-package check-vectors demo report indent

ifneq ($(filter $(STANDALONE),$(MAKECMDGOALS)),)

.PHONY: $(MAKECMDGOALS)

# The table goes to the terminal, the files come as an archive through a pipe of their own.
bench:
	@mkdir -p bench/results
	@{ test/private.sh env SECONDS_EACH=$(SECONDS_EACH) ROUNDS=$(ROUNDS) SIZES="$(SIZES)" \
		CRL_ENTRIES="$(CRL_ENTRIES)" REPLICATION="$(REPLICATION)" bash bench/bench.sh 3>&1 1>&2 | \
		tar -C bench/results -x; } 2>&1

# The site system of t/092_site_system is Apache httpd: only its programs, which come without a service that would start.
# The certificates and CRLs of t/054_vectors and t/055_pkits are in a package of data. What cannot be had is skipped.
VECTORS_PACKAGE = python3-cryptography-vectors
OPTIONAL_PACKAGES = apache2-bin lua-luaossl lua-sql-postgres curl $(VECTORS_PACKAGE)

check:
	@OPTIONAL_PACKAGES="$(OPTIONAL_PACKAGES)" test/private.sh bash test/suites.sh

check-matrix:
	@OPTIONAL_PACKAGES="$(OPTIONAL_PACKAGES)" test/matrix.sh

check-package:
	@test/package.sh

check-vectors:
	@OPTIONAL_PACKAGES="$(VECTORS_PACKAGE)" TESTS="t/054_vectors t/055_pkits test/unit/crl_vectors_test" test/private.sh bash test/suites.sh

demo:
	@test/private.sh bash demo/demo.sh

# The server is the one that PGHOST, PGPORT and so on lead to.
DB ?= $(or $(PGDATABASE),postgres)
report:
	@psql -X -d "$(DB)" -f examples/report/report.sql

indent:
	clang-format -i $(wildcard src/*.[ch] worker/*.[ch] test/unit/*.[ch] bench/*.[ch] bench/module/*.[ch] fuzz/*.[ch])

# Other goals named beside them are for PGXS: make reads this file a second time for these.
$(filter-out $(STANDALONE),$(MAKECMDGOALS)):
	$(MAKE) $@

else

MODULE_big = cmblock
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c worker/*.c)))

EXTENSION = cmblock
DATA = $(sort $(wildcard sql/cmblock--*.sql))

REGRESS = $(patsubst sql/%.sql,%,$(filter-out sql/cmblock--%.sql,$(sort $(wildcard sql/*.sql))))
ISOLATION = $(patsubst specs/%.spec,%,$(sort $(wildcard specs/*.spec)))
TAP_TESTS = 1

PG_CPPFLAGS = -I$(srcdir)/src -I$(srcdir)/worker -I$(libpq_srcdir)
PG_CFLAGS = -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
ifdef WERROR
PG_CFLAGS += -Werror
endif
SHLIB_LINK = -lpq -lcrypto

# CRLs are fetched with libcurl. Without it everything else works, and file addresses do.
ifeq ($(shell printf '\043include <curl/curl.h>\n' | $(if $(filter default,$(origin CC)),cc,$(CC)) -E - >/dev/null 2>&1 && echo yes),yes)
PG_CPPFLAGS += -DUSE_LIBCURL
SHLIB_LINK += -lcurl
else
$(warning libcurl is missing (Debian: libcurl4-openssl-dev): the CRL refresher will fetch no http and https addresses)
endif

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(wildcard $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h),)
$(error $(PG_CONFIG) leads to no server headers: install postgresql-server-dev-15, or say PG_CONFIG=/path/to/pg_config)
endif
include $(PGXS)

# PGXS of Debian builds without dependency tracking: a changed header rebuilds everything.
$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h worker/*.h)

endif
