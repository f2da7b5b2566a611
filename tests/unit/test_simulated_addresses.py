"""Simulated nodes' and pods' addresses."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from proa.kubelet.simulated.addresses import Addresses

NETWORK = ip_network("100.64.0.0/10")


def test_every_node_and_pod_has_an_address_of_its_own() -> None:
    addresses = Addresses(NETWORK, 5000, 110)
    found = [addresses.node(number) for number in range(5000)]
    found += [addresses.pod(number, f"{number}/{pod}") for number in (0, 1, 4999) for pod in range(110)]
    assert len(set(found)) == len(found) and all(ip_address(one) in NETWORK for one in found)
    assert all(ip_address(addresses.pod(7, str(pod))) in ip_network(addresses.part(7)) for pod in range(200))


def test_an_address_stays_until_it_is_given_back_and_comes_round_late() -> None:
    addresses = Addresses(NETWORK, 1, 110)
    first = addresses.pod(0, "a")
    assert addresses.pod(0, "a") == first
    addresses.free(0, "a")
    assert addresses.pod(0, "b") != first, "not at once: others may still think of the first pod"
    addresses.keep(0, "old", "100.80.0.4")
    assert "100.80.0.4" not in {addresses.pod(0, str(pod)) for pod in range(200)}


def test_a_network_that_is_too_small() -> None:
    with pytest.raises(ValueError, match="room for 3 simulated nodes, not 4"):
        Addresses(ip_network("10.0.0.0/22"), 4, 110)
