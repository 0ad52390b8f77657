import io
import stat
import tracemalloc
import unicodedata
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragcun_cli.pipeline.data.bring import archives
from ragcun_cli.spec.errors import DataError

GOOD = {"sea/corpus.jsonl": b"tide\n" * 200_000, "sea/qrels/test.tsv": b"q\td\t1\n", "empty": b""}


def pack_zip(archive, members):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(info, content)


@pytest.fixture
def pack(tmp_path):
    """Pack (name, content) pairs, which need not be reasonable."""

    def write(*members):
        archive = tmp_path / "box" / "box.zip"
        archive.parent.mkdir(exist_ok=True)
        pack_zip(archive, members)
        return archive

    return write


def content(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def refusal(archive, tmp_path, max_bytes=1 << 30):
    """The message of a refusal, after which nothing stands beside the archive."""
    place = tmp_path / "place"
    place.mkdir(exist_ok=True)
    before = content(tmp_path)
    with pytest.raises(DataError) as caught:
        archives.unpack(archive, place / "out", max_bytes=max_bytes)
    assert list(place.iterdir()) == []
    assert content(tmp_path) == before
    assert str(caught.value).startswith(str(archive))
    return str(caught.value).removeprefix(f"{archive}").lstrip(": ")


def test_a_good_archive_is_unpacked_whole(pack, tmp_path):
    archive = pack(("sea/", b""), *GOOD.items(), ("bare/", b""), ("./dot/file", b"x"))
    folder = tmp_path / "new" / "out"
    archives.unpack(archive, folder, max_bytes=1 << 30)
    assert content(folder) == GOOD | {"dot/file": b"x"}
    assert (folder / "bare").is_dir()
    assert list(folder.parent.iterdir()) == [folder]


def test_an_archive_may_fill_exactly_what_is_allowed(pack, tmp_path):
    archive = pack(("a", b"12345"), ("b", b"67890"))
    assert "brings it to 10 bytes of 9 allowed" in refusal(archive, tmp_path, max_bytes=9)
    archives.unpack(archive, tmp_path / "out", max_bytes=10)
    assert content(tmp_path / "out") == {"a": b"12345", "b": b"67890"}


def test_what_macos_adds_is_left_out(pack, tmp_path):
    archive = pack(("__MACOSX/._a", b"x"), ("a", b"1"), (".DS_Store", b"x"), ("f/.DS_Store", b"x"))
    archives.unpack(archive, tmp_path / "out", max_bytes=100)
    assert content(tmp_path / "out") == {"a": b"1"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil", "leads out of the folder"),
        ("a/../../evil", "leads out of the folder"),
        ("a/..", "leads out of the folder"),
        ("__MACOSX/../evil", "leads out of the folder"),
        ("/evil", "has an absolute path"),
        ("//host/evil", "has an absolute path"),
        ("C:/evil", "has an absolute path"),
        ("c:evil", "has an absolute path"),
        ("a/C:/evil", "has an absolute path"),
        ("..\\evil", "not allowed"),
        ("a\\..\\..\\evil", "not allowed"),
        ("\\\\host\\evil", "not allowed"),
        ("a\nb", "not allowed"),
        ("a\u202eb", "not allowed"),
        (".", "has no name"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(pack, tmp_path, name, reason):
    message = refusal(pack(("good", b"1"), (name, b"2")), tmp_path)
    assert message.startswith(f"member {name!r} ")
    assert reason in message


def test_a_name_that_ends_in_secret_is_refused(tmp_path):
    archive = tmp_path / "box.zip"
    pack_zip(archive, [("readme.txt?.sh", b"1")])
    archive.write_bytes(archive.read_bytes().replace(b".txt?", b".txt\0"))
    assert "not allowed" in refusal(archive, tmp_path)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a", "a"), "member 'a' has the same name as 'a'"),
        (("Corpus", "f/x", "corpus"), "member 'corpus' has the same name as 'Corpus'"),
        (("f/A", "F/a"), "member 'F/a' has the same name as 'f/A'"),
        (("a", "./a"), "member './a' has the same name as 'a'"),
        (("STRASSE", "straße"), "member 'straße' has the same name as 'STRASSE'"),
        (("é", unicodedata.normalize("NFD", "é")), "has the same name as 'é'"),
        (("a", "a/b"), "member 'a' is a file and a folder"),
        (("a/b", "A"), "member 'A' is a file and a folder"),
        (("a/", "A"), "member 'A' is a file and a folder"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_for_one_place_are_refused(pack, tmp_path, names, reason):
    message = refusal(pack(*((name, b"") for name in names)), tmp_path)
    assert reason in message


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_zip_with_anything_but_files_and_folders_is_refused(tmp_path, kind):
    archive = tmp_path / "box.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("good", b"1")
        info = zipfile.ZipInfo("odd")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        opened.writestr(info, b"/etc/passwd")
    assert refusal(archive, tmp_path) == "member 'odd' is a link or a device"


def patch_zip(archive, field, value):
    """Set a field in every header of a zip; offsets are of the local and of the central header."""
    raw = bytearray(archive.read_bytes())
    at = {"flags": (6, 8), "method": (8, 10), "size": (22, 24)}[field]
    for mark, offset in zip((b"PK\x03\x04", b"PK\x01\x02"), at, strict=True):
        start = raw.find(mark)
        while start >= 0:
            raw[start + offset : start + offset + len(value)] = value
            start = raw.find(mark, start + 4)
    archive.write_bytes(raw)


@pytest.mark.parametrize("flag", [0x01, 0x41])
def test_an_encrypted_member_is_refused(tmp_path, flag):
    archive = tmp_path / "box.zip"
    pack_zip(archive, [("secret", b"1")])
    patch_zip(archive, "flags", bytes([flag, 0]))
    assert refusal(archive, tmp_path) == "member 'secret' is encrypted"


def test_a_packing_that_is_not_read_is_named(tmp_path):
    archive = tmp_path / "box.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as opened:
        opened.writestr("odd", b"1")
    assert (
        refusal(archive, tmp_path) == "member 'odd' is packed by method 14, which is not read here"
    )


def test_a_zip_that_holds_more_than_it_declares_is_refused(tmp_path):
    archive = tmp_path / "box.zip"
    pack_zip(archive, [("bomb", bytes(1 << 20))])
    patch_zip(archive, "size", (10).to_bytes(4, "little"))
    assert "damaged" in refusal(archive, tmp_path, max_bytes=100)


def test_a_zip_that_holds_less_than_it_declares_is_refused(tmp_path):
    archive = tmp_path / "box.zip"
    pack_zip(archive, [("short", b"12345")])
    patch_zip(archive, "size", (50).to_bytes(4, "little"))
    assert refusal(archive, tmp_path) == "member 'short' holds 5 bytes and declares 50"


def test_bytes_are_counted_as_they_are_written(tmp_path, monkeypatch):
    archive = tmp_path / "box.zip"
    pack_zip(archive, [("bomb", bytes(1 << 20))])
    patch_zip(archive, "size", (10).to_bytes(4, "little"))
    liar = io.BytesIO(bytes(1 << 20))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda self, info: liar)
    message = refusal(archive, tmp_path, max_bytes=100)
    assert message.startswith("member 'bomb' holds more than it declares")


def test_very_many_members_are_refused(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 3)
    assert "member '3' is one more" in refusal(pack(*((f"{n}", b"") for n in range(5))), tmp_path)


def test_an_archive_cut_anywhere_is_refused(pack, tmp_path):
    archive = pack(("a", bytes(range(256))), ("b", b"x" * 3000))
    whole = archive.read_bytes()
    for kept in range(0, len(whole), 7):
        archive.write_bytes(whole[:kept])
        refusal(archive, tmp_path)


@settings(max_examples=150)
@given(data=st.data())
def test_a_flipped_byte_is_unpacked_or_refused_and_is_no_bug(tmp_path_factory, data):
    place = tmp_path_factory.mktemp("flip")
    archive = place / "box.zip"
    pack_zip(archive, [("f/a", b"tide" * 9), ("ü" * 30, b"y" * 700)])
    raw = bytearray(archive.read_bytes())
    raw[data.draw(st.integers(0, min(len(raw), 3000) - 1))] ^= data.draw(st.integers(1, 255))
    archive.write_bytes(raw)
    try:
        archives.unpack(archive, place / "out", max_bytes=1 << 20)
    except DataError:
        assert not (place / "out").exists()
    assert {file.name for file in place.iterdir()} <= {archive.name, "out"}


def test_a_folder_that_exists_is_left_alone(pack, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="exists already"):
        archives.unpack(pack(("a", b"1")), tmp_path / "out", max_bytes=9)
    assert content(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["box.zip", "box.tar.gz", "missing.zip"])
def test_what_is_no_archive_is_refused(tmp_path, name):
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"x")
    refusal(tmp_path / name, tmp_path)


def test_a_write_that_fails_leaves_nothing(pack, tmp_path, full_disk):
    archive = pack(("a", b"1"), ("b", bytes(300_000)))
    with full_disk(200_000):
        assert "cannot be unpacked: [Errno 27] File too large" in refusal(archive, tmp_path)
    archives.unpack(archive, tmp_path / "out", max_bytes=300_001)
    assert content(tmp_path / "out").keys() == {"a", "b"}


NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.lists(st.sampled_from(["..", ".", "", "a", "B", "C:", "b\\c", "é", "~"]), min_size=1).map(
        "/".join
    ),
).filter(lambda name: "\0" not in name and name)


@settings(max_examples=150)
@given(names=st.lists(NAMES, min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_any_names_stay_inside_the_folder_or_are_refused(tmp_path_factory, names):
    place = tmp_path_factory.mktemp("names")
    archive = place / "box.zip"
    pack_zip(archive, [(name, b"1") for name in names])
    try:
        archives.unpack(archive, place / "deep" / "out", max_bytes=100)
    except DataError:
        assert not (place / "deep" / "out").exists()
    else:
        files = [n for n in names if not n.endswith("/") and not n.endswith(".DS_Store")]
        assert len(content(place / "deep" / "out")) == len(files)
    assert {file.name for file in place.iterdir()} <= {archive.name, "deep"}
    assert not (place / "deep").exists() or len(list((place / "deep").iterdir())) <= 1


@pytest.mark.parametrize("name", ["a/" * 100 + "b", "a/" * 30_000, "b" * 4_097, "ü" * 2_049])
def test_a_path_that_is_too_deep_or_too_long_is_refused(pack, tmp_path, name):
    message = refusal(pack(("good", b"1"), (name, b"")), tmp_path)
    assert message.endswith("has a longer path than the 100 parts and 4,096 bytes allowed")
    assert len(message) < 300


def test_a_path_of_100_parts_is_unpacked(pack, tmp_path):
    archives.unpack(pack(("a/" * 99 + "b", b"1")), tmp_path / "out", max_bytes=9)
    assert content(tmp_path / "out") == {"a/" * 99 + "b": b"1"}


def test_folders_that_are_no_members_count_as_such(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 100)
    message = refusal(pack(*((f"{n}/b/c/d/e/f", b"") for n in range(20))), tmp_path)
    assert message == "member '16/b/c/d/e/f' is one more than the 100 files and folders allowed"


def test_very_deep_paths_cost_little_memory(pack, tmp_path):
    """Each of the folders on the way was kept with the whole way to it."""
    archive = pack(*((f"{n}/" + "a/" * 30_000, b"") for n in range(3)))
    tracemalloc.start()
    refusal(archive, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
