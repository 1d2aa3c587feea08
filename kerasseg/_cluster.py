"""The processes that train together, as the environment variable TF_CONFIG names them. Imports no TensorFlow."""

import dataclasses
import importlib.util
import json
import os
import socket
import sys
import time

from kerasseg.spec import DataError

_EXPECTED = (
    '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}, the index another '
    "one on each machine"
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of one training, and which of them this process is.

    Attributes:
        addresses: "host:port" of each; the first one is the chief's, which alone writes. Empty: one process trains.
        index: Of this process among them.
    """

    addresses: tuple[str, ...] = ()
    index: int = 0

    @property
    def several(self) -> bool:
        return len(self.addresses) > 1

    @property
    def is_chief(self) -> bool:
        return self.index == 0


def cluster() -> Cluster:
    """Returns what TF_CONFIG says; where it is not set, or names no workers, this process is alone.

    Raises:
        DataError: It is not JSON of the expected form, or it names processes of other kinds than "chief" and "worker".
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return Cluster()
    try:
        config = json.loads(text)
        jobs = {name: [str(address) for address in addresses] for name, addresses in config.get("cluster", {}).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"TF_CONFIG is not what TensorFlow expects ({error}); give {_EXPECTED}") from error
    others = sorted(set(jobs) - {"chief", "worker"})
    if others:
        raise DataError(f"TF_CONFIG names {', '.join(others)}; only workers (and a chief) train here: give {_EXPECTED}")
    addresses = tuple(jobs.get("chief", []) + jobs.get("worker", []))
    if len(addresses) < 2:
        return Cluster(addresses)
    try:
        kind, number = config["task"]["type"], int(config["task"]["index"])
        jobs[kind][number]
        if number < 0 or len(jobs.get("chief", [])) > 1:
            raise IndexError(number)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        task = config.get("task")
        raise DataError(f"TF_CONFIG's task, {task}, is none of its cluster's; give {_EXPECTED}") from error
    return Cluster(addresses, number + (len(jobs.get("chief", [])) if kind == "worker" else 0))


def choose_keras() -> None:
    """Has TensorFlow take Keras 2 where several workers train and tf_keras is there. To call before its import.

    `kerasseg.training.strategy` refuses to go on where that is still another Keras.

    Raises:
        DataError: TF_CONFIG is wrong.
    """
    if cluster().several and importlib.util.find_spec("tf_keras") is not None:
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def wait_for_all(together: Cluster) -> None:
    """Returns when all workers are there, each listening at its port. Says on stderr for whom it waits.

    TensorFlow would wait as well, but in silence, and deaf to Ctrl-C.

    Raises:
        DataError: This worker's port is taken.
    """
    own = together.addresses[together.index]
    missing = [address for address in together.addresses if address != own]
    try:
        # On all interfaces, as TensorFlow does: whoever connects to either of the two knows that this worker is there.
        listener = socket.create_server(("", _port(own)), backlog=128)
    except OSError as error:
        raise DataError(
            f"worker {together.index} cannot listen at {own} ({error.strerror}); TF_CONFIG must give each worker "
            "a free port of its own machine"
        ) from error
    with listener:
        began, said = time.monotonic(), False
        while missing := [address for address in missing if not _answers(address)]:
            if not said and time.monotonic() - began > 5:
                said = True
                print(f"worker {together.index} waits for {', '.join(missing)} to start", file=sys.stderr, flush=True)
            time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        socket.create_connection((address.rpartition(":")[0].strip("[]"), _port(address)), timeout=2).close()
    except OSError:
        return False
    return True


def _port(address: str) -> int:
    try:
        return int(address.rpartition(":")[2])
    except ValueError:
        raise DataError(f"TF_CONFIG has the address {address!r}; expected host:port") from None
