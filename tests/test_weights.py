"""Weights from elsewhere: what is downloaded otherwise is made here, as its publishers make it."""

import re
import zipfile

import h5py
import numpy as np
import pytest
from tensorflow import keras

from kerasseg.backbones import mobilenet_v2, resnet_v1, resnet_v2, vgg16
from kerasseg.layers import ASPP, Normalize
from kerasseg.models import deeplab_v3, fcn_8s, fcn_16s, fcn_32s, segnet, unet
from kerasseg.weights import load, load_by_name, load_keras_application

VGG = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def randomize(model, seed=0):
    """Gives every variable random values; variances and scales near one, so that activations stay in range."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for value in layer.get_weights():
            if value.ndim == 1:
                near = 1.0 if isinstance(layer, keras.layers.BatchNormalization) and len(values) in (0, 3) else 0.0
                values.append(near + rng.uniform(-0.1, 0.1, value.shape))
            else:
                size = np.float32(np.sqrt(2 / np.prod(value.shape[:-1])))
                values.append(size * rng.standard_normal(value.shape, np.float32))
        layer.set_weights([value.astype("float32") for value in values])


def names_its_layers(path):
    """Whether a file keeps the names of layers: all but the `.weights.h5` of Keras 2."""
    if not path.name.endswith(".weights.h5"):
        return True
    names = []
    with h5py.File(path) as file:
        file.visititems(lambda place, item: names.extend(item.attrs))
    return "name" in names


def narrow_vgg16(divisor=16, top=True):
    """Returns keras.applications.VGG16 with fewer channels, written down from its documented names."""
    image = x = keras.Input((224, 224, 3))
    for block, (filters, count) in enumerate(VGG, start=1):
        for i in range(1, count + 1):
            name = f"block{block}_conv{i}"
            x = keras.layers.Conv2D(filters // divisor, 3, activation="relu", padding="same", name=name)(x)
        x = keras.layers.MaxPooling2D(2, 2, name=f"block{block}_pool")(x)
    if top:
        x = keras.layers.Flatten(name="flatten")(x)
        x = keras.layers.Dense(4096 // divisor, activation="relu", name="fc1")(x)
        x = keras.layers.Dense(4096 // divisor, activation="relu", name="fc2")(x)
        x = keras.layers.Dense(10, activation="softmax", name="predictions")(x)
    model = keras.Model(image, x, name="vgg16")
    randomize(model)
    return model


def fully_convolutional(divisor=16, channels=3, dense=True):
    """Returns our VGG16 with the dense layers as convolutions, as FCN and DeconvNet have them."""
    image = keras.Input((None, None, channels), name="image")
    x = vgg16(image, width=1 / divisor)["pool5"]
    if dense:
        x = keras.layers.Conv2D(4096 // divisor, 7, activation="relu", name="fc6")(x)
        x = keras.layers.Conv2D(4096 // divisor, 1, activation="relu", name="fc7")(x)
        x = keras.layers.Conv2D(2, 1, kernel_initializer="zeros", name="score_fr")(x)
    return keras.Model(image, x, name="convolutional")


def tap(model, layer):
    return keras.Model(model.inputs[0], model.get_layer(layer).output)


@pytest.fixture(scope="module")
def classifier():
    return narrow_vgg16()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).uniform(-2, 2, (2, 224, 224, 3)).astype("float32")


@pytest.fixture(scope="module")
def resnet50v2(zero_weights):
    with zero_weights():
        model = keras.applications.ResNet50V2(weights=None, include_top=False, input_shape=(None, None, 3))
    randomize(model)
    # Positive before the first pooling, which pads with zeros where ours pads with nothing.
    kernel, bias = model.get_layer("conv1_conv").get_weights()
    model.get_layer("conv1_conv").set_weights([kernel, bias + 20])
    return model


@pytest.fixture(scope="module")
def small_mobilenet():
    image = keras.Input((None, None, 3))
    return keras.Model(image, mobilenet_v2(image, width=0.35, divisible_by=8, output_stride=32)["features"])


def unchanged(model, before):
    return all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


class TestVGG16:
    def test_dense_layers_become_convolutions(self, classifier, image):
        ours = fully_convolutional()
        report = load_keras_application(ours, classifier)
        expected = tap(classifier, "fc2")(image).numpy()
        features = tap(ours, "fc7")(image).numpy()
        assert features.shape == (2, 1, 1, 256)
        assert expected.std() > 0.01
        np.testing.assert_allclose(features[:, 0, 0], expected, rtol=1e-4, atol=1e-5)
        assert report.loaded["fc6/kernel"] == "fc1/kernel"
        assert report.loaded["conv5_3/bias"] == "block5_conv3/bias"
        assert len(report.loaded) == 2 * 15
        assert report.kept == ("score_fr/kernel", "score_fr/bias")
        assert report.leftover == ("predictions/bias", "predictions/kernel")
        assert report.inflated == ()
        # 32 pixels more in each direction: one cell more.
        assert tap(ours, "fc7")(np.zeros((1, 256, 288, 3))).shape == (1, 2, 3, 256)

    def test_into_fcn(self, classifier):
        """Same padding: the cell in the middle of fc6 reads the same 7x7 map as the dense layer."""
        model = fcn_8s(3, width=1 / 16, padding="same")
        report = load_keras_application(model, classifier)
        assert len(report.loaded) == 2 * 15
        pixels = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")
        expected = tap(classifier, "fc2")(pixels[..., ::-1] - (104.00698793, 116.66876762, 122.67891434))
        features = tap(model, "relu7")(pixels)
        assert features.shape == (1, 7, 7, 256)
        np.testing.assert_allclose(features[:, 3, 3], expected, rtol=1e-3, atol=1e-3)

    def test_into_segnet(self, classifier):
        report = load_keras_application(segnet(3, width=1 / 16), classifier)
        assert len(report.loaded) == 2 * 13
        assert all(name.split("/")[0].endswith(("_norm", "_D")) for name in report.kept)

    @pytest.mark.slow
    def test_at_full_width(self, image):
        classifier = keras.applications.VGG16(weights=None)
        assert classifier.count_params() == 138_357_544
        ours = fully_convolutional(divisor=1)
        report = load_keras_application(ours, classifier)
        assert (len(report.loaded), report.leftover) == (30, ("predictions/bias", "predictions/kernel"))
        expected = np.asarray(tap(classifier, "fc2")(100 * image[:1], training=False))
        assert expected.std() > 1e-3
        features = np.asarray(tap(ours, "fc7")(100 * image[:1], training=False))
        np.testing.assert_allclose(features[:, 0, 0], expected, rtol=1e-3, atol=1e-4 * expected.max())

    def test_the_convolutions_alone(self, classifier):
        ours = fully_convolutional(dense=False)
        report = load_keras_application(ours, narrow_vgg16(top=False))
        assert (len(report.loaded), report.kept, report.leftover) == (26, (), ())
        report = load_keras_application(ours, classifier)
        assert report.leftover[:2] == ("fc1/bias", "fc1/kernel")
        report = load_keras_application(fully_convolutional(), narrow_vgg16(top=False))
        assert report.kept[:2] == ("fc6/kernel", "fc6/bias")

    @pytest.mark.parametrize("name", ["vgg.keras", "vgg.h5", "vgg.weights.h5"])
    def test_files(self, classifier, tmp_path, name, recwarn):
        path = tmp_path / name
        (classifier.save_weights if "weights" in name else classifier.save)(path)
        one, two = fully_convolutional(), fully_convolutional()
        if not names_its_layers(path):
            with pytest.raises(ValueError, match="names no layers with weights; .* Load the file into the model"):
                load_keras_application(one, path)
            return
        assert load_keras_application(one, path) == load_keras_application(two, classifier)
        assert unchanged(one, two.get_weights())

    @pytest.mark.parametrize("nested", [False, True])
    @pytest.mark.parametrize("name", ["vgg.keras", "vgg.h5", "vgg.weights.h5"])
    def test_a_classifier_within_a_model(self, classifier, tmp_path, name, nested, recwarn):
        """As people have it who fine-tuned one."""
        whole = keras.Sequential([keras.Input((224, 224, 3)), narrow_vgg16(top=False), keras.layers.Flatten(name="f")])
        if nested:
            image = keras.Input((224, 224, 3))
            whole = keras.Model(image, whole(image))
        path = tmp_path / name
        (whole.save_weights if "weights" in name else whole.save)(path)
        one, two = fully_convolutional(dense=False), fully_convolutional(dense=False)
        if not names_its_layers(path):
            pytest.skip("Keras 2's .weights.h5 has no names of layers; test_files has its refusal")
        load_keras_application(two, classifier)
        assert load_keras_application(one, path).leftover == ()
        assert unchanged(one, two.get_weights())

    @pytest.mark.parametrize("chunked", [False, True])
    def test_published_weights(self, classifier, tmp_path, chunked):
        """The layout of vgg16_weights_tf_dim_ordering_tf_kernels.h5, whose variables still have Keras 1's names."""
        path = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
        with h5py.File(path, "w") as file:
            names = [layer.name.encode() for layer in classifier.layers]
            for i, part in enumerate([names[:9], names[9:]] if chunked else [names]):
                file.attrs[f"layer_names{i}" if chunked else "layer_names"] = part
            for layer in classifier.layers:
                group, values = file.create_group(layer.name), layer.get_weights()
                weights = [f"{layer.name}_{kind}_1:0" for kind, _ in zip("Wb", values, strict=False)]
                group.attrs["weight_names"] = [name.encode() for name in weights]
                for name, value in zip(weights, values, strict=True):
                    group[name] = value
        one, two = fully_convolutional(), fully_convolutional()
        assert load_keras_application(one, path) == load_keras_application(two, classifier)
        assert unchanged(one, two.get_weights())

    def test_exclude(self, classifier):
        report = load_keras_application(fully_convolutional(), classifier, exclude=("fc", "conv5_3"))
        assert [name.split("/")[0] for name in report.kept[::2]] == ["conv5_3", "fc6", "fc7", "score_fr"]
        assert "fc1/kernel" in report.leftover

    def test_another_width_is_refused_and_nothing_is_changed(self, classifier):
        ours = fully_convolutional(divisor=8)
        before = ours.get_weights()
        message = (
            r"conv1_1/kernel has shape \(3, 3, 3, 8\), but block1_conv1/kernel in model 'vgg16' has \(3, 3, 3, 4\)"
        )
        with pytest.raises(ValueError, match=message):
            load_keras_application(ours, classifier)
        assert unchanged(ours, before)

    def test_another_dense_layer_is_refused_and_nothing_is_changed(self, classifier):
        image = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(256, 3, name="fc6")(vgg16(image, width=1 / 16)["pool5"])
        ours = keras.Model(image, x)
        before = ours.get_weights()
        with pytest.raises(
            ValueError, match=r"fc6/kernel has shape \(3, 3, 32, 256\), but fc1/kernel .* \(1568, 256\)"
        ):
            load_keras_application(ours, classifier)
        assert unchanged(ours, before)

    def test_another_depth(self, classifier):
        """VGG19 has the same names, and a fourth convolution in three blocks."""
        image = x = keras.Input((32, 32, 3))
        for name in ("block1_conv1", "block1_conv2", "block1_conv3", "block5_conv3"):
            x = keras.layers.Conv2D(4, 3, padding="same", name=name)(x)
        with pytest.raises(ValueError, match="block1 has 2 units in model 'convolutional', 3 in model 'deeper'"):
            load_keras_application(fully_convolutional(), keras.Model(image, x, name="deeper"))

    def test_wrong_networks(self, classifier):
        with pytest.raises(ValueError, match="model 'unet' is none of VGG16, ResNetV2"):
            load_keras_application(fully_convolutional(), unet(2, filters=2, depth=1, padding="same"))
        with pytest.raises(
            ValueError, match=r"model 'vgg16' is a VGG16, but model 'unet' has no backbone of that kind"
        ):
            load_keras_application(unet(2, filters=2, depth=1, padding="same"), classifier)

    @pytest.mark.parametrize("name", ["resnet_v1_50", "resnet_v1_50_beta"])
    def test_names_that_other_networks_of_ours_have_too(self, classifier, resnet50v2, name, zero_weights):
        image = keras.Input((None, None, 3))
        with zero_weights():
            ours = keras.Model(image, resnet_v1(image, name, width=1)["block1"])
        for source in (classifier, resnet50v2):
            with pytest.raises(ValueError, match="no backbone of that kind"):
                load_keras_application(ours, source)


class TestChannels:
    @pytest.mark.parametrize("channels", [4, 6])
    def test_more_get_the_mean(self, classifier, channels):
        ours = fully_convolutional(channels=channels)
        report = load_keras_application(ours, classifier)
        assert report.inflated == ("conv1_1/kernel",)
        assert "1 fitted to the channels of the image:\n  conv1_1/kernel" in str(report)
        kernel, source = (
            ours.get_layer("conv1_1").get_weights()[0],
            classifier.get_layer("block1_conv1").get_weights()[0],
        )
        np.testing.assert_array_equal(kernel[:, :, :3], source)
        for i in range(3, channels):
            np.testing.assert_allclose(
                kernel[:, :, i], (source[:, :, 0] + source[:, :, 1] + source[:, :, 2]) / 3, atol=1e-6
            )

    @pytest.mark.parametrize("channels", [1, 2])
    def test_a_grey_image_gives_what_its_rgb_copy_gives(self, classifier, image, channels):
        ours = fully_convolutional(channels=channels, dense=False)
        assert load_keras_application(ours, classifier).inflated == ("conv1_1/kernel",)
        grey = image[..., :1]
        expected = tap(classifier, "block5_pool")(np.repeat(grey, 3, -1)).numpy()
        assert expected.std() > 0.01
        np.testing.assert_allclose(ours(np.repeat(grey, channels, -1)), expected, rtol=1e-4, atol=1e-5)

    def test_only_the_first_convolution(self):
        """A kernel further on that happens to read three channels is not the image's."""

        def network(channels):
            x = image = keras.Input((None, None, 3))
            x = keras.layers.Conv2D(channels, 1, name="first")(x)
            return keras.Model(image, keras.layers.Conv2D(2, 1, name="second")(x))

        with pytest.raises(ValueError, match=r"second/kernel has shape \(1, 1, 4, 2\), but .* \(1, 1, 3, 2\)"):
            load_by_name(network(4), network(3), exclude=("first",))


class TestResNetV2:
    def test_features_agree(self, resnet50v2, zero_weights):
        image = keras.Input((None, None, 3))
        x = Normalize(127.5, 127.5)(image)
        with zero_weights():
            features = resnet_v2(x, "resnet_v2_50", output_stride=32, multi_grid=(1, 1, 1))["features"]
        ours = keras.Model(image, features)
        report = load_keras_application(ours, resnet50v2)
        assert (report.kept, report.leftover) == ((), ())
        assert len(report.loaded) == len(ours.weights)
        for size in (65, 70):
            pixels = np.random.default_rng(0).uniform(0, 255, (1, size, size + 4, 3)).astype("float32")
            expected = np.asarray(resnet50v2(pixels / 127.5 - 1, training=False))
            assert expected.std() > 0.1
            np.testing.assert_allclose(ours(pixels, training=False), expected, rtol=1e-3, atol=1e-3 * expected.max())

    def test_where_the_first_pooling_differs(self, resnet50v2, zero_weights):
        image = keras.Input((None, None, 3))
        with zero_weights():
            ours = keras.Model(image, resnet_v2(image, "resnet_v2_50", width=1)["block1"])
        load_keras_application(ours, resnet50v2)
        ours, theirs = tap(ours, "pool1"), tap(resnet50v2, "pool1_pool")
        for size in range(64, 68):
            pixels = np.random.default_rng(0).uniform(-1, 1, (1, size, size, 3)).astype("float32")
            same = np.allclose(ours(pixels), theirs(pixels), atol=1e-3)
            assert same == (size % 4 in (1, 2)), size

    def test_into_deeplab_and_from_its_file(self, resnet50v2, tmp_path, zero_weights):
        path = tmp_path / "r50.weights.h5"
        resnet50v2.save_weights(path)
        if not names_its_layers(path):
            path = tmp_path / "r50.keras"
            resnet50v2.save(path)
        with zero_weights():
            ours = deeplab_v3(3, input_shape=(None, None, 4))
        report = load_keras_application(ours, path)
        assert report.inflated == ("conv1/kernel",)
        assert all(name.startswith(("aspp_", "logits_conv")) for name in report.kept)
        assert report.leftover == ()
        for mine, theirs in (("postnorm_norm", "post_bn"), ("block3_unit6_conv2_norm", "conv4_block6_2_bn")):
            mine, theirs = ours.get_layer(mine), resnet50v2.get_layer(theirs)
            for name in ("gamma", "beta", "moving_mean", "moving_variance"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))

    def test_another_depth(self, resnet50v2):
        image = keras.Input((None, None, 3))
        features = resnet_v2(image, "resnet_v2_101", width=1 / 32, norm="none")["features"]
        ours = keras.Model(image, features, name="deeper")
        with pytest.raises(ValueError, match="conv4 has 23 units in model 'deeper', 6 in model 'resnet50v2'"):
            load_keras_application(ours, resnet50v2)


class TestMobileNetV2:
    @pytest.mark.parametrize("size", [64, 97])
    def test_features_agree(self, small_mobilenet, size):
        ours, shape = small_mobilenet, (size, size, 3)
        classifier = keras.applications.MobileNetV2(shape, alpha=0.35, weights=None, include_top=False)
        randomize(classifier, seed=size)
        report = load_keras_application(ours, classifier)
        assert (len(report.loaded), report.kept) == (len(ours.weights), ())
        assert {name.split("/")[0] for name in report.leftover} == {"Conv_1", "Conv_1_bn"}
        pixels = np.random.default_rng(0).uniform(-1, 1, (1, *shape)).astype("float32")
        expected = np.asarray(tap(classifier, "block_16_project_BN")(pixels, training=False))
        assert expected.std() > 0.1
        np.testing.assert_allclose(ours(pixels, training=False), expected, rtol=1e-3, atol=1e-4)


def of_another_keras(path):
    """Makes of a functional model's `.keras` file one that no Keras here can make a model from."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    ours, theirs = (
        rb'"module": "[^"]*", "class_name": "Functional"',
        b'"module": "keras.of.2030", "class_name": "Functional"',
    )
    members["config.json"], count = re.subn(ours, theirs, members["config.json"])
    assert count == 1
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


class TestFilesOfAnotherKeras:
    """Whose model cannot be made here; its variables go by the names in its configuration all the same."""

    def layers(self, name):
        inner = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(4, 1, name="inner")], name="within")
        image = x = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(4, 3, name="first")(x)
        x = keras.layers.BatchNormalization(scale=False, name="no_scale")(x)
        x = keras.layers.BatchNormalization(center=False, name="no_centre")(x)
        x = keras.layers.BatchNormalization(name="both")(x)
        x = inner(x)
        x = keras.layers.GroupNormalization(2, name="groups")(x)
        x = keras.layers.SeparableConv2D(4, 3, name="separable")(x)
        x = keras.layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")(x)
        x = keras.layers.Conv2D(4, 1, use_bias=False, name="second")(x)
        return keras.Model(image, x, name=name)

    def test_variables_by_name(self, tmp_path):
        one, two = self.layers("one"), self.layers("two")
        for i, model in enumerate((one, two)):
            rng = np.random.default_rng(i)
            model.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in model.get_weights()])
        one.save(tmp_path / "one.keras")
        expected = load_by_name(self.layers("three"), tmp_path / "one.keras")
        of_another_keras(tmp_path / "one.keras")
        with pytest.raises((TypeError, ValueError)):
            keras.models.load_model(tmp_path / "one.keras")
        assert load_by_name(two, tmp_path / "one.keras") == expected
        assert expected.kept == expected.leftover == ()
        assert unchanged(two, one.get_weights())

    def test_what_is_not_whole(self, tmp_path):
        path = tmp_path / "one.keras"
        for names in (("config.json",), ("config.json", "model.weights.h5")):
            self.layers("one").save(path)
            of_another_keras(path)
            with zipfile.ZipFile(path) as archive:
                members = {name: archive.read(name) for name in names}
            members[names[-1]] = members[names[-1]][:-1000]
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in members.items():
                    archive.writestr(name, data)
            with pytest.raises(ValueError, match=r"one\.keras cannot be read as a model \(.*expected a \.keras file"):
                load_by_name(self.layers("two"), path)


class TestFilesThatCannotBeRead:
    def test_missing(self, tmp_path):
        with pytest.raises(ValueError, match=r"gone\.h5 does not exist; expected a \.keras or \.h5 file"):
            load_keras_application(fully_convolutional(), tmp_path / "gone.h5")

    @pytest.mark.parametrize("name", ["vgg.keras", "vgg.weights.h5"])
    def test_cut_short(self, classifier, tmp_path, name):
        path = tmp_path / name
        (classifier.save_weights if "weights" in name else classifier.save)(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        message = rf"{re.escape(name)} cannot be read as a \.keras or HDF5 file of Keras .* damaged or incomplete"
        with pytest.raises(ValueError, match=message):
            load_keras_application(fully_convolutional(), path)

    def test_something_else(self, tmp_path):
        (tmp_path / "page.h5").write_text("<html>404</html>")
        with pytest.raises(ValueError, match=r"page\.h5 cannot be read as a"):
            load_keras_application(fully_convolutional(), tmp_path / "page.h5")

    def test_weights_without_names(self, tmp_path):
        with h5py.File(tmp_path / "bare.h5", "w") as file:
            file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 4))
        with pytest.raises(ValueError, match=r"bare\.h5 names no layers with weights; .* Load the file into the model"):
            load_keras_application(fully_convolutional(), tmp_path / "bare.h5")


class TestByName:
    def test_layers_of_the_same_name(self, tmp_path):
        one, two = (unet(2, filters=4, depth=depth, padding="same", batch_norm=True) for depth in (1, 2))
        one.save(tmp_path / "one.keras")
        for source in (one, tmp_path / "one.keras"):
            report = load_by_name(two, source, exclude=("bottom", "up1"))
            assert report.loaded["logits/kernel"] == "logits/kernel"
            for layer in ("down1_conv1", "logits"):
                for a, b in zip(one.get_layer(layer).get_weights(), two.get_layer(layer).get_weights(), strict=True):
                    np.testing.assert_array_equal(a, b)

    def test_fcn_in_stages(self):
        coarse, middle, fine = (build(3, width=1 / 64) for build in (fcn_32s, fcn_16s, fcn_8s))
        randomize(coarse)
        report = load_by_name(middle, coarse)
        assert {name.split("/")[0] for name in report.kept} == {"upscore2", "score_pool4", "upscore16"}
        assert report.leftover == ("upscore/kernel",)
        report = load_by_name(fine, middle)
        assert {name.split("/")[0] for name in report.kept} == {"upscore_pool4", "score_pool3", "upscore8"}
        assert report.leftover == ("upscore16/kernel",)
        for layer in ("conv1_1", "conv5_3", "fc6", "score_fr"):
            for a, b in zip(coarse.get_layer(layer).get_weights(), fine.get_layer(layer).get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)

    def test_another_number_of_classes(self):
        one, two = (unet(classes, filters=4, depth=1, padding="same") for classes in (2, 5))
        before = two.get_weights()
        with pytest.raises(ValueError, match=r"logits/kernel has shape \(1, 1, 4, 5\), .* \(1, 1, 4, 2\); .*exclude="):
            load_by_name(two, one)
        assert unchanged(two, before)
        assert load_by_name(two, one, exclude=("logits",)).kept == ("logits/kernel", "logits/bias")

    def test_layers_of_several_convolutions(self):
        """Their variables have names that come again."""
        image = keras.Input((None, None, 3))
        one, two = (keras.Model(image, ASPP(4)(image)) for _ in range(2))
        report = load_by_name(two, one)
        assert len(report.loaded) == len(one.weights) == 6 * 5
        assert unchanged(one, two.get_weights())

    def test_nothing_in_common(self, classifier):
        with pytest.raises(ValueError, match="no variable of model 'vgg16' belongs to model 'convolutional'"):
            load_by_name(fully_convolutional(), classifier)


class TestLoad:
    """Which of the three it is, whatever the file is called."""

    def test_a_classifier(self, classifier, tmp_path, recwarn):
        classifier.save(tmp_path / "vgg.h5")
        (tmp_path / "vgg.h5").rename(tmp_path / "weights")
        assert load(fully_convolutional(), tmp_path / "weights").loaded["conv1_1/bias"] == "block1_conv1/bias"
        assert load(fully_convolutional(), classifier).loaded["fc6/bias"] == "fc1/bias"

    def test_a_model_of_ours(self, tmp_path):
        source = fully_convolutional(dense=False)
        source.save(tmp_path / "ours.keras")
        report = load(fully_convolutional(), tmp_path / "ours.keras")
        assert report.loaded["conv1_1/kernel"] == "conv1_1/kernel"
        assert report.summary() == "26 variables loaded, 6 kept as they were, 0 left over in the source"

    def test_tensorflow_1(self, tmp_path):
        model = deeplab_v3(2, width=1 / 32, norm="none")
        report = load(model, {"resnet_v2_50/conv1/biases": np.ones(2)})
        assert report.loaded == {"conv1/bias": "resnet_v2_50/conv1/biases"}
        with pytest.raises(ValueError, match=r"gone\.ckpt is not a TensorFlow checkpoint"):
            load(model, tmp_path / "gone.ckpt")
        with pytest.raises(ValueError, match=r"gone\.h5 does not exist"):
            load(model, tmp_path / "gone.h5")
