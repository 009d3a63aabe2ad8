"""What can be seen, and that it is true."""

from __future__ import annotations

from tests.scenarios.target import Target, fresh


def output_can_be_read_while_it_runs(target: Target, prefix: str) -> None:
    name = fresh(prefix, "talk")
    token = target.apply(name, "echo one; echo two >&2; sleep 600\n")
    identity = target.job(name, token)

    def said() -> list[str]:
        answer = target.api("GET", f"/v1/invocations/{identity}/logs")
        return sorted(answer.text.split()) if answer.status_code == 200 else []

    target.wait(lambda: said() == ["one", "two"], "its output is there before it ends", show=said)
    # what it writes is read from the bus, its phase from the projection, which may be behind
    target.wait(lambda: target.invocation(identity)["phase"] != "Pending", "it runs")
    assert target.invocation(identity)["phase"] == "Running"
    target.patiently("POST", f"/v1/invocations/{identity}/cancel")
    target.ended(identity)


def what_was_removed_is_gone(target: Target, prefix: str) -> None:
    name = fresh(prefix, "gone")
    token = target.apply(name, "sleep 600\n")
    running, waiting = target.job(name, token), target.job(name, token)
    target.wait(lambda: target.invocation(running).get("phase") == "Running", "it runs")

    target.remove(name)

    rows = [target.ended(identity) for identity in (running, waiting)]
    assert {row["reason"] for row in rows} <= {"cancelled", "service-removed"}, rows
    assert {row["phase"] for row in rows} == {"Cancelled"}, rows
    assert target.api("GET", f"/system/services/{name}").status_code == 404
    target.wait(
        lambda: not any(target.state(name).get(state) for state in ("running", "starting", "draining")),
        "its Workers are gone",
        show=lambda: target.state(name),
    )


def accounts_balance(target: Target, prefix: str) -> None:
    def wrong() -> list[str]:
        rows = target.patiently("GET", "/v1/accounts").json()["items"]
        return [row["service"] for row in rows if row["service"].startswith(prefix) and not row["balanced"]]

    target.wait(lambda: not wrong(), "all accounts balance", show=wrong)
