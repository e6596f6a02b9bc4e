from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from rstar.rpc.backoff import NO_BACKOFF, Backoff, backoff_after_pushback
from rstar.rpc.dispatch import LOAD_BOUND, choose_available, least_outstanding, rendezvous


@dataclass
class Server:
    address: str
    outstanding: int = 0
    backoff: Backoff = NO_BACKOFF
    runs_suspect: bool = False


addresses = st.lists(st.from_regex(r"10\.\d\.\d\.\d:5005\d", fullmatch=True), min_size=1, max_size=8, unique=True)
loads = st.lists(st.integers(0, 50), min_size=1, max_size=8)


def servers(loads: list[int]) -> list[Server]:
    return [Server(f"10.0.0.{i}:50051", load) for i, load in enumerate(loads)]


@given(loads, st.integers(0, 100))
def test_the_server_with_the_fewest_outstanding_calls_is_chosen(loads: list[int], turn: int) -> None:
    assert least_outstanding(servers(loads), turn).outstanding == min(loads)


@given(st.integers(1, 8))
def test_idle_executors_take_turns(n: int) -> None:
    idle = servers([0] * n)
    assert {least_outstanding(idle, turn).address for turn in range(n)} == {server.address for server in idle}


@given(st.text(), addresses)
def test_the_server_of_a_problem_does_not_depend_on_the_order_of_the_servers(key: str, addresses: list[str]) -> None:
    listed = [Server(address) for address in addresses]
    assert rendezvous(key, listed).address == rendezvous(key, listed[::-1]).address


@given(st.text(), addresses, st.data())
def test_only_the_problems_of_a_lost_server_move(key: str, addresses: list[str], data: st.DataObject) -> None:
    before = rendezvous(key, [Server(address) for address in addresses]).address
    lost = data.draw(st.sampled_from(addresses))
    others = [Server(address) for address in addresses if address != lost]
    if others:
        after = rendezvous(key, others).address
        assert before in {after, lost}


@given(st.integers(1, 9), st.integers(0, 10_000))
def test_a_new_server_takes_about_its_share_of_the_problems_and_no_other_moves(n: int, salt: int) -> None:
    old = servers([0] * n)
    new = Server("10.0.1.1:50051")
    keys = [f"{salt}-{i}" for i in range(1_000)]
    moved = [key for key in keys if rendezvous(key, old).address != rendezvous(key, [*old, new]).address]
    assert all(rendezvous(key, [*old, new]) is new for key in moved)
    share = 1 / (n + 1)
    six_sigma = 6 * math.sqrt(share * (1 - share) / len(keys))
    assert abs(len(moved) / len(keys) - share) < six_sigma


@given(st.text(), loads)
def test_no_server_is_given_a_call_beyond_the_load_bound(key: str, loads: list[int]) -> None:
    chosen = rendezvous(key, servers(loads))
    mean = (sum(loads) + 1) / len(loads)
    assert chosen.outstanding + 1 <= max(1, math.ceil(LOAD_BOUND * mean))


@given(st.text(), st.integers(2, 8))
def test_a_call_goes_to_the_next_server_of_its_problem_only_while_the_first_is_overloaded(key: str, n: int) -> None:
    idle = servers([0] * n)
    first = rendezvous(key, idle)
    others = [server for server in idle if server is not first]
    first.outstanding = 10
    assert rendezvous(key, idle) is rendezvous(key, others)
    first.outstanding = 0
    assert rendezvous(key, idle) is first


executors = st.lists(
    st.builds(Server, st.just(""), st.integers(0, 9), st.floats(0, 9).map(lambda s: Backoff(1, 0, s)), st.booleans()),
    min_size=1,
    max_size=8,
)


@given(executors, st.floats(0, 9), st.sets(st.integers(0, 7)), st.booleans(), st.integers(0, 9), st.text())
def test_an_executor_in_backoff_gets_no_call_and_the_wait_lasts_until_the_first_backoff_ends(
    servers: list[Server], now: float, avoided: set[int], suspect: bool, turn: int, key: str
) -> None:
    for i, server in enumerate(servers):
        server.address = str(i)
    avoid = {str(i) for i in avoided}
    chosen = choose_available(servers, now, avoid, suspect, turn, key)
    up = [server for server in servers if server.backoff.until <= now]
    if isinstance(chosen, float):
        assert not up or suspect
        assert chosen == min((s.backoff.until - now for s in servers if s not in up), default=math.inf)
        return
    assert chosen in up
    assert not (suspect and chosen.runs_suspect)
    others = [server for server in up if server.address not in avoid]
    assert chosen in (others or up)
    peers = [server for server in others or up if not (suspect and server.runs_suspect)]
    least = min(server.outstanding for server in peers)
    assert chosen.outstanding <= least + (max(1, least // 4) if key and not suspect else 0)


@given(st.text(min_size=1), loads, st.integers(0, 9), st.integers(0, 9))
def test_the_calls_of_a_problem_go_to_one_executor_while_the_load_allows(
    key: str, loads: list[int], turn: int, other: int
) -> None:
    idle = servers([0] * len(loads))
    home = choose_available(idle, 0.0, (), False, turn, key)
    assert home is choose_available(idle, 0.0, (), False, other, key)
    assert isinstance(home, Server)
    home.outstanding = 1
    assert choose_available(idle, 0.0, (), False, turn, key) is home
    home.outstanding = 2
    assert (choose_available(idle, 0.0, (), False, turn, key) is home) == (len(idle) == 1)


def test_a_suspect_waits_for_another_executor_without_a_suspect() -> None:
    here, there = Server("here"), Server("there", runs_suspect=True)
    assert choose_available([here, there], 0.0, {"here"}, True, 0) == math.inf
    assert choose_available([here, there], 0.0, {"here"}, False, 0) is there
    there.backoff = backoff_after_pushback(NO_BACKOFF, 0.0, 5.0)
    assert choose_available([here, there], 0.0, {"here"}, True, 0) is here
