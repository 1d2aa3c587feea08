"""Images and masks on disk: TFRecord shards beside a `dataset.json`, in the schema of TensorFlow's own DeepLab.

    tfrecords/NAME/NAME-train.tfrecord-00000-of-00004    the records, in order
    tfrecords/NAME/dataset.json                          what they hold (`kerasseg.spec.DatasetSpec`); there = complete

`write` makes such a folder, `read` gives it back as NumPy arrays, `parse` decodes one record inside a `tf.data`
graph, `read_files` reads record files without a `dataset.json`: TensorFlow's DeepLab scripts make such, and the
original DeepLab-v3 project. `read_image`, `read_mask`, `read_labels`, `read_pages` and `read_sbd` read source files;
`instance_targets` makes class masks of cells, `object_boxes` the boxes and classes of objects. `tfrecords/README.md`
describes the format for other programs.
"""

from kerasseg.records._decode_cv import decode_image_cv, decode_map_cv
from kerasseg.records._example import MAX_WEIGHT, WEIGHT_SCALE, Example
from kerasseg.records._files import MAX_PIXELS
from kerasseg.records._frames import Frame, frames, read_frame, scan
from kerasseg.records._images import SUFFIXES, SourceImage, image_channels, read_image
from kerasseg.records._journal import Deferred
from kerasseg.records._masks import SourceMask, read_labels, read_mask, read_sbd, read_source_mask, relabel
from kerasseg.records._mat import read_mat
from kerasseg.records._objects import object_boxes
from kerasseg.records._parse import decode, decode_image, parse, parse_features
from kerasseg.records._read import from_record, read, read_files, serialized_records, shard_paths
from kerasseg.records._scaling import percentile_range, to_255
from kerasseg.records._targets import TARGETS, components, instance_targets, touching
from kerasseg.records._tiff import read_pages
from kerasseg.records._write import write

__all__ = [
    "MAX_PIXELS",
    "MAX_WEIGHT",
    "SUFFIXES",
    "TARGETS",
    "WEIGHT_SCALE",
    "Deferred",
    "Example",
    "Frame",
    "SourceImage",
    "SourceMask",
    "components",
    "decode",
    "decode_image",
    "frames",
    "decode_image_cv",
    "decode_map_cv",
    "from_record",
    "image_channels",
    "instance_targets",
    "object_boxes",
    "parse",
    "parse_features",
    "percentile_range",
    "read",
    "read_files",
    "read_frame",
    "read_image",
    "read_labels",
    "read_mask",
    "read_mat",
    "read_pages",
    "read_sbd",
    "read_source_mask",
    "relabel",
    "scan",
    "serialized_records",
    "shard_paths",
    "to_255",
    "touching",
    "write",
]
