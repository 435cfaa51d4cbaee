"""Where an installation's programs lie, from the parameters alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from mailman_ha.mailman import location
from mailman_ha.mailman.location import Location, NotFound

DEFAULTS_21 = [Location("2.1", ("/usr/local/mailman/bin",), "/usr/local/mailman"),
               Location("2.1", ("/usr/lib/mailman/bin",), "/usr/lib/mailman"),
               Location("2.1", ("/var/lib/mailman/bin", "/usr/lib/mailman/bin"),
                        "/var/lib/mailman")]


def test_prefix_alone_means_21_and_bindir_or_config_alone_mean_3() -> None:
    assert location.candidates("auto", "/srv/mm/", "", "") == (
        Location("2.1", ("/srv/mm/bin",), "/srv/mm"),)
    assert location.candidates("auto", "", "/srv/mm3/bin//", "/etc/mm.cfg") == (
        Location("3", ("/srv/mm3/bin",), config="/etc/mm.cfg"),)
    assert {one.version for one in location.candidates("auto", "", "", "/etc/mm.cfg")} == {"3"}
    assert {one.version for one in location.candidates("auto", "", "/b", "")} == {"3"}


def test_stated_version_decides_against_the_other_versions_parameters() -> None:
    assert {one.version for one in location.candidates("3", "/srv/mm", "", "")} == {"3"}
    assert location.candidates("2.1", "/srv/mm", "/b", "/c") == (
        Location("2.1", ("/srv/mm/bin",), "/srv/mm"),)


def test_without_a_word_the_usual_places_are_tried_21_first() -> None:
    found = location.candidates("auto", "", "", "")
    assert list(found[:3]) == DEFAULTS_21
    assert {one.version for one in found[3:]} == {"3"}
    assert found[3] == Location("3", ("/usr/lib/mailman3/bin",),
                                config="/etc/mailman3/mailman.cfg")
    assert len(found) == 3 + len(location.BINDIRS_3) * len(location.CONFIGS_3)


def test_both_versions_parameters_leave_both_open() -> None:
    found = location.candidates("auto", "/srv/mm", "/b", "/c")
    assert [one.version for one in found] == ["2.1", "3"]


@pytest.mark.parametrize("version, prefix, bindir, config", [
    ("auto", "", "", ""), ("3", "/x/../y", "b", "c"), ("2.1", ".", "", ""),
    ("nonsense", "", "", ""),
])
def test_there_is_always_a_candidate_and_nothing_is_looked_at(
    version: str, prefix: str, bindir: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: object) -> None:
        raise AssertionError("the file system was looked at")

    for name in ("stat", "lstat", "listdir", "open", "access", "readlink"):
        monkeypatch.setattr(location.os, name, look)
    found = location.candidates(version, prefix, bindir, config)
    assert found and all(one.bindirs and one.starter for one in found)


def install(path: Path, *names: str) -> None:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("#!/bin/sh\n")


def test_first_that_is_there_is_found(tmp_path: Path) -> None:
    install(tmp_path, "mm/bin/mailmanctl", "mm3/bin/mailman", "mailman.cfg")
    top = str(tmp_path)
    found = location.find("auto", f"{top}/mm", "", "")
    assert (found.version, found.starter) == ("2.1", f"{top}/mm/bin/mailmanctl")
    found = location.find("3", "", f"{top}/mm3/bin", f"{top}/mailman.cfg")
    assert (found.version, found.starter) == ("3", f"{top}/mm3/bin/mailman")
    both = location.find("auto", f"{top}/none", f"{top}/mm3/bin", f"{top}/mailman.cfg")
    assert both.version == "3"


@pytest.mark.parametrize("lacking", ["mm3/bin/mailman", "mailman.cfg"])
def test_what_is_missing_is_named_with_the_parameter_to_set(tmp_path: Path, lacking: str) -> None:
    install(tmp_path, "mm3/bin/mailman", "mailman.cfg")
    (tmp_path / lacking).unlink()
    top = str(tmp_path)
    with pytest.raises(NotFound) as refusal:
        location.find("3", "", f"{top}/mm3/bin", f"{top}/mailman.cfg")
    assert f"{top}/{lacking} missing" in str(refusal.value)
    assert "bindir or config" in str(refusal.value) and "mount the share" in str(refusal.value)
    with pytest.raises(NotFound, match="parameter prefix"):
        location.find("2.1", f"{top}/mm", "", "")


def test_directory_in_a_programs_place_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "bin" / "mailmanctl").mkdir(parents=True)
    with pytest.raises(NotFound):
        location.find("2.1", str(tmp_path), "", "")


def test_without_any_mailman_the_places_looked_at_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(location, "PREFIXES_21", (str(tmp_path / "a"), str(tmp_path / "b")))
    monkeypatch.setattr(location, "BINDIRS_3", (str(tmp_path / "c"),))
    with pytest.raises(NotFound) as refusal:
        location.find("auto", "", "", "")
    for name in ("a/bin", "b/bin", "c"):
        assert str(tmp_path / name) in str(refusal.value)
    assert "set prefix (2.1) or bindir and config (3)" in str(refusal.value)


def test_description_names_version_and_place() -> None:
    assert Location("2.1", ("/p/bin",), "/p").describe() == "Mailman 2.1 (/p)"
    assert Location("3", ("/b",), config="/c").describe() == "Mailman 3 (/c)"
