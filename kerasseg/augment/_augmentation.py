"""What may happen to a sample, as ranges. Plain Python: it neither draws nor touches pixels."""

import dataclasses

from kerasseg.augment._geometry import Fill


@dataclasses.dataclass(frozen=True)
class ColourRange:
    """Ranges of the colour distortion of RGB images. The defaults are TF-Slim's and the original DeepLab-v3 project's.

    All four steps are one affine map per image, see `colour_map`; `distort_colour` is the slow, exact form. Images
    that are not RGB get brightness and contrast only.

    Attributes:
        brightness: Added, drawn from -brightness to brightness, on the scale 0-1.
        saturation: Factor, drawn between the two.
        hue: Drawn from -hue to hue, as a fraction of the circle.
        contrast: Factor of the distance from the mean colour, drawn between the two.
    """

    brightness: float = 32 / 255
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 0.2
    contrast: tuple[float, float] = (0.5, 1.5)


@dataclasses.dataclass(frozen=True)
class GreyRange:
    """Ranges of the variation of grey values, as stain, lamp and exposure cause it; for any number of channels.

    Attributes:
        contrast: Factors are drawn from 1 / contrast to contrast, evenly on a logarithmic scale.
        brightness: Added, drawn from -brightness to brightness, on the scale 0-1.
        gamma: Exponent, drawn as the contrast is.
    """

    contrast: float = 1.3
    brightness: float = 0.1
    gamma: float = 1.3


@dataclasses.dataclass(frozen=True)
class GridElastic:
    """U-Net's elastic deformation: displacements on a coarse grid, interpolated bicubically.

    Attributes:
        sigma: Standard deviation of the displacements, pixels of the result.
        points: Grid points along each side.

    Reference: Ronneberger et al. 2015, arXiv:1505.04597, §3.1.
    """

    sigma: float = 10.0
    points: int = 3


@dataclasses.dataclass(frozen=True)
class SimardElastic:
    """Simard's elastic deformation: a random displacement for each pixel, blurred.

    Attributes:
        alpha: Factor of the blurred displacements, which are drawn from -1 to 1 pixel.
        sigma: Of the Gaussian blur, pixels of the result.

    Reference: Simard et al. 2003, "Best practices for convolutional neural networks", §2.
    """

    alpha: float = 720.0
    sigma: float = 24.0


@dataclasses.dataclass(frozen=True)
class Cutout:
    """Squares that are painted over in the image; the mask keeps its labels, to be guessed from around.

    Attributes:
        count: How many.
        size: Their side, as a share of the shorter side of the result.

    Reference: DeVries & Taylor 2017, arXiv:1708.04552.
    """

    count: int = 1
    size: float = 0.25


MAX_POINTS = 8
"""Along a side of the elastic grid."""

MAX_CUTOUTS = 16
"""In one image."""

CROPS = ("random", "centre", "object", "proposal")
"""What the result may show."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How samples are varied and cut to one size: ranges, from which each sample's parameters are drawn once.

    The steps: what is shown is cut out and resized, or fetched pixel by pixel where there is rotation, shift, elastic
    deformation or a mirrored border; then flips, blur, colour or grey values, noise, padding, cutout, quarter turns.
    `dataclasses.replace(presets.unet, rotation=0)` makes a variant.

    Attributes:
        scale: Factors between which the scale is drawn.
        scale_step: Only minimum, minimum + step, ..., maximum are drawn; 0: any factor between.
        crop: What the result shows. "random": a part anywhere; a smaller image is padded below and on the right.
            "centre": the middle, padded all around. "object" and "proposal": a box of the record, see `box_margin`;
            `scale` then changes nothing.
        box_margin: An object's box, this many times as large about its centre, is resized to `box_resized` times the
            result's size, of which a random part is cut. For "object"; proposals are taken as they are.
        box_resized: As above (DeconvNet: 250 / 224).
        only_object: The mask keeps the object's class and the ignored label; all else becomes class 0.
        flip_left_right: Mirrored, every second time.
        flip_up_down: Likewise.
        quarter_turns: Turned by 0 to 3 quarters.
        rotation: Degrees; drawn from -rotation to rotation, about the middle of the result.
        shift: Pixels of the result; drawn from -shift to shift, down and to the right.
        elastic: Deformation, or None.
        border: What lies beyond the image. "fill": `fill` in the image, the ignored label in the mask. "mirror": the
            image and its maps again, mirrored without repeating the edge.
        fill: One value, one for each channel, or "mean": `IMAGENET_MEAN` for three channels, which the networks
            subtract, else the mean pixel of what is shown.
        blur: Largest standard deviation of a Gaussian blur, pixels of the result.
        colour: Colour distortion, or None.
        grey: Variation of grey values, or None.
        noise: Largest standard deviation of Gaussian noise, on the scale 0-255.
        cutout: Squares to paint over, or None.

    Raises:
        ValueError: An attribute is out of range, or some contradict each other.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    scale_step: float = 0.0
    crop: str = "random"
    box_margin: float = 1.2
    box_resized: float = 250 / 224
    only_object: bool = False
    flip_left_right: bool = False
    flip_up_down: bool = False
    quarter_turns: bool = False
    rotation: float = 0.0
    shift: float = 0.0
    elastic: GridElastic | SimardElastic | None = None
    border: str = "fill"
    fill: Fill = "mean"
    blur: float = 0.0
    colour: ColourRange | None = None
    grey: GreyRange | None = None
    noise: float = 0.0
    cutout: Cutout | None = None

    def __post_init__(self):
        low, high = self.scale
        self._require(0 < low <= high, "scale", "two factors above 0, the smaller first")
        self._require(self.scale_step >= 0, "scale_step", "at least 0")
        self._require(self.crop in CROPS, "crop", f"one of {', '.join(CROPS)}")
        self._require(self.box_margin > 0, "box_margin", "a factor above 0")
        self._require(self.box_resized >= 1, "box_resized", "a factor of at least 1")
        self._require(self.border in ("fill", "mirror"), "border", "fill or mirror")
        self._require(
            not isinstance(self.fill, str) or self.fill == "mean", "fill", 'a number, one per channel, or "mean"'
        )
        for name in ("rotation", "shift", "blur", "noise"):
            self._require(getattr(self, name) >= 0, name, "at least 0")
        if isinstance(self.elastic, GridElastic):
            self._require(2 <= self.elastic.points <= MAX_POINTS, "elastic", f"2 to {MAX_POINTS} points")
        if self.cutout:
            self._require(1 <= self.cutout.count <= MAX_CUTOUTS, "cutout", f"a count of 1 to {MAX_CUTOUTS}")
        if self.only_object and self.crop != "object":
            raise ValueError('only_object needs crop="object"')
        if self.colour and self.grey:
            raise ValueError("expected colour or grey, not both: grey is for images without colours")

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name}: expected {expected}, received {getattr(self, name)!r}")

    @property
    def needs_boxes(self) -> bool:
        """Whether the records must hold object boxes."""
        return self.crop in ("object", "proposal")

    @property
    def is_warp(self) -> bool:
        """Whether pixels are fetched from anywhere, rather than from a rectangle whose sides stay parallel."""
        return bool(self.rotation or self.shift or self.elastic or self.border == "mirror")
