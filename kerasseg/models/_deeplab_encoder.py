"""What the DeepLabs share."""

from collections.abc import Callable, Sequence

from kerasseg.backbones import BACKBONES


def connect_backbone(
    x,
    name: str,
    *,
    output_stride: int,
    multi_grid: Sequence[int] | None,
    width: float,
    norm: str | Callable,
    momentum: float | None,
    **options,
) -> dict:
    """Connects a backbone by name. None leaves an option to the backbone's own default, which is its release's."""
    if name not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, got {name!r}")
    options |= {} if multi_grid is None else {"multi_grid": multi_grid}
    options |= {} if momentum is None else {"momentum": momentum}
    return BACKBONES[name](x, name, output_stride=output_stride, width=width, norm=norm, **options)


def head_momentum(momentum: float | None) -> float:
    """Returns the momentum of the normalisations after the backbone."""
    return 0.9997 if momentum is None else momentum


def rates_at(output_stride: int, atrous_rates: Sequence[int]) -> list[int]:
    """Returns the rates of the pyramid, given for output stride 16: doubled at 8, quadrupled at 4."""
    return [rate * max(16 // output_stride, 1) for rate in atrous_rates]
