"""What goes wrong has its reason, and can be tried again."""

from __future__ import annotations

from tests.scenarios.target import Target, fresh

TWICE = {"attempts": 2, "backoff": "0.2s"}


def a_failing_script_has_its_reason(target: Target, prefix: str) -> None:
    name = fresh(prefix, "fail")
    token = target.apply(name, "echo before; exit 3\n", retry={**TWICE, "final_exit_codes": [3]})

    row = target.ended(target.job(name, token))

    assert (row["phase"], row["reason"], row["exit_code"]) == ("Failed", "script-failed", 3), row
    assert row["attempts"] == 1
    assert not row["dead"]
    assert "before" in row["log_tail"]


def a_script_that_takes_too_long_is_ended(target: Target, prefix: str) -> None:
    name = fresh(prefix, "slow")
    token = target.apply(name, "sleep 600\n", timeout="1s", retry={"attempts": 1})

    row = target.ended(target.job(name, token))

    assert (row["phase"], row["reason"]) == ("Failed", "timeout"), row


def memory_beyond_the_limit_has_its_reason(target: Target, prefix: str) -> None:
    if not target.isolates:
        return  # the process launcher plans with the limit and does not enforce it
    name = fresh(prefix, "greedy")
    script = 'x=xxxxxxxxxxxxxxxx; while :; do x="$x$x"; done\n'
    token = target.apply(name, script, memory="32Mi", retry=TWICE)

    row = target.ended(target.job(name, token))

    assert (row["phase"], row["reason"], row["attempts"], row["dead"]) == ("Failed", "out-of-memory", 2, True), row


def a_running_invocation_is_cancelled(target: Target, prefix: str) -> None:
    name = fresh(prefix, "cancel")
    token = target.apply(name, "echo started; sleep 600\n")
    identity = target.job(name, token)
    target.wait(lambda: target.invocation(identity).get("phase") == "Running", "it runs")

    assert target.patiently("POST", f"/v1/invocations/{identity}/cancel").status_code == 202

    assert target.ended(identity)["phase"] == "Cancelled"
    following = target.apply(fresh(prefix, "next"), "exit 0\n")
    assert following
    target.wait(lambda: target.account(name).get("running") == 0, "nothing runs on", show=lambda: target.account(name))


def retries_end_in_a_dead_letter_that_can_be_redriven(target: Target, prefix: str) -> None:
    name = fresh(prefix, "letter")
    token = target.apply(name, 'echo "attempt $TIDEMILL_ATTEMPT"; exit 9\n', retry=TWICE)
    row = target.ended(target.job(name, token))
    assert (row["reason"], row["attempts"], row["dead"]) == ("script-failed", 2, True), row

    assert "attempt 2" in target.letter(row["id"])["log_tail"]
    again = target.patiently("POST", f"/v1/dead-letters/{row['id']}/redrive")

    assert again.status_code == 201, again.text
    second = target.ended(again.json()["id"])
    assert (second["redrive_of"], second["reason"]) == (row["id"], "script-failed")
