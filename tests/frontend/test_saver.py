"""Checkpoints: what is saved comes back, and what goes wrong says so and changes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import flowc as tf


def model() -> tuple[Any, Any]:
    return (
        tf.Variable(np.arange(6.0).reshape(2, 3), name="w", dtype=tf.float32),
        tf.Variable(7, name="n", trainable=False),
    )


def test_save_and_restore(tmp_path: Path) -> None:
    w, n = model()
    saver = tf.train.Saver()
    path = str(tmp_path / "model.ckpt")
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run([w.assign(w * 10.0), n.assign(8)])
        assert saver.save(sess, path) == path
    stored = safetensors.numpy.load_file(path + ".safetensors")
    np.testing.assert_array_equal(stored["w"], np.arange(6.0).reshape(2, 3) * 10)
    with tf.Session() as sess:
        saver.restore(sess, path)  # instead of initializing
        np.testing.assert_array_equal(sess.run(w), np.arange(6.0).reshape(2, 3) * 10)
        assert sess.run([n, tf.is_variable_initialized(n)]) == [8, True]
    assert tf.train.list_variables(tmp_path) == [("n", []), ("w", [2, 3])]
    assert tf.train.load_variable(path, "n") == 8


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    v = tf.Variable([1.0, 2.0])
    step = tf.train.create_global_step()
    train = tf.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(v * v), global_step=step)
    saver, path = tf.train.Saver(), str(tmp_path / "m")
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train)
        path = saver.save(sess, path, global_step=step) or ""
        sess.run(train)
        want = sess.run(v)
    assert path == str(tmp_path / "m-1")
    with tf.Session() as sess:
        saver.restore(sess, path)
        sess.run(train)
        np.testing.assert_array_equal(sess.run(v), want)


def test_lists_and_dicts_of_variables(tmp_path: Path) -> None:
    w, n = model()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        only = tf.train.Saver([n]).save(sess, tmp_path / "only")
        named = tf.train.Saver({"other/name": w}).save(sess, str(tmp_path / "named"))
        assert tf.train.list_variables(only) == [("n", [])]
        assert tf.train.list_variables(named) == [("other/name", [2, 3])]
    with tf.Graph().as_default(), tf.Session() as sess:
        v = tf.Variable(tf.zeros([2, 3]), name="v")
        tf.train.Saver({"other/name": v}).restore(sess, named)
        assert sess.run(v)[1, 2] == 5


def test_restore_says_what_does_not_fit_and_changes_nothing(tmp_path: Path) -> None:
    model()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(sess, tmp_path / "m")
    with tf.Graph().as_default(), tf.Session() as sess:
        n = tf.Variable(1, name="n")
        w = tf.Variable(tf.zeros([3, 3]), name="w")
        extra = tf.Variable(0.0, name="extra")
        sess.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.NotFoundError, match="Key extra not found in checkpoint"):
            tf.train.Saver([n, extra]).restore(sess, path)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[3, 3\] .*\[2, 3\] for w") as e:
            tf.train.Saver([n, w]).restore(sess, path)
        assert e.value.op == "w"
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected dtype float32"):
            tf.train.Saver({"n": extra}).restore(sess, path)
        assert sess.run(n) == 1
        flat = tf.Variable(tf.zeros([6]))
        tf.train.Saver({"w": flat}, reshape=True).restore(sess, path)
        np.testing.assert_array_equal(sess.run(flat), np.arange(6.0))


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    _, n = model()
    saver, path = tf.train.Saver(), str(tmp_path / "m")
    file = Path(path + ".safetensors")
    with tf.Session() as sess:
        with pytest.raises(ValueError, match="not a valid checkpoint"):
            saver.restore(sess, path)
        with pytest.raises(ValueError, match="when it is None"):
            saver.restore(sess, None)
        sess.run(tf.global_variables_initializer())
        saver.save(sess, path)
        good = file.read_bytes()
        sess.run(n.assign(1))
        flipped = bytearray(good)
        flipped[-1] ^= 1
        for bad in (bytes(flipped), good[:-1], good[:20], b"", b"\xff" * 64):
            file.write_bytes(bad)
            with pytest.raises(tf.errors.DataLossError, match="m.safetensors"):
                saver.restore(sess, path)
        assert sess.run(n) == 1


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No variables to save"):
        tf.train.Saver()
    with tf.Session() as sess:
        tf.constant(1)
        assert tf.train.Saver(allow_empty=True).save(sess, tmp_path / "m") is None
    w, _ = model()
    with pytest.raises(TypeError, match="is not a Variable"):
        tf.train.Saver([tf.constant(1.0)])
    with pytest.raises(ValueError, match="At least two variables have the same name: w"):
        tf.train.Saver([w, w])
    saver = tf.train.Saver()
    with tf.Session() as sess:
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value w"):
            saver.save(sess, tmp_path / "m")
        sess.run(tf.global_variables_initializer())
        with pytest.raises(ValueError, match="Parent directory of .* doesn't exist"):
            saver.save(sess, tmp_path / "none" / "m")
        with pytest.raises(ValueError, match="collides"):
            saver.save(sess, tmp_path / "checkpoint")
        with pytest.raises(ValueError, match="path components"):
            saver.save(sess, tmp_path / "m", latest_filename="a/b")
        with pytest.raises(TypeError, match="must be a Session"):
            saver.save("session", tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_old_checkpoints_are_deleted(tmp_path: Path) -> None:
    model()
    saver = tf.train.Saver(max_to_keep=2)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        paths = [saver.save(sess, str(tmp_path / "m"), global_step=i) for i in range(4)]
        assert saver.last_checkpoints == paths[2:]
        assert [tf.train.checkpoint_exists(p) for p in paths] == [False, False, True, True]
        state = tf.train.get_checkpoint_state(tmp_path)
        assert state is not None
        assert state.model_checkpoint_path == paths[3] == tf.train.latest_checkpoint(tmp_path)
        assert state.all_model_checkpoint_paths == paths[2:]
        again = tf.train.Saver(max_to_keep=2)
        again.recover_last_checkpoints(state.all_model_checkpoint_paths)
        again.save(sess, str(tmp_path / "m"), global_step=9)
        assert not tf.train.checkpoint_exists(paths[2])
        every = tf.train.Saver(max_to_keep=None)
        for i in range(20, 26):
            every.save(sess, str(tmp_path / "m"), global_step=i, latest_filename="all")
        assert all(tf.train.checkpoint_exists(tmp_path / f"m-{i}") for i in range(20, 26))
        assert every.last_checkpoints == []


def test_one_checkpoint_every_n_hours_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    saver = tf.train.Saver(max_to_keep=1, keep_checkpoint_every_n_hours=1)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(7):  # one each 40 minutes
            now += 2400
            saver.save(sess, str(tmp_path / "m"), global_step=i)
        left = [i for i in range(7) if tf.train.checkpoint_exists(tmp_path / f"m-{i}")]
    assert left == [1, 3, 4, 6]  # the first after 60, 120, 180 minutes, and the latest


def test_relative_paths_and_step_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    saver = tf.train.Saver(pad_step_number=True)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert saver.save(sess, "run/m", global_step=3) == "run/m-00000003"
        text = (tmp_path / "run" / "checkpoint").read_text()
        assert text.splitlines()[0] == 'model_checkpoint_path: "m-00000003"'
        assert tf.train.latest_checkpoint("run") == "run/m-00000003"
        assert saver.save(sess, "here") == "here"
        assert tf.train.latest_checkpoint("") == "here"
        tf.train.Saver(save_relative_paths=True).save(sess, tmp_path / "run" / "x")
        (tmp_path / "run").rename(tmp_path / "moved")
        assert tf.train.latest_checkpoint(tmp_path / "moved") == str(tmp_path / "moved" / "x")


def test_state_files_that_are_not_to_be_read(tmp_path: Path) -> None:
    assert tf.train.get_checkpoint_state(tmp_path) is None
    assert tf.train.latest_checkpoint(tmp_path) is None
    state = tmp_path / "checkpoint"
    for text in ("", "model_checkpoint_path", "model_checkpoint_path: 3", 'other: "x"', "\0"):
        state.write_text(text)
        assert tf.train.get_checkpoint_state(tmp_path) is None
    tf.train.update_checkpoint_state(str(tmp_path), str(tmp_path / 'odd "name"\\x'))
    found = tf.train.get_checkpoint_state(tmp_path)
    assert found is not None
    assert found.model_checkpoint_path == str(tmp_path / 'odd "name"\\x')
    assert tf.train.latest_checkpoint(tmp_path) is None  # it names a file that is not there


WRITER = """
import sys
import numpy as np
import flowc as tf
v = tf.Variable(np.zeros(200_000, np.float32), name="v")
value = tf.placeholder(tf.float32, [200_000])
assign = v.assign(value)
saver = tf.train.Saver(max_to_keep=2)
with tf.Session() as sess:
    for i in range(1, 10_000):
        sess.run(assign.op, {value: np.full(200_000, i, np.float32)})
        saver.save(sess, sys.argv[1] + "/m", global_step=i % 3)
        print(i, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.009])
def test_a_kill_leaves_whole_checkpoints(tmp_path: Path, delay: float) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        saved = [int(next(child.stdout)) for _ in range(4)]
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
    assert saved == [1, 2, 3, 4]
    latest = tf.train.latest_checkpoint(tmp_path)
    assert latest is not None
    for prefix in tmp_path.glob("m-*.safetensors"):
        value = tf.train.load_variable(prefix, "v")
        assert len(set(value.tolist())) == 1
    value = tf.train.load_variable(latest, "v")
    assert value[0] >= 4
    v = tf.Variable(np.zeros(200_000, np.float32), name="v")
    with tf.Session() as sess:
        tf.train.Saver().restore(sess, latest)
        assert sess.run(v[5]) >= 4
        tf.train.Saver().save(sess, tmp_path / "after")
