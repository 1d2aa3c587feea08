"""What loading weights did."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a load did, name by name.

    Attributes:
        loaded: Our variable ("layer/variable") to the source's name.
        kept: Our variables that stayed as they were.
        leftover: The source's names that no variable of ours took.
    """

    loaded: dict[str, str]
    kept: tuple[str, ...]
    leftover: tuple[str, ...]

    def __str__(self):
        lines = [f"{len(self.loaded)} variables loaded"]
        for label, names in (("kept as they were", self.kept), ("left over in the source", self.leftover)):
            lines.append(f"{len(names)} {label}" + (":" if names else ""))
            lines += [f"  {name}" for name in names]
        return "\n".join(lines)
