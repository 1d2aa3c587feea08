"""Speed of a dilated convolution, forward and with gradients, against TensorFlow's ways, with oneDNN and without.

    python benchmarks/bench_dilation.py [--rounds 7]

The convolutions are DeepLab's: a unit of its last block, and the branches of its pyramid. "space-to-batch" is
`tf.nn.convolution`, which Keras's layers call; "Conv2D" is TensorFlow's operation with `dilations`, and TensorFlow's
gradient of it, which exists with oneDNN only. TensorFlow turns oneDNN on or off when it is imported, so each setting
has a process of its own.
"""

import argparse
import os
import subprocess
import sys

from _timing import interleaved, table

SHAPES = {
    "Pyramid, rate 12, 4 x 16² x 2048": ((4, 16, 16, 2048), 256, 12),
    "Pyramid, rate 6, 4 x 33² x 2048": ((4, 33, 33, 2048), 256, 6),
    "Pyramid, rate 18, 4 x 33² x 2048": ((4, 33, 33, 2048), 256, 18),
    "Last block, rate 2, 4 x 33² x 512": ((4, 33, 33, 512), 512, 2),
    "Last block, rate 4, 4 x 17² x 512": ((4, 17, 17, 512), 512, 4),
}


def calls(shape, filters, rate, gradients):
    """Returns {name: a call that computes and waits}."""
    import tensorflow as tf

    from kerasseg.layers import dilated_conv2d

    image = tf.random.stateless_normal(shape, (1, 2))
    kernel = tf.random.stateless_normal((3, 3, shape[-1], filters), (3, 4), stddev=0.01)
    upstream = tf.random.stateless_normal((*shape[:3], filters), (5, 6))
    rates = (rate, rate)
    ways = {
        "kerasseg": lambda image, kernel: dilated_conv2d(image, kernel, rates, "SAME"),
        "Conv2D": lambda image, kernel: tf.nn.conv2d(image, kernel, 1, "SAME", dilations=rates),
        "space-to-batch": lambda image, kernel: tf.nn.convolution(image, kernel, 1, "SAME", dilations=rates),
    }

    def computed(way):
        @tf.function(autograph=False)
        def compute(image, kernel, upstream):
            if not gradients:
                return [way(image, kernel)]
            with tf.GradientTape() as tape:
                tape.watch([image, kernel])
                result = way(image, kernel)
            return tape.gradient(result, [image, kernel], upstream)

        return lambda: [x.numpy() for x in compute(image, kernel, upstream)]

    found = {}
    for name, way in ways.items():
        call = computed(way)
        try:
            call()
        except tf.errors.InvalidArgumentError:  # No such gradient without oneDNN.
            continue
        found[name] = call
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--onednn", choices=("0", "1"), help="only this setting, in this process")
    options = parser.parse_args()
    if options.onednn is None:
        for onednn in ("1", "0"):
            command = [sys.executable, __file__, "--rounds", str(options.rounds), "--onednn", onednn]
            subprocess.run(command, check=True, env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn})
        return
    state = "on" if options.onednn == "1" else "off"
    for title, shape in SHAPES.items():
        for gradients in (False, True):
            part = "forward and gradients" if gradients else "forward"
            results = interleaved(calls(*shape, gradients), rounds=options.rounds)
            print(f"### {title}, {part}, oneDNN {state}\n\n{table(results, 'kerasseg')}\n", flush=True)


if __name__ == "__main__":
    main()
