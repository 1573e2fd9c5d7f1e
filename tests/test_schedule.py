"""The order in which the suite runs, and which process runs a test."""

from tests.support import schedule
from whisperq_core.settings import PROJECT


def test_every_file_that_the_schedule_names_exists():
    in_groups = [file for files in schedule.GROUPS.values() for file in files]
    listed = [unit for unit in schedule.LONGEST if unit not in schedule.GROUPS]
    missing = [file for file in (*in_groups, *listed) if not (PROJECT / file).is_file()]
    assert missing == [] and len(set(in_groups)) == len(in_groups)


def test_files_of_a_group_are_one_unit_and_start_before_what_is_not_listed():
    of_groups = {
        schedule.unit_of(f"{file}::test_one[a::b]")
        for files in schedule.GROUPS.values()
        for file in files
    }
    assert of_groups == set(schedule.GROUPS)
    assert schedule.unit_of("tests/test_api.py::test_one[a/b]") == "tests/test_api.py"
    places = [schedule.position(f"{unit}::test") for unit in schedule.LONGEST[1:]]
    assert places == sorted(places)
    assert schedule.position("tests/test_api.py::test_one") > max(places)
