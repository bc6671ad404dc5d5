"""Sessions: the text of one depends on nothing but its own prompt, parameters and seed."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from support.environment import NATIVE_CELLS
from support.sampling import VOCAB_SIZE, continue_in_process, random_model_file, run_to_end, write

from chargen import native
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID
from chargen.errors import ArgumentError
from chargen.sampling.native_network import NativeNetwork
from chargen.sampling.numpy_network import NumpyNetwork, generate
from chargen.sampling.params import SamplingParams
from chargen.sampling.session import Network, Session

compiled = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
NETWORKS = [NumpyNetwork, pytest.param(NativeNetwork, marks=compiled)]
PRECISIONS = ["float32", "int8"]


@dataclass
class Request:
    """One text to write."""

    prompt: list[int]
    params: SamplingParams
    options: dict[str, Any]

    def open(self, network: Network) -> Session:
        return network.open(self.prompt, self.params, **self.options)


def requests() -> list[Request]:
    """Texts that differ in everything: prompts, parameters, seeds, lengths, banned ids, and whether they can stop."""
    rng, found = np.random.default_rng(4), []
    controls = [{}, {"top_k": 4}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 7, "top_p": 0.9, "min_p": 0.02}]
    for number in range(21):
        params = SamplingParams(float(rng.uniform(0.5, 1.5)), **controls[number % len(controls)])
        options = {
            "seed": [7, number],
            "max_length": int(rng.integers(1, 120)),
            "banned": [(UNKNOWN_ID,), (UNKNOWN_ID, END_ID), (), (2, 3, 12)][number % 4],
            "stop": [END_ID, None, 5][number % 3],
        }
        found.append(Request(rng.integers(0, VOCAB_SIZE, rng.integers(1, 9)).tolist(), params, options))
    found.append(Request([2], SamplingParams(0.0), {"seed": 0, "max_length": 50}))
    return found


REQUESTS = requests()


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return request.param(random_model_file())


# ------------------------------------------------------------------------------- independence


@compiled
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cell", NATIVE_CELLS)
def test_a_text_does_not_depend_on_the_other_sessions(cell: str, precision: str, instruction_set: str) -> None:
    """Sessions join, leave and are skipped at random, with steps of random sizes, on one to five threads."""
    file = random_model_file(cell, 40)
    network = NativeNetwork(file, precision, num_threads=1)
    alone = [run_to_end(network, request.open(network), 1) for request in REQUESTS]
    assert len({len(text) for text in alone}) > 10
    rng = np.random.default_rng(1)
    for num_threads in (1, 2, 3, 5):
        network = NativeNetwork(file, precision, num_threads=num_threads)
        waiting, active = rng.permutation(len(REQUESTS)).tolist(), {}
        texts: list[list[int]] = [[] for _ in REQUESTS]
        while waiting or active:
            for number in waiting[: rng.integers(0, 6)]:
                active[number] = REQUESTS[number].open(network)
                waiting.remove(number)
            stepped = [number for number in active if rng.random() < 0.8]
            rng.shuffle(stepped)
            num_characters = int(rng.integers(1, 40))
            for number, ids in zip(
                stepped, network.step([active[number] for number in stepped], num_characters), strict=True
            ):
                assert len(ids) == num_characters or active[number].finished
                texts[number] += ids
                if active[number].finished:
                    network.close(active.pop(number))
            if active and rng.random() < 0.1:  # a session that is closed early has no further part in the others
                number = next(iter(active))
                network.close(active.pop(number))
                assert texts[number] == alone[number][: len(texts[number])]
                texts[number] = alone[number]
        assert texts == alone


@compiled
def test_the_default_number_of_threads_changes_nothing() -> None:
    file = random_model_file("lstm", 24)
    network = NativeNetwork(file)
    first = network.open([2], SamplingParams(1.0, top_p=0.9), max_length=60)
    together = network.step([first.fork(seed) for seed in range(64)], 60)
    single = NativeNetwork(file, num_threads=1)
    for seed, ids in enumerate(together):
        assert write(single, [2], SamplingParams(1.0, top_p=0.9), seed=seed, max_length=60) == ids


# ------------------------------------------------------------------------------- the definition


def written_by_definition(file, request: Request, precision: str = "float32") -> list[int]:
    options = {"banned": (UNKNOWN_ID,), "stop": None, **request.options}
    rng = np.random.default_rng(options.pop("seed"))
    return list(generate(NumpyNetwork(file, precision), request.prompt, request.params, rng=rng, **options))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cell", NATIVE_CELLS)
def test_numpy_sessions_equal_the_definition(cell: str, precision: str) -> None:
    file = random_model_file(cell, 16)
    network = NumpyNetwork(file, precision)
    sessions = [request.open(network) for request in REQUESTS]
    texts: list[list[int]] = [[] for _ in sessions]
    while any(not session.finished for session in sessions):
        active = [number for number, session in enumerate(sessions) if not session.finished]
        for number, ids in zip(active, network.step([sessions[number] for number in active], 7), strict=True):
            texts[number] += ids
    assert texts == [written_by_definition(file, request, precision) for request in REQUESTS]


@compiled
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cell", NATIVE_CELLS)
def test_compiled_sessions_equal_the_definition(cell: str, precision: str, instruction_set: str) -> None:
    """The same ids. No draw of these seeds is within float rounding of an edge of the distribution."""
    file = random_model_file(cell, 16)
    network = NativeNetwork(file, precision)
    for request in REQUESTS:
        assert run_to_end(network, request.open(network), 11) == written_by_definition(file, request, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("cell", NATIVE_CELLS)
def test_a_prompt_behind_a_state_equals_a_prompt_behind_what_led_to_it(cell: str, kind: Any, precision: str) -> None:
    file = random_model_file(cell, 16)
    network, passage = kind(file, precision), [3, 5, 2, 9, 9, 4]
    state = network.read(np.array([passage]))[1][:, 0]
    for request in REQUESTS:
        whole = Request(passage + request.prompt, request.params, request.options)
        behind = Request(request.prompt, request.params, {**request.options, "state": state})
        text = run_to_end(network, behind.open(network), 11)
        assert text == run_to_end(network, whole.open(network), 11)
        assert text == written_by_definition(file, behind, precision)


def test_a_state_of_another_shape_is_refused(network: Network) -> None:
    for wrong in (np.zeros((1, 3), np.float32), [[0.0]]):
        with pytest.raises(ArgumentError, match=r"state=.*: must be None, or floats of shape"):
            network.open([2], SamplingParams(), state=wrong)


# ------------------------------------------------------------------------------- the life of a session


def test_a_session_tells_why_it_has_finished(network: Network) -> None:
    session = network.open([2], SamplingParams(1.0), seed=1, max_length=30)
    assert not session.finished
    text = run_to_end(network, session)
    assert (len(text), session.finish_reason, session.num_written) == (30, "length", 30)
    stop = text[10]
    session = network.open([2], SamplingParams(1.0), seed=1, max_length=30, stop=stop)
    stopped = run_to_end(network, session)
    assert session.finish_reason == "stop"
    assert stopped == text[: text.index(stop) + 1]


def test_a_stop_as_the_last_id_counts_as_a_stop(network: Network) -> None:
    text = write(network, [2], SamplingParams(1.0), seed=1, max_length=30)
    place = next(place for place in range(29, -1, -1) if text[place] not in text[:place])
    session = network.open([2], SamplingParams(1.0), seed=1, max_length=place + 1, stop=text[place])
    assert run_to_end(network, session) == text[: place + 1]
    assert session.finish_reason == "stop"


def test_without_a_max_length_a_text_goes_on(network: Network) -> None:
    session = network.open([2], SamplingParams(1.0), seed=1)
    assert [len(network.step([session], 40)[0]) for _ in range(3)] == [40] * 3
    assert not session.finished


def test_a_finished_session_refuses_steps(network: Network) -> None:
    session = network.open([2], SamplingParams(1.0), seed=1, max_length=3)
    other = network.open([2], SamplingParams(1.0), seed=2, max_length=3)
    run_to_end(network, session)
    with pytest.raises(RuntimeError, match=r"finished \(length\): open another one"):
        network.step([other, session], 1)
    assert len(run_to_end(network, other)) == 3, "the refused step has changed the other session"


def test_a_closed_session_refuses_steps(network: Network) -> None:
    session = network.open([2], SamplingParams(1.0), seed=1)
    network.step([session], 5)
    network.close(session)
    network.close(session)
    with pytest.raises(RuntimeError, match="closed: open another one"):
        network.step([session], 1)


def test_a_session_of_a_network_of_another_shape_is_refused(network: Network) -> None:
    session = type(network)(random_model_file(hidden_size=24)).open([2], SamplingParams())
    with pytest.raises(ArgumentError, match=r"^sessions=.*another shape"):
        network.step([session], 1)


def test_a_session_twice_in_a_step_is_refused(network: Network) -> None:
    session = network.open([2], SamplingParams())
    with pytest.raises(ArgumentError, match=r"^sessions=.*twice"):
        network.step([session, session], 1)


def test_a_step_of_no_sessions_writes_nothing(network: Network) -> None:
    assert network.step([], 10) == []


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_length": 0}, "max_length"),
        ({"max_length": 2.5}, "max_length"),
        ({"seed": -1}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"banned": range(VOCAB_SIZE)}, "banned"),
    ],
)
def test_options_out_of_range_are_argument_errors(network: Network, options: dict, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name}=.*: must be") as caught:
        network.open([2], SamplingParams(), **options)
    assert caught.value.name == name


def test_a_step_of_no_characters_is_an_argument_error(network: Network) -> None:
    with pytest.raises(ArgumentError, match="num_characters=0"):
        network.step([network.open([2], SamplingParams())], 0)


def test_an_empty_prompt_is_refused(network: Network) -> None:
    with pytest.raises(ArgumentError, match=r"^prompt_ids=\[\]: must be at least one id"):
        network.open([], SamplingParams())


def test_reading_nothing_is_refused(network: Network) -> None:
    for shape in ((1, 0), (0, 1)):
        with pytest.raises(ArgumentError, match=r"^ids=.*: must be at least one id"):
            network.read(np.empty(shape, np.int64))


def test_states_of_another_shape_are_refused(network: Network) -> None:
    _, states = network.read(np.array([[2]]))
    for wrong in (states, states.astype(str), states.tolist(), "zeros", 0):
        with pytest.raises(ArgumentError, match=r"^states=.*: must be None, or floats of shape \(2, 2, 20\)"):
            network.read(np.array([[2], [3]]), wrong)


@pytest.mark.parametrize("wrong", [VOCAB_SIZE, -1, 2**63, 10**30, 2.5, 2.0, float("nan"), True, "2", None, [2], 1j])
def test_an_id_that_is_not_in_the_vocabulary_is_named(network: Network, wrong: object) -> None:
    """In `read`, `predict` and `open`; the message holds the name of the argument and what is allowed."""
    calls = {
        "ids": [
            lambda: network.read([[2, wrong]] if wrong is not True else [[True]]),
            lambda: network.predict([[wrong]]),
        ],
        "prompt_ids": [lambda: network.open([wrong], SamplingParams())],
        "banned": [lambda: network.open([2], SamplingParams(), banned=[wrong])],
    }
    for name, made in calls.items():
        for call in made:
            with pytest.raises(ArgumentError, match=rf"^{name}=.*: must be whole numbers from 0 to {VOCAB_SIZE - 1}"):
                call()
    if wrong is not None:
        with pytest.raises(
            ArgumentError, match=rf"^stop=.*: must be a whole number from 0 to {VOCAB_SIZE - 1}, or None"
        ):
            network.open([2], SamplingParams(), stop=wrong)


@pytest.mark.parametrize("wrong", ["abc", b"abc", 5, None, np.array(2), np.array([[2]]), np.array([2.0])], ids=repr)
def test_ids_that_are_not_in_a_list_are_named(network: Network, wrong: object) -> None:
    with pytest.raises(ArgumentError, match=r"^prompt_ids="):
        network.open(wrong, SamplingParams())
    with pytest.raises(ArgumentError, match=r"^banned="):
        network.open([2], SamplingParams(), banned=wrong)
    with pytest.raises(ArgumentError, match=r"^ids="):
        network.read(wrong if np.ndim(wrong) < 2 else wrong[0])


@pytest.mark.parametrize("wrong", [None, 0.8, {"temperature": 1.0}, SamplingParams, "greedy"])
def test_params_of_another_type_are_named(network: Network, wrong: object) -> None:
    with pytest.raises(ArgumentError, match=r"^params=.*: must be a SamplingParams"):
        network.open([2], wrong)


def test_what_is_no_session_is_named(network: Network) -> None:
    """Also a session that is not in a list. The sessions beside it stay as they are."""
    session = network.open([2], SamplingParams(), seed=1, max_length=9)
    for wrong in (session, None, 5, iter([session]), [session, None], ["session"], [[session]]):
        with pytest.raises(ArgumentError, match=r"^sessions=.*: must be a "):
            network.step(wrong, 1)
    for wrong in (None, 5, [session]):
        with pytest.raises(ArgumentError, match=r"^session=.*: must be a Session"):
            network.close(wrong)
    assert run_to_end(network, session) == write(network, [2], SamplingParams(), seed=1, max_length=9)


def test_integers_of_numpy_are_ids(network: Network) -> None:
    """In arrays of any integer type and in lists; banned ids may be a set."""
    stop = write(network, [2, 3], SamplingParams(1.0), seed=1, max_length=20, banned=[0, 4])[9]
    texts = [
        write(network, ids, SamplingParams(1.0), seed=1, max_length=20, banned=banned, stop=stop)
        for ids, banned, stop in (
            ([2, 3], [0, 4], stop),
            (np.array([2, 3], np.uint8), np.array([4, 0, 4], np.int16), np.int32(stop)),
            ([np.int64(2), np.int8(3)], {0, 4}, np.uint64(stop)),
            (range(2, 4), (0, np.int64(4)), stop),
        )
    ]
    assert texts == texts[:1] * 4
    assert texts[0][-1] == stop
    for ids in ([[2, 3]], ((2, 3),), np.array([[2, 3]], np.uint8)):
        assert all(map(np.array_equal, network.read(ids), network.read(np.array([[2, 3]]))))


# ------------------------------------------------------------------------------- copies


def test_a_numpy_generator_serves_as_a_seed(network: Network) -> None:
    """A text of n characters takes n numbers from it, also beside a longer text."""
    rng, expected = np.random.default_rng(5), np.random.default_rng(5)
    session = network.open([2], SamplingParams(1.0), seed=rng, max_length=10)
    longer = network.open([2], SamplingParams(1.0), seed=1, max_length=40)
    ids, _ = network.step([session, longer], 40)
    assert ids == write(network, [2], SamplingParams(1.0), seed=5, max_length=10)
    expected.random(10)
    assert rng.random() == expected.random()


def test_a_fork_continues_the_same_text_with_its_own_seed(network: Network) -> None:
    session = network.open([2, 3], SamplingParams(1.0), seed=1, max_length=60)
    begun = network.step([session], 20)[0]
    forks = [session.fork(seed) for seed in (8, 8, 9)]
    rests = network.step(forks, 60)
    assert rests[0] == rests[1] != rests[2]
    assert {len(rest) for rest in rests} == {40}
    # A new session whose prompt is the text so far is at the same place.
    again = write(network, [2, 3, *begun], SamplingParams(1.0), seed=8, max_length=40)
    assert again == rests[0]
    whole = write(network, [2, 3], SamplingParams(1.0), seed=1, max_length=60)
    assert begun + run_to_end(network, session) == whole, "a fork has changed the session it was made from"


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda it: pickle.loads(pickle.dumps(it))])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_copy_of_a_network_writes_the_same(kind: type, precision: str, copied: Any) -> None:
    network = kind(random_model_file("lstm"), precision)
    expected = write(network, [2, 3], SamplingParams(1.0), seed=1, max_length=60)
    other = copied(network)
    del network
    assert write(other, [2, 3], SamplingParams(1.0), seed=1, max_length=60) == expected


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_of_a_session_continues_the_text_on_its_own(network: Network, copied: Any) -> None:
    expected = write(network, [2], SamplingParams(1.0), seed=1, max_length=60)
    session = network.open([2], SamplingParams(1.0), seed=1, max_length=60)
    begun = network.step([session], 20)[0]
    other = copied(session)
    assert begun + run_to_end(network, other) == expected
    assert begun + run_to_end(network, session) == expected


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_and_a_session_go_to_a_spawned_process(kind: type) -> None:
    network = kind(random_model_file())
    expected = write(network, [2], SamplingParams(1.0), seed=1, max_length=60)
    session = network.open([2], SamplingParams(1.0), seed=1, max_length=60)
    begun = network.step([session], 20)[0]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        rest = pool.submit(continue_in_process, network, session).result(timeout=120)
    assert begun + rest == expected
