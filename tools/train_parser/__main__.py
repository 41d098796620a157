"""Train the compact face parser, for ``fer parse-masks --parser compact --weights FILE``, and print its scores.

python -m tools.train_parser tools/train_parser/recipes/augmented.toml --source FACES.tar --out mine.safetensors
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fer_cli.core.errors import FerError
from tools.train_parser.train import scores_table, train_parser


def main() -> None:
    """Train, and print the hash of the weights, the time, and IoU by size, colour and region as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--source", type=Path, required=True, help="A tar in CelebAMask-HQ's layout: images/, masks/.")
    parser.add_argument("--out", type=Path, required=True, help="The weights to write, .safetensors.")
    parser.add_argument("--start", type=Path, help="Weights of a compact parser to start from.")
    options = parser.parse_args()
    try:
        trained = train_parser(recipe=options.recipe, source=options.source, out=options.out, start=options.start)
    except FerError as error:
        sys.exit(f"error: {error}")
    print(
        json.dumps(
            {
                "out": str(trained.path),
                "sha256": trained.sha256,
                "held_out_faces": trained.aside,
                "seconds": round(trained.seconds, 1),
                "scores": scores_table(trained.scores),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
