"""A full disk and a read-only one: real file systems, mounted in a namespace of a child process."""

import shutil
import subprocess
import sys
import textwrap

import pytest

from tests.checkpoint.servers import REPOSITORY


def in_namespace(directory, mount, program):
    """Run `program` where `mount` has been done, unseen by anyone else; skip where that is not allowed."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this machine")
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets us mount nothing, not even in a namespace")
    script = f'{mount} && exec {sys.executable} -c "$PROGRAM" {directory}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        env={"PROGRAM": textwrap.dedent(program), "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost(tmp_path):
    out = in_namespace(
        tmp_path,
        f"mount -t tmpfs -o size=600k tmpfs {tmp_path}",
        """
        import os, sys
        from ray_durable.checkpoint import Kind, open_log, recover
        from ray_durable.errors import LogStoppedError
        root, released, errors = sys.argv[1], [], []
        log = open_log(root, "w", on_durable=released.extend, on_error=errors.append, retry_for_s=0.5)
        try:
            for seq in range(1000):
                log.append("a", 1, seq, Kind.CHECKPOINT, os.urandom(20_000), token=seq)
                log.flush()
        except LogStoppedError as error:
            print(error)
        assert 5 < len(released) < 40, len(released)
        assert recover(log.store, "w").coroutines["a"].latest.seq == released[-1]
        assert recover(log.store, "w").damage == []
        assert len(errors) == 1
        """,
    )
    assert "No space left on device" in out


def test_a_log_goes_on_when_a_full_disk_has_room_again(tmp_path):
    in_namespace(
        tmp_path,
        f"mount -t tmpfs -o size=600k tmpfs {tmp_path}",
        """
        import os, sys, time
        from ray_durable.checkpoint import Kind, open_log, recover
        from ray_durable.errors import StoreFullError
        root, released = sys.argv[1], []
        open(root + "/ballast", "wb").write(bytes(500_000))
        log = open_log(root, "w", on_durable=released.extend, retry_for_s=60)
        for seq in range(8):
            log.append("a", 1, seq, Kind.CHECKPOINT, os.urandom(20_000), token=seq)
            log.commit()
            time.sleep(0.05)
        while log.trouble is None:
            time.sleep(0.01)
        assert isinstance(log.trouble, StoreFullError), log.trouble
        os.unlink(root + "/ballast")
        log.flush(30)
        assert released == list(range(8))
        assert recover(log.store, "w").coroutines["a"].latest.seq == 7
        """,
    )


def test_a_read_only_disk_is_refused_at_once_and_still_read(tmp_path):
    in_namespace(
        tmp_path,
        f"mount -t tmpfs tmpfs {tmp_path}",
        """
        import subprocess, sys
        from ray_durable.checkpoint import Kind, open_log, open_store, probe, recover
        from ray_durable.errors import StoreError
        root = sys.argv[1]
        log = open_log(root, "w")
        log.append("a", 1, 1, Kind.CHECKPOINT, b"state")
        log.close()
        log.store.close()
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        store = open_store(root)
        assert recover(store, "w").coroutines["a"].latest.state == b"state"
        try:
            probe(store)
        except StoreError as error:
            assert "ead-only" in str(error), error
        else:
            raise AssertionError("the probe let a read-only disk through")
        """,
    )
