"""The store on real disks: whole files, noticed damage."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitkd_bench.records import Store, table
from vitkd_bench.records.files import pack_arrays, unpack_arrays, with_digest, without_digest
from vitkd_bench.spec import BadInputError, DamagedFileError, Plan, Record, Run, WorldError, content_hash

MakeRun = Callable[..., Run]
MakeRecord = Callable[..., Record]
PREDICTIONS = {"test/label": np.arange(360, dtype=np.int64), "test/top1": np.arange(360) % 10}

json_data = st.dictionaries(
    st.text(max_size=5).filter(lambda key: key != "digest"),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=10,
    ),
    min_size=1,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a folder that does not exist yet."""
    return Store(tmp_path / "out")


def test_record_and_predictions_come_back(store: Store, make_run: MakeRun, make_record: MakeRecord) -> None:
    """What is read equals what was written, to the last bit, and the run counts as finished."""
    record = make_record(make_run())
    store.write(record, PREDICTIONS)
    read = store.predictions(record.run_id)
    assert store.read(record.run_id) == record
    assert read is not None
    assert {k: v.tolist() for k, v in read.items()} == {k: v.tolist() for k, v in PREDICTIONS.items()}
    assert store.records() == {record.run_id: record}
    assert store.finished() == {record.run_id}


def test_record_is_pretty_and_ends_with_its_digest(
    store: Store, make_run: MakeRun, make_record: MakeRecord
) -> None:
    """A record is JSON for people, keys in the order of the schema, the digest last."""
    store.write(make_record(make_run()))
    (path,) = (store.folder / "records").iterdir()
    text = path.read_text(encoding="utf-8")
    assert list(json.loads(text)) == [f.alias or k for k, f in Record.model_fields.items()] + ["digest"]
    assert "\n  " in text
    assert "Zürich" in text


def test_equal_content_gives_equal_bytes(tmp_path: Path, make_run: MakeRun, make_record: MakeRecord) -> None:
    """Two stores given the same run hold the same bytes, whatever the order of the arrays."""
    stores = [Store(tmp_path / name) for name in ("a", "b")]
    record = make_record(make_run())
    stores[0].write(record, PREDICTIONS)
    stores[1].write(record, dict(reversed(PREDICTIONS.items())))
    for path in (Path("records") / f"{record.run_id}.json", Path("predictions") / f"{record.run_id}.npz"):
        assert (stores[0].folder / path).read_bytes() == (stores[1].folder / path).read_bytes()


def test_a_run_without_its_splits_or_predictions_is_not_finished(
    store: Store, make_run: MakeRun, make_record: MakeRecord
) -> None:
    """Finished means: done, with all wanted splits, with sound predictions."""
    done, bare = make_record(make_run()), make_record(make_run(seed=1))
    failed = make_record(make_run(seed=2), error={"kind": "non_finite_loss", "message": "inf", "step": 7})
    store.write(done, PREDICTIONS)
    store.write(bare)
    store.write(failed)
    assert store.finished({done.run_id: ("test", "digits/rotate")}) == {done.run_id}
    assert store.finished({done.run_id: ("test", "digits/blur")}) == set()
    path = store.predictions_path(done.run_id)
    path.write_bytes(path.read_bytes()[:-1])
    assert store.finished() == set()
    assert f"{path}: truncated or altered" in store.damage[0]


def test_only_whole_records_count(store: Store, make_run: MakeRun, make_record: MakeRecord) -> None:
    """A damaged record is moved, named, and absent; making the run again brings it back."""
    record = make_record(make_run())
    store.write(record, PREDICTIONS)
    path = store.record_path(record.run_id)
    damaged = path.read_bytes()[:-30]
    path.write_bytes(damaged)
    assert store.read(record.run_id) is None
    (told,) = store.damage
    aside = store.folder / "damaged" / path.name
    assert told == f"{path}: truncated: it does not end with its digest; set aside as {aside}"
    assert aside.read_bytes() == damaged
    assert not path.exists()
    store.write(record, PREDICTIONS)
    assert store.finished() == {record.run_id}


def test_what_was_set_aside_is_never_overwritten(
    store: Store, make_run: MakeRun, make_record: MakeRecord
) -> None:
    """Two damaged files of one name both stay, each with its reason."""
    record = make_record(make_run())
    path = store.record_path(record.run_id)
    for content in (b"one", b"two"):
        store.write(record)
        path.write_bytes(content)
        assert store.read(record.run_id) is None
    folder = store.folder / "damaged"
    assert {p.name for p in folder.iterdir()} == {
        f"{path.name}{number}{kind}" for number in ("", ".2") for kind in ("", ".reason.txt")
    }
    assert [(folder / f"{path.name}{n}").read_bytes() for n in ("", ".2")] == [b"one", b"two"]


def test_looking_touches_nothing(store: Store, make_run: MakeRun, make_record: MakeRecord) -> None:
    """With look_only a damaged record is named and stays where it is."""
    record = make_record(make_run())
    store.write(record)
    path = store.record_path(record.run_id)
    path.write_bytes(b"{}")
    look = Store(store.folder, look_only=True)
    assert look.records() == {}
    assert str(path) in look.damage[0]
    assert path.read_bytes() == b"{}"
    assert not (store.folder / "damaged").exists()


@given(data=json_data)
def test_digest_keeps_any_data(data: dict[str, object]) -> None:
    """Whatever JSON goes in comes out, types and bits included."""
    assert repr(without_digest(with_digest(data), Path("f"))) == repr(data)


@settings(max_examples=200)
@given(place=st.integers(0), bit=st.integers(0, 7))
def test_one_flipped_bit_is_noticed(place: int, bit: int, make_run: MakeRun, make_record: MakeRecord) -> None:
    """Any single flipped bit of a record or of predictions is damage."""
    record = make_record(make_run())
    for whole, read in (
        (with_digest(record.plain()), without_digest),
        (pack_arrays(PREDICTIONS), unpack_arrays),
    ):
        content = bytearray(whole)
        content[place % len(content)] ^= 1 << bit
        with pytest.raises(DamagedFileError, match="where"):
            read(bytes(content), Path("where"))


@given(keep=st.integers(0))
def test_truncation_is_noticed(keep: int, make_run: MakeRun, make_record: MakeRecord) -> None:
    """A record or predictions cut anywhere are damage, the empty file included."""
    record, arrays = with_digest(make_record(make_run()).plain()), pack_arrays(PREDICTIONS)
    with pytest.raises(DamagedFileError):
        without_digest(record[: keep % len(record)], Path("where"))
    with pytest.raises(DamagedFileError):
        unpack_arrays(arrays[: keep % len(arrays)], Path("where"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(payload=st.binary(max_size=200), place=st.integers(0), bit=st.integers(0, 7))
def test_sealed_blobs_notice_damage(payload: bytes, place: int, bit: int, store: Store) -> None:
    """A checkpoint comes back whole, or is known to be damaged."""
    path = store.checkpoint_path("r")
    store.write_sealed(path, payload)
    assert store.read_sealed(path) == payload
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    for damaged in (bytes(content), path.read_bytes()[: place % len(content)]):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=r"state\.pt"):
            store.read_sealed(path)
    path.unlink()
    with pytest.raises(WorldError, match="no such file"):
        store.read_sealed(path)


def test_other_schema_versions_are_named(store: Store, make_run: MakeRun, make_record: MakeRecord) -> None:
    """A record of another schema version does not count, and both versions are told."""
    record = make_record(make_run())
    store.write(record)
    store.record_path(record.run_id).write_bytes(with_digest({**record.plain(), "schema": 7}))
    assert store.read(record.run_id) is None
    assert "schema 7; this version of vitkd_bench reads schema 1" in store.damage[0]


def test_a_record_under_another_name_does_not_count(
    store: Store, make_run: MakeRun, make_record: MakeRecord
) -> None:
    """A record copied over another run's is not that run."""
    one, two = make_record(make_run()), make_record(make_run(seed=1))
    store.write(one)
    store.record_path(one.run_id).rename(store.record_path(two.run_id))
    assert store.read(two.run_id) is None
    assert f"holds run {one.run_id}, its name says {two.run_id}" in store.damage[0]


def test_unknown_fields_are_damage(store: Store, make_run: MakeRun, make_record: MakeRecord) -> None:
    """A record with a field that the schema lacks is not read, even with a fitting digest."""
    record = make_record(make_run())
    store.write(record)
    store.record_path(record.run_id).write_bytes(with_digest({**record.plain(), "statsu": "done"}))
    assert store.read(record.run_id) is None
    assert "statsu: unknown field" in store.damage[0]


def test_plan_comes_back(store: Store, plan: Plan) -> None:
    """The plan that is read is the one that was written, with the same run ids."""
    store.write_plan(plan)
    assert store.read_plan() == plan
    assert [run.id for run in store.read_plan().runs.values()] == list(plan.runs)


def test_missing_and_damaged_plans_are_told_apart(store: Store, plan: Plan) -> None:
    """No plan is a wrong folder (exit 2), a damaged one is a failure of the world (exit 1)."""
    with pytest.raises(BadInputError, match=r"is .* the output folder of a run"):
        store.read_plan()
    store.write_plan(plan)
    whole = store.plan_path.read_bytes()
    store.plan_path.write_bytes(whole.replace(b"tiny", b"tinz"))
    with pytest.raises(DamagedFileError, match=r"plan\.json: altered"):
        store.read_plan()
    store.plan_path.write_bytes(with_digest({**plan.plain(), "schema": 99}))
    with pytest.raises(DamagedFileError, match="schema 99; this version"):
        store.read_plan()


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "a\x00b", "digits/rotate"])
def test_names_that_leave_the_folder_are_refused(store: Store, name: str) -> None:
    """No run id or lock name can reach outside its folder or hide a file."""
    with pytest.raises(BadInputError, match="cannot be a file name"):
        store.lock(name)
    with pytest.raises(BadInputError, match="cannot be a file name"):
        store.record_path(name)


def test_a_full_disk_is_an_error_of_one_line(
    store: Store, make_run: MakeRun, make_record: MakeRecord
) -> None:
    """Where a file cannot be written, the error names it, and nothing half written stays."""
    store.folder.mkdir()
    (store.folder / "records").write_text("a file where a folder belongs")
    with pytest.raises(WorldError, match=r"records/.*: cannot be written"):
        store.write(make_record(make_run()))


def test_a_message_that_is_no_unicode_is_written(
    store: Store, make_run: MakeRun, make_record: MakeRecord
) -> None:
    """An error about a file with a broken name still gets its record."""
    failure = {"kind": "world", "message": "cannot read x"}
    record = make_record(make_run(), error=failure)
    broken = record.model_copy(update={"notes": ("file \udcff",)})
    store.write(broken)
    read = store.read(record.run_id)
    assert read is not None
    assert read.notes == ("file ?",)


def test_heartbeats_come_and_go(store: Store) -> None:
    """The last heartbeat of each run is kept until it is cleared; an empty one is passed over."""
    store.beat("r", {"epoch": 1})
    store.beat("r", {"epoch": 2})
    store.live_path("s").write_bytes(b"")
    beats = store.beats()
    assert list(beats) == ["r"]
    assert beats["r"]["progress"] == {"epoch": 2}
    assert beats["r"]["owner"]["pid"] == os.getpid()
    store.clear_live("r")
    store.clear_live("r")
    assert store.beats() == {}


def test_no_file_name_starts_with_a_dot(
    store: Store, plan: Plan, make_run: MakeRun, make_record: MakeRecord
) -> None:
    """Hidden files get lost in copies and archives: there are none, and no leftovers of writing."""
    store.write_plan(plan)
    store.write(make_record(make_run()), PREDICTIONS)
    store.beat("r", {})
    with store.lock("l"):
        names = [p.name for p in store.folder.rglob("*")]
    assert [name for name in names if name.startswith(".") or name.endswith(".part")] == []


def test_table_has_one_row_a_run_and_split(store: Store, make_run: MakeRun, make_record: MakeRecord) -> None:
    """The frame holds what the records say, and a failed run once."""
    done = make_record(make_run(), cost={"wall_s": 1.5})
    failed = make_record(make_run(seed=2), error={"kind": "non_finite_loss", "message": "inf"})
    store.write(done)
    store.write(failed)
    frame = table(store).set_index(["seed", "split"])
    assert len(frame) == 3
    assert frame.loc[(0, "test"), "top1"] == 1 / 3
    assert frame.loc[(0, "digits/rotate"), "top1"] == 1e-05
    assert frame.loc[(0, "test"), "wall_s"] == 1.5
    assert list(frame[frame.status == "failed"].error) == ["non_finite_loss: inf"]
    assert len(table([store.folder, store])) == 6


def test_table_of_nothing_has_columns(tmp_path: Path) -> None:
    """A folder without records gives an empty frame that can still be asked."""
    frame = table(tmp_path)
    assert list(frame[frame.status == "done"].run_id) == []


def test_content_hash_of_a_record_survives_the_disk(
    store: Store, make_run: MakeRun, make_record: MakeRecord
) -> None:
    """Floats come back with every bit, so that results can be compared by hash."""
    record = make_record(make_run())
    store.write(record)
    read = store.read(record.run_id)
    assert read is not None
    assert content_hash(read.result()) == content_hash(record.result())
