"""Label maps: the canonical names and their order, every synonym, and what each data set's ids mean."""

from __future__ import annotations

import pytest

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, REGIONS, SYNONYMS, canonical, code_of, in_order, label_map
from fer_cli.datasets import affectnet, ck_sequences, ckextended, expw, fer2013, rafdb
from fer_cli.datasets.votes import COLUMNS


def test_the_canonical_names_and_their_order() -> None:
    assert EXPRESSIONS == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
    assert REGIONS == ("background", "skin", "eye", "ear", "nose", "mouth", "neck", "hair")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("neutral", "neutral neutrality ne neu natural calm"),
        ("happy", "happy happiness joy joyful ha hap smile"),
        ("sad", "sad sadness sa unhappy"),
        ("surprise", "surprise surprised su sur"),
        ("fear", "fear afraid fearful fe af scared"),
        ("disgust", "disgust disgusted di dis"),
        ("anger", "anger angry an ang"),
        ("contempt", "contempt contemptuous co con"),
    ],
)
def test_every_synonym(expression: str, names: str) -> None:
    assert {name: canonical(name) for name in names.split()} == dict.fromkeys(names.split(), expression)
    assert [name for name, meaning in SYNONYMS.items() if meaning == expression] == names.split()


@pytest.mark.parametrize("name", ["Happy", " happy ", "3-happy", "3_HAPPY", "3 happy", "3.happy", "10-happy", "0happy"])
def test_case_blanks_and_a_leading_number_do_not_matter(name: str) -> None:
    assert canonical(name) == "happy"


@pytest.mark.parametrize("name", ["", "3", "happy-3", "happyhappy", "train", "none", "x-happy"])
def test_other_names_mean_nothing(name: str) -> None:
    assert canonical(name) is None


def test_names_come_in_canonical_order_and_once() -> None:
    assert in_order(["anger", "neutral", "sad", "anger"]) == ("neutral", "sad", "anger")
    assert in_order(["zeal", "\u6012\u308a", "Zeal", "angry", "sad"]) == (
        "sad",
        "Zeal",
        "angry",
        "zeal",
        "\u6012\u308a",
    )


def test_the_ids_of_each_source() -> None:
    """As their read-me files say."""
    raf = {"1": "surprise", "2": "fear", "3": "disgust", "4": "happy", "5": "sad", "6": "anger", "7": "neutral"}
    assert raf == rafdb.EMOTIONS
    assert affectnet.EMOTIONS == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
    assert affectnet.DROPPED == {8: "None", 9: "Uncertain", 10: "No-Face"}
    assert fer2013.EMOTIONS == ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert (*fer2013.EMOTIONS, "contempt") == ckextended.EMOTIONS
    assert expw.EMOTIONS == fer2013.EMOTIONS
    ck = ("anger", "contempt", "disgust", "fear", "happy", "sad", "surprise")
    assert dict(zip("1234567", ck, strict=True)) == ck_sequences.EMOTIONS
    votes = ("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt", "unknown", "nf")
    assert tuple(name.lower() for name in COLUMNS) == votes


def test_a_map_of_labels() -> None:
    assert label_map("0=anger, 1 = Happy,Freude=happiness,e\u0301=sad") == {
        "0": "anger",
        "1": "happy",
        "freude": "happy",
        "\u00e9": "sad",
    }
    assert code_of(" E\u0301 ") == "\u00e9"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "'' is not CODE=EXPRESSION"),
        ("0=anger,1", "'1' is not"),
        ("=anger", "'=anger' is not"),
        ("0=meh", "unknown expression 'meh'"),
        ("a=anger,A=happy", "code 'A' comes twice"),
    ],
)
def test_a_bad_map_of_labels_is_refused(text: str, what: str) -> None:
    with pytest.raises(FerError, match=what):
        label_map(text)
