# mailman-ha: Pacemaker resource agents for GNU Mailman.
#
#   make install [DESTDIR=] [PREFIX=/usr]   agents, library
#   make test            everything that needs no cluster (sets up what it needs)
#   make test-cluster    failover on real clusters in namespaces (root; sets up what it needs)
#   make demo            watch a two-node cluster lose its active node in the middle of traffic
#   make bench           what a monitor and a sweep cost
#   make lint            ruff and mypy

PREFIX   ?= /usr
DESTDIR  ?=
PROVIDER ?= mailman
# Where Pacemaker looks for agents does not depend on PREFIX (OCF_ROOT).
OCF_ROOT ?= /usr/lib/ocf
AGENTDIR  = $(OCF_ROOT)/resource.d/$(PROVIDER)
LIBRARY   = $(PREFIX)/lib/mailman-ha

PYTHON   ?= /usr/bin/python3
VENV      = .venv
AGENTS    = mailman-master list-lock-janitor

.PHONY: all install uninstall test test-cluster demo bench lint packages venv clean

all:
	@sed -n 's/^#   //p' Makefile

install:
	install -d '$(DESTDIR)$(AGENTDIR)' '$(DESTDIR)$(LIBRARY)'
	cd lib && find mailman_ha -name '*.py' -exec install -D -m 644 '{}' '$(DESTDIR)$(LIBRARY)/{}' ';'
	for agent in $(AGENTS); do \
	    sed 's|@LIBRARY@|$(LIBRARY)|' agents/$$agent > '$(DESTDIR)$(AGENTDIR)'/$$agent && \
	    chmod 755 '$(DESTDIR)$(AGENTDIR)'/$$agent || exit 1; \
	done
	$(PYTHON) -m compileall -q -s '$(DESTDIR)' '$(DESTDIR)$(LIBRARY)'

uninstall:
	for agent in $(AGENTS); do rm -f '$(DESTDIR)$(AGENTDIR)'/$$agent; done
	-rmdir '$(DESTDIR)$(AGENTDIR)'
	rm -rf '$(DESTDIR)$(LIBRARY)'
