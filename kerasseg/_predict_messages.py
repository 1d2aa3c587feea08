"""The messages of TensorFlow Serving's PredictionService, as far as they are needed here.

The stubs of `tensorflow-serving-api` import all of TensorFlow, which takes seconds and half a gigabyte. On the wire a
message is its fields' numbers and types; those are written down here, in a pool of their own, so that both sets of
messages can be used in one process.
Source: tensorflow/serving, `apis/predict.proto`, `model.proto`; tensorflow/tensorflow, `core/framework/tensor.proto`,
    `tensor_shape.proto`, `types.proto`; `apis/prediction_log.proto`.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

UINT8, STRING = 4, 7
"""Values of `TensorProto.dtype`."""

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "bytes": _Field.TYPE_BYTES,
    "string": _Field.TYPE_STRING,
}
_PACKAGE = "kerasseg"

# {message: {field: (number, type, repeated)}}; a type that is none of the above is a message of this table.
_MESSAGES = {
    "Dim": {"size": (1, "int64", False)},
    "Shape": {"dim": (2, "Dim", True)},
    "Tensor": {
        "dtype": (1, "int32", False),  # An enumeration, which looks the same on the wire.
        "shape": (2, "Shape", False),
        "content": (4, "bytes", False),
        "string_val": (8, "bytes", True),
        "int_val": (7, "int32", True),
    },
    "Version": {"value": (1, "int64", False)},
    "ModelSpec": {
        "name": (1, "string", False),
        "version": (2, "Version", False),
        "signature_name": (3, "string", False),
        "version_label": (4, "string", False),
    },
    # A map is a repeated message of key and value.
    "NamedTensor": {"key": (1, "string", False), "value": (2, "Tensor", False)},
    "PredictRequest": {"model_spec": (1, "ModelSpec", False), "inputs": (2, "NamedTensor", True)},
    "PredictResponse": {"outputs": (1, "NamedTensor", True), "model_spec": (2, "ModelSpec", False)},
    # What a server replays before it serves a version.
    "PredictLog": {"request": (1, "PredictRequest", False)},
    "PredictionLog": {"predict_log": (6, "PredictLog", False)},
}


def _classes() -> dict:
    file = descriptor_pb2.FileDescriptorProto(name="kerasseg/predict.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in _TYPES:
                message.field.add(name=field, number=number, label=label, type=_TYPES[kind])
            else:
                kind = f".{_PACKAGE}.{kind}"
                message.field.add(name=field, number=number, label=label, type=_Field.TYPE_MESSAGE, type_name=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{n}")) for n in _MESSAGES}


_built = _classes()
PredictRequest, PredictResponse = _built["PredictRequest"], _built["PredictResponse"]
PredictionLog = _built["PredictionLog"]
