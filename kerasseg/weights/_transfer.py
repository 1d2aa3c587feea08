"""Variables of a source into a model: everything that matches, or nothing."""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tensorflow import keras

from kerasseg.spec import DataError
from kerasseg.weights._report import LoadReport


@dataclasses.dataclass(frozen=True)
class Source:
    """Variables from elsewhere, read one at a time.

    Attributes:
        described: What errors call it.
        shapes: Of every variable, by name.
        read: Returns the array of a name.
    """

    described: str
    shapes: Mapping[str, tuple]
    read: Callable[[str], np.ndarray]


def transfer(
    model: keras.Model,
    source: Source,
    name_of: Callable[[str, str], str | None],
    *,
    exclude: Sequence[str],
    expected: str,
    units: str | None = None,
) -> LoadReport:
    """Assigns the source's variables to the model's. Nothing is changed unless everything that matches fits.

    Args:
        model: Whose variables are assigned.
        source: Whose are read.
        name_of: (layer, variable) of ours -> name in the source; None where the source never has it.
        exclude: Layers that stay as they are, by the start of their names.
        expected: What errors ask for instead.
        units: Pattern in the source's names with a stage and a unit as its groups: a stage that both have must have
            the same units in both, or this is a network of another depth, of which a part would fit.
    Raises:
        DataError: A shape or a depth differs, or nothing matches.
    """
    layers = [layer for layer in flat_layers(model) if layer.weights]
    stem = layers[0].name if layers else None
    matches, kept, wanted, excluded = [], [], [], []
    for layer in layers:
        out = layer.name.startswith(tuple(exclude))
        for leaf, variable in variables(layer):
            ours, theirs = f"{layer.name}/{leaf}", name_of(layer.name, leaf)
            if theirs is not None:
                (excluded if out else wanted).append(theirs)
            if out or theirs not in source.shapes:
                kept.append(ours)
            else:
                matches.append((ours, theirs, variable, layer.name == stem))
    if not matches:
        raise DataError(
            f"no variable of {source.described} belongs to model {model.name!r}; expected {expected}, "
            f"got {', '.join(sorted(source.shapes)[:3])}"
        )
    if units:
        _check_depth(units, wanted, excluded, model, source)
    planned = [(match, _conversion(*match, source, expected)) for match in matches]
    values = [convert(source.read(theirs)) for (_, theirs, _, _), convert in planned]
    for (_, _, variable, _), value in zip(matches, values, strict=True):
        variable.assign(value)
    loaded = {ours: theirs for ours, theirs, _, _ in matches}
    inflated = [ours for (ours, *_), convert in planned if isinstance(convert, _Inflation)]
    return LoadReport(loaded, tuple(kept), tuple(sorted(set(source.shapes) - set(loaded.values()))), tuple(inflated))


def flat_layers(model: keras.Model) -> list:
    """Returns the model's layers in order, those of models within it in their place."""
    nested = [flat_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in model.layers]
    return [layer for part in nested for layer in part]


def variables(layer) -> list:
    """Returns (name within the layer, variable) of each; a name that comes again is numbered: kernel, kernel_1."""
    leaves = numbered([leaf_name(variable.name) for variable in layer.weights])
    return list(zip(leaves, layer.weights, strict=True))


def leaf_name(name: str) -> str:
    """Returns "kernel" for Keras 3's "kernel" and for Keras 2's "conv1/depthwise_kernel:0"."""
    return name.split("/")[-1].split(":")[0].replace("depthwise_kernel", "kernel")


def numbered(names: Sequence[str]) -> list[str]:
    """Returns the names, with _1, _2, ... at those that came before."""
    seen = collections.Counter()
    result = []
    for name in names:
        result.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return result


class _Inflation:
    """The first convolution's kernel [h, w, 3, F] of RGB images for images of C channels.

    More than 3: the first three slices stay, each further one is their mean (FCN's early fusion of colour and depth).
    Fewer: every slice is their sum divided by C, so that a grey image gives what the source gives for its RGB copy.
    """

    def __init__(self, channels: int):
        self.channels = channels

    def __call__(self, kernel: np.ndarray) -> np.ndarray:
        if self.channels < 3:
            return np.repeat(kernel.sum(2, keepdims=True) / self.channels, self.channels, axis=2)
        further = np.repeat(kernel.mean(2, keepdims=True), self.channels - 3, axis=2)
        return np.concatenate([kernel, further], axis=2)


def _conversion(ours: str, theirs: str, variable, stem: bool, source: Source, expected: str) -> Callable:
    """Returns what makes the source's array one of the variable's shape."""
    shape, other = tuple(variable.shape), tuple(source.shapes[theirs])
    if shape == other:
        return np.asarray
    if len(shape) == 4 and other == (np.prod(shape[:3]), shape[3]):
        # A dense layer read its map flattened as height, width, channel.
        return lambda matrix: np.reshape(matrix, shape)
    if stem and len(shape) == len(other) == 4 and other == (*shape[:2], 3, shape[3]):
        return _Inflation(shape[2])
    raise DataError(
        f"{ours} has shape {shape}, but {theirs} in {source.described} has {other}; expected {expected}, or "
        f'exclude=("{ours.rsplit("/", 1)[0]}",)'
    )


def _check_depth(pattern: str, wanted, excluded, model: keras.Model, source: Source) -> None:
    ours, left_out, theirs = (_units(pattern, names) for names in (wanted, excluded, source.shapes))
    for stage, units in ours.items():
        if theirs[stage] and (units - theirs[stage] or theirs[stage] - units - left_out[stage]):
            raise DataError(
                f"{stage} has {len(units | left_out[stage])} units in model {model.name!r}, {len(theirs[stage])} in "
                f"{source.described}; expected the same network"
            )


def _units(pattern: str, names) -> dict[str, set]:
    """Returns {stage: its units} of variables so named."""
    found = collections.defaultdict(set)
    for name in names:
        if match := re.search(pattern, name):
            found[match[1]].add(match[2])
    return found
