"""Pictures in folders of classes: ``split/class/image`` or ``class/image``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, code_of
from fer_cli.datasets.image_files import SUFFIXES, not_an_image, portable, refuse, walk
from fer_cli.datasets.image_list import WHOLE, ImageEntry
from fer_cli.datasets.leftovers import find_unread
from fer_cli.datasets.listing import ClassNames, Listing, in_id_order
from fer_cli.datasets.split_names import split_of_name


def list_tree(root: Path, names: ClassNames | None = None) -> Listing:
    """List the pictures of a folder ``split/class/image`` or ``class/image``.

    Args:
        root: the folder.
        names: what class folders mean; by default expressions in the usual spellings.

    Raises:
        FerError: a folder that is neither a split nor a class, both kinds side by side, or a file in a class
            folder that is not a picture; the first is named and the others are counted.
    """
    known = names or ClassNames()
    paths = {path: portable(path) for path in walk(root)}
    tops = sorted({path.partition("/")[0] for path in paths.values() if "/" in path})
    splits = {top: split for top in tops if (split := split_of_name(top)) and code_of(top) not in known.given}
    faults = [_unknown_folder(root / top, known) for top in tops if top not in splits and known.meaning(top) is None]
    refuse(faults, listed=not known.tentative)
    if splits and len(splits) < len(tops):
        other = next(top for top in tops if top not in splits)
        raise FerError(
            f"mixes folders of splits ({next(iter(splits))}/) and of expressions ({other}/)",
            hint="use split/class/image or class/image",
            path=root,
        )
    _refuse_twins(root, splits)
    depth = 3 if splits else 2
    items: list[ImageEntry] = []
    for path, text in paths.items():
        folders = text.split("/")[:-1]
        is_picture = PurePosixPath(text).suffix.lower() in SUFFIXES
        if len(folders) < depth - 1:
            if is_picture:
                hint = "move it into one, or say with --pattern how the names of the images are made"
                faults.append(FerError("the image is not in a class folder", hint=hint, path=root / path))
            continue
        label = known.meaning(folders[depth - 2])
        if label is None:
            faults.append(_unknown_folder(root / Path(path).parent, known))
        elif len(folders) >= depth:
            hint = "put images into the class folder"
            faults.append(FerError("a folder inside a class folder", hint=hint, path=root / path))
        elif not is_picture:
            faults.append(not_an_image(root / path))
        else:
            items.append(ImageEntry(path, folders[0] if splits else None, label, id=text))
    refuse(list({str(fault): fault for fault in faults}.values()), listed=not known.tentative)
    if not items:
        raise FerError("no images in class folders", hint="expected split/class/image or class/image", path=root)
    there = {item.split for item in items}
    parts = {top: split for top, split in splits.items() if top in there} or {WHOLE: "train"}
    for top in parts:
        _refuse_twins(
            root,
            {
                folder: item.label
                for item in items
                if item.split in {top, None}
                and code_of(PurePosixPath(folder := (item.id or "").rpartition("/")[0]).name) not in known.given
            },
        )
    unread = find_unread(root, [root / item.path for item in items])
    return Listing(in_id_order(items), parts, unread.leftovers())


def _unknown_folder(path: Path, names: ClassNames) -> FerError:
    if names.classes is not None:
        what, hint = names.fault(path.name)
        return FerError(what, hint=hint, path=path)
    return FerError(
        f"the folder {path.name!r} is neither a split nor an expression",
        hint=f"rename it to train, val or test, or to one of {', '.join(EXPRESSIONS)}, say what it means with --labels "
        f"{path.name}=..., take all names as they are with --classes own, or move it away",
        path=path,
    )


def _refuse_twins(root: Path, meanings: Mapping[str, str]) -> None:
    """Refuse two folders that mean the same: which one was meant, or whether both, nobody but the user knows."""
    first: dict[str, str] = {}
    for folder, meaning in sorted(meanings.items()):
        other = first.setdefault(meaning, folder)
        if other != folder:
            hint = "merge the two with --labels, keep both with --classes own, or move one away"
            raise FerError(f"means {meaning}, like {other}/", hint=hint, path=root / folder)
