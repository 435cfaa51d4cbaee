"""All kinds of mail site that a lab can serve, by name."""

from __future__ import annotations

from .mailman21 import Mailman21, Mailman21Slices
from .sites import (
    Dummies,
    Mailman3,
    Mailman3FewRunners,
    Mailman3Slices,
    Site,
    Standin21,
    Standin21Slices,
)

SITES: dict[str, type[Site]] = {
    site.name: site
    for site in (
        Mailman3,
        Mailman3FewRunners,
        Standin21,
        Mailman21,
        Mailman3Slices,
        Standin21Slices,
        Mailman21Slices,
        Dummies,
    )
}
