"""The surfaces, by where the foreign bytes come from. SURFACES has them all."""

from __future__ import annotations

from tests.fuzz.surface import Surface
from tests.fuzz.surfaces import (
    cluster,
    configuration,
    list_directories,
    lock_directory,
    lock_names,
    mailman,
    quarantine,
    queue,
    site_yaml,
    state_files,
)

SURFACES: tuple[Surface, ...] = (
    *lock_names.SURFACES, *lock_directory.SURFACES, *quarantine.SURFACES,
    *list_directories.SURFACES, *cluster.SURFACES,
    *site_yaml.SURFACES, *queue.SURFACES, *state_files.SURFACES, *configuration.SURFACES,
    *mailman.SURFACES,
)
