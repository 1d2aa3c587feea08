"""Images and masks on disk: TFRecord shards beside a `dataset.json`, in the schema of TensorFlow's own DeepLab.

    tfrecords/NAME/NAME-train.tfrecord-00000-of-00004    the records, in order
    tfrecords/NAME/dataset.json                          what they hold (`kerasseg.spec.DatasetSpec`); there = complete

`write` makes such a folder, `read` gives it back as NumPy arrays, `parse` decodes one record inside a `tf.data`
graph, `read_files` reads record files without a `dataset.json`: TensorFlow's DeepLab scripts make such, and the
original DeepLab-v3 project. `tfrecords/README.md` describes the format for other programs.
"""

from kerasseg.records._example import WEIGHT_SCALE, Example
from kerasseg.records._parse import decode_image, parse
from kerasseg.records._read import from_record, read, read_files, shard_paths
from kerasseg.records._write import write

__all__ = [
    "WEIGHT_SCALE",
    "Example",
    "decode_image",
    "from_record",
    "parse",
    "read",
    "read_files",
    "shard_paths",
    "write",
]
