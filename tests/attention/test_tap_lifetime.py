import copy
import gc
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitkd_bench.attention import AttentionCall, Tap, interception

MakeVit = Callable[..., Any]
SDPA = "scaled_dot_product_attention"


def read_all(network: Any, images: Tensor) -> dict[int, AttentionCall]:
    """Read every block of a network once, detached."""
    own = Tap(network.blocks)
    own.read(range(len(network.blocks)))
    network(images)
    calls = {index: call.detach() for index, call in own.calls.items()}
    own.remove()
    return calls


def test_nothing_is_left_behind_by_an_error(make_vit: MakeVit, images: Tensor) -> None:
    """A block that fails, before, in or after its attention, leaves the stack empty."""

    def fail(*_: Any, **__: Any) -> Tensor:
        raise ZeroDivisionError("on purpose")

    network = make_vit()
    own = Tap(network.blocks)
    own.read([0, 1])
    network.blocks[1].attend = fail
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        network(images)
    assert interception.stack.visitors == []
    network.blocks[1].attend = None
    for register in (nn.Module.register_forward_pre_hook, nn.Module.register_forward_hook):
        handle = register(network.blocks[1], fail)
        with pytest.raises(ZeroDivisionError):
            network(images)
        assert interception.stack.visitors == []
        handle.remove()
    network(images)
    assert sorted(own.calls) == [0, 1]


def test_an_interrupt_is_cleared_away(make_vit: MakeVit, images: Tensor) -> None:
    """After Ctrl-C in a block, which runs no hooks, clearing or the next forward sets things right."""

    def interrupt(*_: Any, **__: Any) -> Tensor:
        raise KeyboardInterrupt

    network = make_vit()
    own = Tap(network.blocks)
    for settle in (own.clear, lambda: network(images)):
        own.read([0])
        network.blocks[0].attend = interrupt
        with pytest.raises(KeyboardInterrupt):
            network(images)
        network.blocks[0].attend = None
        settle()
        assert interception.stack.visitors == []


def test_taps_on_several_networks_are_apart(make_vit: MakeVit, images: Tensor) -> None:
    """A teacher is read while two students, one reading and one copying, run beside it."""
    teacher, reader, copier = make_vit(seed=5), make_vit(seed=6), make_vit(seed=7)
    expected = {name: read_all(network, images) for name, network in (("t", teacher), ("r", reader))}
    plain = copier(images)
    taps = {network: Tap(network.blocks) for network in (teacher, reader, copier)}
    taps[teacher].read([0, 1])
    teacher(images)
    taps[reader].read([0])
    taps[copier].replace(taps[teacher].calls)
    copied = copier(images)
    reader(images)
    assert torch.equal(expected["t"][1].q, taps[teacher].calls[1].q)
    assert torch.equal(expected["r"][0].q, taps[reader].calls[0].q)
    assert sorted(taps[reader].calls) == [0]
    assert not torch.allclose(plain, copied)


def test_threads_do_not_meet(make_vit: MakeVit, images: Tensor) -> None:
    """Networks that run in several threads at once read and copy what they do alone."""
    networks = [make_vit(seed=seed) for seed in range(4)]
    given = read_all(make_vit(seed=9), images)
    taps = [Tap(network.blocks) for network in networks]
    start, outputs = threading.Barrier(len(networks)), {}

    def work(index: int) -> None:
        taps[index].read([0, 1, 2])
        taps[index].replace({0: given[0]})
        start.wait()
        for _ in range(5):
            outputs[index] = networks[index](images), taps[index].calls

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(networks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, (output, calls) in outputs.items():
        assert torch.equal(output, networks[index](images))
        assert torch.equal(calls[2].q, taps[index].calls[2].q)


def test_one_network_in_two_threads_is_refused(make_vit: MakeVit, images: Tensor) -> None:
    """Two forwards of one network that cross each other cannot mix what they read."""
    network = make_vit()
    own = Tap(network.blocks)
    own.read([0, 1])
    network.blocks[0](images)
    other = threading.Thread(target=network.blocks[0], args=(images,))
    other.start()
    other.join()
    with pytest.raises(RuntimeError, match="block 1 is read in two threads"):
        network.blocks[1](images)


def test_a_second_tap_is_refused(make_vit: MakeVit) -> None:
    """One network has one tap, until that is removed or forgotten."""
    network = make_vit()
    first = Tap(network.blocks)
    with pytest.raises(ValueError, match="block 0 has a tap already"):
        Tap(network.blocks)
    first.remove()
    second = Tap(network.blocks)
    del second
    gc.collect()
    assert not network.blocks[0]._forward_pre_hooks
    assert not network.blocks[0]._forward_hooks
    Tap(network.blocks)


def test_blocks_must_follow_one_another(make_vit: MakeVit) -> None:
    """No blocks, a block twice, or a block inside another one are refused."""
    blocks = make_vit().blocks
    with pytest.raises(ValueError, match="at least one block"):
        Tap([])
    with pytest.raises(ValueError, match="given twice"):
        Tap([blocks[0], blocks[1], blocks[0]])
    with pytest.raises(ValueError, match="block 1 lies inside block 0"):
        Tap([nn.Sequential(blocks[0]), blocks[0]])


def test_state_dict_is_left_alone(make_vit: MakeVit) -> None:
    """A tapped network saves and loads as an untapped one."""
    network = make_vit()
    before = list(network.state_dict())
    Tap(network.blocks).read([0])
    assert before == list(network.state_dict())


def pickled(network: Any) -> Any:
    """Send a network through pickle, as to a worker process."""
    return pickle.loads(pickle.dumps(network))  # noqa: S301


def saved(network: Any) -> Any:
    """Send a network through torch.save."""
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled, saved])
def test_a_copied_network_is_not_tapped(make_vit: MakeVit, images: Tensor, duplicate: Any) -> None:
    """A copy made while the tap is armed (an average of weights) runs untapped, and can have its own tap."""
    network, given = make_vit(), read_all(make_vit(seed=5), images)
    expected, own = network(images), Tap(network.blocks)
    own.read([0])
    own.replace({1: given[1]})
    network(2 * images)
    kept = own.calls[0]
    twin = duplicate(network)
    assert torch.equal(expected, twin(images))
    assert own.calls[0] is kept
    beside = Tap(twin.blocks)
    beside.read([2])
    twin(images)
    assert sorted(beside.calls) == [2]
    assert own.calls[0] is kept


def test_a_copied_tap_belongs_to_the_copied_network(make_vit: MakeVit, images: Tensor) -> None:
    """An object that holds a network and its tap can be copied; the copy's tap is fresh."""
    network = make_vit()
    pair = {"network": network, "tap": Tap(network.blocks)}
    pair["tap"].read([0])
    for twin in (copy.deepcopy(pair), pickled(pair)):
        assert twin["tap"].calls == {}
        twin["tap"].read([1])
        twin["network"](images)
        assert sorted(twin["tap"].calls) == [1]
        assert list(twin["tap"].blocks) == list(twin["network"].blocks)


def test_a_shallow_copy_is_refused_while_armed(make_vit: MakeVit, images: Tensor) -> None:
    """A module that shares the hooks (a replica of DataParallel) may run, but not armed."""
    network = make_vit()
    own = Tap(network.blocks)
    replica = copy.copy(network.blocks[0])
    replica(images)
    own.read([0])
    with pytest.raises(RuntimeError, match="shallow copy of the armed block 0"):
        replica(images)


# torch looks at the gradient of every tensor that it guards, leaf or not
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_network_is_read(make_vit: MakeVit, images: Tensor) -> None:
    """A compiled network leaves its graph at attention, so that it can be armed after compilation."""
    network = make_vit(depth=1)
    expected, own = network(images), Tap(network.blocks)
    compiled = torch.compile(network, backend="eager")
    torch.testing.assert_close(compiled(images), expected, atol=1e-12, rtol=0)
    own.read([0])
    torch.testing.assert_close(compiled(images), expected, atol=1e-12, rtol=0)
    read = own.calls[0]
    network(images)
    torch.testing.assert_close(read.q, own.calls[0].q, atol=1e-12, rtol=0)
    torch.compiler.reset()


def test_the_tap_is_installed_once(make_vit: MakeVit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further taps change nothing; an original that was put back gives way, a stranger's wrapper stays."""
    Tap(make_vit().blocks)
    assert F.scaled_dot_product_attention is interception.tapped
    original = interception._found[0]
    monkeypatch.setattr(F, SDPA, original)
    Tap(make_vit().blocks)
    assert F.scaled_dot_product_attention is interception.tapped

    def wrapper(*args: Any, **kwargs: Any) -> Tensor:
        return interception.tapped(*args, **kwargs)

    monkeypatch.setattr(F, SDPA, wrapper)
    Tap(make_vit().blocks)
    assert F.scaled_dot_product_attention is wrapper
    assert interception._found == [original]
