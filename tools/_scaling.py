"""The options that say which values of images of more than 8 bits become 0-255."""

from kerasseg.spec import CT_WINDOWS, DataError


def add_options(parser) -> None:
    """Adds the options of converters whose images may have 16 bits."""
    parser.add_argument(
        "--scaling",
        choices=("full", "percentile", "window"),
        default="full",
        help="what becomes 0-255 when images of more than 8 bits are read: all of 0-65535, the range between two "
        "percentiles of the training images, or --window; pixels are stored as they are, the range in dataset.json",
    )
    parser.add_argument("--percentiles", type=percentiles, default="0.1,99.9", help="of --scaling percentile: LOW,HIGH")
    parser.add_argument(
        "--window",
        type=window,
        metavar="LOW,HIGH",
        help="of --scaling window: the values that become 0 and 255; or of CT, in Hounsfield units, "
        + ", ".join(CT_WINDOWS),
    )


def percentiles(text: str) -> tuple[float, float]:
    """An option's two percentiles, the lower first."""
    low, high = map(float, text.split(","))
    if not 0 <= low < high <= 100:
        raise ValueError(text)
    return low, high


def window(text: str) -> tuple[float, float]:
    """An option's two values, the lower first, or those of one of `CT_WINDOWS`."""
    low, high = CT_WINDOWS[text] if text in CT_WINDOWS else map(float, text.split(","))
    if not low < high:
        raise ValueError(text)
    return low, high


def value_range(options, bit_depth: int) -> tuple[float, float] | None:
    """Returns the range that --scaling window asks for; None with another scaling.

    Raises:
        DataError: There is no --window, or one without --scaling window, or the images have 8 bits.
    """
    if (options.scaling == "window") != (options.window is not None):
        raise DataError("--scaling window and --window LOW,HIGH belong together; one of them is missing")
    if options.scaling == "window" and bit_depth == 8:
        raise DataError("--scaling window is for images of more than 8 bits; these are stored with 8: leave it out")
    return options.window


def notes(options, bit_depth: int, channels: int) -> dict:
    """Returns what the notes of a data set say of its scaling.

    Raises:
        DataError: Percentiles are asked for, but the images are not stored with 16 bits.
    """
    if options.scaling == "full":
        return {"scaling": "full"} if bit_depth == 16 else {}
    if options.scaling == "window":
        return {"scaling": "window"}
    if bit_depth != 16:
        stored = "as floating point" if bit_depth == 32 else f"with {bit_depth} bits"
        raise DataError(
            f"--scaling percentile is for images of 16 bits and 1 to 4 channels; these have {channels} and are stored "
            f"{stored}: leave the option out"
        )
    return {"scaling": "percentile", "percentiles": list(options.percentiles)}
