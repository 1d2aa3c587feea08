"""What loading weights did."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a load did, name by name.

    Attributes:
        loaded: Our variable ("layer/variable") to the source's name.
        kept: Our variables that stayed as they were.
        leftover: The source's names that no variable of ours took.
        inflated: Those of `loaded` whose RGB slices were spread over another number of image channels.
    """

    loaded: dict[str, str]
    kept: tuple[str, ...]
    leftover: tuple[str, ...]
    inflated: tuple[str, ...] = ()

    def __str__(self):
        lines = [f"{len(self.loaded)} variables loaded"]
        for label, names in self._groups():
            lines.append(f"{len(names)} {label}" + (":" if names else ""))
            lines += [f"  {name}" for name in names]
        return "\n".join(lines)

    def summary(self) -> str:
        """Returns the numbers alone, in one line."""
        counts = [f"{len(names)} {label}" for label, names in self._groups()]
        return ", ".join([f"{len(self.loaded)} variables loaded", *counts])

    def _groups(self):
        fitted = [("fitted to the channels of the image", self.inflated)] if self.inflated else []
        return [*fitted, ("kept as they were", self.kept), ("left over in the source", self.leftover)]
