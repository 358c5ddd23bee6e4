"""One classifier in many threads, in forked processes, in spawned ones, and after it was closed."""

import gc
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fic_runtime
from fic_runtime import BundleError, Classifier, DeviceError, MultiClassifier
from fic_runtime.devices import CUDA

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def pictures(count):
    return list(np.random.default_rng(0).integers(0, 256, (count, 50, 60, 3), np.uint8))


def probabilities(classifier, image):
    return classifier.predict(image).probabilities.tobytes()


def test_sixteen_threads_get_the_answers_of_one(golden):
    images = pictures(200)
    with Classifier(golden, threads=2) as classifier:
        serial = [probabilities(classifier, image) for image in images]
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(lambda image: probabilities(classifier, image), images)) == serial


def run_program(text, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(fic_runtime.__file__).parents[1])}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    return subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


# Each child exits as a worker of a web server does, with all destructors and handlers.
FORKS = """
import os, sys, warnings
import numpy as np
from fic_runtime import Classifier

warnings.simplefilter("ignore")  # Python 3.12 warns of every fork beside threads
image = np.zeros((50, 60, 3), np.uint8)
classifier = Classifier(sys.argv[1], threads=2)
expected = classifier.predict(image).probabilities
classifier.predict_batch([image] * 4)  # opens a session of one thread
for number in range(20):
    child = os.fork()
    if not child:
        if number % 2:
            assert np.array_equal(classifier.predict(image).probabilities, expected)
        if number % 4 > 1:
            for answer in classifier.predict_batch([image] * 4):
                assert np.array_equal(answer.probabilities, expected)
        if number % 3 == 0:
            classifier.close()
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), end=" ", flush=True)
assert np.array_equal(classifier.predict(image).probabilities, expected)
"""


@needs_fork
def test_forked_processes_answer_and_exit_cleanly(golden):
    result = run_program(FORKS, golden)
    assert result.stdout.split() == ["0"] * 20, result.stderr
    assert result.returncode == 0, result.stderr


POOL = """
import multiprocessing, sys, warnings
import numpy as np
from fic_runtime import Classifier

warnings.simplefilter("ignore")
classifier = Classifier(sys.argv[1], threads=2)

def answer(number):
    return classifier.predict(np.full((50, 60, 3), number, np.uint8)).probabilities.tobytes()

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(answer, range(20)) == [answer(number) for number in range(20)]
        pool.close()
        pool.join()
    print("done")
"""


@needs_fork
def test_a_pool_of_forked_processes_gives_the_same_answers(golden):
    result = run_program(POOL, golden)
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr


def graphs_of(classifier):
    base, head = classifier._serving()
    return base.graph, head.graph


def after_fork(classifier):
    """Do what a fork does to the graphs of the child."""
    for graph in graphs_of(classifier):
        graph._leave_to_parent()


def test_a_bundle_that_changed_before_the_forked_process_used_it_is_refused(bundle):
    classifier = Classifier(bundle)
    after_fork(classifier)
    (bundle / "base.onnx").write_bytes((bundle / "head.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"base\.onnx: does not match its checksum"):
        classifier.predict(pictures(1)[0])


def test_an_archive_is_opened_anew_as_well(bundle, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", bundle)
    classifier = Classifier(archive)
    before = probabilities(classifier, pictures(1)[0])
    after_fork(classifier)
    assert probabilities(classifier, pictures(1)[0]) == before


def test_a_bundle_is_found_again_from_another_working_folder(golden, tmp_path, monkeypatch):
    monkeypatch.chdir(golden.parent)
    classifier = Classifier(golden.name)
    before = probabilities(classifier, pictures(1)[0])
    monkeypatch.chdir(tmp_path)  # as a daemon does after its fork
    after_fork(classifier)
    assert probabilities(classifier, pictures(1)[0]) == before


def test_a_graph_on_cuda_says_that_it_cannot_be_forked(golden):
    classifier = Classifier(golden)
    for graph in graphs_of(classifier):
        graph.provider = CUDA
    after_fork(classifier)
    with pytest.raises(DeviceError, match=r"CUDAExecutionProvider does not work in a process that"):
        classifier.predict(pictures(1)[0])


def test_a_pickled_classifier_opens_the_bundle_with_the_same_arguments(
    golden, tmp_path, monkeypatch
):
    monkeypatch.chdir(golden.parent)
    classifier = Classifier(golden.name, threads=1, channel_order="bgr", lean_memory=True)
    data = pickle.dumps(classifier)
    monkeypatch.chdir(tmp_path)
    copy = pickle.loads(data)
    assert copy.channel_order == "bgr"
    (base, _), (copied, _) = classifier._serving(), copy._serving()
    assert copied.__getstate__() == base.__getstate__()
    assert copied.__getstate__()["threads"] == 1
    image = pictures(1)[0]
    assert probabilities(copy, image) == probabilities(classifier, image)


def test_a_pickled_classifier_keeps_the_head_that_was_put_in(golden, make_head, tmp_path):
    classifier = Classifier(golden)
    classifier.swap_head(make_head(tmp_path / "head", bias=9))
    copy = pickle.loads(pickle.dumps(classifier))
    image = pictures(1)[0]
    assert copy.labels == classifier.labels
    assert probabilities(copy, image) == probabilities(classifier, image)


def test_many_heads_are_pickled_with_their_names(golden, make_head, tmp_path):
    heads = {"ripeness": make_head(tmp_path / "head", bias=9), "kind": golden}
    classifier = MultiClassifier(golden, heads, threads=1)
    copy = pickle.loads(pickle.dumps(classifier))
    image = pictures(1)[0]
    assert copy.predict(image) == classifier.predict(image)
    copy.detach("kind")
    assert list(classifier.labels) == ["ripeness", "kind"]


def test_a_spawned_process_takes_a_classifier(golden):
    images = pictures(3)
    classifier = Classifier(golden)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        answers = list(pool.map(classifier.predict, images))
    for answer, image in zip(answers, images, strict=True):
        assert answer.probabilities.tobytes() == probabilities(classifier, image)


def test_a_closed_classifier_says_so_and_may_be_closed_again(golden):
    classifier = Classifier(golden)
    classifier.close()
    classifier.close()
    for use in (lambda: classifier.predict(pictures(1)[0]), lambda: pickle.dumps(classifier)):
        with pytest.raises(ValueError, match="this classifier is closed; make a new one"):
            use()


def test_closing_frees_the_sessions_even_while_the_classifier_is_kept(golden):
    classifier = Classifier(golden)
    sessions = [weakref.ref(graph._session) for graph in graphs_of(classifier)]
    classifier.close()
    gc.collect()
    assert [each() for each in sessions] == [None, None]


def resident_kib():
    with Path("/proc/self/status").open(encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells its memory otherwise")
@pytest.mark.parametrize("lean_memory", [False, True])
def test_memory_does_not_creep_with_batches_and_pictures_of_all_sizes(golden, lean_memory):
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (300, 300, 3), np.uint8)
    with Classifier(golden, threads=1, lean_memory=lean_memory) as classifier:
        classifier.predict_batch([picture] * 16, batch_size=16)
        after = []
        for _ in range(3):
            for _ in range(150):
                height, width, number = random.integers((8, 8, 1), (300, 300, 17))
                batch = [picture[:height, :width]] * number
                classifier.predict_batch(batch, batch_size=int(number))
            after.append(resident_kib())
    assert after[-1] - after[0] < 8 << 10  # a leak of one batch of pixels a call would be 27 MB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells its memory otherwise")
def test_opening_and_dropping_classifiers_does_not_gather_memory(golden):
    after = []
    for number in range(60):
        Classifier(golden, threads=1).predict(pictures(1)[0])
        if number >= 20:
            after.append(resident_kib())
    assert after[-1] - after[0] < 8 << 10


def test_onnx_runtime_is_told_to_send_nothing_and_the_environment_is_left_alone():
    seen = run_program(
        "import sys, os, types\n"
        "class Spy:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Spy())\n"
        "import fic_runtime.graphs.onnx_runtime\n"
        "print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
    )
    assert seen.stdout.split() == ["1", "None"], seen.stderr
