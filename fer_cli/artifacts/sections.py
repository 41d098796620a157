"""The typed sections of a manifest: each is written and read in its one form, here and nowhere by string key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    from fer_cli.artifacts.artifact import Artifact

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: Final[tuple[SplitName, ...]] = ("train", "validation", "test")


class Record(BaseModel):
    """A strict, frozen part of a section. What is None is not written."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True, populate_by_name=True)

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


class Section(Record):
    """A section of the manifest of artifacts of some kinds.

    The schema number of all sections is the manifest's own (:data:`fer_cli.artifacts.manifest.SCHEMA`): an artifact of
    another one is refused before a section is read.
    """

    part: ClassVar[Literal["config", "protocol", "summary", "measured"]]
    kinds: ClassVar[tuple[str, ...]]

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """Read this section of an artifact.

        Raises:
            FerError: it does not have this form.
        """
        assert artifact.kind in cls.kinds, f"{artifact.kind} has no {cls.__name__}"
        value = getattr(artifact.manifest, cls.part)
        try:
            # JSON mode: there a list is a tuple's only form, so that strict types can be asked for.
            return cls.model_validate_json(json.dumps(value))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            key = ".".join([cls.part, *map(str, first["loc"])])
            raise FerError(
                f"manifest key {key!r}: {first['msg']}",
                hint=f"rebuild the {artifact.kind} with --force",
                path=artifact.path,
            ) from error
