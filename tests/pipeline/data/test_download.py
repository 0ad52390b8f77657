import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ragcun_cli.pipeline.data.bring.download import Patience, RemoteFile, fetch
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.errors import DataError

CONTENT = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(10_000))
SIZE, HALF = len(CONTENT), len(CONTENT) // 2
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
PROVEN = {"size": SIZE, "sha256": SHA256, "md5": MD5}


class Handler(BaseHTTPRequestHandler):
    """Serves files with ranges as a good server does; an act of the play may do otherwise."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        stage = self.server.stage
        stage.requests.append((self.path, dict(self.headers)))
        act = stage.plays.get(self.path, [])
        (act.pop(0) if len(act) > 1 else act[0] if act else good)(self)
        self.close_connection = True

    def say(self, status, **headers):
        self.send_response(status)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, content):
        for start in range(0, len(content), 8192):
            self.wfile.write(content[start : start + 8192])
            self.server.stage.sent += len(content[start : start + 8192])

    def log_message(self, *args):
        pass


def good(handler, content=CONTENT, etag='"one"', stop=None, after=None, length=None):
    """Answer a request as RFC 9110 asks, up to a byte of the file if that is given."""
    start = 0
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if wanted and handler.headers.get("If-Range", etag) == etag:
        start = int(wanted[1])
    if start >= len(content) > 0:
        handler.say(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        return
    headers = {"Content-Length": len(content) - start if length is None else length}
    if etag:
        headers["ETag"] = etag
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.say(206 if start else 200, **headers)
    handler.send(content[start:stop])
    if after:
        after()


def ignores_ranges(handler, stop=None):
    handler.say(200, Content_Length=SIZE)
    handler.send(CONTENT[:stop])


def answers(status, body=b"", **headers):
    def act(handler):
        handler.say(status, Content_Length=len(body), **headers)
        handler.send(body)

    return act


def closes_at_once(handler):
    handler.connection.close()


def drips(handler):
    handler.say(200, Content_Length=SIZE)
    for start in range(0, SIZE, SIZE // 10):
        handler.send(CONTENT[start : start + SIZE // 10])
        time.sleep(0.05)


def chunked(handler, pieces=10, end=b"0\r\n\r\n"):
    handler.say(200, Transfer_Encoding="chunked")
    for start in range(0, SIZE * pieces // 10, SIZE // 10):
        handler.wfile.write(b"%x\r\n%s\r\n" % (SIZE // 10, CONTENT[start : start + SIZE // 10]))
    handler.wfile.write(end)


def stalls(handler, stop=HALF):
    good(handler, stop=stop, after=handler.server.stage.released.wait)


def flips_a_byte(handler):
    good(handler, content=CONTENT[:HALF] + bytes([CONTENT[HALF] ^ 1]) + CONTENT[HALF + 1 :])


cuts = partial(good, stop=HALF)
html = answers(200, b"<!DOCTYPE html><p>Sign in", Content_Type="text/html; charset=utf-8")


class Stage:
    """What a server plays, and what was seen of it."""

    def __init__(self, address):
        self.address = address
        self.plays, self.requests, self.sent = {}, [], 0
        self.released = threading.Event()

    def mirror(self, *acts, path="/file.bin"):
        """A url where each request gets the next act, and the last one for ever."""
        self.plays[path] = list(acts)
        return f"{self.address}{path}"

    def ranges(self):
        return [headers.get("Range") for _, headers in self.requests]


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *args: None
    server.stage = Stage(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.stage
    server.stage.released.set()
    server.shutdown()
    server.server_close()


class Watch(Silent):
    """Remembers what it was told."""

    def __init__(self):
        self.bars, self.notes = [], []

    def note(self, text):
        self.notes.append(text)

    @contextmanager
    def bar(self, label, *, total, unit):
        steps = []
        self.bars.append((label, total, unit, steps))
        yield steps.append


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def bring(tmp_path, watch, waits):
    """Fetch from mirrors into tmp_path/file.bin without waiting; what is known is the caller's."""

    def run(*urls, attempts=3, stall=5.0, **known):
        patience = Patience(
            attempts=attempts, backoff_seconds=8, stall_seconds=stall, sleep=waits.append
        )
        file = RemoteFile(urls, **known)
        target = tmp_path / "file.bin"
        return fetch(file, target, progress=watch, label="file", patience=patience)

    return run


def whole(tmp_path):
    """Whether the file stands there right, with nothing but its lock beside it."""
    assert {path.name for path in tmp_path.iterdir()} <= {"file.bin", ".file.bin.lock"}
    return (tmp_path / "file.bin").read_bytes() == CONTENT


def refusal(bring, tmp_path, *urls, **known):
    with pytest.raises(DataError) as caught:
        bring(*urls, **known)
    assert not (tmp_path / "file.bin").exists()
    assert caught.value.hint
    return str(caught.value)


def test_a_file_is_brought_and_its_bytes_are_counted(stage, bring, watch, waits, tmp_path):
    assert bring(stage.mirror(good), **PROVEN) == tmp_path / "file.bin"
    assert whole(tmp_path)
    ((label, total, unit, steps),) = watch.bars
    assert (label, total, unit, sum(steps)) == ("file", SIZE, "B", SIZE)
    assert (waits, watch.notes, stage.ranges()) == ([], [], [None])


def test_a_file_that_is_there_is_proven_and_no_mirror_is_asked(stage, bring, tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    bring(stage.mirror(good), **PROVEN)
    assert stage.requests == []
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("old", [CONTENT[:-1], b"x" + CONTENT[1:]])
def test_a_wrong_file_that_is_there_is_replaced(stage, bring, tmp_path, old):
    (tmp_path / "file.bin").write_bytes(old)
    bring(stage.mirror(good), **PROVEN)
    assert whole(tmp_path)


def test_a_wrong_file_that_is_there_stays_until_there_is_a_better_one(stage, bring, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"old")
    with pytest.raises(DataError):
        bring(stage.mirror(answers(404)), **PROVEN)
    assert (tmp_path / "file.bin").read_bytes() == b"old"


@pytest.mark.parametrize("known", [{}, {"size": SIZE}, {"md5": MD5.upper()}, {"sha256": SHA256}])
def test_what_is_not_known_is_not_asked_for(stage, bring, tmp_path, known):
    bring(stage.mirror(cuts, good), **known)
    assert whole(tmp_path)
    assert stage.sent == SIZE


def test_an_empty_file_is_brought(stage, bring, tmp_path):
    bring(stage.mirror(partial(good, content=b"")), size=0)
    assert (tmp_path / "file.bin").read_bytes() == b""


PASSING = {
    "cuts": cuts,
    "cuts at the first byte": partial(good, stop=0),
    "closes at once": closes_at_once,
    "500": answers(500),
    "502": answers(502),
    "503": answers(503),
    "504": answers(504),
    "429": answers(429),
    "cuts a chunked body": partial(chunked, pieces=5, end=b""),
    "breaks a chunked body": partial(chunked, pieces=5, end=b"zzz\r\n"),
    "ends a chunked body early": partial(chunked, pieces=5),
    "ignores ranges and cuts": partial(ignores_ranges, stop=HALF),
    "flips a byte": flips_a_byte,
    "sends another range": answers(206, b"x", Content_Range=f"bytes 7-7/{SIZE}"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_ends_in_the_whole_file(stage, bring, tmp_path, fault):
    bring(stage.mirror(cuts, PASSING[fault], good), **PROVEN)
    assert whole(tmp_path)
    assert 2 <= len(stage.requests) <= 3


@pytest.mark.parametrize("fault", sorted({*PASSING} - {"sends another range"}))
def test_a_lasting_fault_ends_in_one_error_and_then_at_the_next_mirror(
    stage, bring, tmp_path, fault
):
    url = stage.mirror(PASSING[fault])
    message = refusal(bring, tmp_path, url, **PROVEN)
    assert message.startswith(f"{url}: ")
    assert message.endswith(("times in a row", "again after a new start"))
    bring(url, stage.mirror(good, path="/second"), **PROVEN)
    assert whole(tmp_path)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (answers(404), "it answered 404 Not Found"),
        (answers(403), "it answered 403 Forbidden"),
        (answers(204), "it answered 204 No Content"),
        (answers(416), "it answered 416 "),
        (html, "it gave an HTML page instead of the file"),
        (answers(302, Location="/html"), "it gave an HTML page instead of the file"),
        (answers(302, Location="/file.bin"), "Exceeded 30 redirects."),
        (answers(302, Location="file:///etc/passwd"), "No connection adapters"),
        (partial(good, length=SIZE + 1), f"it offers {SIZE + 1:,} bytes instead of {SIZE:,}"),
        (partial(good, length=SIZE - 1), f"it offers {SIZE - 1:,} bytes instead of {SIZE:,}"),
    ],
)
def test_a_mirror_without_the_file_is_left_at_once(stage, bring, waits, tmp_path, act, reason):
    stage.mirror(html, path="/html")
    url = stage.mirror(act)
    assert f"{url}: {reason}" in refusal(bring, tmp_path, url, **PROVEN)
    bring(url, stage.mirror(good, path="/second"), **PROVEN)
    assert waits == []
    assert whole(tmp_path)


def test_every_mirror_has_its_line_in_the_error(stage, bring, tmp_path):
    urls = [
        stage.mirror(answers(404)),
        stage.mirror(html, path="/login"),
        "ftp://old.example/file.bin",
        (tmp_path / "nothing").as_uri(),
        "http://127.0.0.1:1/file.bin",
    ]
    assert refusal(bring, tmp_path, *urls, **PROVEN).split("\n  ") == [
        "file could not be downloaded",
        f"{urls[0]}: it answered 404 Not Found",
        f"{urls[1]}: it gave an HTML page instead of the file",
        f"{urls[2]}: not an http, https or file address",
        f"{urls[3]}: there is no such file",
        f"{urls[4]}: Connection refused, 3 times in a row",
    ]


def test_a_host_whose_name_is_not_known_is_given_up_at_once(stage, bring, waits, tmp_path):
    url = "http://no-such-host.invalid/file.bin"
    assert refusal(bring, tmp_path, url, **PROVEN).startswith(f"{url}: ")
    bring(url, stage.mirror(good), **PROVEN)
    assert waits == []
    assert whole(tmp_path)


def test_the_hint_is_a_command_that_brings_the_file(stage, bring, tmp_path):
    with pytest.raises(DataError) as caught:
        bring(stage.mirror(answers(404)), **PROVEN)
    assert caught.value.hint == f"curl -fL -o {tmp_path / 'file.bin'} {stage.address}/file.bin"


def test_a_redirect_is_followed(stage, bring, tmp_path):
    stage.mirror(good, path="/elsewhere")
    bring(stage.mirror(answers(302, Location="/elsewhere")), **PROVEN)
    assert whole(tmp_path)


def test_a_slow_drip_is_waited_for(stage, bring, tmp_path):
    bring(stage.mirror(drips), stall=0.4, **PROVEN)
    assert whole(tmp_path)
    assert len(stage.requests) == 1


def test_a_stall_is_left_with_all_bytes_it_brought(stage, bring, watch, tmp_path):
    bring(stage.mirror(stalls, good), stall=0.3, **PROVEN)
    assert whole(tmp_path)
    assert stage.ranges() == [None, f"bytes={HALF}-"]
    assert "nothing came for 0.3 s" in watch.notes[0]


def test_a_server_that_says_nothing_is_left(stage, bring, tmp_path):
    url = stage.mirror(lambda handler: stage.released.wait())
    message = refusal(bring, tmp_path, url, stall=0.1, **PROVEN)
    assert "no answer for 0.1 s, 3 times in a row" in message


def test_a_chunked_body_needs_no_length(stage, bring, watch, tmp_path):
    bring(stage.mirror(chunked), sha256=SHA256)
    assert whole(tmp_path)
    assert watch.bars[0][1] == 0


def test_a_chunked_body_that_is_cut_is_not_taken_for_a_file(stage, bring, tmp_path):
    bring(stage.mirror(PASSING["cuts a chunked body"], good))
    assert len(stage.requests) == 2
    assert whole(tmp_path)


def test_more_bytes_than_there_should_be_are_not_kept(stage, bring, tmp_path):
    url = stage.mirror(partial(chunked, end=b"1\r\nx\r\n0\r\n\r\n"))
    assert f"it sends more than {SIZE:,} bytes" in refusal(bring, tmp_path, url, **PROVEN)
    assert not (tmp_path / "file.bin.part").exists()


def test_a_length_that_is_too_long_is_corrected_by_the_next_answer(stage, bring, tmp_path):
    bring(stage.mirror(partial(good, length=SIZE + 9)), sha256=SHA256)
    assert stage.ranges() == [None, f"bytes={SIZE}-"]
    assert whole(tmp_path)


def test_a_length_that_is_too_short_is_found_out_by_the_digest(stage, bring, tmp_path):
    wrong = partial(good, length=SIZE - 9)
    message = refusal(bring, tmp_path, stage.mirror(wrong), sha256=SHA256)
    assert "the file it gave is wrong" in message
    assert not (tmp_path / "file.bin.part").exists()
    bring(stage.mirror(wrong, good), sha256=SHA256)
    assert whole(tmp_path)


def test_an_interrupted_download_goes_on_where_it_ended(stage, bring, watch, tmp_path):
    refusal(bring, tmp_path, stage.mirror(cuts, answers(503)), attempts=1, **PROVEN)
    assert stage.sent == HALF
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:HALF]
    bring(stage.mirror(good), **PROVEN)
    assert stage.sent - HALF == SIZE - HALF
    assert stage.requests[-1][1]["If-Range"] == '"one"'
    label, total, _, steps = watch.bars[-1]
    assert f"from byte {HALF:,} on" in label
    assert (total, sum(steps)) == (SIZE - HALF, SIZE - HALF)
    assert whole(tmp_path)


def test_a_mirror_that_brings_something_each_time_is_not_given_up(stage, bring, tmp_path):
    acts = [partial(good, stop=SIZE * step // 10) for step in range(1, 11)]
    bring(stage.mirror(*acts), attempts=2, **PROVEN)
    assert whole(tmp_path)
    assert stage.sent == SIZE


def test_the_same_bytes_again_are_no_progress(stage, bring, tmp_path):
    ends = [partial(ignores_ranges, stop=stop) for stop in (HALF, 0, HALF)]
    message = refusal(bring, tmp_path, stage.mirror(*ends, good), **PROVEN)
    assert message.endswith("the connection was closed before the end, 3 times in a row")


def test_the_next_mirror_goes_on_where_the_first_ended_if_a_digest_tells(stage, bring, tmp_path):
    first = stage.mirror(cuts, answers(404))
    bring(first, stage.mirror(partial(good, etag='"other"'), path="/second"), **PROVEN)
    assert stage.sent == SIZE
    assert whole(tmp_path)


def test_the_next_mirror_starts_anew_if_no_digest_tells(stage, bring, tmp_path):
    first = stage.mirror(cuts, answers(404))
    bring(first, stage.mirror(partial(good, etag='"other"'), path="/second"), size=SIZE)
    assert stage.sent == HALF + SIZE
    assert whole(tmp_path)


def test_bytes_of_another_file_are_found_out_and_left(stage, bring, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"?" * HALF)
    bring(stage.mirror(good), **PROVEN)
    assert stage.ranges() == [f"bytes={HALF}-", None]
    assert whole(tmp_path)


@pytest.mark.parametrize("known", [{}, PROVEN])
def test_a_file_that_changed_between_attempts_starts_anew(stage, bring, tmp_path, known):
    before = partial(good, content=b"?" * SIZE, etag='"old"', stop=HALF)
    bring(stage.mirror(before, good), **known)
    assert stage.ranges() == [None, f"bytes={HALF}-"]
    assert stage.requests[1][1]["If-Range"] == '"old"'
    assert whole(tmp_path)


def test_a_weak_tag_is_no_ground_to_go_on_without_a_digest(stage, bring, tmp_path):
    bring(stage.mirror(partial(cuts, etag='W/"one"'), partial(good, etag='W/"one"')), size=SIZE)
    assert stage.ranges() == [None, None]
    assert whole(tmp_path)


def test_a_server_without_ranges_starts_anew_and_appends_nothing(stage, bring, tmp_path):
    bring(stage.mirror(cuts, ignores_ranges), **PROVEN)
    assert stage.sent == HALF + SIZE
    assert whole(tmp_path)


def test_a_partial_file_that_is_whole_is_only_proven(stage, bring, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    bring(stage.mirror(good), **PROVEN)
    assert stage.requests == []
    assert whole(tmp_path)


def test_a_server_with_nothing_more_to_give_ends_a_file_of_unknown_size(stage, bring, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    bring(stage.mirror(good), sha256=SHA256)
    assert stage.ranges() == [f"bytes={SIZE}-"]
    assert stage.sent == 0
    assert whole(tmp_path)


def test_a_partial_file_longer_than_the_servers_is_left(stage, bring, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"x")
    bring(stage.mirror(good), sha256=SHA256)
    assert stage.ranges() == [f"bytes={SIZE + 1}-", None]
    assert whole(tmp_path)


def test_a_wrong_file_is_tried_twice_and_never_kept(stage, bring, waits, tmp_path):
    url = stage.mirror(flips_a_byte)
    message = refusal(bring, tmp_path, url, **PROVEN)
    assert "the file it gave is wrong: its md5 is " in message
    assert f" instead of {MD5}, again after a new start" in message
    assert stage.ranges() == [None, None]
    assert [path.name for path in tmp_path.iterdir()] == [".file.bin.lock"]
    assert waits == []


@pytest.mark.parametrize(
    ("retry_after", "low", "high"),
    [
        ("7", 7, 7),
        ("3600", 60, 60),
        ("0", 0, 0),
        (lambda: formatdate(time.time() + 30, usegmt=True), 25, 30),
        (lambda: formatdate(time.time() + 3600, usegmt=True), 60, 60),
        (lambda: formatdate(time.time() - 3600, usegmt=True), 0, 0),
        ("soon", 4, 8),
        ("-1", 4, 8),
    ],
)
def test_a_mirror_may_say_how_long_to_wait(stage, bring, waits, tmp_path, retry_after, low, high):
    said = retry_after() if callable(retry_after) else retry_after
    bring(stage.mirror(answers(429, Retry_After=said), good), **PROVEN)
    assert low <= waits[0] <= high
    assert len(waits) == 1
    assert whole(tmp_path)


def test_waits_grow_up_to_a_limit(stage, bring, waits, tmp_path):
    refusal(bring, tmp_path, stage.mirror(answers(503)), attempts=6, **PROVEN)
    longest = [8, 16, 32, 64, 128]
    assert len(waits) == len(longest)
    assert all(min(60, m / 2) <= w <= min(60, m) for w, m in zip(waits, longest, strict=True))


def test_a_local_mirror_is_copied(bring, tmp_path):
    source = tmp_path / "a mirror" / "source ü.bin"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    bring(source.as_uri(), **PROVEN)
    shutil.rmtree(source.parent)
    assert whole(tmp_path)


def test_too_little_room_is_said_before_anything_is_written(stage, bring, tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = refusal(bring, tmp_path, stage.mirror(good), **PROVEN)
    assert message == f"file needs {SIZE:,} more bytes in {tmp_path}, where 1,000 are free"
    assert [path.name for path in tmp_path.iterdir()] == [".file.bin.lock"]
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:-1000])
    bring(stage.mirror(good), **PROVEN)
    assert whole(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(stage, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    target = tmp_path / "file" / "below"
    with pytest.raises(DataError, match=f"{tmp_path / 'file'}"):
        fetch(RemoteFile((stage.mirror(good),)), target, progress=Silent(), label="x")


def test_an_interrupt_keeps_what_came(stage, bring, tmp_path):
    def interrupt(seconds):
        raise KeyboardInterrupt

    file = RemoteFile((stage.mirror(cuts, good),), **PROVEN)
    with pytest.raises(KeyboardInterrupt):
        fetch(
            file,
            tmp_path / "file.bin",
            progress=Silent(),
            label="file",
            patience=Patience(sleep=interrupt),
        )
    assert not (tmp_path / "file.bin").exists()
    bring(*file.urls, **PROVEN)
    assert stage.sent == SIZE


PROGRAM = """
import sys
from pathlib import Path
from ragcun_cli.pipeline.data.bring.download import RemoteFile, fetch
from ragcun_cli.pipeline.machine.progress import Silent
url, target, sha256 = sys.argv[1:]
fetch(RemoteFile((url,), sha256=sha256), Path(target), progress=Silent(), label="file")
"""


def start(stage, tmp_path):
    arguments = [f"{stage.address}/file.bin", str(tmp_path / "file.bin"), SHA256]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], env=dict(os.environ))


def wait_for(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_after_a_kill_only_the_rest_is_brought(stage, bring, tmp_path):
    stage.mirror(stalls, good)
    part = tmp_path / "file.bin.part"
    child = start(stage, tmp_path)
    wait_for(lambda: part.exists() and part.stat().st_size > 0 and stage.sent == HALF)
    time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "file.bin").exists()
    kept = part.stat().st_size
    assert 0 < kept <= HALF
    assert part.read_bytes() == CONTENT[:kept]
    bring(f"{stage.address}/file.bin", **PROVEN)
    assert stage.sent - HALF == SIZE - kept
    assert whole(tmp_path)


def test_two_processes_at_once_end_with_one_whole_file(stage, tmp_path):
    stage.mirror(drips)
    children = [start(stage, tmp_path) for _ in range(2)]
    assert [child.wait(timeout=20) for child in children] == [0, 0]
    assert whole(tmp_path)
    assert stage.sent == SIZE


DIGITS = "9" * 6_000
LATER = "Fri, 31 Dec {} 23:59:59 GMT"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Length": DIGITS},
        {"Content_Length": "-5"},
        {"Content_Length": "many"},
        {"Content_Length": "9" * 19},
        {"Location": "http://[::1"},
        {"Location": "http://[::1]:port/"},
        {"Location": "http://a:99999999/"},
        {"Location": "http://" + "a" * 64 + ".example/"},
        {"Location": "http://a..b/"},
        {"Location": "http://\u00ad/"},
        {"Location": "http://" + "x" * 5_000},
        {"Location": "http://%zz/"},
        {"Location": "//"},
        {"Location": "http://a b/"},
        {"Location": "gopher://[/"},
        {"Location": f"http://127.0.0.1:{DIGITS}/"},
    ],
    ids=lambda headers: next(iter(headers.values()))[:30],
)
def test_an_answer_that_makes_no_sense_is_refused_and_the_next_mirror_is_asked(
    stage, bring, watch, tmp_path, headers
):
    def senseless(handler):
        handler.say(302 if "Location" in headers else 200, **headers)

    bring(stage.mirror(senseless), stage.mirror(good, path="/second"), **PROVEN)
    assert whole(tmp_path)
    assert watch.notes
    assert all(len(note) < 300 for note in watch.notes)


@pytest.mark.parametrize("given", [f"bytes {DIGITS}-{DIGITS}/{DIGITS}", f"bytes {HALF}-9/{DIGITS}"])
def test_a_range_of_thousands_of_digits_is_refused(stage, bring, watch, tmp_path, given):
    senseless = answers(206, b"x", Content_Range=given)
    bring(stage.mirror(cuts, senseless), stage.mirror(good, path="/second"), **PROVEN)
    assert whole(tmp_path)
    assert all(len(note) < 300 for note in watch.notes)


@pytest.mark.parametrize("wait", [DIGITS, LATER.format(99999), LATER.format(DIGITS), "1" * 300])
def test_a_wait_that_is_no_time_is_not_heeded(stage, bring, waits, tmp_path, wait):
    bring(stage.mirror(answers(503, Retry_After=wait), good), **PROVEN)
    assert whole(tmp_path)
    assert 4 <= waits[0] <= 8


@pytest.mark.parametrize(
    "url",
    [*("http://[::1", "http://a:b:c/", "http:", "", "//", "http://\0/"), f"file:///{'n' * 300}"],
)
def test_what_is_no_address_is_refused_and_the_next_mirror_is_asked(stage, bring, tmp_path, url):
    bring(url, stage.mirror(good), **PROVEN)
    assert whole(tmp_path)
