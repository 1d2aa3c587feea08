"""Speed of the networks, exported and in training, against the same networks elsewhere.

    python benchmarks/bench_models.py [--only "U-Net"] [--rounds 3] [--json FILE]

Peers: the same network made of plain Keras layers (`keras.layers.Conv2D(dilation_rate=...)`,
`keras.layers.BatchNormalization`), keras-hub, torchvision and PyTorch, and the TensorFlow 1 original on tf_slim; each
where it is installed (`pip install -e ".[bench]"`). Data is generated and lies in memory: this is the model's speed
alone. "exported" is the frozen graph that `kerasseg.export.saved_model` writes.
"""

from _contest import Subject, arguments, run

DEEPLAB = {"network": "deeplab_v3"}
BFLOAT16 = {"dtype": "bfloat16"}


def subjects():
    """Returns what is compared, in the order of the tables."""
    whole, crops = {"shape": [1, 513, 513, 3]}, {"shape": [4, 257, 257, 3]}
    stride_8 = {**DEEPLAB, **whole, "output_stride": 8}
    deeplab, training = {**DEEPLAB, **whole}, {**DEEPLAB, **crops}
    cells = {"network": "unet", "num_classes": 2, "shape": [1, 572, 572, 1]}
    small = {"network": "unet", "num_classes": 2, "shape": [2, 256, 256, 1], "padding": "same"}
    normed = {**small, "batch_norm": True}
    roads = {"network": "segnet", "num_classes": 11, "shape": [1, 360, 480, 3]}
    objects = {"network": "deconvnet", "shape": [4, 224, 224, 3]}
    return [
        Subject(
            "DeepLab-v3 R50, stride 16, 513², forward pass, exported",
            {
                "kerasseg": _keras("forward", deeplab),
                "plain Keras": _keras("forward", deeplab, plain=True),
                "keras-hub": ("_keras_networks:keras_hub_forward", {"shape": [1, 512, 512, 3]}),
                "TensorFlow 1 original": ("_slim_deeplab:forward", whole),
                "torchvision": _torch("forward", deeplab),
                "matrix product": ("_keras_networks:matrix_product", {}),
            },
            ceiling="matrix product",
        ),
        Subject(
            "DeepLab-v3 R50, stride 8, 513², forward pass, exported",
            {"kerasseg": _keras("forward", stride_8), "torchvision": _torch("forward", stride_8)},
        ),
        Subject(
            "DeepLab-v3 R50, stride 16, 4 x 257², training step",
            {
                "kerasseg": _keras("step", training),
                "plain Keras": _keras("step", training, plain=True),
                "TensorFlow 1 original": ("_slim_deeplab:step", crops),
                "torchvision": _torch("step", training),
            },
        ),
        Subject(
            "DeepLab-v3 R50, stride 16, 4 x 257², training step in bfloat16",
            {
                "kerasseg, bfloat16": _keras("step", training, **BFLOAT16),
                "kerasseg": _keras("step", training),
                "torchvision, bfloat16": _torch("step", training, **BFLOAT16),
            },
        ),
        Subject(
            "U-Net, 31 million, 572², forward pass, exported",
            {
                "kerasseg": _keras("forward", cells),
                "PyTorch": _torch("forward", cells),
                "matrix product": ("_keras_networks:matrix_product", {}),
            },
            ceiling="matrix product",
        ),
        Subject(
            "U-Net, 31 million, 572², forward pass, exported, bfloat16",
            {
                "kerasseg, bfloat16": _keras("forward", cells, **BFLOAT16),
                "PyTorch, bfloat16": _torch("forward", cells, **BFLOAT16),
                "matrix product, bfloat16": ("_keras_networks:matrix_product", BFLOAT16),
            },
            ceiling="matrix product, bfloat16",
        ),
        Subject(
            "U-Net with batch normalisation, 2 x 256², training step",
            {
                "kerasseg": _keras("step", normed),
                "plain Keras": _keras("step", normed, plain=True),
                "PyTorch": _torch("step", normed),
            },
        ),
        Subject(
            "U-Net without normalisation, 2 x 256², training step in bfloat16",
            {
                "kerasseg, bfloat16": _keras("step", small, **BFLOAT16),
                "PyTorch, bfloat16": _torch("step", small, **BFLOAT16),
            },
        ),
        Subject(
            "SegNet, 360 x 480, training step",
            {"kerasseg": _keras("step", roads), "PyTorch": _torch("step", roads)},
        ),
        Subject(
            "DeconvNet, 4 x 224², training step",
            {"kerasseg": _keras("step", objects), "PyTorch": _torch("step", objects)},
        ),
    ]


def _keras(what, options, **more):
    return f"_keras_networks:{what}", {**options, **more}


def _torch(what, options, **more):
    return f"_torch_networks:{what}", {**options, **more}


if __name__ == "__main__":
    run(subjects(), arguments(__doc__, rounds=3).parse_args())
