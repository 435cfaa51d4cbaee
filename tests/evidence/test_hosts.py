"""Which machine a host name stands for: nothing is guessed, and one name is never two machines'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.evidence import hosts
from mailman_ha.evidence.cluster import Cluster, Node
from mailman_ha.evidence.hosts import HostMapError, ThisHost
from mailman_ha.locks import verdict

N1 = ThisHost("n1", "n1.example.org", "n1")
NODES = {
    "n1": Node("n1", online=True, unclean=False),
    "n2": Node("n2", online=False, unclean=True, fenced_at=1234.5),
    "n3": Node("n3", online=False, unclean=False, pending=True),
}
CLUSTER = Cluster(NODES, True, True, False)


def kind(
    name: str, here: ThisHost = N1, mapped: dict[str, str] | None = None,
    cluster: Cluster | None = CLUSTER, no_cluster: str = "",
) -> tuple[str, str]:
    facts = hosts.resolve([name], here, mapped or {}, cluster, no_cluster)[name]
    if facts.kind in (verdict.AMBIGUOUS, verdict.NO_EVIDENCE):
        assert facts.why and facts.why.isprintable()
    return facts.kind, facts.node


THIS, NODE, FOREIGN, AMBIGUOUS = (
    verdict.THIS_HOST, verdict.NODE, verdict.FOREIGN, verdict.AMBIGUOUS)


@pytest.mark.parametrize("name, expected", [
    ("n1", (THIS, "n1")),
    ("n1.example.org", (THIS, "n1")),
    ("n2", (NODE, "n2")),
    ("n2.example.org", (NODE, "n2")),
    ("n2.example.com", (FOREIGN, "")),
    ("n2.sub.example.org", (FOREIGN, "")),
    ("example.org", (FOREIGN, "")),
    ("n22", (FOREIGN, "")),
    ("n", (FOREIGN, "")),
    ("N2", (FOREIGN, "")),
    ("mail.elsewhere.example", (FOREIGN, "")),
    ("localhost", (AMBIGUOUS, "")),
    ("localhost.localdomain", (AMBIGUOUS, "")),
    ("localhost4.localdomain4", (AMBIGUOUS, "")),
    ("", (AMBIGUOUS, "")),
    (".", (AMBIGUOUS, "")),
])
def test_name_belongs_to_a_node_by_its_name_or_by_its_name_in_our_domain(
    name: str, expected: tuple[str, str]
) -> None:
    assert kind(name) == expected


def test_facts_of_a_node_are_the_clusters() -> None:
    facts = hosts.resolve(["n2", "n3"], N1, {}, CLUSTER)
    assert not facts["n2"].online and facts["n2"].unclean and facts["n2"].fenced_at == 1234.5
    assert facts["n3"].online, "a node that is just joining runs again"


QUALIFIED = Cluster({f"{name}.example.org": Node(f"{name}.example.org", True, False)
                     for name in ("n1", "n2")}, True, True, False)
Q1 = ThisHost("n1", "n1.example.org", "n1.example.org")


@pytest.mark.parametrize("name, expected", [
    ("n1", (THIS, "n1.example.org")),
    ("n1.example.org", (THIS, "n1.example.org")),
    ("n2", (NODE, "n2.example.org")),
    ("n2.example.org", (NODE, "n2.example.org")),
    ("n2.example.com", (FOREIGN, "")),
])
def test_nodes_with_qualified_names_are_known_by_their_short_names(
    name: str, expected: tuple[str, str]
) -> None:
    assert kind(name, Q1, cluster=QUALIFIED) == expected


# -- host_map

MAP = {"mail1": "n1", "mail2.example.org": "n2", "mail-old": "n2", "gone": "n9"}


@pytest.mark.parametrize("name, expected", [
    ("mail1", (THIS, "n1")),
    ("mail2.example.org", (NODE, "n2")),
    ("mail-old", (NODE, "n2")),
    ("mail2", (FOREIGN, "")),
    ("gone", (FOREIGN, "n9")),
    ("n2", (NODE, "n2")),
])
def test_operators_word_counts_for_the_names_it_gives(
    name: str, expected: tuple[str, str]
) -> None:
    assert kind(name, mapped=MAP) == expected


def test_host_that_calls_itself_what_host_map_gives_to_another_is_ambiguous() -> None:
    here = ThisHost("mail-old", "mail-old", "n1")
    assert kind("mail-old", here, MAP)[0] == AMBIGUOUS


def test_name_of_a_node_that_host_map_gives_to_another_is_ambiguous() -> None:
    """n2 calls itself n2 all the same: were n1's fencing taken for n2's, a living lock would go."""
    for name in ("n2", "n2.example.org"):
        assert kind(name, ThisHost("x", "x.example.org", "n3"), {name: "n1"})[0] == AMBIGUOUS


def test_names_of_nodes_that_host_map_swaps_are_swapped() -> None:
    swapped = {"n1": "n2", "n2": "n1"}
    here = ThisHost("n3", "n3", "n3")
    assert kind("n1", here, swapped) == (NODE, "n2")
    assert kind("n2", here, swapped) == (NODE, "n1")


@pytest.mark.parametrize("text, expected", [
    ("", {}),
    ("  ", {}),
    ("n1=mail1", {"mail1": "n1"}),
    ("n1=mail1 n2=mail2.example.org", {"mail1": "n1", "mail2.example.org": "n2"}),
    ("n1=mail1,n2=mail2\tn2=mail3\n", {"mail1": "n1", "mail2": "n2", "mail3": "n2"}),
    ("n1=mail1 n1=mail1", {"mail1": "n1"}),
])
def test_host_map_is_read(text: str, expected: dict[str, str]) -> None:
    assert hosts.parse_host_map(text) == expected


@pytest.mark.parametrize("text", [
    "n1", "=mail1", "n1=", "=", "n1=mail1=x", "n1:mail1", "n1= mail1", "n1=mail1 n2",
    "n1=mail1 n2=mail1",
])
def test_host_map_that_cannot_be_right_is_refused_with_the_part_that_is_wrong(text: str) -> None:
    with pytest.raises(HostMapError) as refusal:
        hosts.parse_host_map(text)
    assert any(part in str(refusal.value) for part in text.replace("=", " ").split() or ["="])


@given(st.text(max_size=40))
def test_any_host_map_is_read_or_refused(text: str) -> None:
    try:
        found = hosts.parse_host_map(text)
    except HostMapError:
        return
    assert all(host and node and "=" not in host + node for host, node in found.items())


# -- names that do not tell

def test_two_nodes_that_both_call_themselves_localhost_are_told_by_nobody() -> None:
    here = ThisHost("localhost", "localhost", "n1")
    assert kind("localhost", here)[0] == AMBIGUOUS
    assert kind("n1", here) == (THIS, "n1"), "the node's own name is its own whatever it says"


def test_own_name_that_no_node_has_is_ambiguous_until_it_is_mapped() -> None:
    here = ThisHost("mail", "mail.example.org", "n1")
    for name in ("mail", "mail.example.org"):
        found, _ = kind(name, here)
        assert found == AMBIGUOUS
        assert kind(name, here, {name: "n1"}) == (THIS, "n1")


def test_own_name_that_is_another_nodes_is_ambiguous() -> None:
    assert kind("n2", ThisHost("n2", "n2.example.org", "n1"))[0] == AMBIGUOUS


def test_name_in_our_domain_that_this_host_does_not_use_is_not_taken_for_it() -> None:
    here = ThisHost("mail", "mail.example.org", "n1")
    assert kind("n1.example.org", here)[0] == FOREIGN


# -- without the cluster

def test_without_any_cluster_own_names_are_this_host_and_all_others_foreign() -> None:
    here = ThisHost("mail", "mail.example.org")
    for name in here.names:
        assert kind(name, here, cluster=None)[0] == THIS
    assert kind("n2", here, cluster=None)[0] == FOREIGN
    assert kind("mapped", ThisHost("a", "a", "n1"), {"mapped": "n1"}, None)[0] == THIS


@pytest.mark.parametrize("here, name, mapped, expected", [
    (N1, "n1", {}, THIS),
    (N1, "n1.example.org", {}, THIS),
    (N1, "n2", {}, verdict.NO_EVIDENCE),
    (ThisHost("mail", "mail", "n1"), "mail", {}, verdict.NO_EVIDENCE),
    (ThisHost("mail", "mail", "n1"), "mail", {"mail": "n1"}, THIS),
    (ThisHost("mail", "mail", "n1"), "mail", {"mail": "n2"}, verdict.NO_EVIDENCE),
    (ThisHost("localhost", "localhost", "n1"), "localhost", {}, verdict.NO_EVIDENCE),
    (ThisHost("localhost", "localhost"), "localhost", {}, verdict.NO_EVIDENCE),
    (ThisHost("mail", "mail"), "mail", {}, THIS),
])
def test_while_the_cluster_does_not_answer_only_a_name_tied_to_this_node_is_this_host(
    here: ThisHost, name: str, mapped: dict[str, str], expected: str
) -> None:
    assert kind(name, here, mapped, None, "crm_mon failed")[0] == expected


# -- for all names

labels = st.sampled_from(("n1", "n2", "n3", "mail", "localhost", "n1.example.org", "mail2",
                          "n2.example.org", "example.org", "x"))


@given(
    st.builds(ThisHost, labels, labels, st.sampled_from(("n1", "n2"))), labels,
    st.dictionaries(labels, st.sampled_from(("n1", "n2", "n9")), max_size=3),
)
def test_another_nodes_name_is_never_this_host_and_this_hosts_never_another_node(
    here: ThisHost, name: str, mapped: dict[str, str]
) -> None:
    facts = hosts.resolve([name], here, mapped, CLUSTER)[name]
    if facts.kind == THIS:
        assert facts.node == here.node
        assert mapped.get(name, here.node) == here.node
    if facts.kind == NODE:
        assert facts.node != here.node and facts.node in NODES
        assert name not in here.names
