"""`python -m kerasseg --version`: what is installed, and what it runs on."""

import argparse


class _Version(argparse.Action):
    def __call__(self, parser, *_):
        from kerasseg.inspection import runtime  # Imports TensorFlow.

        print(runtime())
        parser.exit()


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="kerasseg", description="Semantic segmentation networks in Keras.")
    parser.add_argument(
        "--version", nargs=0, action=_Version, help="print versions, the processor, and which kernels TensorFlow runs"
    )
    parser.parse_args(arguments)
    parser.print_help()


if __name__ == "__main__":
    main()
