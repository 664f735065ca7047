"""Token buckets and the names they are counted under."""

from __future__ import annotations

import pytest

from histill.rpc.buckets import Buckets
from histill.rpc.peers import address_of


class Clock:
    """Time that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    """Three at once, then one every half second, and never more than three saved up."""
    clock = Clock()
    buckets = Buckets(per_s=2, burst=3, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now = 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    clock.now = 1000
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_looking_takes_nothing() -> None:
    """``wait_s`` may be asked as often as one likes."""
    buckets = Buckets(per_s=1, burst=1, clock=Clock())
    assert [buckets.wait_s("a") for _ in range(3)] == [0, 0, 0]
    assert len(buckets) == 0


def test_memory_is_bounded_and_the_busy_are_remembered() -> None:
    """A flood of names pushes out the one that was quiet for longest."""
    buckets = Buckets(per_s=0.001, burst=1, clock=Clock(), most=100)
    buckets.take("quiet")
    for number in range(1000):
        buckets.take(f"flood-{number}")
    assert len(buckets) == 100
    assert buckets.wait_s("quiet") == 0
    assert buckets.wait_s("flood-999") > 0


def test_no_rate_is_no_limit() -> None:
    """0 holds nobody up and remembers nobody."""
    buckets = Buckets(per_s=0, burst=1)
    assert {buckets.take("a") for _ in range(100)} == {0}
    assert len(buckets) == 0


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:4711", "10.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:4711", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:4711", "10.0.0.1"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_ports_do_not_count_and_networks_do(peer: str, address: str) -> None:
    """One host has many ports, and a whole /64 of IPv6."""
    assert address_of(peer) == address
