"""Which tests run beside each other (`--dist loadfile`), and which `--long` and `--quick` are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "tests/e2e/test_local_tls.py",
    "tests/e2e/test_local_users.py",
    "tests/e2e/test_observe.py",
    "tests/e2e/test_original_loading_program.py",
    "tests/e2e/test_scale.py",
    "tests/e2e/test_start_stop.py",
    "tests/e2e/test_started_by_a_user.py",
    "tests/e2e/test_three_hosts.py",
    "tests/e2e/test_up.py",
    "tests/e2e/test_whole_system.py",
    "tests/page/test_watch.py",
)
"""Files that want a machine's cores for themselves: one of them at a time, beginning with the first test."""
SHARING = "tests/page/"
"""The folder whose files share a fixture: a site and a browser."""

SLOW = (
    "tests/api/test_acl.py",
    "tests/api/test_coverage.py",
    "tests/api/test_nothing_found.py",
    "tests/api/test_question_outcomes.py",
    "tests/api/test_ready_says_what_was_evicted.py",
    "tests/api/test_search.py",
    "tests/api/test_shard_figures.py",
    "tests/api/test_slow_body.py",
    "tests/api/test_tls_through_all.py",
    "tests/api/test_unused_signals.py",
    "tests/api/test_watch_api.py",
    "tests/api/test_with_worker.py",
    "tests/client/test_on_real_servers.py",
    "tests/cluster/test_answer_when_it_cannot_be_kept.py",
    "tests/cluster/test_answers_live_for_a_while.py",
    "tests/cluster/test_catch_up.py",
    "tests/cluster/test_cluster_create.py",
    "tests/cluster/test_concept_table_load.py",
    "tests/cluster/test_derived.py",
    "tests/cluster/test_evaluate_through_cluster.py",
    "tests/cluster/test_first_function.py",
    "tests/cluster/test_gears_worker_life.py",
    "tests/cluster/test_load_forms.py",
    "tests/cluster/test_loading.py",
    "tests/cluster/test_memory_short.py",
    "tests/cluster/test_model_is_replaced.py",
    "tests/cluster/test_modelset_waits_for_replicas.py",
    "tests/cluster/test_module_stress.py",
    "tests/cluster/test_pipeline_killed.py",
    "tests/cluster/test_shard_without_functions.py",
    "tests/cluster/test_status.py",
    "tests/cluster/test_stream_reader.py",
    "tests/cluster/test_worker_metrics.py",
    "tests/compose/",
    "tests/e2e/",
    "tests/page/",
    "tests/unit/test_calibrate.py",
    "tests/unit/test_encoder.py",
    "tests/unit/test_export.py",
    "tests/unit/test_harness_leaves_nothing.py",
    "tests/unit/test_plain_bert_qa.py",
    "tests/unit/test_train.py",
    "tests/unit/test_train_split.py",
    "tests/unit/test_vector_index.py",
    "tests/unit/test_wheel.py",
)
"""What `--quick` leaves out: whole systems, browsers, failures that are waited for, models that are made."""


LONG = (
    "tests/api/test_acl.py::test_the_whole_system_works",
    "tests/api/test_tls_through_all.py::test_a_command_without_the_authority",
    "tests/api/test_tls_through_all.py::test_articles_questions_and_a_failover",
    "tests/api/test_tls_through_all.py::test_the_api_and_the_worker_without_the_authority",
    "tests/cluster/test_catch_up.py::test_what_was_made_of_a_deleted_key_goes_when_the_event_was_lost[sentence]",
    "tests/cluster/test_earlier_layout.py::test_it_is_taken_over[after the functions began]",
    "tests/cluster/test_encoder_is_replaced.py::test_also_where_nobody_was_told_of_the_new_encoder",
    "tests/cluster/test_evaluate_front_door.py::test_figures_and_nothing_stays",
    "tests/cluster/test_evaluate_front_door.py::test_interrupted_it_leaves_nothing_behind[bertspan*_evaluate-*-15]",
    "tests/cluster/test_evaluate_front_door.py::test_interrupted_it_leaves_nothing_behind[bertspan*_evaluate-*-2]",
    "tests/cluster/test_evaluate_front_door.py::test_interrupted_it_leaves_nothing_behind[paragraphs:evaluate-*-15]",
    "tests/cluster/test_evaluate_front_door.py::test_interrupted_it_leaves_nothing_behind[paragraphs:evaluate-*-2]",
    "tests/cluster/test_evaluate_through_cluster.py::test_interrupted_it_leaves_nothing_behind[15]",
    "tests/cluster/test_evaluate_through_cluster.py::test_interrupted_it_leaves_nothing_behind[2]",
    "tests/cluster/test_load_cord19.py::test_years_journal_and_links_are_in_the_replies",
    "tests/cluster/test_load_forms.py::test_forms_and_files_take_each_others_place",
    "tests/cluster/test_masters_that_join.py::test_a_master_that_joins_gets_sessions_but_no_time_event",
    "tests/cluster/test_model_runs_end.py::test_libraries_are_there_from_the_start_or_when_a_model_comes",
    "tests/cluster/test_model_runs_end.py::test_runs_without_an_end[ONNX]",
    "tests/cluster/test_pipeline_killed.py::test_two_hundred_articles",
    "tests/cluster/test_pipeline_killed.py::test_with_vectors",
    "tests/cluster/test_qa_functions.py::test_a_sentence_of_many_windows",
    "tests/cluster/test_qa_functions.py::test_without_a_model_the_error_says_so_and_loading_mends_it",
    "tests/cluster/test_slots_move.py::test_an_article_is_written_while_its_slot_is_on_its_way",
    "tests/cluster/test_slots_move.py::test_masters_join_and_leave_under_load[no]",
    "tests/cluster/test_slots_move.py::test_masters_join_and_leave_under_load[yes]",
    "tests/cluster/test_split_reader_runs.py::test_a_whole_reader_takes_its_place_and_the_states_go",
    "tests/cluster/test_split_reader_runs.py::test_replaced_by_one_another_without_a_failed_request",
    "tests/cluster/test_split_reader_runs.py::test_turned_off_none_are_kept_and_answers_are_given",
    "tests/cluster/test_state_machine.py::test_it_does_what_the_model_does[2]",
    "tests/cluster/test_stream_reader.py::test_a_batch_is_seen_again_when_the_worker_dies_in_it[True]",
    "tests/cluster/test_stream_reader.py::test_an_upload_again_goes_on_where_it_was[options1]",
    "tests/cluster/test_stream_reader.py::test_an_upload_again_waits_for_the_batch_that_runs[False]",
    "tests/cluster/test_stream_reader.py::test_retry_comes_again_by_itself[False]",
    "tests/cluster/test_worker_metrics.py::test_any_number_of_models_has_a_bounded_number_of_labels",
    "tests/e2e/test_bench.py::test_the_quick_form_measures_everything",
    "tests/e2e/test_local_tls.py::test_up_with_tls_and_without_again",
    "tests/e2e/test_local_users.py::test_a_second_start_keeps_the_passwords",
    "tests/e2e/test_observe.py::test_a_stopped_worker_is_an_alert",
    "tests/e2e/test_observe.py::test_stop_ends_all_of_it_and_what_was_measured_stays",
    "tests/e2e/test_original_loading_program.py::test_a_failover_right_after_it_loses_no_model",
    "tests/e2e/test_original_loading_program.py::test_it_loads_every_shard_and_a_question_is_answered[exported]",
    "tests/e2e/test_original_loading_program.py::test_it_loads_every_shard_and_a_question_is_answered[traced]",
    "tests/e2e/test_original_loading_program.py::test_without_the_rights_it_says_which_one_is_missing",
    "tests/e2e/test_scale.py::test_a_master_joins_and_leaves_under_load",
    "tests/e2e/test_start_stop.py::test_start_twice_kill_stop_and_start_again",
    "tests/e2e/test_scale.py::test_an_interrupted_one_goes_on",
    "tests/e2e/test_scale.py::test_what_is_added_is_there_after_a_restart",
    "tests/e2e/test_scale.py::test_what_it_cannot_do_it_says",
    "tests/e2e/test_three_hosts.py::test_each_worker_serves_its_own_host_and_others_stand_in",
    "tests/e2e/test_up.py::test_the_sample_is_not_put_among_other_articles",
    "tests/page/test_watch.py::test_every_panel_shows_data[keymiss-gears]",
    "tests/page/test_watch.py::test_every_panel_shows_data[keymiss-pattern]",
    "tests/page/test_watch.py::test_every_panel_shows_data[keymiss-redis]",
    "tests/page/test_watch_states.py::test_prometheus_goes_away_and_comes_back",
    "tests/unit/test_encoder.py::test_a_reader_is_not_loaded_as_an_encoder",
    "tests/unit/test_encoder.py::test_an_export_is_made_again_when_the_pooling_changes",
    "tests/unit/test_encoder.py::test_every_form_is_the_eager_model[onnx]",
    "tests/unit/test_encoder.py::test_what_the_folder_says_is_in_the_model_s_file[onnx-int8]",
    "tests/unit/test_encoder.py::test_what_the_folder_says_is_in_the_model_s_file[onnx]",
    "tests/unit/test_export.py::test_a_model_without_token_types[onnx]",
    "tests/unit/test_export.py::test_all_forms_lie_side_by_side",
    "tests/unit/test_export.py::test_every_form_equals_eager[onnx-384-32]",
    "tests/unit/test_export.py::test_every_form_equals_eager[onnx-int8-384-32]",
    "tests/unit/test_export.py::test_every_form_equals_eager[torchscript-384-32]",
    "tests/unit/test_export.py::test_every_form_equals_eager[torchscript-bfloat16-384-32]",
    "tests/unit/test_export.py::test_every_form_equals_eager[torchscript-int8-384-32]",
    "tests/unit/test_export.py::test_the_reader_equals_eager[8-384]",
    "tests/unit/test_harness_leaves_nothing.py::test_a_killed_run_leaves_nothing[pytest-15]",
    "tests/unit/test_harness_leaves_nothing.py::test_a_killed_run_leaves_nothing[tests.whole_run-9]",
    "tests/unit/test_harness_leaves_nothing.py::test_a_local_system_of_a_killed_pytest_is_ended",
    "tests/unit/test_harness_leaves_nothing.py::test_a_test_that_hangs_fails_and_the_others_go_on",
    "tests/unit/test_harness_leaves_nothing.py::test_it_ends_a_run_of_several_processes",
    "tests/unit/test_harness_leaves_nothing.py::test_one_that_cannot_be_ended_costs_the_process_and_is_named",
    "tests/unit/test_harness_leaves_nothing.py::test_the_whole_run_gives_pytests_exit_code",
    "tests/unit/test_harness_leaves_nothing.py::test_the_whole_run_has_a_limit_and_says_what_hung",
    "tests/unit/test_load_checks_once.py::test_not_where_its_file_or_its_source_is_another",
    "tests/unit/test_model_processes.py::test_a_run_whose_time_is_over_before_it_begins",
    "tests/unit/test_plain_bert_qa.py::test_prints_the_same_answers_with_both_times",
    "tests/unit/test_split_halves.py::test_both_halves_give_what_the_eager_reader_gives[onnx-int8]",
    "tests/unit/test_split_halves.py::test_both_halves_give_what_the_eager_reader_gives[onnx]",
    "tests/unit/test_train_split.py::test_a_reader_that_is_taught_learns_what_its_teacher_says",
    "tests/unit/test_wheel.py::test_the_module_is_built_in_the_state_folder_and_once",
)
"""What only `--long` runs: they take longest, and shorter ones nearly say the same."""


def is_long(item: pytest.Item) -> bool:
    """Whether it is left out without `--long`."""
    return item.nodeid in LONG


def is_slow(item: pytest.Item) -> bool:
    """Whether `--quick` leaves it out."""
    return item.nodeid.startswith(SLOW)


def missing() -> list[str]:
    """What the lists above name and is not there."""
    return [name for name in (*HEAVY, *SLOW, *LONG) if not (ROOT / name.partition("::")[0]).exists()]


def group_of(test: str) -> str:
    """The tests of one group run one after the other in one process."""
    file = test.partition("::")[0]
    if file in HEAVY:
        return "heavy"
    return SHARING if file.startswith(SHARING) else file


def first_the_heavy(items: list[pytest.Item]) -> None:
    """They take longest. The others stay in their order."""
    items.sort(key=lambda item: group_of(item.nodeid) != "heavy")


class ByGroup(LoadScopeScheduling):
    """One group at a time is given to a process, the first ones first."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
