"""The artifact store: what a reader may trust, whatever happens to a writer."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import leftovers, lineage, open_parent, remove, verify_directory
from fer_cli.artifacts.manifest import MANIFEST, PAYLOAD_FORMATS, FileEntry, Input, content_digest, read_manifest
from fer_cli.artifacts.payload import ArrayWriter, json_bytes, read_array, table_bytes
from fer_cli.artifacts.sections import Section
from fer_cli.artifacts.source_files import files_input
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.work import Plan, Work
from fer_cli.core.errors import FerError


class Rows(Section):
    """A summary."""

    rows: int


def plan(
    name: str = "toy",
    *,
    kind: str = "dataset",
    seed: int = 0,
    inputs: dict[str, Input] | None = None,
    revision: int = 1,
) -> Plan:
    return Plan(
        kind=kind,
        name=name,
        stage="prepare",
        revision=revision,
        config={"seed": seed},
        inputs=inputs or {},
    )


def build(store: Store, what: Plan, *, force: bool = False) -> Artifact:
    """Make a small artifact with every kind of write that stages use."""
    with store.make(what, force=force) as work:
        if work.committed is not None:
            return work.committed
        rows = np.arange(60, dtype=np.uint8).reshape(10, 6) + what.config["seed"]
        with ArrayWriter(work.directory / "rows.npy", (6,), np.uint8, 10, reserve=True) as writer:
            writer.write(5, rows[5:])
            writer.write(0, rows[:5])
            writer.finish(10)
        work.write("index.parquet", table_bytes({"id": [f"i{n}" for n in range(10)]}))
        work.write("notes.json", json_bytes({"seed": what.config["seed"]}))
        work.write("report.html", b"<p>seen</p>", view=True)
        return work.commit(summary=Rows(rows=10), protocol=Section())


STEPS = (
    "open",
    "pwrite",
    "fsync",
    "rename",
    "replace",
    "mkdir",
    "link",
    "posix_fallocate",
    "ftruncate",
    "unlink",
    "rmdir",
)


class Steps:
    """Counts every call by which the store changes the disk, and does something at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int | None, action: Callable[[str], None]) -> None:
        self.count = 0
        self.at = at
        self.action = action
        for name in STEPS:
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name != "open" or (len(arguments) > 1 and arguments[1] & (os.O_CREAT | os.O_TMPFILE)):
                self.count += 1
                if self.count == self.at:
                    self.action(name)
            return real(*arguments, **options)

        return call


def fail(name: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


def die(_name: str) -> None:
    os._exit(9)


def state(store: Store, what: Plan) -> str:
    """Return ``absent``, the content of a sound artifact, or ``DAMAGED`` for one that a reader would take."""
    directory = store.root / what.kind / what.name / what.version
    if not (directory / MANIFEST).exists():
        return "absent"
    return "DAMAGED" if verify_directory(directory) else read_manifest(directory).content


def count_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, force: bool) -> int:
    store = Store(tmp_path / "counting")
    if force:
        build(store, plan())
    with monkeypatch.context() as patch:
        steps = Steps(patch, None, fail)
        build(store, plan(), force=force)
    assert steps.count > 15
    return steps.count


@pytest.mark.parametrize("force", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("action", [fail, die], ids=["disk full", "killed"])
def test_a_fault_at_every_write_step_leaves_nothing_or_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool, action: Callable[[str], None]
) -> None:
    reference = build(Store(tmp_path / "reference"), plan()).manifest.content
    for step in range(1, count_steps(tmp_path, monkeypatch, force=force) + 1):
        store = Store(tmp_path / f"store-{step}")
        if force:
            build(store, plan())
        if action is die:
            child = os.fork()
            if child == 0:
                with monkeypatch.context() as patch:
                    Steps(patch, step, action)
                    build(store, plan(), force=force)
                os._exit(0)
            os.waitpid(child, 0)
        else:
            with monkeypatch.context() as patch:
                Steps(patch, step, action)
                try:
                    build(store, plan(), force=force)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        after = state(store, plan())
        assert after in ({reference} if force else {"absent", reference}), f"step {step}"
        assert build(store, plan(), force=force).manifest.content == reference
        assert state(store, plan()) == reference
        assert not leftovers(store, superseded=False), f"step {step}: the second run left the first one's pieces"


def test_the_same_test_finds_a_plain_write_at_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: writing into the artifact's own directory passes no such test."""

    def plain(store: Store, what: Plan) -> None:
        source = build(Store(tmp_path / "new"), what)
        target = store.root / what.kind / what.name / what.version
        for path in sorted(source.path.iterdir(), key=lambda path: path.name == MANIFEST):
            atomic_io.write_file(target / path.name, path.read_bytes())

    found = set()
    for step in range(1, 200):
        store = Store(tmp_path / f"store-{step}")
        build(store, plan())
        build(Store(tmp_path / "new"), plan())
        with monkeypatch.context() as patch:
            steps = Steps(patch, step, fail)
            try:
                plain(store, plan())
            except OSError:
                found.add(state(store, plan()))
        if steps.count < step:
            break
    assert "DAMAGED" in found


def test_equal_plans_have_equal_versions_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Input(kind="files", name="a", content="0" * 64)
    moved = Input(kind="files", name="b", content="0" * 64)
    other = Input(kind="files", name="a", content="1" * 64)
    assert plan(inputs={"source": source}).version == plan(inputs={"source": moved}).version
    versions = {
        plan().version,
        plan(seed=1).version,
        plan(kind="features").version,
        plan(inputs={"source": source}).version,
        plan(inputs={"source": other}).version,
        Plan("dataset", "toy", "prepare", 2, {"seed": 0}, {}).version,
        Plan("dataset", "toy", "extract", 1, {"seed": 0}, {}).version,
    }
    with monkeypatch.context() as patch:
        patch.setitem(PAYLOAD_FORMATS, "dataset", 2)
        versions.add(plan().version)
    assert len(versions) == 8


def test_a_payload_of_another_format_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(PAYLOAD_FORMATS, "dataset", 2)
        artifact = build(store, plan())
    with pytest.raises(FerError, match="payload format 2, this fer reads 1; use the version of fer that wrote it"):
        store.open(artifact.path)


def test_what_was_sealed_before_a_kill_is_put_in_place_unless_it_is_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Artifact | None:
        with store.make(plan(), resumable=True) as work:
            if work.committed is None:
                if not (work.directory / "progress").exists():
                    work.write("result", b"1")
                    work.write("progress", b"2")
                    work.write("notes", b"3")
                work.commit(summary=Section(), protocol=Section(), files=["result", "notes"])
            return work.committed

    def killed(*_paths: Path) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic_io, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            make()
    place = next(store.root.glob("dataset/toy/.partial-*"))
    assert {path.name for path in place.iterdir()} == {"manifest.json", "result", "notes"}
    assert store.directories() == []
    (place / "progress").write_bytes(b"left by a kill a little earlier")
    with monkeypatch.context() as patch:
        patch.setattr(Work, "commit", killed)
        whole = make()
    assert whole is not None
    assert {path.name for path in whole.path.iterdir()} == {"manifest.json", "result", "notes"}
    assert verify_directory(whole.path) == []

    whole.path.rename(place)
    (place / "result").write_bytes(b"8")
    made = make()
    assert made is not None
    assert (made.path / "result").read_bytes() == b"1"
    assert verify_directory(made.path) == []


def test_a_second_run_finds_the_first_and_makes_it_the_newest(store: Store) -> None:
    first = build(store, plan("first"))
    time.sleep(0.02)
    build(store, plan("second", seed=1))
    assert store.find(None, ["dataset"]).name == "second"
    with store.make(plan("first")) as work:
        assert work.committed is not None
        assert work.committed.path == first.path
    assert store.find(None, ["dataset"]).name == "first"


def test_references(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = build(store, plan(seed=0)), build(store, plan(seed=1))
    features = build(store, plan(kind="features", seed=2))
    assert store.find("toy", ["dataset"]).version == two.version
    assert store.find(f"toy@{one.version[:5]}", ["dataset"]).version == one.version
    assert store.find("features/toy", ["dataset", "features"]).version == features.version
    assert store.find(str(one.path), ["dataset"]).version == one.version
    assert store.find(None, ["dataset"]).version == two.version
    assert f"using dataset/toy@{two.version} (the newest)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reference", "kinds", "words"),
    [
        ("toi", ["dataset"], "no dataset artifact 'toi'; there is toy"),
        ("zebra", ["dataset"], "make one with 'fer prepare'"),
        ("toy@zz", ["dataset"], "is not a reference"),
        ("../toy", ["dataset"], "is not a reference"),
        ("toy@", ["ahm"], "no ahm artifact"),
        ("dataset/toy", ["ahm"], "is of kind dataset; expected: ahm"),
        (None, ["ahm"], "no ahm artifact yet; make one with 'fer fit-ahm'"),
        ("a\nb", ["dataset"], "is not a reference"),
    ],
)
def test_references_that_lead_nowhere(store: Store, reference: str | None, kinds: list[str], words: str) -> None:
    build(store, plan())
    with pytest.raises(FerError) as caught:
        store.find(reference, kinds)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_prefix_of_two_versions_is_refused(store: Store) -> None:
    versions: dict[str, str] = {}
    for seed in range(40):
        version = build(store, plan(seed=seed)).version
        if version[0] in versions:
            with pytest.raises(FerError, match="fits 2 versions|fits 3 versions"):
                store.find(f"toy@{version[0]}", ["dataset"])
            return
        versions[version[0]] = version
    raise AssertionError("forty hashes without a common first digit")


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "a b", ".hidden", "x" * 121])
def test_names_that_could_leave_the_store_are_refused(store: Store, name: str) -> None:
    with pytest.raises(FerError, match="is not a valid artifact name"):
        build(store, plan(name))
    assert not store.root.exists()


def test_every_flipped_bit_is_found(store: Store) -> None:
    artifact = build(store, plan())
    assert verify_directory(artifact.path) == []
    generator = np.random.default_rng(0)
    for path in sorted(artifact.path.iterdir()):
        whole = path.read_bytes()
        for position in generator.choice(len(whole), size=min(40, len(whole)), replace=False):
            data = bytearray(whole)
            data[position] ^= 1 << int(generator.integers(8))
            path.write_bytes(data)
            damage = verify_directory(artifact.path)
            assert damage, f"{path.name} byte {position}"
            assert path.name in str(damage[0])
        path.write_bytes(whole)
    assert verify_directory(artifact.path) == []


def test_damage_is_named_by_file_expected_and_found(store: Store) -> None:
    artifact = build(store, plan())
    rows = artifact.path / "rows.npy"
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(FerError) as caught:
        store.open(artifact.path)
    assert str(caught.value).startswith(f"{rows}: 187 bytes, expected 188; the dataset artifact is damaged")
    rows.unlink()
    with pytest.raises(FerError, match=r"rows\.npy: a file of the artifact is missing"):
        store.open(artifact.path)
    (artifact.path / "stranger").write_text("x")
    assert {damage.path.name for damage in verify_directory(artifact.path)} == {"rows.npy", "stranger"}


def test_a_damaged_artifact_is_made_again(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = build(store, plan())
    (artifact.path / "rows.npy").write_bytes(b"")
    assert build(store, plan()).manifest.content == artifact.manifest.content
    assert verify_directory(artifact.path) == []
    assert "rebuilding it" in capsys.readouterr().err


def test_an_artifact_that_was_moved_is_found_out(store: Store) -> None:
    artifact = build(store, plan())
    moved = artifact.path.parent.parent / "other" / artifact.version
    moved.parent.mkdir()
    artifact.path.rename(moved)
    assert "another path" in str(verify_directory(moved)[0])


def _race(root: str, barrier: Any, results: Any) -> None:
    barrier.wait()
    artifact = build(Store(Path(root)), plan())
    results.put((artifact.manifest.content, artifact.manifest.created))


def test_writers_of_one_artifact_wait_for_the_first(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_race, args=(str(store.root), barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(found)) == 1
    assert verify_directory(store.find("toy", ["dataset"]).path) == []
    assert not leftovers(store, superseded=False)


def test_a_failed_stage_leaves_nothing_and_resumable_work_stays(store: Store) -> None:
    with pytest.raises(RuntimeError), store.make(plan()) as work:
        work.write("a", b"1")
        raise RuntimeError
    assert not list((store.root / "dataset").iterdir())
    with pytest.raises(RuntimeError), store.make(plan(), resumable=True) as work:
        work.write("a", b"1")
        raise RuntimeError
    assert not store.directories()
    with store.make(plan(), resumable=True) as work:
        assert (work.directory / "a").read_bytes() == b"1"
        work.commit(summary=Section(), protocol=Section())
    assert store.open(store.directories()[0]).has("a")


def test_gc_takes_leftovers_and_spares_what_is_needed(store: Store) -> None:
    old = build(store, plan(revision=1))
    unneeded = build(store, plan(revision=2))
    newest = build(store, plan(revision=3))
    features = build(store, plan("f", kind="features", inputs={"dataset": old.as_input()}))
    with pytest.raises(RuntimeError), store.make(plan(seed=3), resumable=True) as work:
        work.write("a", b"123")
        assert not leftovers(store, superseded=False, unfinished=True), "work under way is nobody's leftover"
        raise RuntimeError
    assert leftovers(store, superseded=False) == [], "work that can be resumed goes only where it is asked for"
    found = leftovers(store, superseded=False, unfinished=True)
    assert [(one.path.name[:9], one.size) for one in found] == [(".partial-", 3)]
    assert work.directory.exists()
    gone = {one.path for one in leftovers(store, superseded=True, unfinished=True)}
    assert gone == {work.directory, unneeded.path}
    assert remove(store, leftovers(store, superseded=True, unfinished=True)) > 3
    assert set(store.directories()) == {old.path, features.path, newest.path}
    assert leftovers(store, superseded=True, unfinished=True) == []


def test_lineage_tells_what_is_gone_and_what_changed(store: Store, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b")
    dataset = build(store, plan(inputs={"source": files_input("toy", {"table": table})}))
    features = build(store, plan("f", kind="features", inputs={"dataset": dataset.as_input()}))
    tree = lineage(store, features)
    assert tree.parents[0].artifact is not None
    assert tree.parents[0].parents[0].source.kind == "files"
    assert open_parent(store, features, "dataset").path == dataset.path
    stale = build(
        store,
        plan("g", kind="features", inputs={"dataset": dataset.as_input().model_copy(update={"content": "f" * 64})}),
    )
    assert lineage(store, stale).parents[0].changed
    with pytest.raises(FerError, match="has changed since"):
        open_parent(store, stale, "dataset")
    atomic_io.remove_tree(dataset.path)
    assert lineage(store, features).parents[0].artifact is None
    with pytest.raises(FerError, match="is not in this store"):
        open_parent(store, features, "dataset")


def test_files_input_depends_on_bytes_and_names_alone(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(b"1")
    first = files_input("one", {"happy/x.png": tmp_path / "a" / "x.png"})
    assert first.content == files_input("two", {"happy/x.png": tmp_path / "b" / "x.png"}).content
    assert first.content != files_input("one", {"sad/x.png": tmp_path / "a" / "x.png"}).content
    (tmp_path / "b" / "x.png").write_bytes(b"2")
    assert first.content != files_input("two", {"happy/x.png": tmp_path / "b" / "x.png"}).content


def test_a_view_is_verified_but_no_part_of_the_result() -> None:
    entry = FileEntry(path="a", size=1, sha256="0" * 64)
    view = FileEntry(path="r", size=1, sha256="1" * 64, view=True)
    assert content_digest([entry, view]) == content_digest([entry])
    assert content_digest([entry]) != content_digest([entry.model_copy(update={"size": 2})])


def test_array_writer_cuts_an_upper_bound_to_the_true_rows(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float16)
    with ArrayWriter(tmp_path / "a.npy", (2, 3), np.float16, 100, reserve=True) as writer:
        writer.write(4, rows[4:])
        writer.write(0, rows[:4])
        assert np.array_equal(writer.read(2, 6), rows[2:6])
        writer.finish(7)
    assert np.array_equal(read_array(tmp_path / "a.npy"), rows)
    assert np.load(tmp_path / "a.npy", allow_pickle=False).dtype == np.float16


def test_an_npy_of_objects_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(FerError, match=r"a\.npy: not a readable"):
        read_array(tmp_path / "a.npy")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_manifests_end_in_one_line(store: Store, data: st.DataObject) -> None:
    artifact = build(store, plan())
    path = artifact.path / MANIFEST
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 40)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=20)) + whole[stop:])
    try:
        read_manifest(artifact.path)
    except FerError as error:
        assert "\n" not in str(error)
        assert MANIFEST in str(error)
    finally:
        path.write_bytes(whole)


def test_gc_leaves_what_work_under_way_reads(store: Store) -> None:
    old = build(store, plan(revision=1))
    build(store, plan(revision=2))
    what = plan("f", kind="features", inputs={"dataset": old.as_input()})
    with pytest.raises(RuntimeError), store.make(what, resumable=True) as work:
        work.write("a", b"1")
        assert leftovers(store, superseded=True) == [], "somebody reads the old one"
        raise RuntimeError
    kept = leftovers(store, superseded=True, unfinished=True)
    assert [one.path.name for one in kept] == [f".partial-{what.version}"], "stopped work would go on"
    remove(store, kept)
    assert [one.path for one in leftovers(store, superseded=True)] == [old.path]


def test_a_damaged_manifest_does_not_stop_gc_and_supersedes_nothing(store: Store) -> None:
    oldest, old, new = (build(store, plan(revision=revision)) for revision in (1, 2, 3))
    (new.path / MANIFEST).write_bytes(b"{")
    assert [one.path for one in leftovers(store, superseded=True)] == [oldest.path]
    remove(store, leftovers(store, superseded=True))
    assert set(store.directories()) == {old.path, new.path}
    with pytest.raises(FerError, match="not valid JSON"):  # it may be the newest: not another one in its place
        store.find(None, ["dataset"])


def test_an_error_of_a_descriptor_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full") as caught:
        atomic_io.write_file(tmp_path / "a", b"1")
    assert caught.value.filename == str(tmp_path / "a")


def test_bits_of_an_npy_header_end_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 4), np.uint8))
    whole = path.read_bytes()
    refused = 0
    for bit in range(8 * 80):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        try:
            read_array(path)
        except FerError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 100
