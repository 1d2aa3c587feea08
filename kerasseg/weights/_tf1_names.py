"""The variable scopes of TensorFlow 1 checkpoints. See `kerasseg.weights._names` for how to read the tables.

{net} is the scope of the checkpoint's backbone, resnet_v2_50 for one; {norm} is /BatchNorm for a normalisation layer,
which has a scope within its convolution's, and nothing for the convolution itself.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Backbone:
    """How TensorFlow-Slim names a backbone.

    Attributes:
        net: Pattern of its scope.
        ours: A layer that only our backbone of this kind has.
        table: Our layers to its scopes.
    """

    net: str
    ours: str
    table: tuple[tuple[str, str], ...]


BACKBONES = (
    Backbone(
        r"resnet_v1_\d+",
        "block1_unit1_relu",
        (
            (r"(conv1(?:_\d)?)(?:_norm)?", "{net}/{0}{norm}"),
            (r"block(\d)_unit(\d+)_(shortcut|conv\d)(?:_norm)?", "{net}/block{0}/unit_{1}/bottleneck_v1/{2}{norm}"),
        ),
    ),
    Backbone(
        r"resnet_v2_\d+",
        "block1_unit1_preact_relu",
        (
            (r"conv1", "{net}/conv1"),
            (r"block(\d)_unit(\d+)_preact_norm", "{net}/block{0}/unit_{1}/bottleneck_v2/preact"),
            (r"block(\d)_unit(\d+)_(shortcut|conv\d)(?:_norm)?", "{net}/block{0}/unit_{1}/bottleneck_v2/{2}{norm}"),
            (r"postnorm_norm", "{net}/postnorm"),
        ),
    ),
    Backbone(
        r"xception_\d+",
        "entry_conv1_1_relu",
        (
            (r"entry_conv1_(\d)(?:_norm)?", "{net}/entry_flow/conv1_{0}{norm}"),
            (
                r"(entry|middle|exit)_block(\d)_unit(\d+)_shortcut(?:_norm)?",
                "{net}/{0}_flow/block{1}/unit_{2}/xception_module/shortcut{norm}",
            ),
            (
                r"(entry|middle|exit)_block(\d)_unit(\d+)_conv(\d)_(depthwise|pointwise)(?:_norm)?",
                "{net}/{0}_flow/block{1}/unit_{2}/xception_module/separable_conv{3}_{4}{norm}",
            ),
        ),
    ),
    Backbone(
        "MobilenetV2",
        "unit0_depthwise_relu",
        (
            (r"conv1(?:_norm)?", "{net}/Conv{norm}"),
            (r"unit0_(depthwise|project)(?:_norm)?", "{net}/expanded_conv/{0}{norm}"),
            (r"unit(\d+)_(expand|depthwise|project)(?:_norm)?", "{net}/expanded_conv_{0}/{1}{norm}"),
        ),
    ),
)
UNITS = r"/((?:\w+_flow/)?(?:block\d|conv1|expanded_conv))(?:/unit)?(_\d+|)/"
"""In a scope: a stage, and which of its units."""

ORIGINAL_HEAD = (
    (r"aspp_pool_(?:conv|norm)", "DeepLab_v3/ASPP_layer/image_level_conv_1x1{norm}"),
    (r"aspp_branch0_(?:conv|norm)", "DeepLab_v3/ASPP_layer/conv_1x1_0{norm}"),
    (r"aspp_branch(\d)_(?:conv|norm)", "DeepLab_v3/ASPP_layer/conv_3x3_{0}{norm}"),
    (r"aspp_projection_(?:conv|norm)", "DeepLab_v3/ASPP_layer/conv_1x1_output{norm}"),
    (r"logits_conv", "DeepLab_v3/logits"),
)
"""Of the repository that `deeplab_v3(variant="original")` reproduces."""

DEEPLAB_HEAD = (
    (r"aspp_pool_(?:conv|norm)", "image_pooling{norm}"),
    (r"aspp_branch(\d)_(?:conv|norm)", "aspp{0}{norm}"),
    (r"aspp_branch(\d)_(depthwise|pointwise)(?:_norm)?", "aspp{0}_{1}{norm}"),
    (r"aspp_projection_(?:conv|norm)", "concat_projection{norm}"),
    (r"decoder_projection_(?:conv|norm)", "decoder/feature_projection0{norm}"),
    (r"decoder_conv(\d)_(depthwise|pointwise)(?:_norm)?", "decoder/decoder_conv{0}_{1}{norm}"),
    (r"decoder_conv0(?:_norm)?", "decoder/decoder_conv0/decoder_conv0_1{norm}"),
    (r"decoder_conv1(?:_norm)?", "decoder/decoder_conv0/decoder_conv0_2{norm}"),
    (r"logits_conv", "logits/semantic"),
)
"""Of TensorFlow's own DeepLab, which concatenates as we do: image pooling before aspp0, aspp1, ...; in the decoder, the
pyramid before the projected features."""
