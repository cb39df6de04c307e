"""Ray clusters on loopback: a head without processors and some nodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.execution.engines.node import Order, Post, work

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}
"""Ray takes 127.0.0.1 for this machine's address, and its workers are no less urgent than whoever runs this."""
WITHOUT_RAY = pytest.mark.skipif(find_spec("ray") is None, reason='needs Ray: pip install ".[ray]"')
"""Ray reads `LOOPBACK` when it is imported: looking whether it is there must not import it."""
_ATTEMPTS = 4
_NODE = {"node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": 80 * 2**20}


@contextmanager
def cluster(nodes: int, *paths: Path, processors: int = 1) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` whose nodes also import from `paths`."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in LOOPBACK.items():
            patch.setenv(key, value)
        patch.setenv("PYTHONPATH", ":".join(map(str, [*paths, ROOT])))
        from ray.cluster_utils import Cluster

        found = Cluster()
        try:
            for own in [0] + [processors] * nodes:
                _add(found, own)
            yield found
        finally:
            found.shutdown()


def _add(found: Any, processors: int) -> None:
    """Ray gives a node thirty seconds to come up, of which a busy machine may need more than one helping."""
    for attempt in range(_ATTEMPTS):
        try:
            found.add_node(num_cpus=processors, **_NODE)
            return
        except Exception:
            if attempt + 1 == _ATTEMPTS:
                raise


def work_without_sharing(order: Order, post: Post) -> None:
    """What a node does that sees another run directory."""
    path, _ = order.token
    work(dataclasses.replace(order, token=(path, "another")), post)
