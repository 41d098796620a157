"""How to get a data set that cannot be handed on: where to apply, under which licence, and what it looks like on disk.

Nothing is imported here that takes time: the help of ``fer prepare`` is made of these texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fer_cli.core.errors import FerError


@dataclass(frozen=True, slots=True)
class Access:
    """What a person needs to know before there is a source.

    ``layouts`` are what is looked for, the official one first, and ``marks`` the same in a few words; ``notes`` is the
    help's own paragraph.
    """

    title: str
    home: str
    how: str
    licence: str
    marks: str
    layouts: tuple[str, ...]
    notes: str

    def absent(self, source: Path) -> FerError:
        """Return the error for a source that is not there, or holds nothing of the data set."""
        if source.is_file():
            return FerError("is a file", hint=f"unpack {self.title} and give the folder", path=source)
        return FerError(
            f"{self.title} is not here: looked for {self.marks}",
            hint=f"apply at {self.home} ({self.how}; {self.licence}), then unpack it there or give --source",
            path=source,
        )

    def help(self) -> str:
        """Return the text of ``fer prepare NAME --help``."""
        layouts = "\n".join(f"- {layout}" for layout in self.layouts)
        return (
            f"{self.title}: {self.notes}\n\n"
            f"Layouts, found by themselves:\n\n\b\n{layouts}\n\n"
            f"How to get it: {self.how}.\n\n\b\n{self.home}\n\nLicence: {self.licence}."
        )


RAFDB: Final = Access(
    title="RAF-DB",
    home="http://www.whdeng.cn/RAF/model1.html",
    how="a member of a university or institute asks for the password by e-mail, from an address there",
    licence="non-commercial research alone, no part may be passed on",
    marks="EmoLabel/, or train/ and test/, also in basic/ and DATASET/",
    layouts=(
        "EmoLabel/list_patition_label.txt, Image/aligned (also in basic/)",
        "train/1..7, test/1..7, train_labels.csv, test_labels.csv (also in DATASET/)",
    ),
    notes="the 15,339 pictures of the basic set, aligned, 100x100. Gender, race and age go into the index as flags "
    "where Annotation/manual is unpacked. There is no validation split: one is carved from train.",
)
CKPLUS: Final = Access(
    title="CK+",
    home="http://www.jeffcohn.net/Resources/",
    how="a member of a university or institute signs the agreement and sends it in",
    licence="non-commercial research alone, only the subjects that gave consent may be printed",
    marks="cohn-kanade-images/ with Emotion/, CK+48/ or its class folders, ckextended.csv",
    layouts=(
        "cohn-kanade-images/S005/001, Emotion/S005/001",
        "anger/S010_004_00000017.png ... surprise/ (also in CK+48/)",
        "ckextended.csv",
    ),
    notes="the last three frames of the 327 labelled sequences, seven classes without neutral. Test (20%) and "
    "validation are carved by person, so nobody is in two splits; ckextended.csv names no persons, its own split is "
    "kept and said to be doubtful. The official frames are taken whole: faces are not cut out.",
)
SFEW: Final = Access(
    title="SFEW 2.0",
    home="https://users.cecs.anu.edu.au/~few_group/AFEW.html",
    how="a member of a university or institute signs the agreement of AFEW and SFEW",
    licence="non-commercial academic research alone",
    marks="Train_Aligned_Faces/ and Val_Aligned_Faces/, or Train/ and Val/",
    layouts=(
        "Train_Aligned_Faces/Angry ... Surprise, Val_Aligned_Faces (also in Train/, Val/)",
        "Train/Angry ... Surprise, Val",
    ),
    notes="the aligned faces where they are, else the raw frames, whose faces are found and aligned where a detector's "
    "weights are here ('fer weights ls'); without them, frames are taken whole as if they were face crops. "
    "The labels of Test are withheld: Val is the test split, and validation is carved from Train, clips kept whole. "
    "Counts that differ are a warning, for their published figures differ too; a split that lacks is refused.",
)
AFFECTNET: Final = Access(
    title="AffectNet",
    home="http://mohammadmahoor.com/pages/databases/affectnet/",
    how="a professor or the head of a laboratory signs the agreement and sends it in; students ask theirs",
    licence="research alone, no part may be passed on",
    marks="training.csv and validation.csv, train_set/ and val_set/, or train/ and val/",
    layouts=(
        "training.csv, validation.csv, Manually_Annotated_Images (as they are unpacked)",
        "train_set/images/0.jpg, train_set/annotations/0_exp.npy, val_set",
        "train/0..7, val/0..7",
    ),
    notes="the manually annotated pictures with one of eight expressions; None, Uncertain and No-Face are dropped. "
    "With the csv files each face is cut out by its box. The test set was never given out: val is the test split, and "
    "validation is carved from train. 287,651 pictures are packed on the disk, 112 pixels 10.8 GB, 224 pixels 43 GB.",
)
