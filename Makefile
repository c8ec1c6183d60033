# make            ./smtpd: static, stripped, with all libraries linked in
# make run        the same, started on loopback with a sample configuration
# make test       everything that is tested, ending in "N passed, N failed"
# make help       the rest
#
# CC, CFLAGS and LDFLAGS are yours; DEPS_DIR or DEPS_MIRROR say where the pinned archives are (deps/fetch.sh);
# CROSS_COMPILE=aarch64-linux-gnu- builds for another machine.

CFLAGS ?= -Os
WARNINGS = -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wshadow -Wconversion -Wvla
DEPS = build/deps
MUSL_CC = $(DEPS)/bin/musl-gcc
SECTIONS = -ffunction-sections -fdata-sections
LIBS = -linih

OBJS = smtpd.o front.o agent.o session.o message.o deliver.o writer.o recipients.o maildir.o limits.o smtp.o ipc.o config.o child.o sandbox.o loop.o \
	buf.o text.o log.o
RELEASE = $(OBJS:%=build/release/%)
HOST = $(filter-out smtpd.o,$(OBJS))

# Programs for tests and fuzzing are built for this machine's C library, with sanitizers.
SANITIZE = -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -DSANDBOX_NO_SECCOMP
HOST_FLAGS = $(WARNINGS) $(SANITIZE) -I. -Ibuild/host/include
ASAN = $(OBJS:%=build/asan/%)
UNIT = $(patsubst test/unit/%.c,build/unit/%,$(wildcard test/unit/test_*.c))
FUZZ = $(patsubst test/fuzz/%.c,build/fuzz/%,$(wildcard test/fuzz/fuzz_*.c))
REPLAY = $(patsubst test/fuzz/%.c,build/replay/%,$(wildcard test/fuzz/fuzz_*.c))

all: smtpd

# ---- the program ----

build/.packages: deps/packages.sh
	@mkdir -p build
	deps/packages.sh gcc make xz-utils linux-libc-dev
	@touch $@

build/.archives: deps/SHA256SUMS deps/fetch.sh | build/.packages
	deps/fetch.sh build/archives
	@touch $@

build/.deps: build/.archives deps/build.sh deps/inih.flags
	deps/build.sh build/archives $(DEPS)
	@touch $@

smtpd: $(RELEASE)
	$(MUSL_CC) -static -s -Wl,--gc-sections $(LDFLAGS) -o $@ $(RELEASE) $(LIBS)

build/release/%.o: %.c | build/.deps
	@mkdir -p $(@D)
	$(MUSL_CC) $(WARNINGS) $(SECTIONS) -MMD -MP $(CFLAGS) -c -o $@ $<

# ---- for tests ----

build/host/include/ini.h: | build/.deps
	@mkdir -p $(@D)
	cp $(DEPS)/src/inih/ini.h $(DEPS)/src/jsmn/jsmn.h $(@D)

build/host/ini.o: build/host/include/ini.h
	$(CC) -g -O1 $$(cat deps/inih.flags) -c -o $@ $(DEPS)/src/inih/ini.c

build/asan/%.o: %.c build/host/include/ini.h
	@mkdir -p $(@D)
	$(CC) $(HOST_FLAGS) -MMD -MP -c -o $@ $<

build/asan/smtpd: $(ASAN) build/host/ini.o
	$(CC) $(SANITIZE) -o $@ $^

build/unit/%: test/unit/%.c $(filter-out build/asan/smtpd.o,$(ASAN)) build/host/ini.o
	@mkdir -p $(@D)
	$(CC) $(HOST_FLAGS) -Wno-unused-parameter -MMD -MP -o $@ $< $(filter %.o,$^) -lcmocka

build/replay/%: test/fuzz/%.c test/fuzz/main.c $(filter-out build/asan/smtpd.o,$(ASAN)) build/host/ini.o
	@mkdir -p $(@D)
	$(CC) $(HOST_FLAGS) -MMD -MP -o $@ $< test/fuzz/main.c $(filter %.o,$^)

build/fuzz/%: test/fuzz/%.c $(HOST:%.o=%.c) build/host/include/ini.h
	@mkdir -p $(@D)
	clang $(HOST_FLAGS) -fsanitize=fuzzer $$(cat deps/inih.flags) -o $@ $< $(HOST:%.o=%.c) -x c -Wno-conversion -Wno-shadow \
		-Wno-unused-parameter $(DEPS)/src/inih/ini.c

unit: $(UNIT)
replay: $(REPLAY)
asan: build/asan/smtpd
fuzz: $(FUZZ)

test check: smtpd
	test/run.sh

run: smtpd
	contrib/run.sh

lint: build/host/include/ini.h
	test/lint.sh $(OBJS:.o=.c)

bench: smtpd
	bench/run

bench-quick: smtpd
	bench/run --quick

install: smtpd
	install -D -m 755 smtpd $(DESTDIR)/usr/sbin/smtpd
	install -D -m 644 doc/smtpd.8 $(DESTDIR)/usr/share/man/man8/smtpd.8
	install -D -m 644 doc/smtpd.conf.5 $(DESTDIR)/usr/share/man/man5/smtpd.conf.5

clean:
	rm -rf smtpd build/release build/asan build/unit build/fuzz build/replay build/host

distclean: clean
	rm -rf build run

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile
	@echo "unit replay asan fuzz lint bench bench-quick install clean distclean"

.SECONDARY:
.PHONY: all unit replay asan fuzz test check run lint bench bench-quick install clean distclean help

-include $(RELEASE:.o=.d) $(ASAN:.o=.d) $(UNIT:=.d) $(REPLAY:=.d)
