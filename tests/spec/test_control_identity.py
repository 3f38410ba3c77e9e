"""A control stands in the id of its run, and changes no id of a run without one."""

from tests.spec.test_run_identity import RUN, changed
from vitkd_bench.spec import ControlUse, MethodUse, Run, TeacherUse


def under(name: str = "dkpp", version: int = 1, **settings: str) -> Run:
    """The run under a control."""
    control = ControlUse(name=name, version=version, settings=settings)
    return changed(method=MethodUse(name="kd", version=1, settings={"alpha": 0.3}, control=control))


def test_a_run_without_a_control_keeps_its_id() -> None:
    """No control is as if there were no such field; the pinned id of old records holds."""
    same = changed(method=MethodUse(name="kd", version=1, settings={"alpha": 0.3}, control=None))
    assert same.id == RUN.id == "b7609ad949e74f7a"
    assert same.cell_key == RUN.cell_key
    assert "control" not in RUN.versions


def test_a_control_and_its_settings_are_declared() -> None:
    """Control, settings and version change the id; the version alone leaves the cell's key as it is."""
    runs = [RUN, under(), under("cwtm"), under(kept="label"), under(version=2)]
    assert len({run.id for run in runs}) == len(runs)
    assert under(version=2).cell_key == under().cell_key
    assert len({run.cell_key for run in runs}) == len(runs) - 1


def test_a_control_is_under_the_same_protocol_stream_and_baseline() -> None:
    """It is compared with its method and with the same baseline, on the same pixels."""
    none = MethodUse(name="none", version=1)
    assert under().protocol == RUN.protocol
    assert under().stream_key == RUN.stream_key
    assert under().with_method(none).id == RUN.with_method(none).id


def test_a_controlled_run_survives_its_file() -> None:
    """Its id is the same after JSON."""
    run = under(kept="label")
    assert Run.parse(run.plain()).id == run.id
    assert run.method.canonical == "kd+dkpp"
    assert RUN.method.canonical == "kd"


def test_a_drawn_teacher_says_how() -> None:
    """The pin of drawn weights gives law and seed back; a seed changes the id and not the cell's key."""
    use = TeacherUse(
        name="micro/deit", pin="random:small:ab12:3", key="random:small:ab12", image_size=8, version=1
    )
    assert use.drawn == ("small", 3)
    assert use.preparation is None
    assert use.preparations == ()
    other = use.model_copy(update={"pin": "random:small:ab12:4"})
    assert changed(teacher=use).id != changed(teacher=other).id
    assert changed(teacher=use).cell_key == changed(teacher=other).cell_key
    head = use.model_copy(update={"head": "random", "head_pin": "random:5", "head_key": "random"})
    assert (use.drawn_head, head.drawn_head) == (None, 5)
    assert changed(teacher=head).id != changed(teacher=use).id
