"""Files appear whole or not at all."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from potnet.errors import ConfigError
from potnet.files import atomic_write, check_output, check_own_table


def test_text_and_bytes_arrive_as_written(tmp_path):
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("Å\n")
    with atomic_write(tmp_path / "b.bin", "wb") as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "a.txt").read_bytes() == "Å\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_halfway():
        with atomic_write(path) as file:
            file.write("half of the new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_readers_see_the_old_content_until_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "atomic") as file:
        file.write("")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_folder_is_an_error_that_names_the_file_asked_for(tmp_path):
    path = tmp_path / "no" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path):
        pass
    assert caught.value.filename == str(path)


def test_a_file_that_was_there_keeps_its_permissions(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    with atomic_write(path) as file:
        file.write("new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "a.txt")
    for text in ("first", "second"):
        with atomic_write(link) as file:
            file.write(text)
    assert link.is_symlink()
    assert (tmp_path / "there" / "a.txt").read_text() == "second"
    assert os.listdir(tmp_path / "there") == ["a.txt"]


def test_pipes_and_devices_are_written_straight(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with atomic_write(check_output(pipe)) as file:
        file.write("through the pipe")
    reader.join()
    assert read == ["through the pipe"]
    with atomic_write(check_output("/dev/null")) as file:
        file.write("nowhere")
    assert not os.path.isfile("/dev/null")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full")
def test_a_full_disk_is_told_with_the_file_that_found_no_room():
    with pytest.raises(OSError, match="No space left") as caught, atomic_write("/dev/full") as file:
        file.write("text")
    assert caught.value.filename == "/dev/full"


def test_standard_output_in_a_file_is_written_where_it_was_opened(tmp_path):
    code = (
        "from potnet.files import atomic_write\n"
        "with atomic_write('/dev/stdout') as file: file.write('whole')"
    )
    with open(tmp_path / "out", "w") as file:
        inode = os.fstat(file.fileno()).st_ino
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert (tmp_path / "out").read_text() == "whole"
    assert (tmp_path / "out").stat().st_ino == inode


def test_a_terminated_program_leaves_nothing_half_written(tmp_path):
    code = (
        "import sys, time; from potnet.files import atomic_write, end_on_termination\n"
        "end_on_termination()\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write('half'); print('in', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == []


# ----------------------------------------------------------------- before any work is done


def test_an_output_that_can_be_written_is_returned_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "deeper" / "a.csv"
    assert check_output(path, inputs=[tmp_path / "b.csv"]) == path
    assert os.listdir(path.parent) == []


def test_an_output_that_is_an_input_is_refused_however_it_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("id\n")
    (tmp_path / "link").symlink_to(tmp_path / "a.csv")
    for name in ("a.csv", "link", "../" + tmp_path.name + "/a.csv"):
        with pytest.raises(ConfigError, match="`output` must not be what is read"):
            check_output(tmp_path / name, inputs=[tmp_path / "a.csv"])


def test_an_output_that_is_a_folder_or_lies_in_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="`report` must be a file, got the folder"):
        check_output(tmp_path, option="report")
    (tmp_path / "a").write_text("")
    with pytest.raises(ConfigError, match="must lie in a folder that takes new files"):
        check_output(tmp_path / "a" / "b.csv")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_takes_no_files_is_known_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="must lie in a folder that takes new files"):
            check_output(tmp_path / "a.csv")
    finally:
        tmp_path.chmod(0o700)


def test_a_list_of_the_users_own_is_not_overwritten(tmp_path):
    path = tmp_path / "errors.csv"
    header = "id,stage,reason"
    check_own_table(path, header)
    for ours in ("", f"{header}\na,read,bad\n", f"{header}\r\n"):
        path.write_bytes(ours.encode())
        check_own_table(path, header)
    for other in ("my,errors\n", "id,stage,reasons\n", "id"):
        path.write_text(other)
        with pytest.raises(ConfigError, match="must be a list that potnet wrote or be free"):
            check_own_table(path, header)
