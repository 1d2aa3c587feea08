"""The DeepLab-v3 of the TensorFlow 1 repository that many know the network by, of tf_slim's layers, in a session.

What sthalles/deeplab_v3 (c74c0f0) builds: ResNet-v2 with rates (2, 4, 8) in block 4, a pyramid without ReLU, and
TensorFlow 1's resize. Trained with Adam, as there.
"""

import importlib
import sys
import warnings

import tensorflow as tf
from _shared_data import images, masks

v1 = tf.compat.v1
MEAN = 123.68, 116.78, 103.94


def forward(shape, num_classes=21):
    image, logits, session = _session(shape, num_classes, training=False)
    data = images(shape)
    return lambda: session.run(logits, {image: data})


def step(shape, num_classes=21):
    image, logits, session = _session(shape, num_classes, training=True)
    with session.graph.as_default():
        mask = v1.placeholder(tf.int32, shape[:3])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(mask, logits))
        with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
            train = v1.train.AdamOptimizer(1e-5).minimize(loss)
        session.run(v1.global_variables_initializer())
    feed = {image: images(shape), mask: masks(shape[:3])}
    return lambda: session.run([train, loss], feed)


def _session(shape, num_classes, training):
    slim, resnet_v2, resnet_utils = _slim()
    with tf.Graph().as_default() as graph, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = v1.placeholder(tf.float32, (None, None, None, 3))
        norm = {"decay": 0.9997, "epsilon": 1e-5, "is_training": training, "scale": True}
        with (
            slim.arg_scope(resnet_utils.resnet_arg_scope(batch_norm_decay=0.9997)),
            slim.arg_scope([slim.batch_norm], **norm),
        ):
            features = _resnet(image - MEAN, slim, resnet_v2, resnet_utils)
            with slim.arg_scope([slim.conv2d], activation_fn=None, normalizer_fn=slim.batch_norm):
                x = _pyramid(features, slim)
            logits = slim.conv2d(x, num_classes, 1, activation_fn=None, normalizer_fn=None, scope="logits")
        logits = v1.image.resize_bilinear(logits, tf.shape(image)[1:3])
        session = v1.Session(graph=graph)
        session.run(v1.global_variables_initializer())
    return image, logits, session


def _resnet(x, slim, resnet_v2, resnet_utils):
    with slim.arg_scope([slim.conv2d], activation_fn=None, normalizer_fn=None):
        x = resnet_utils.conv2d_same(x, 64, 7, stride=2, scope="conv1")
    x = slim.max_pool2d(x, 3, stride=2, padding="SAME", scope="pool1")
    for block, units in enumerate((3, 4, 6, 3), start=1):
        depth = 64 * 2 ** (block - 1)
        for unit in range(units):
            stride = 2 if block < 3 and unit == units - 1 else 1
            rate = (2, 4, 8)[unit] if block == 4 else 1
            x = resnet_v2.bottleneck(x, 4 * depth, depth, stride, rate, scope=f"block{block}_unit{unit + 1}")
    return x


def _pyramid(x, slim):
    size = tf.shape(x)[1:3]
    pooled = slim.conv2d(tf.reduce_mean(x, [1, 2], keepdims=True), 256, 1, scope="image_level")
    branches = [v1.image.resize_bilinear(pooled, size), slim.conv2d(x, 256, 1, scope="conv_1x1")]
    branches += [slim.conv2d(x, 256, 3, rate=rate, scope=f"conv_3x3_{rate}") for rate in (6, 12, 18)]
    return slim.conv2d(tf.concat(branches, 3), 256, 1, scope="conv_1x1_output")


def _slim():
    """Imports tf_slim; TensorFlow 2.21 looks for the layers under it where tf_keras no longer has them."""
    import tf_keras
    import tf_slim
    from tf_slim.nets import resnet_utils, resnet_v2

    for part in ("", ".base", ".convolutional", ".core", ".normalization", ".pooling"):
        module = importlib.import_module(f"tf_keras.src.legacy_tf_layers{part}")
        sys.modules[f"tf_keras.legacy_tf_layers{part}"] = module
    tf_keras.legacy_tf_layers = sys.modules["tf_keras.legacy_tf_layers"]
    return tf_slim, resnet_v2, resnet_utils
