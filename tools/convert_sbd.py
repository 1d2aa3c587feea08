"""Convert the Semantic Boundaries Dataset (SBD) alone to records for training.

    python tools/convert_sbd.py --sbd benchmark_RELEASE/dataset --output tfrecords/sbd
    python tools/convert_sbd.py --sbd benchmark_RELEASE/dataset --splits train_noval --output tfrecords/sbd_noval

Class ids come from cls/*.mat, object numbers from inst/*.mat where that folder is there, images from img/*.jpg, stored
untouched; the splits from train.txt (8,498 names), val.txt (2,857) and train_noval.txt (5,623). The classes are those
of PASCAL VOC; SBD marks no void. Many of SBD's images are in VOC's validation set: to train for VOC take
convert_voc.py --sbd, which leaves them out.
"""

import _cli

# isort: split
from pathlib import Path

import _convert
import _proposals
import _voc

from kerasseg.spec import VOC_CLASS_NAMES, DatasetSpec


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--sbd", required=True, type=Path, help="benchmark_RELEASE/dataset")
    _convert.add_output_options(parser)
    parser.add_argument("--splits", default="train,val", help="lists to convert")
    parser.add_argument("--allow-missing", action="store_true", help="convert what is there; list what is missing")
    _proposals.add_options(parser)
    options = parser.parse_args(arguments)

    source = _voc.Source(None, _convert.folder(options.sbd, "SBD's benchmark_RELEASE/dataset"))
    instances = (options.sbd / "inst").is_dir()
    lists = {split: source.sbd_list(split) for split in options.splits.split(",")}
    kept = _voc.keep_complete(source, lists, instances, options.allow_missing)
    spec = DatasetSpec(
        name=_convert.name_of(options.output),
        class_names=VOC_CLASS_NAMES,
        notes={
            "tool": "convert_sbd.py",
            "proposals": options.proposals and options.proposals.name,
            "missing": {split: sorted(set(lists[split]) - set(kept[split])) for split in lists},
        },
    )
    named = {split: [(name, _voc.maker(source, name, instances)) for name in kept[split]] for split in kept}
    _convert.write(options, spec, _proposals.added(options, named))


if __name__ == "__main__":
    _convert.run(main)
