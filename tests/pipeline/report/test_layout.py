"""How tables stand in a paper: chosen columns, turned tables, room."""

import pytest
from publication import ARMS, HOSTILE, REFERENCES, SETS, tables

from ragcun_cli.pipeline.report.layout import (
    COLUMN,
    PAGE,
    PrintedBest,
    choose_columns,
    floats_of,
    for_appendix,
    for_print,
)
from ragcun_cli.pipeline.report.table import Column, Table, WithDeviation, best_cells, cell_text
from ragcun_cli.spec.errors import WorkspaceError

NAMES = (*REFERENCES, *ARMS)


def results(**changes):
    return tables(**changes)[1]


def keys(table):
    return [column.key for column in table.columns]


def test_where_models_are_fewer_data_sets_are_rows_with_the_average_last():
    table = results()
    averages, by_set = for_print(table)
    assert keys(averages) == [
        *("model", "trainable_parameters", "average", "difference", "isotropy"),
    ]
    assert averages.notes == table.notes
    assert [column.label for column in by_set.columns] == ["Data set", *NAMES]
    assert [row[0] for row in by_set.rows] == [*SETS, f"Average of {len(SETS)}"]
    means, last = table.rows[4], by_set.rows[-1]
    assert by_set.rows[0][5] == f"{100 * means[2].mean:.1f}"
    assert last[5] == cell_text(table.columns[20], means[20]).replace("± ", "±")
    assert "±" in last[5]
    best = {(row, column) for row, column in best_cells(table) if column > 1}
    printed = {
        (model - 1, set_ + 2)
        for set_, row in enumerate(by_set.rows)
        for model, cell in enumerate(row)
        if isinstance(cell, PrintedBest)
    }
    assert printed == best
    assert by_set.notes[0] == "Of single data sets the means over seeds, without their deviations."


def test_data_sets_that_stay_columns_stand_in_groups_of_eight_with_means_alone():
    averages, *groups = for_print(results(), transpose=False)
    assert [key for group in groups for key in keys(group)[1:]] == [*SETS, "average"]
    assert all(len(group.columns) <= 9 for group in groups)
    assert [table.key for table in (averages, *groups)] == [
        *("results", "results-by-set", "results-by-set-2", "results-by-set-3"),
    ]
    deviations = {
        key: any(isinstance(row[index], WithDeviation) for row in group.rows)
        for group in groups
        for index, key in enumerate(keys(group))
    }
    assert [key for key, has in deviations.items() if has] == ["average"]


def test_few_sets_that_fit_stay_in_one_table_unless_it_is_to_be_turned():
    table = results(sets=SETS[:2], arms=ARMS[:1])
    (whole,) = for_print(table)
    assert keys(whole) == keys(table)
    assert whole.rows[3][2] == table.rows[3][2].mean
    assert len(for_print(table, transpose=True)) == 2


def test_a_table_without_data_sets_is_printed_as_it_is():
    contrasts, _, *others = tables()
    assert [for_print(table) for table in (contrasts, *others)] == [
        [table] for table in (contrasts, *others)
    ]


@pytest.mark.parametrize("transpose", [None, True, False])
@pytest.mark.parametrize("arms", [ARMS, ARMS[:1], HOSTILE, (*ARMS, *HOSTILE)])
@pytest.mark.parametrize("sets", [SETS, SETS[:14], SETS[:3]])
def test_every_float_fits_its_room_in_letters_of_7_points_and_loses_no_cell(transpose, arms, sets):
    for table in tables(arms, sets):
        for printed in for_print(table, transpose=transpose):
            floats = floats_of(printed)
            assert all(one.size >= 7 for one in floats)
            assert all(one.width <= (PAGE if one.is_wide else COLUMN) for one in floats)
            heading = printed.heading_columns
            expected = {
                (printed.row_name(row), column.key, cell)
                for row in printed.rows
                for column, cell in zip(printed.columns[heading:], row[heading:], strict=True)
            }
            found = [
                (block.row_name(row), column.key, cell)
                for one in floats
                for block in one.blocks
                for row in block.rows
                for column, cell in zip(block.columns[heading:], row[heading:], strict=True)
            ]
            assert set(found) == expected
            assert len(found) == len(expected)
            assert len({one.table.key for one in floats}) == len(floats)


def test_a_long_table_is_several_of_at_most_a_page():
    rows = tuple((f"row {n}", n) for n in range(100))
    table = Table("long", "Long", (Column("a", "A"), Column("b", "B")), rows, ("note",))
    floats = floats_of(table)
    assert [one.table.key for one in floats] == ["long", "long-part-2", "long-part-3"]
    assert [row for one in floats for row in one.table.rows] == list(rows)
    assert all(len(one.table.rows) * one.size * 1.2 < 400 for one in floats)
    assert [one.table.notes for one in floats] == [("note",), (), ()]


def test_the_tables_of_isotropy_stand_in_an_appendix():
    assert [for_appendix(table) for table in tables()] == [n == 2 for n in range(6)]


def test_columns_are_chosen_by_key_or_label_also_from_tables_of_the_same_rows():
    chosen = choose_columns(tables(), ["average", "Trainable", "training_minutes", "device"])
    assert keys(chosen[1]) == [
        *("model", "average", "trainable_parameters", "training_minutes", "device"),
    ]
    assert chosen[1].rows[4][3] == 9876.5
    assert "Dev: queries" in chosen[1].notes[-1]
    assert [chosen[0], *chosen[2:]] == [tables()[0], *tables()[2:]]
    assert keys(choose_columns(tables(), [" sets ", "fiqa"])[1]) == ["model", *SETS]
    with pytest.raises(WorkspaceError, match="no table of these rows has a column 'nobody'") as no:
        choose_columns(tables(), ["nobody"])
    assert "--columns sets,trainable_parameters,average," in no.value.hint


def test_a_row_that_another_table_has_not_has_none():
    some = tables()
    fewer = Table("more", "More", (some[1].columns[0], Column("x", "X")), ((NAMES[3], 7),))
    chosen = choose_columns([some[1], fewer], ["x"])[0]
    assert [row[1] for row in chosen.rows] == [7 if name == NAMES[3] else "none" for name in NAMES]
