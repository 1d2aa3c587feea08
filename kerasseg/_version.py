"""The version of this package, and of what it runs on."""

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Returns the versions that a result may depend on. Imports TensorFlow."""
    import importlib.metadata
    import platform

    import tensorflow as tf

    package = tf.keras.Model.__module__.partition(".")[0]  # keras or tf_keras, whichever TensorFlow was told to use
    return {
        "kerasseg": __version__,
        "tensorflow": tf.__version__,
        package: importlib.metadata.version(package),
        "python": platform.python_version(),
    }
