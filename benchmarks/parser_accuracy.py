"""mIoU of compact parsers on faces with true masks: the table of the model card.

``python -m benchmarks.parser_accuracy --source celebamask-800.tar [--all] [--precision bfloat16] [NAME=FILE ...]``

Scores the faces that the recipe keeps aside (every eighth id), or with ``--all`` every face of the archive, as for one
that nobody trained on. Without files: the weights that come with fer. mIoU is that of one confusion matrix over all
pixels, the shares of the regions enlarged to the true masks' 512 px.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fer_cli.core import machine
from fer_cli.core.labels import REGIONS
from fer_cli.faces.compact_weights import find_compact
from fer_cli.faces.parsers import PRECISIONS
from tools.train_parser.train import score_file, scores_table


def main() -> None:
    """Print the table as Markdown, or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--aside", type=int, default=8)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("files", nargs="*", metavar="NAME=FILE")
    options = parser.parse_args()
    machine.tune_allocator()
    from tools.train_parser.celebamask import ids_of, read_faces
    from tools.train_parser.recipe import split_ids

    if not options.source.is_file():
        parser.error(f"{options.source}: there is no archive here")
    ids = ids_of(options.source) if options.all else split_ids(options.source, options.aside)[1]
    faces = list(read_faces(options.source, ids))
    files = dict(one.split("=", 1) for one in options.files) or {"compact": str(find_compact(None, None).path)}
    tables = {name: scores_table(score_file(Path(path), faces, options.precision)) for name, path in files.items()}
    if options.json:
        print(json.dumps({"faces": len(faces), "parsers": tables}))
        return
    print(f"{len(faces)} faces\n")
    print("| parser | px | | mIoU | " + " | ".join(REGIONS) + " |")
    print("|---|---|---|---|" + "---|" * len(REGIONS))
    for name, rows in tables.items():
        for row in rows:
            cells = [name, str(row["px"]), row["colour"], f"**{row['miou']:.3f}**"]
            print("| " + " | ".join([*cells, *(f"{row[region]:.3f}" for region in REGIONS)]) + " |")


if __name__ == "__main__":
    main()
