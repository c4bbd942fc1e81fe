# cmblock: built with PGXS. `make check` and `make demo` need no installation: see test/README.md.

MODULE_big = cmblock
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c worker/*.c)))

EXTENSION = cmblock
DATA = sql/cmblock--1.0.sql

REGRESS = $(patsubst sql/%.sql,%,$(filter-out sql/cmblock--%.sql,$(sort $(wildcard sql/*.sql))))
ISOLATION = $(patsubst specs/%.spec,%,$(sort $(wildcard specs/*.spec)))
TAP_TESTS = 1

PG_CPPFLAGS = -I$(srcdir)/src -I$(srcdir)/worker -I$(libpq_srcdir)
PG_CFLAGS = -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
ifdef WERROR
PG_CFLAGS += -Werror
endif
SHLIB_LINK = -lpq -lcrypto

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS of Debian builds without dependency tracking: a changed header rebuilds everything.
$(OBJS): $(wildcard src/*.h worker/*.h)
