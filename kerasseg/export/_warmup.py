"""Requests that a server replays before it serves a version, so that the first real one does not wait."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasseg._predict_messages import STRING, UINT8, PredictionLog

WARMUP_FILE = "tf_serving_warmup_requests"
"""In `assets.extra/`; the name is TensorFlow Serving's."""


def write_warmup(directory: Path, channels: int, size: tuple[int, int], *, files: bool) -> None:
    """Writes a grey image as a request to `serving_default` and, as a file, to `predict_bytes`.

    Args:
        directory: Of the version.
        channels, size: Of the image.
        files: Whether the model has `predict_bytes`.
    """
    image = np.full((1, *size, channels), 128, np.uint8)
    requests = [_request("serving_default", "images", UINT8, image.shape)]
    requests[0].inputs[0].value.content = image.tobytes()
    if files:
        requests.append(_request("predict_bytes", "image_bytes", STRING, (1,)))
        requests[1].inputs[0].value.string_val.append(tf.io.encode_png(image[0]).numpy())
    path = directory / "assets.extra" / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def _request(signature, name, dtype, shape):
    request = PredictionLog().predict_log.request
    # A server replays it for the version that it loads, whatever the name here.
    request.model_spec.signature_name = signature
    tensor = request.inputs.add(key=name).value
    tensor.dtype = dtype
    for side in shape:
        tensor.shape.dim.add(size=side)
    return request
