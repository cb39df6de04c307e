"""Ray clusters on loopback: a head without processors and some nodes with one each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.node import Order, Post, work

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes Ray take 127.0.0.1 for this machine's address."""
_NODE = {"node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": 80 * 2**20}


@contextmanager
def cluster(nodes: int, *paths: Path) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` whose nodes also import from `paths`."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in LOOPBACK.items():
            patch.setenv(key, value)
        patch.setenv("PYTHONPATH", ":".join(map(str, [*paths, ROOT])))
        from ray.cluster_utils import Cluster

        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **_NODE})
        try:
            for _ in range(nodes):
                found.add_node(num_cpus=1, **_NODE)
            yield found
        finally:
            found.shutdown()


def work_without_sharing(order: Order, post: Post) -> None:
    """What a node does that sees another run directory."""
    path, _ = order.token
    work(dataclasses.replace(order, token=(path, "another")), post)
