"""Files become results."""

from __future__ import annotations

from typing import Any

from tests.scenarios.target import Target, fresh

COUNT = (
    'wc -c < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/count.txt"; cat "$INPUT_FILE_PATH" >> "$TMP_OUTPUT_DIR/count.txt"\n'
)
COPY = 'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/${STORAGE_OBJECT_KEY##*/}"\n'


def folder(path: str) -> dict[str, Any]:
    """One entry of `input` or `output`."""
    return {"storage_provider": "minio.default", "path": path}


def a_file_becomes_a_result(target: Target, prefix: str) -> None:
    name = fresh(prefix, "count")
    target.apply(name, COUNT, input=[folder(f"{name}/in")], output=[folder(f"{name}/out")])
    target.put(f"{name}/in/words.txt", b"five!")

    (row,) = target.all_ended(name, 1)

    assert (row["phase"], row["reason"], row["attempts"], row["exit_code"]) == ("Succeeded", "completed", 1, 0), row
    assert [output["path"] for output in row["outputs"]] == [f"{name}/out/count.txt"]
    assert target.get(f"{name}/out/count.txt").split() == [b"5", b"five!"]


def a_pipeline_carries_a_file_on(target: Target, prefix: str) -> None:
    name = fresh(prefix, "pipe")
    target.apply(f"{name}-a", COPY, input=[folder(f"{name}/one")], output=[folder(f"{name}/two")])
    target.apply(f"{name}-b", COUNT, input=[folder(f"{name}/two")], output=[folder(f"{name}/three")])
    target.put(f"{name}/one/x.txt", b"carried")

    (last,) = target.all_ended(f"{name}-b", 1)

    assert last["phase"] == "Succeeded", last
    assert target.get(f"{name}/three/count.txt").split() == [b"7", b"carried"]


def every_file_becomes_one_result(target: Target, prefix: str) -> None:
    name = fresh(prefix, "many")
    target.apply(name, COPY, input=[folder(f"{name}/in")], output=[folder(f"{name}/out")])
    wanted = {f"{name}/in/{number:03d}.txt": str(number).encode() for number in range(20)}
    target.put_all(wanted)

    rows = target.all_ended(name, len(wanted))

    assert [row["phase"] for row in rows] == ["Succeeded"] * len(wanted), rows
    assert target.list(f"{name}/out/") == [path.replace("/in/", "/out/") for path in wanted]
    assert target.get(f"{name}/out/007.txt") == b"7"


_LEAVE = """
ls "$TMP_INPUT_DIR" "$TMP_OUTPUT_DIR"
[ ! -e /tmp/left ] || echo "found what another left"
echo x > /tmp/left
"""


def one_worker_for_each_invocation_leaves_nothing_to_the_next(target: Target, prefix: str) -> None:
    name = fresh(prefix, "once")
    token = target.apply(name, _LEAVE, reuse=1)
    rows = [target.ended(target.job(name, token)) for _ in range(2)]

    assert [row["phase"] for row in rows] == ["Succeeded", "Succeeded"], rows
    assert rows[0]["worker"] != rows[1]["worker"]
    if target.isolates:
        assert not [row for row in rows if "found what" in (row["log_tail"] or "")], rows


def several_slots_share_a_worker(target: Target, prefix: str) -> None:
    name = fresh(prefix, "slots")
    script = 'sleep 1; echo "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/${STORAGE_OBJECT_KEY##*/}"\n'
    target.apply(name, script, slots=4, input=[folder(f"{name}/in")], output=[folder(f"{name}/out")])
    target.put_all({f"{name}/in/{number}.txt": b"x" for number in range(4)})

    rows = target.all_ended(name, 4)

    assert [row["phase"] for row in rows] == ["Succeeded"] * 4, rows
    assert len({target.get(path) for path in target.list(f"{name}/out/")}) == 4, "each has a workspace of its own"
