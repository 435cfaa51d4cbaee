"""Descriptions that the tests of this directory begin with, and their rendering."""

from __future__ import annotations

from pathlib import Path

from mailman_ha.topology import description, rendering
from mailman_ha.topology.site import Site

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "crm-examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))

#: Everything that a description may hold, with values that a shell, crm and XML read otherwise.
ALL_OF_IT = r"""
title: "Odd -- values; `reboot` $(reboot) <b> & \\ "
nodes:
  mail1:
  mail2: {host: lists2.example.org}
  Mail-3_x.y: {host: lists3.example.org}
address: {ip: "2001:db8::10", netmask: 64, nic: bond0.5}
share:
  kind: nfs
  device: "[2001:db8::1]:/export/mail man"
  directory: /srv/mail man/$x
  options: hard,noac,vers=4.2
mailman:
  version: 3
  bindir: /opt/it's/bin
  config: '/etc/"quoted"/mailman.cfg'
  user: list
  group: list
  lock_dir: /srv/locks\n
  stuck_after: 15min
  quarantine_keep: 7
  textfile_dir: /var/lib/node exporter/$(reboot)
  max_queue_age: 1h
  database: mysql+pymysql://mailman:p%40ss--word@db.example.org/mailman?charset=utf8mb4
slices:
  in: {slices: 4, prefer: [mail1, mail2, Mail-3_x.y, mail1]}
  out: 8
fencing:
  switch.one:
    agent: fence_apc_snmp
    ports: {mail1: 3, mail2: outlet/4}
    delay: {mail1: 5s}
    parameters: {ip: 192.0.2.100, password: "a b$c'd\"e\\f#g=%h;i`j`!k*&<>|~\\ "}
  _fence3:
    agent: stonith:fence_ipmilan
    nodes: Mail-3_x.y
    parameters: {ip: 192.0.2.103, username: "--", password: "-1", lanplus: yes}
timeouts:
  share: {start: 2min, monitor: 60}
  slices: {start: 90s, monitor-20: 2min}
  fencing: {monitor: 90s}
"""


def example(name: str) -> tuple[Site, str]:
    """The site of an example and the path of its description."""
    path = str(EXAMPLES / f"{name}.yaml")
    return description.load(path), path


def rendered(site: Site, source: str = "site.yaml") -> dict[str, str]:
    """The site in every language."""
    return {language: rendering.render(site, language, source) for language in rendering.FORMATS}
