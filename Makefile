# mailman-ha: Pacemaker resource agents for GNU Mailman.
#
#   make install [DESTDIR=] [PREFIX=/usr]   agents, library, the command mailman-ha
#   make deb rpm         packages, into build/
#   make test            everything that needs no cluster (sets up what it needs)
#   make test-cluster [ALL_KINDS=1]   failover on real clusters in namespaces (root; sets up what it
#                        needs); each suite with each kind of Mailman
#   make test-install    packages and the README's commands on bare machines (root)
#   make demo            watch a two-node cluster lose its active node in the middle of traffic
#   make pictures        draw docs/*.svg anew; the failover is a real one (root)
#   make bench [WRITE=docs/bench.md] [PARTS=level-0]   what the agents cost, beside others (root)
#   make bench-failover [ROUNDS=9]   what a failover adds to Mailman's own cold start (root)
#   make model           the lock protocol in every interleaving, its mutants (spin), and 1,000 runs
#                        of the model on real files (root)
#   make histories [N=500] [SEED=1] [MUTANT=]   random histories of the lock library (root)
#   make histories PLAY=STORY [MUTANT=]   one of them again, as a run that failed prints it
#   make nightly         10,000 random histories, and their report in docs/histories
#   make chaos [N=20] [SEED=1] [ONLY=ROUND]   random faults on four clusters, watched (root)
#   make fuzz [SECONDS=60] [ONLY=SURFACE]   foreign input led by coverage (atheris)
#   make test-nfs        the lock library on a real NFS server, from two hosts (root)
#   make lint            ruff and mypy

PREFIX   ?= /usr
DESTDIR  ?=
PROVIDER ?= mailman
# Where Pacemaker looks for agents does not depend on PREFIX (OCF_ROOT).
OCF_ROOT ?= /usr/lib/ocf
AGENTDIR  = $(OCF_ROOT)/resource.d/$(PROVIDER)
# Each library has a directory of its own, named by its version and content, and each agent names
# the one it belongs to: an agent that runs during an upgrade never gets modules of two versions.
VERSION  := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' lib/mailman_ha/__init__.py)
CONTENT  := $(shell cd lib && find mailman_ha -name '*.py' | LC_ALL=C sort | xargs sha256sum | sha256sum | \
    cut -c 1-8)
LIBRARIES = $(PREFIX)/lib/mailman-ha
LIBRARY   = $(LIBRARIES)/$(VERSION)-$(CONTENT)
COMMAND   = $(PREFIX)/bin/mailman-ha
MANDIR    = $(PREFIX)/share/man
MANUAL    = $(MANDIR)/man8/mailman-ha.8
SITE_MANUAL = $(MANDIR)/man5/mailman-ha-site.5
AGENT_MANUALS = $(MANDIR)/man7
COMPLETION = $(PREFIX)/share/bash-completion/completions/mailman-ha
TMPFILES  = $(PREFIX)/lib/tmpfiles.d/mailman-ha.conf
SCHEMAS   = $(PREFIX)/share/mailman-ha/schemas
EXAMPLES  = $(PREFIX)/share/doc/mailman-ha/examples

PYTHON   ?= /usr/bin/python3
VENV      = .venv
AGENTS    = mailman-master qfiles-slice list-lock-janitor
MANUALS   = $(MANUAL) $(SITE_MANUAL) $(AGENTS:%=$(AGENT_MANUALS)/ocf_$(PROVIDER)_%.7)

.PHONY: all install uninstall scriptlet deb rpm packaging-packages source-archive test test-agents \
    test-cluster test-install test-nfs demo pictures bench bench-failover model histories nightly \
    fuzz chaos lint venv test-packages lab-packages lab-images clean

all:
	@sed -n 's/^#   //p' Makefile

# A file with the place of its library in it, put there in one step: Pacemaker may run it just now.
define install_program
sed 's|@LIBRARY@|$(LIBRARY)|' $(1) > '$(DESTDIR)$(dir $(2)).$(notdir $(2)).new'
chmod 755 '$(DESTDIR)$(dir $(2)).$(notdir $(2)).new'
mv -f '$(DESTDIR)$(dir $(2)).$(notdir $(2)).new' '$(DESTDIR)$(2)'

endef

# The byte code goes by the directory's name, not by times, which packaging changes.
install:
	rm -rf '$(DESTDIR)$(LIBRARY).new'
	install -d '$(DESTDIR)$(LIBRARY).new' '$(DESTDIR)$(AGENTDIR)'
	tar --create --directory=lib $$(cd lib && find mailman_ha -name '*.py') \
	    | tar --extract --no-same-owner --directory='$(DESTDIR)$(LIBRARY).new'
	$(PYTHON) -m compileall -q --invalidation-mode unchecked-hash \
	    -s '$(DESTDIR)$(LIBRARY).new' -p '$(LIBRARY)' '$(DESTDIR)$(LIBRARY).new'
	chmod -R u=rwX,go=rX '$(DESTDIR)$(LIBRARY).new'
	cd '$(DESTDIR)$(LIBRARIES)' && if diff -rq '$(notdir $(LIBRARY)).new' '$(notdir $(LIBRARY))' >/dev/null 2>&1; \
	then rm -rf '$(notdir $(LIBRARY)).new'; \
	else rm -rf '$(notdir $(LIBRARY))' && mv '$(notdir $(LIBRARY)).new' '$(notdir $(LIBRARY))'; fi
	$(foreach agent,$(AGENTS),$(call install_program,agents/$(agent),$(AGENTDIR)/$(agent)))
	install -d $(foreach file,$(COMMAND) $(MANUALS) $(COMPLETION) $(TMPFILES),'$(DESTDIR)$(dir $(file))')
	$(call install_program,lib/mailman_ha/cli/mailman-ha,$(COMMAND))
	PYTHONPATH=lib $(PYTHON) -B -m mailman_ha.cli.manual_page > '$(DESTDIR)$(MANUAL)'
	PYTHONPATH=lib $(PYTHON) -B -m mailman_ha.cli.site_page > '$(DESTDIR)$(SITE_MANUAL)'
	chmod 644 '$(DESTDIR)$(MANUAL)' '$(DESTDIR)$(SITE_MANUAL)'
	for agent in $(AGENTS); do page='$(DESTDIR)$(AGENT_MANUALS)'/ocf_$(PROVIDER)_$$agent.7; \
	    PYTHONPATH=lib $(PYTHON) -B -m mailman_ha.ocf.manual_page \
	        mailman_ha.agents.$$(echo $$agent | tr - _) > "$$page" && chmod 644 "$$page" || exit 1; \
	done
	install -m 644 lib/mailman_ha/cli/completion.bash '$(DESTDIR)$(COMPLETION)'
	install -m 644 packaging/tmpfiles.conf '$(DESTDIR)$(TMPFILES)'
	install -d '$(DESTDIR)$(SCHEMAS)' '$(DESTDIR)$(EXAMPLES)'
	install -m 644 lib/mailman_ha/cli/schemas/*.json '$(DESTDIR)$(SCHEMAS)'
	install -m 644 crm-examples/* '$(DESTDIR)$(EXAMPLES)'
	$(if $(DESTDIR),,$(forget_old_libraries))

# What earlier installations left.
define forget_old_libraries
$(MAKE) -s --no-print-directory scriptlet SCRIPT=packaging/await-actions.sh | sh
find '$(LIBRARIES)' -mindepth 1 -maxdepth 1 ! -name '$(notdir $(LIBRARY))' -exec rm -rf '{}' +
endef

# A script of a package, with the parts that .deb and .rpm have in common.
part = -e '/^\#$(1)\#/{' -e 'r packaging/$(2)' -e 'd' -e '}'
scriptlet:
	@sed $(call part,REMOVAL-GUARD,removal-guard.sh) $(call part,FORGET-LIBRARY,forget-library.sh) \
	    $(call part,CLEAR-STATE,clear-state.sh) '$(SCRIPT)' \
	| sed $(call part,AWAIT-ACTIONS,await-actions.sh) \
	| sed $(foreach name,AGENTDIR COMMAND PROVIDER LIBRARY LIBRARIES,-e 's|@$(name)@|$($(name))|g')

uninstall:
	$(if $(DESTDIR),,$(MAKE) -s --no-print-directory scriptlet SCRIPT=packaging/removal-guard.sh | sh)
	for agent in $(AGENTS); do rm -f '$(DESTDIR)$(AGENTDIR)'/$$agent; done
	rm -f $(foreach file,$(COMMAND) $(MANUALS) $(COMPLETION) $(TMPFILES),'$(DESTDIR)$(file)')
	rm -rf '$(DESTDIR)$(LIBRARIES)' '$(DESTDIR)$(dir $(SCHEMAS))' '$(DESTDIR)$(dir $(EXAMPLES))'
	rmdir --ignore-fail-on-non-empty '$(DESTDIR)$(AGENTDIR)'

# Packages. Both are built from the same source archive, and their version is the library's.
BUILD     = build
RELEASE   = 1
SOURCE    = mailman-ha-$(VERSION)
# No compiler is needed, so build-essential is not.
PACKAGING_PACKAGES = debhelper dh-python dpkg-dev fakeroot python3-yaml rpm lintian rpmlint
# The time that the packages' files bear: the last commit's, or now outside of git.
STAMP     = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),$(shell date +%s))

packaging-packages:
	$(call need,$(PACKAGING_PACKAGES))

source-archive: packaging-packages
	mkdir -p $(BUILD)
	tar --create --exclude='./.*' --exclude=./build --exclude=./chaos --exclude=__pycache__ \
	    --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime=@$(STAMP) \
	    --transform='s|^\.|$(SOURCE)|' . | gzip -n > $(BUILD)/$(SOURCE).tar.gz

deb: source-archive
	rm -rf $(BUILD)/deb && mkdir $(BUILD)/deb
	tar --extract --file $(BUILD)/$(SOURCE).tar.gz --directory $(BUILD)/deb
	mv $(BUILD)/deb/$(SOURCE)/packaging/debian $(BUILD)/deb/$(SOURCE)/debian
	sed -e 's/@VERSION@/$(VERSION)-$(RELEASE)/' -e "s/@DATE@/$$(date -R -u -d @$(STAMP))/" \
	    packaging/debian/changelog.in > $(BUILD)/deb/$(SOURCE)/debian/changelog
	cd $(BUILD)/deb/$(SOURCE) && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps \
	    > ../build.log 2>&1 \
	    || { tail -n 30 ../build.log; exit 1; }
	TMPDIR=$(abspath $(BUILD))/deb lintian --fail-on error,warning --allow-root --tag-display-limit 0 $(BUILD)/deb/*.changes
	rm -f $(BUILD)/mailman-ha_*.deb
	mv $(BUILD)/deb/mailman-ha_$(VERSION)-$(RELEASE)_all.deb $(BUILD)/
	@rm -rf $(BUILD)/deb; ls -l $(BUILD)/*.deb

rpm: source-archive
	rm -rf $(BUILD)/rpm
	SOURCE_DATE_EPOCH=$(STAMP) rpmbuild -bb --define '_topdir $(abspath $(BUILD))/rpm' \
	    --define '_sourcedir $(abspath $(BUILD))' --define 'version $(VERSION)' \
	    --define 'release $(RELEASE)' packaging/mailman-ha.spec > $(BUILD)/rpm.log 2>&1 \
	    || { tail -n 30 $(BUILD)/rpm.log; exit 1; }
	rpmlint --config packaging/rpmlint.toml $(BUILD)/rpm/RPMS/noarch/*.rpm > $(BUILD)/rpmlint.log \
	    && ! grep -E ': [EW]: ' $(BUILD)/rpmlint.log || { cat $(BUILD)/rpmlint.log; exit 1; }
	rm -f $(BUILD)/mailman-ha-*.rpm
	mv $(BUILD)/rpm/RPMS/noarch/*.rpm $(BUILD)/
	@rm -rf $(BUILD)/rpm; ls -l $(BUILD)/*.rpm

# What the tests need besides Python packages: the distribution's psutil and yaml, on which the
# agents run, the tools that judge agents, and a FUSE file system to hang.
TEST_PACKAGES = python3-venv kmod time python3-psutil python3-yaml \
    python3-rich python3-argcomplete resource-agents pcs crmsh \
    pacemaker-cli-utils libxml2-utils groff-base man-db mandoc bindfs fuse3 iproute2 psmisc procps \
    e2fsprogs util-linux graphviz spin gcc libc6-dev prometheus prometheus-node-exporter
LAB_PACKAGES = python3-venv debootstrap iproute2 e2fsprogs util-linux procps

APT_INSTALL = DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends

# Installs what dpkg does not know yet; where everything is there, nothing is asked of the network.
define need
@missing=""; for package in $(1); do \
    dpkg-query -W -f '$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^ii' \
        || missing="$$missing $$package"; \
done; \
if [ -n "$$missing" ]; then \
    echo "installing:$$missing"; \
    apt-get update -q >/dev/null && \
    printf '#!/bin/sh\nexit 101\n' > /tmp/mailman-ha-policy && \
    { [ -e /usr/sbin/policy-rc.d ] || { install -m 755 /tmp/mailman-ha-policy /usr/sbin/policy-rc.d; \
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }; } && \
    $(APT_INSTALL) $$missing >/tmp/mailman-ha-apt.log 2>&1 \
        || { tail -n 20 /tmp/mailman-ha-apt.log; exit 1; }; \
fi
endef

venv: $(VENV)/complete

$(VENV)/complete: pyproject.toml
	@$(PYTHON) -m venv --help >/dev/null 2>&1 && $(PYTHON) -c 'import ensurepip' 2>/dev/null \
	    || { apt-get update -q >/dev/null; $(APT_INSTALL) python3-venv >/dev/null; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python tests/requirements.py | xargs -d '\n' $(VENV)/bin/python -m pip install -q
	touch $@

test-packages:
	$(call need,$(TEST_PACKAGES))

lab-packages:
	$(call need,$(LAB_PACKAGES))

WITHOUT_CLUSTER = $(VENV)/bin/python -m pytest -m 'not cluster and not nfs'

test: test-packages venv
	$(VENV)/bin/python -m tests.mailman3_venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(WITHOUT_CLUSTER) $(PYTEST_OPTIONS)

# The agents' own tests, half of `make test`.
test-agents: test-packages venv
	$(VENV)/bin/python -m tests.mailman3_venv
	$(WITHOUT_CLUSTER) tests/agents $(PYTEST_OPTIONS)

lab-images: lab-packages venv
	$(VENV)/bin/python -m lab images

test-cluster: lab-packages packaging-packages venv
	$(VENV)/bin/python -m pytest -m cluster tests/cluster tests/packages/test_on_a_cluster.py \
	    tests/readme/test_on_a_cluster.py $(PYTEST_OPTIONS)

test-install: lab-packages packaging-packages venv
	$(VENV)/bin/python -m pytest -m cluster tests/packages/test_on_fresh_machines.py \
	    tests/readme/test_bare_trees.py $(PYTEST_OPTIONS)

demo: lab-packages venv
	$(VENV)/bin/python -m lab demo

pictures: lab-packages venv
	$(VENV)/bin/python -m pictures.architecture docs/architecture.svg
	$(VENV)/bin/python -m lab demo --svg docs/failover.svg
	$(VENV)/bin/python -m pictures.failover README.md docs/failover.svg

# Real servers for the agents of resource-agents that the monitors are compared to.
BENCH_PACKAGES = $(TEST_PACKAGES) postgresql postfix
PARTS ?=
WRITE ?=
ROUNDS ?= 9

# In process ids of its own, with a shell that reaps: other Mailmans of the machine stay unseen.
bench: venv
	$(call need,$(BENCH_PACKAGES))
	$(VENV)/bin/python -m tests.mailman3_venv
	unshare --pid --fork --mount-proc --kill-child /bin/sh -c '"$$@"; exit $$?' sh \
	    $(VENV)/bin/python -m bench $(PARTS) $(if $(WRITE),--write '$(WRITE)')

bench-failover: lab-packages venv
	$(VENV)/bin/python -m lab failover --rounds $(ROUNDS) $(if $(WRITE),--write '$(WRITE)')

model: test-packages venv
	$(PYTHON) -m model
	MODEL_TRACES=1000 $(VENV)/bin/python -m pytest -q tests/model/test_replay.py

# Rounds, bundles of what went wrong and the report end up in CHAOS_DIR.
N         ?= 20
SEED      ?= 1
ONLY      ?=
CHAOS_DIR ?= chaos

PLAY      ?=
MUTANT    ?=

histories: venv
	PYTHONPATH=lib $(VENV)/bin/python -m tests.histories --histories $(if $(filter file,$(origin N)),500,$(N)) \
	    --seed $(SEED) $(if $(MUTANT),--mutant $(MUTANT)) $(if $(PLAY),--play $(PLAY))

nightly: venv
	PYTHONPATH=lib $(VENV)/bin/python -m tests.histories --histories 10000 --seed $(SEED) \
	    --report docs/histories/report.md

# Seconds for each surface. Atheris is made for some Pythons only; without it hypothesis plays on.
SECONDS   ?= 60

fuzz: venv
	@$(VENV)/bin/python -c 'import atheris' 2>/dev/null || $(VENV)/bin/python tests/requirements.py fuzz \
	    | xargs -d '\n' $(VENV)/bin/python -m pip install -q || echo 'atheris was not installed'
	PYTHONPATH=lib $(VENV)/bin/python -m tests.fuzz --seconds $(SECONDS) $(ONLY)

chaos: lab-packages venv
	$(VENV)/bin/python -m lab chaos --faults $(N) --seed $(SEED) \
	    $(if $(ONLY),--only $(ONLY)) --directory '$(CHAOS_DIR)'; status=$$?; \
	    $(VENV)/bin/python -m lab chaos-report --directory '$(CHAOS_DIR)'; exit $$status

test-nfs: lab-packages venv
	$(VENV)/bin/python -m pytest -m nfs tests/nfs $(PYTEST_OPTIONS)

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf '{}' +
