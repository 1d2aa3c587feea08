"""Speed of unpooling to the maxima of a pooling, SegNet's and DeconvNet's, against other ways to it.

    python benchmarks/bench_unpooling.py [--rounds 15] [--json FILE] [--addons-python .venv-addons/bin/python]

Eight maps of 224 x 224 x 64 with ties, as ReLU leaves them: max-pooling, and unpooling of other values; then the same
with the gradients of both. tensorflow-addons needs TensorFlow 2.15 and so a Python of its own (extra `addons`).
"""

from _contest import Subject, arguments, run

SHAPE = [8, 224, 224, 64]


def subjects(addons_python):
    """Returns what is compared, in the order of the tables."""

    def contestants(**options):
        options = {"shape": SHAPE, **options}
        return {
            "kerasseg": ("_unpoolings:kerasseg", options),
            "tensorflow-addons": ("_unpoolings:addons", {**options, "python": addons_python}),
            "argmax and scatter_nd": ("_unpoolings:scatter", options),
            "PyTorch, channels last": ("_unpoolings:torch", options),
            "PyTorch, channels first": ("_unpoolings:torch", {**options, "channels_last": False}),
        }

    title = "Pooling and unpooling, 8 x 224² x 64"
    return [
        Subject(f"{title}, forward", contestants()),
        Subject(f"{title}, with gradients", contestants(gradients=True)),
    ]


def main():
    parser = arguments(__doc__, rounds=15)
    parser.add_argument("--addons-python", help="a Python that has tensorflow-addons (default: this one)")
    options = parser.parse_args()
    run(subjects(options.addons_python), options)


if __name__ == "__main__":
    main()
