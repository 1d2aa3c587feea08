"""Which model of which server is asked, and what is said when that goes wrong."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Server:
    """A model on a server.

    Attributes:
        host, port: Where it listens.
        tls: Whether the connection is encrypted.
        model: The name that it is served by.
        version, label: Which version of it; None and None: the newest that is served.
    """

    host: str
    port: int
    tls: bool
    model: str
    version: int | None
    label: str | None

    @classmethod
    def parse(cls, address: str, model: str, version: int | None, label: str | None) -> "Server":
        """Takes "host:port", "http://host:port" or "https://host:port" apart.

        Raises:
            ValueError: It is none of these, or both a version and a label are given.
        """
        if version is not None and label is not None:
            raise ValueError(f"expected a version or a label, got both: {version} and {label!r}")
        rest = address.removeprefix("http://").removeprefix("https://").rstrip("/")
        host, _, port = rest.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f'expected the server as "host:port", for instance "localhost:8501", got {address!r}')
        return cls(host, int(port), address.startswith("https://"), model, version, label)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    def __str__(self):
        return f"model {self.model!r} at {self.address}"

    def no_connection(self, reason: str, port: str) -> str:
        """What is said when nobody listens."""
        return f"no connection to {self.address} ({reason}); does a server run there, and is this its {port}?"

    def too_slow(self, seconds: float) -> str:
        """What is said when no answer comes."""
        return f"{self}: no answer within {seconds:g} s; give it more time, or send smaller images (tile_size)"

    def not_served(self, error: str) -> str:
        """What is said when the server does not have the model."""
        return f"{self.address} does not serve a model {self.model!r} in that version ({error[:200]})"

    def no_signature(self, signature: str, error: str) -> str:
        """What is said when the model was exported otherwise."""
        return (
            f"{self} has no signature {signature!r} ({error[:200]}); export it with tools/export.py (models of 2 or of "
            "5 and more channels take arrays only, and those are sent over gRPC)"
        )

    def too_large(self, error: str) -> str:
        """What is said when a message exceeds the server's limit."""
        return f"{self}: the image is too large for the server ({error[:200]}); send it in tiles (tile_size)"
