# mailman-ha: Pacemaker resource agents for GNU Mailman.
#
#   make install [DESTDIR=] [PREFIX=/usr]   agents, library, the command mailman-ha
#   make test            everything that needs no cluster (sets up what it needs)
#   make test-cluster    failover on real clusters in namespaces (root; sets up what it needs)
#   make demo            watch a two-node cluster lose its active node in the middle of traffic
#   make bench           what a monitor and a sweep cost
#   make model           the lock protocol in every interleaving, and its mutants (spin)
#   make histories [N=500] [SEED=1] [MUTANT=]   random histories of the lock library (root)
#   make histories PLAY=STORY [MUTANT=]   one of them again, as a run that failed prints it
#   make nightly         10,000 random histories, and their report in docs/histories
#   make chaos [N=20] [SEED=1] [ONLY=ROUND]   random faults on four clusters, watched (root)
#   make lint            ruff and mypy

PREFIX   ?= /usr
DESTDIR  ?=
PROVIDER ?= mailman
# Where Pacemaker looks for agents does not depend on PREFIX (OCF_ROOT).
OCF_ROOT ?= /usr/lib/ocf
AGENTDIR  = $(OCF_ROOT)/resource.d/$(PROVIDER)
LIBRARY   = $(PREFIX)/lib/mailman-ha
COMMAND   = $(PREFIX)/bin/mailman-ha
MANUAL    = $(PREFIX)/share/man/man8/mailman-ha.8
COMPLETION = $(PREFIX)/share/bash-completion/completions/mailman-ha

PYTHON   ?= /usr/bin/python3
VENV      = .venv
AGENTS    = mailman-master qfiles-slice list-lock-janitor

.PHONY: all install uninstall test test-cluster demo bench model histories nightly chaos lint venv test-packages lab-packages \
    lab-images clean

all:
	@sed -n 's/^#   //p' Makefile

install:
	install -d '$(DESTDIR)$(AGENTDIR)' '$(DESTDIR)$(LIBRARY)'
	cd lib && find mailman_ha '(' -name '*.py' -o -name '*.json' ')' \
	    -exec install -D -m 644 '{}' '$(DESTDIR)$(LIBRARY)/{}' ';'
	for agent in $(AGENTS); do \
	    sed 's|@LIBRARY@|$(LIBRARY)|' agents/$$agent > '$(DESTDIR)$(AGENTDIR)'/$$agent && \
	    chmod 755 '$(DESTDIR)$(AGENTDIR)'/$$agent || exit 1; \
	done
	install -d '$(DESTDIR)$(dir $(COMMAND))' '$(DESTDIR)$(dir $(MANUAL))' \
	    '$(DESTDIR)$(dir $(COMPLETION))'
	sed 's|@LIBRARY@|$(LIBRARY)|' lib/mailman_ha/cli/mailman-ha > '$(DESTDIR)$(COMMAND)'
	chmod 755 '$(DESTDIR)$(COMMAND)'
	cd lib && $(PYTHON) -B -m mailman_ha.cli.manual_page > '$(DESTDIR)$(MANUAL)'
	chmod 644 '$(DESTDIR)$(MANUAL)'
	install -m 644 lib/mailman_ha/cli/completion.bash '$(DESTDIR)$(COMPLETION)'
	$(PYTHON) -m compileall -q -s '$(DESTDIR)' '$(DESTDIR)$(LIBRARY)'

uninstall:
	for agent in $(AGENTS); do rm -f '$(DESTDIR)$(AGENTDIR)'/$$agent; done
	-rmdir '$(DESTDIR)$(AGENTDIR)'
	rm -f '$(DESTDIR)$(COMMAND)' '$(DESTDIR)$(MANUAL)' '$(DESTDIR)$(COMPLETION)'
	rm -rf '$(DESTDIR)$(LIBRARY)'

# What the tests need besides Python packages: the distribution's psutil and yaml, on which the
# agents run, the tools that judge agents, and a FUSE file system to hang.
TEST_PACKAGES = python3-venv kmod time python3-psutil python3-yaml \
    python3-rich python3-argcomplete resource-agents pcs crmsh \
    pacemaker-cli-utils libxml2-utils groff-base man-db bindfs fuse3 iproute2 psmisc procps \
    e2fsprogs util-linux graphviz spin gcc libc6-dev
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

test: test-packages venv
	$(VENV)/bin/python -m tests.mailman3_venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -m 'not cluster' $(PYTEST_OPTIONS)

lab-images: lab-packages venv
	$(VENV)/bin/python -m lab images

test-cluster: lab-packages venv
	$(VENV)/bin/python -m pytest -m cluster tests/cluster $(PYTEST_OPTIONS)

demo: lab-packages venv
	$(VENV)/bin/python -m lab demo

bench: test-packages
	$(PYTHON) -m bench

model: test-packages
	$(PYTHON) -m model

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

chaos: lab-packages venv
	$(VENV)/bin/python -m lab chaos --faults $(N) --seed $(SEED) \
	    $(if $(ONLY),--only $(ONLY)) --directory '$(CHAOS_DIR)'; status=$$?; \
	    $(VENV)/bin/python -m lab chaos-report --directory '$(CHAOS_DIR)'; exit $$status

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf '{}' +
