"""Turn a trained model into one that comes with fer, and write its card from its evaluations.

python -m tools.ship_model model MODEL --name shipped-ferplus
python -m tools.ship_model card EVALUATION --out assets/models/shipped-ferplus.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fer_cli.artifacts.catalogue import SHIPPED
from fer_cli.artifacts.store import Store, open_store
from fer_cli.core.errors import FerError
from tools.ship_model.card import card
from tools.ship_model.rounding import round_model


def main() -> None:
    """Do one of the two and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="Where the model is.")
    commands = parser.add_subparsers(dest="command", required=True)
    model = commands.add_parser("model")
    model.add_argument("model")
    model.add_argument("--name", required=True)
    written = commands.add_parser("card")
    written.add_argument("evaluation")
    written.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    store = open_store(options.store)
    try:
        if options.command == "card":
            options.out.write_text(card(store, options.evaluation), encoding="utf-8")
            print(options.out)
            return
        rounded = round_model(store, options.model, name=options.name, out=Store(SHIPPED))
    except FerError as error:
        sys.exit(f"error: {error}")
    print(f"{rounded.artifact.reference}  {rounded.artifact.path}")
    print(f"of {rounded.images:,} validation images {rounded.changed} get another class; ", end="")
    print(f"probabilities differ by {rounded.largest:.5f} at most")


if __name__ == "__main__":
    main()
