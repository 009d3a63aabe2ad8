"""What a user does with tidemill, written once and run on every launcher.

A scenario is a function that takes a `Target` and a prefix for the names that it makes. It needs nothing but the API,
the object store and one image, so the platform may be anywhere. Run them all with

    @pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
    def test_scenario(target: Target, scenario: Scenario) -> None:
        scenario(target, "e2e")
"""

from __future__ import annotations

from tests.scenarios.calls import a_call_is_answered, a_failing_call_says_why, a_job_is_found_by_its_id
from tests.scenarios.failures import (
    a_failing_script_has_its_reason,
    a_running_invocation_is_cancelled,
    a_script_that_takes_too_long_is_ended,
    memory_beyond_the_limit_has_its_reason,
    retries_end_in_a_dead_letter_that_can_be_redriven,
)
from tests.scenarios.files import (
    a_file_becomes_a_result,
    a_pipeline_carries_a_file_on,
    every_file_becomes_one_result,
    one_worker_for_each_invocation_leaves_nothing_to_the_next,
    several_slots_share_a_worker,
)
from tests.scenarios.observing import accounts_balance, output_can_be_read_while_it_runs, what_was_removed_is_gone
from tests.scenarios.target import Scenario, Target

__all__ = ["SCENARIOS", "Scenario", "Target"]

SCENARIOS: tuple[Scenario, ...] = (
    a_file_becomes_a_result,
    a_pipeline_carries_a_file_on,
    every_file_becomes_one_result,
    one_worker_for_each_invocation_leaves_nothing_to_the_next,
    several_slots_share_a_worker,
    a_call_is_answered,
    a_failing_call_says_why,
    a_job_is_found_by_its_id,
    a_failing_script_has_its_reason,
    a_script_that_takes_too_long_is_ended,
    memory_beyond_the_limit_has_its_reason,
    a_running_invocation_is_cancelled,
    retries_end_in_a_dead_letter_that_can_be_redriven,
    output_can_be_read_while_it_runs,
    what_was_removed_is_gone,
    accounts_balance,
)
"""In an order that a reader can follow; each stands alone, but for the last: it looks at what the others left."""
