"""A Ray cluster: connection to it, its nodes, and the workers on them."""

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fic_runtime.devices import usable_cpus
from fic_runtime.errors import one_line

from ..data.remote import redacted, redacted_text
from ..errors import ClusterError

log = logging.getLogger(__name__)

LOCAL = "local"
"""The address of a new cluster on this machine alone."""

_CONNECT_SECONDS = 10.0
_LEAST_STORE = 128 << 20  # bytes of the object store of a cluster on this machine


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Place of one worker: a node with processors, and a GPU if it has some, that are free."""

    node: str
    host: str
    cpus: int
    gpus: int


def import_ray() -> Any:
    """Return the package ray.

    Raises:
        ClusterError: it is not installed.
    """
    # No reports about the use of the cluster to Ray's makers, unless the user wants them.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            '--ray needs Ray; pip install "fast-image-classification[ray]"'
        ) from error
    return ray


@contextmanager
def connected(address: str, store_bytes: int) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine, and leave it afterwards.

    Args:
        address: `local`, `auto`, `host:port` or `ray://host:port`.
        store_bytes: what is going to be in the object store of a cluster on this machine.

    Raises:
        ClusterError: there is no cluster, or it does not take this process.
    """
    ray = import_ray()
    if ray.is_initialized():  # of the program that calls the library
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {
            "num_cpus": usable_cpus(),
            "include_dashboard": False,
            "object_store_memory": _LEAST_STORE + 2 * store_bytes,
        }
    else:
        _knock(address)
    try:
        with _own_sigterm():
            ray.init(address=address, **options)
    except Exception as error:  # Ray raises that very class where a node does not start in time
        ray.shutdown()
        raise ClusterError(_refusal(address, error)) from error
    except BaseException:
        ray.shutdown()
        raise
    try:
        yield ray
    finally:
        ray.shutdown()


def free_slots(ray: Any) -> list[Slot]:
    """Return a place for a worker on each node with a free processor, one for each free GPU."""
    free = _free_resources()
    slots: list[Slot] = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        there = free.get(node["NodeID"], {}) if free is not None else node["Resources"]
        cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        workers = max(1, min(gpus, cpus))
        if cpus:
            slots += [
                Slot(
                    node=node["NodeID"],
                    host=node["NodeManagerHostname"],
                    cpus=cpus // workers,
                    gpus=min(1, gpus),
                )
            ] * workers
    return slots


def start_worker(
    ray: Any, slot: Slot, kind: type, arguments: tuple[Any, ...], *, calls: int
) -> Any:
    """Start an actor of a class, for so many calls at once, on a node and on no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = NodeAffinitySchedulingStrategy(slot.node, soft=False)
    actor = ray.remote(kind).options(
        num_cpus=slot.cpus, num_gpus=slot.gpus, scheduling_strategy=place, max_concurrency=calls
    )
    return actor.remote(*arguments, slot.cpus)


def head_answers(ray: Any) -> bool:
    """Tell whether the head of the cluster is there; Ray itself ends the process when it is not."""
    try:
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    except Exception as error:  # of Ray's client, which notices by itself
        log.debug("the head of the cluster has no known address (%s)", error)
        return True
    return _answers(host, int(port)) is None


def what_it_lacks(error: Exception) -> str | None:
    """Return in a few words what a node lacks for a worker to start there; None for a death."""
    text = str(error)
    if missing := re.search(r"No module named '([\w.]+)'", text):
        return (
            f"lacks the package of {missing[1]!r}; install fast-image-classification[ray] there, "
            "and [remote] for URLs"
        )
    if changed := re.search(r"(ImportError|AttributeError): ([^\n]+)", text):
        return f"has another version of fic ({changed[2]}); install the driver's"
    return None


def why_it_died(error: Exception) -> str:
    """Return in a few words why workers could not start again and again."""
    return f"could not start a worker ({redacted_text(one_line(error))[:200]})"


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's own answer to SIGTERM, which Ray replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _free_resources() -> dict[str, dict[str, float]] | None:
    """Return what is free on each node; None where Ray does not tell, as for its client."""
    try:
        from ray._private.state import available_resources_per_node

        found: dict[str, dict[str, float]] = available_resources_per_node()
    except Exception as error:  # of a private function, which may go or change
        log.debug("free resources of nodes are not known (%s)", error)
        return None
    return found


def _knock(address: str) -> None:
    """Find out in seconds that nobody is there, which takes Ray a minute or the process."""
    if address == "auto":  # which Ray reads from there, too
        address = os.environ.get("RAY_ADDRESS") or "auto"
    if address in ("auto", LOCAL):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    told = f"--ray {redacted(address)}"
    if not colon or not port.isdecimal() or not host:
        raise ClusterError(
            f"{told}: is no address; give auto, ray://host:10001, host:6379, or none for a cluster "
            "on this machine"
        )
    if error := _answers(host, int(port)):
        raise ClusterError(
            f"{told}: no cluster answers there ({one_line(error)}); check the address, and that "
            "the cluster runs"
        ) from error


def _answers(host: str, port: int) -> Exception | None:
    """Return None where somebody listens, else what happened."""
    try:
        socket.create_connection((host.strip("[]"), port), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        return error
    return None


def _refusal(address: str, error: Exception) -> str:
    text, address = redacted_text(one_line(error)), redacted(address)
    if "ersion mismatch" in str(error):
        facts = re.findall(r"(Ray|Python): ([\w.]+)", str(error))
        versions = [f"{name} {value}" for name, value in facts]
        told = text
        if len(versions) == 4:  # in this order
            told = f"{' and '.join(versions[:2])}, {' and '.join(versions[2:])}"
        return (
            f"--ray {address}: cluster and driver have different versions ({told}); install the "
            "same Python and Ray on both"
        )
    if isinstance(error, ConnectionError):
        return (
            f"--ray {address}: no cluster found; start one with `ray start --head`, or give its "
            "address"
        )
    return f"--ray {address}: cannot be used ({text[:300]}); check the cluster with `ray status`"
