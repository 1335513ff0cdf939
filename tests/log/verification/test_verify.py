"""`barnabas verify`: nothing wrong is passed over, nothing right is called wrong."""

from __future__ import annotations

import asyncio
import shutil
import struct

import pytest

from barnabas import cli
from barnabas.log.checkpoints import OffsetCheckpoint
from barnabas.log.files import Files
from barnabas.log.verification import segment as verified_segment
from barnabas.log.verification.directory import check_directory
from barnabas.log.verification.findings import Findings
from barnabas.records.batch import compute_crc, iterate_headers
from barnabas.records.builder import build_batch
from tests.log.cleaning.compacting import compact
from tests.oracle.log.our_data import CONFIG, Writer, log_directories

LOG = "ours-0/00000000000000000000.log"
INDEX = "ours-0/00000000000000000000.index"
EPOCHS = "leader-epoch-checkpoint"
TIME_INDEX = "ours-0/00000000000000000000.timeindex"


def write(directory, *, clean=True, is_compacted=False):
    async def run():
        async with log_directories(directory, clean=clean) as logs:
            log = logs.create("ours", 0, bytes(range(16)), CONFIG, is_new=True)
            writer = Writer(log, batches_per_leader=50)
            writer.fill()
            writer.append(3000, 0, 5, transactional=True)
            if is_compacted:
                writer.log.config = CONFIG.__class__(
                    cleanup_policy=frozenset({"compact"}), segment_bytes=CONFIG.segment_bytes
                )
                assert compact(writer.log, Files())
            logs.create("empty", 0, bytes(range(1, 17)), CONFIG, is_new=True)

    asyncio.run(run())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("written") / "data"
    write(directory)
    return directory


@pytest.fixture
def data(written, tmp_path):
    return shutil.copytree(written, tmp_path / "data")


def verify(directory):
    """Problems and notes: file names and what is said of them."""
    found = []
    check_directory(Files(), directory, Findings(found.append))
    return (
        [(finding.path.name, finding.text) for finding in found if finding.is_problem],
        [(finding.path.name, finding.text) for finding in found if not finding.is_problem],
    )


@pytest.mark.parametrize("is_compacted", [False, True])
def test_nothing_is_wrong_after_a_clean_stop(tmp_path, is_compacted):
    """Every codec, transactions, several segments, compacted or not: no finding at all."""
    write(tmp_path / "data", is_compacted=is_compacted)
    problems, notes = verify(tmp_path / "data")
    assert problems == []
    assert [name for name, _ in notes if not name.endswith(".deleted")] == []


def test_nothing_is_wrong_after_a_crash(tmp_path):
    """What the next start deals with is noted: the logs are to be recovered, and a torn tail is cut off."""
    write(tmp_path / "data", clean=False)
    problems, notes = verify(tmp_path / "data")
    assert problems == []
    assert ("data", "was not closed in order; the next start recovers its logs") in notes
    last = max((tmp_path / "data/ours-0").glob("*.log"))
    with last.open("ab") as file:
        file.write(b"torn")
    problems, notes = verify(tmp_path / "data")
    assert problems == []
    assert any(name == last.name and "cuts off the last 4 bytes" in text for name, text in notes)


def flip(path, position, bit=1):
    content = bytearray(path.read_bytes())
    content[position] ^= bit
    path.write_bytes(content)


def batch_positions(path):
    return [position for position, _ in iterate_headers(path.read_bytes())]


def last(directory, suffix):
    return max((directory / "ours-0").glob(f"*{suffix}"))


def cut(path, count=1):
    path.write_bytes(path.read_bytes()[:-count])


def patch(path, position, layout, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, position, *values)
    path.write_bytes(content)


def contradict(path):
    """A batch with one record too few, under a right checksum."""
    content = bytearray(path.read_bytes())
    count = struct.unpack_from(">i", content, 57)[0]
    struct.pack_into(">i", content, 57, count - 1)
    struct.pack_into(">I", content, 17, compute_crc(content))
    path.write_bytes(content)


def edit_epochs(directory, index, *, epoch=0, start_offset=0, is_kept=True):
    """Adds to an entry of the leader epochs, or leaves it out."""
    checkpoint = directory / "ours-0" / EPOCHS
    lines = [list(map(int, line.split())) for line in checkpoint.read_text().splitlines()[2:]]
    assert [each for each, _ in lines] == [0, 2, 4, 6]
    lines[index][0] += epoch
    lines[index][1] += start_offset
    if not is_kept:
        del lines[index]
    content = [[0], [len(lines)], *lines]
    checkpoint.write_text("".join(" ".join(map(str, line)) + "\n" for line in content))


FAULTS = {
    "a record": (lambda d: flip(d / LOG, 100), LOG, "fails its checksum"),
    "an offset": (lambda d: flip(d / LOG, batch_positions(d / LOG)[3] + 7, 64), LOG, "has the offsets"),
    "a magic": (lambda d: flip(d / LOG, batch_positions(d / LOG)[5] + 16), LOG, "no record batch"),
    "a length": (lambda d: flip(d / LOG, batch_positions(d / LOG)[5] + 8, 64), LOG, "ends within the batch"),
    "a count": (lambda d: contradict(d / LOG), LOG, "contradict its header"),
    "the end of a segment": (lambda d: cut(d / LOG, 10), LOG, "ends within"),
    "the end of the last segment": (lambda d: cut(last(d, ".log"), 10), ".log", "ends within"),
    "an index position": (lambda d: flip(d / INDEX, 8 * 4 + 7), INDEX, "where no batch begins"),
    "an index offset": (lambda d: patch(d / INDEX, 8 * 4, ">i", 1), INDEX, "says that offset 1 lies"),
    "an index size": (lambda d: cut(d / INDEX), INDEX, "not a multiple of 8"),
    "an index behind the end": (
        lambda d: patch(d / INDEX, (d / INDEX).stat().st_size - 8, ">ii", 2**30, 2**30),
        INDEX,
        "behind the end",
    ),
    "a time": (lambda d: patch(d / TIME_INDEX, 12 * 3, ">q", 1), TIME_INDEX, ""),
    "a time's offset": (
        lambda d: patch(d / TIME_INDEX, (d / TIME_INDEX).stat().st_size - 4, ">i", 2**30),
        TIME_INDEX,
        "behind the end",
    ),
    "an aborted transaction": (
        lambda d: flip(min((d / "ours-0").glob("*.txnindex")), 25),
        ".txnindex",
        "aborted at offset",
    ),
    "an aborted producer": (
        lambda d: flip(min((d / "ours-0").glob("*.txnindex")), 9),
        ".txnindex",
        "names producer",
    ),
    "an aborted transaction that is not told": (
        lambda d: cut(min((d / "ours-0").glob("*.txnindex")), 34),
        ".txnindex",
        "has no entry for",
    ),
    "an index of aborted transactions": (
        lambda d: min((d / "ours-0").glob("*.txnindex")).unlink(),
        ".txnindex",
        "is missing",
    ),
    "a leader epoch": (
        lambda d: (d / "ours-0/leader-epoch-checkpoint").write_text("0\n2\n4 10\n3 20\n"),
        "leader-epoch-checkpoint",
        "does not rise",
    ),
    "a leader epoch that begins too early": (
        lambda d: edit_epochs(d, 1, start_offset=-50),
        EPOCHS,
        "is of leader epoch 2, but the batch there is of 0",
    ),
    "a leader epoch that begins too late": (
        lambda d: edit_epochs(d, 1, start_offset=51),
        EPOCHS,
        "is of leader epoch 0, but the batch there is of 2",
    ),
    "a leader epoch that begins within a batch": (
        lambda d: edit_epochs(d, 1, start_offset=-1),
        EPOCHS,
        "within a batch of 0",
    ),
    "the last leader epoch": (lambda d: edit_epochs(d, 3, epoch=-1), EPOCHS, "is of leader epoch 5"),
    "a leader epoch that is lost": (
        lambda d: edit_epochs(d, 3, is_kept=False),
        EPOCHS,
        "is of leader epoch 4, but the batch there is of 6",
    ),
    "the leader epochs": (
        lambda d: (d / "ours-0/leader-epoch-checkpoint").write_text("0\n9\n"),
        "leader-epoch-checkpoint",
        "damaged",
    ),
    "a checkpoint": (
        lambda d: (d / "recovery-point-offset-checkpoint").write_text("nonsense"),
        "recovery-point-offset-checkpoint",
        "damaged",
    ),
    "a recovery point": (
        lambda d: OffsetCheckpoint(Files(), d / "recovery-point-offset-checkpoint").write(
            {("ours", 0): 10**9}
        ),
        "recovery-point-offset-checkpoint",
        "its log ends at",
    ),
    "a log start offset": (
        lambda d: OffsetCheckpoint(Files(), d / "log-start-offset-checkpoint").write({("ours", 0): 1}),
        "log-start-offset-checkpoint",
        "is not as it was",
    ),
    "meta.properties": (lambda d: (d / "meta.properties").unlink(), "meta.properties", "is missing"),
    "a segment that overlaps": (
        lambda d: shutil.copy(d / LOG, d / "ours-0/00000000000000000010.log"),
        "00000000000000000010.log",
        "the segment before it ends at",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found(data, fault, capsys):
    """A problem names the file and says what is wrong, and the exit status is 1."""
    damage, name, text = FAULTS[fault]
    damage(data)
    problems, _ = verify(data)
    assert any(found.endswith(name.rpartition("/")[2]) and text in said for found, said in problems), problems
    assert cli.main(["verify", "--quiet", str(data)]) == 1
    assert "PROBLEM" in capsys.readouterr().out


def test_a_snapshot_that_contradicts_the_log_is_found(data):
    """A producer's sequence number in a snapshot is that of the log; a torn one is only noted."""
    path = last(data, ".snapshot")
    content = bytearray(path.read_bytes())
    assert struct.unpack_from(">q", content, 10)[0] == 1000
    from barnabas.records.checksum import crc32c

    struct.pack_into(">i", content, 20, 7)
    struct.pack_into(">I", content, 2, crc32c(bytes(content[6:])))
    path.write_bytes(content)
    problems, _ = verify(data)
    assert any("sequence number 7" in text for _, text in problems)
    cut(path, 5)
    problems, notes = verify(data)
    assert problems == []
    assert any("not usable" in text for _, text in notes)


@pytest.mark.parametrize("content", [None, "0\n0\n"])
def test_leader_epochs_that_are_gone_are_noted(data, content):
    """The broker goes on without them."""
    path = data / "ours-0" / EPOCHS
    path.unlink() if content is None else path.write_text(content)
    problems, notes = verify(data)
    assert problems == []
    assert notes == [(EPOCHS, "has no leader epochs, but the log has records of 6")]


def test_a_log_that_begins_within_a_batch_is_right(data):
    """Its first epoch begins there, too."""
    edit_epochs(data, 0, start_offset=20)
    assert verify(data) == ([], [])


def test_leftovers_are_noted(data):
    """Files and directories that a start deletes or leaves alone."""
    (data / "ours-0/00000000000000000000.log.cleaned").write_bytes(b"")
    (data / "ours-0/00000000000000000005.index").write_bytes(b"")
    (data / "old-0.11111111111111111111111111111111-delete").mkdir()
    (data / "something else").mkdir()
    problems, notes = verify(data)
    assert problems == []
    assert len(notes) == 4


def test_large_batches_take_little_memory(tmp_path, monkeypatch):
    """A batch larger than what is read at once has its checksum computed in pieces, and is found out when it is damaged."""
    monkeypatch.setattr(verified_segment, "PIECE_BYTES", 4096)

    async def run():
        async with log_directories(tmp_path / "data") as logs:
            log = logs.create("ours", 0, bytes(range(16)), CONFIG, is_new=True)
            for number in range(5):
                batch = build_batch([(0, 1, b"k", bytes(9000 * number), ())])
                headers = [header for _, header in iterate_headers(batch)]
                log.append(batch, headers, leader_epoch=0, now_ms=1)

    asyncio.run(run())
    assert verify(tmp_path / "data") == ([], [])
    flip(tmp_path / "data" / LOG, 20_000)
    problems, _ = verify(tmp_path / "data")
    assert "fails its checksum" in problems[0][1]


def test_the_command(data, tmp_path, capsys):
    """It says what it looked at; a directory in use, and one without a broker's files, are refused."""
    assert cli.main(["verify", str(data)]) == 0
    assert capsys.readouterr().out.startswith("2 partitions, ")
    (tmp_path / "nothing").mkdir()
    assert cli.main(["verify", str(tmp_path / "nothing")]) == 2
    assert cli.main(["verify", str(tmp_path / "not there")]) == 2
    lock = Files().lock(data / ".lock")
    try:
        assert cli.main(["verify", str(data)]) == 2
        assert "in use by a broker; stop it first" in capsys.readouterr().err
    finally:
        lock.release()
