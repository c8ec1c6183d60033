# make            ./smtpd: static, stripped, with all libraries linked in
# make run        the same, started on loopback with a sample configuration
# make test       everything that is tested, ending in "N passed, N failed"
# make help       the rest
#
# CC, CFLAGS and LDFLAGS are yours. The program itself is compiled by musl-gcc, CC by name for tests;
# CROSS_COMPILE=aarch64-linux-gnu- makes build/aarch64-linux-gnu/smtpd for that machine.
# DEPS_DIR (a folder) or DEPS_MIRROR (an address) says where the pinned archives are, else Debian is asked (deps/fetch.sh).

CFLAGS ?= -Os
WARNINGS = -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wshadow -Wconversion -Wvla
SECTIONS = -fno-asynchronous-unwind-tables -fno-unwind-tables -ffunction-sections -fdata-sections
LIBS = -lcurl -lbearssl -linih
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60

# What is for one machine only lies apart from what is for another.
B = build$(if $(CROSS_COMPILE),/$(patsubst %-,%,$(notdir $(CROSS_COMPILE))))
SMTPD = $(if $(CROSS_COMPILE),$(B)/)smtpd
DEPS = $(B)/deps
MUSL_CC = $(DEPS)/bin/musl-gcc
export CROSS_COMPILE DEPS_DIR DEPS_MIRROR

OBJS = smtpd.o supervise.o listen.o \
	front.o conn.o front_agent.o front_count.o agent.o agent_client.o agent_auth.o agent_envelope.o agent_message.o agent_story.o exporter.o healthcheck.o \
	stream.o session.o session_auth.o session_data.o session_reply.o body.o canned.o sasl.o tls.o tls_cert.o tls_pair.o tls_self.o tls_cache.o \
	message.o policy.o header.o sender.o auth.o passwd.o jwt.o oauth.o http.o limits.o metrics.o procstat.o \
	filters.o names.o content.o rspamd.o spamd.o milter.o milter_packet.o milter_say.o milter_change.o hook.o command.o deliver.o writer.o \
	recipients.o recipient_cache.o maildir.o \
	smtp.o json.o ipc.o config.o config_file.o config_load.o config_print.o config_keys.o config_value.o config_address.o config_check.o child.o sandbox.o loop.o file.o \
	pool.o buf.o text.o log.o
RELEASE = $(OBJS:%=$(B)/release/%)

# Programs for tests and fuzzing are built for this machine's C library: build/asan with sanitizers, build/plain without
# (for valgrind), build/fuzz whole, for libFuzzer. inih is compiled into each, by the same flags as into the program.
# A test does not wait five seconds for a KILL.
TEST_FLAGS = $(WARNINGS) -g -O1 -fno-omit-frame-pointer -DSANDBOX_NO_SECCOMP -DKILL_AFTER_MS=500 -I. -isystem build/host/include
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined
MODULES = $(filter-out smtpd.o,$(OBJS)) ini.o
ASAN = $(OBJS:%=build/asan/%)
PLAIN = $(filter-out build/plain/smtpd.o,$(OBJS:%=build/plain/%))
TESTS = $(patsubst test/unit/%.c,%,$(wildcard test/unit/test_*.c))
FUZZERS = $(patsubst test/fuzz/%.c,%,$(wildcard test/fuzz/fuzz_*.c))
UNIT = $(TESTS:%=build/unit/%)
UNIT_PLAIN = $(TESTS:%=build/valgrind/%)
REPLAY = $(FUZZERS:%=build/replay/%)
FUZZ = $(FUZZERS:%=build/fuzz/%)

all: $(SMTPD)

# ---- the program ----

build/.packages: deps/packages.sh
	@mkdir -p $(@D)
	deps/packages.sh gcc libc6-dev linux-libc-dev make xz-utils ca-certificates
	@touch $@

build/.archives: deps/SHA256SUMS deps/fetch.sh | build/.packages
	deps/fetch.sh build/archives
	@touch $@

$(B)/.deps: build/.archives deps/build.sh deps/inih.flags
	deps/build.sh build/archives $(DEPS)
	@touch $@

$(SMTPD): $(RELEASE)
	$(MUSL_CC) -static -s -Wl,--gc-sections $(LDFLAGS) -o $@ $(RELEASE) $(LIBS)

$(B)/release/%.o: %.c $(B)/.deps
	@mkdir -p $(@D)
	$(MUSL_CC) $(WARNINGS) $(SECTIONS) -MMD -MP $(CFLAGS) -c -o $@ $<

# ---- for tests ----

# BearSSL and libcurl for this machine's C library, without sanitizers; crypt(3) is a library of its own there, musl has it in libc.
HOST_LIBS = build/host/lib/libcurl.a build/host/lib/libbearssl.a -lpthread -lcrypt
build/host/include/ini.h: $(B)/.deps build/host/.libs
	@mkdir -p $(@D)
	cp $(DEPS)/src/inih/ini.h $(DEPS)/src/jsmn/jsmn.h $(@D)
	@touch $@

build/host/.libs: build/.archives deps/build.sh
	CC='$(CC)' deps/build.sh build/archives build/host host
	@touch $@

build/asan/ini.o build/plain/ini.o: build/%/ini.o: build/host/include/ini.h deps/inih.flags
	@mkdir -p $(@D)
	$(CC) -g -O1 $(if $(filter asan,$*),$(SANITIZE)) $$(cat deps/inih.flags) -c -o $@ $(DEPS)/src/inih/ini.c

build/asan/%.o: %.c build/host/include/ini.h
	@mkdir -p $(@D)
	$(CC) $(TEST_FLAGS) $(SANITIZE) -MMD -MP -c -o $@ $<

build/plain/%.o: %.c build/host/include/ini.h
	@mkdir -p $(@D)
	$(CC) $(TEST_FLAGS) -MMD -MP -c -o $@ $<

build/asan/smtpd: $(ASAN) build/asan/ini.o
	$(CC) $(SANITIZE) -o $@ $^ $(HOST_LIBS)

# A test links with an archive of every module: which it needs is the linker's matter, and a function that the test itself
# defines stands in for the module's.
build/asan/modules.a: $(MODULES:%=build/asan/%)
build/plain/modules.a: $(MODULES:%=build/plain/%)
build/fuzz/o/modules.a: $(MODULES:%.o=build/fuzz/o/%.o)
%/modules.a:
	@rm -f $@
	ar rcs $@ $^

build/unit/%: test/unit/%.c build/asan/modules.a
	@mkdir -p $(@D)
	$(CC) $(TEST_FLAGS) $(SANITIZE) -Wno-unused-parameter -MMD -MP -o $@ $< $(filter %.a,$^) $(HOST_LIBS) -lcmocka

build/valgrind/%: test/unit/%.c build/plain/modules.a
	@mkdir -p $(@D)
	$(CC) $(TEST_FLAGS) -Wno-unused-parameter -MMD -MP -o $@ $< $(filter %.a,$^) $(HOST_LIBS) -lcmocka

build/replay/%: test/fuzz/%.c test/fuzz/main.c build/asan/modules.a
	@mkdir -p $(@D)
	$(CC) $(TEST_FLAGS) $(SANITIZE) -MMD -MP -o $@ $< test/fuzz/main.c $(filter %.a,$^) $(HOST_LIBS)

build/fuzz/%: test/fuzz/%.c build/fuzz/o/modules.a
	@mkdir -p $(@D)
	clang $(TEST_FLAGS) $(SANITIZE) -fsanitize=fuzzer -MMD -MP -o $@ $< $(filter %.a,$^) $(HOST_LIBS)

build/fuzz/o/ini.o: build/host/include/ini.h deps/inih.flags
	@mkdir -p $(@D)
	clang -g -O1 $(SANITIZE) -fsanitize=fuzzer-no-link $$(cat deps/inih.flags) -c -o $@ $(DEPS)/src/inih/ini.c

build/fuzz/o/%.o: %.c build/host/include/ini.h
	@mkdir -p $(@D)
	clang $(TEST_FLAGS) $(SANITIZE) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

unit: $(UNIT)
replay: $(REPLAY)
asan: build/asan/smtpd
fuzz: $(FUZZ)

fuzz-short:
	test/fuzz.sh $(FUZZ_SECONDS)

# Those that read what strangers write. The others fork, stop and time processes, which valgrind only makes slow or different: they
# have run with sanitizers.
VALGRIND = buf config content file header json jwt log sasl sender session smtp text tls
valgrind: $(VALGRIND:%=build/valgrind/test_%)
	@echo "== valgrind skips: $(filter-out $(VALGRIND:%=test_%),$(TESTS)), which fork or time processes"
	@for t in $^; do \
		echo "== valgrind $$t"; \
		valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --child-silent-after-fork=yes \
			$$t >$$t.log 2>&1 || { tail -n 60 $$t.log; exit 1; }; \
	done

test check: smtpd
	test/run.sh

run: smtpd
	contrib/run.sh

lint: build/host/include/ini.h
	test/lint.sh $(OBJS:.o=.c)

bench: smtpd
	BENCH_MORE=1 bench/run
	BENCH_MORE=1 bench/tls
	bench/filter

bench-quick: smtpd
	BENCH_MORE=1 bench/run --quick
	BENCH_MORE=1 bench/tls --quick
	bench/filter --quick

install: $(SMTPD)
	install -D -m 755 $(SMTPD) $(DESTDIR)$(PREFIX)/sbin/smtpd
	install -D -m 644 doc/smtpd.8 $(DESTDIR)$(PREFIX)/share/man/man8/smtpd.8
	install -D -m 644 doc/smtpd.conf.5 $(DESTDIR)$(PREFIX)/share/man/man5/smtpd.conf.5
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/smtpd contrib/hooks/*

# The libraries stay (build/deps, build/host), they take minutes; distclean leaves nothing.
clean:
	rm -rf smtpd $(SMTPD) $(B)/release build/asan build/plain build/unit build/valgrind build/fuzz build/replay

distclean:
	rm -rf smtpd build run

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile
	@echo
	@echo "unit replay       build the unit tests, the fuzz targets that replay their corpus (build/unit, build/replay)"
	@echo "asan              build/asan/smtpd: the program with AddressSanitizer and UBSan"
	@echo "fuzz fuzz-short   build the fuzz targets (build/fuzz); run each for FUZZ_SECONDS ($(FUZZ_SECONDS))"
	@echo "valgrind          the unit tests under valgrind"
	@echo "lint              gcc, clang, cppcheck, clang-tidy, the manual pages"
	@echo "bench bench-quick figures side by side with other servers"
	@echo "install           below PREFIX ($(PREFIX)) and DESTDIR"
	@echo "clean distclean   remove what was built; the libraries and archives as well"

.DELETE_ON_ERROR:
.PRECIOUS: build/asan/%.o build/plain/%.o build/fuzz/o/%.o
.PHONY: all unit replay asan fuzz fuzz-short valgrind test check run lint bench bench-quick install clean distclean help

-include $(RELEASE:.o=.d) $(ASAN:.o=.d) $(PLAIN:.o=.d) $(UNIT:=.d) $(UNIT_PLAIN:=.d) $(REPLAY:=.d) $(FUZZ:=.d)
-include $(MODULES:%.o=build/fuzz/o/%.d)
