"""The quality benchmark's configs, trials and choices."""

import json

from benchmarks.quality import results, subjects, tables


def test_longer_search_begins_with_the_shorter():
    grid = {"a": [1, 2, 3], "b": [4, 5]}
    subject = subjects.Subject("m", {"width": 64}, grid, ({"a": 7, "b": 8},))
    assert subject.trials(3)[:3] == subject.trials(5)[:3]
    found = [json.loads(trial) for trial in subject.trials(100)]
    assert len({(trial["a"], trial["b"]) for trial in found}) == len(found) == 7
    assert found[-1] == {"a": 7, "b": 8, "width": 64}
    assert all(trial["width"] == 64 for trial in found)
    assert subjects.Subject("m", {"width": 64}).trials(3) == []


def test_runner_takes_the_best_of_a_complete_search(tmp_path, monkeypatch):
    table = subjects.Table(
        trials=2,
        subjects={
            "searched": subjects.Subject(
                "m", grid={"a": [1, 2]}, second_round=({"a": 3},), earlier=7
            ),
            "fixed": subjects.Subject("m", {"b": 1}),
            "alike": subjects.Subject("m", {"b": 2}, like=("gowalla", "searched")),
        },
    )
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(tables, "load", lambda name: table)

    def add(data, subject, value, recall):
        row = dict.fromkeys(results.FIELDS, "")
        row |= {"data": data, "subject": subject, "recall_at_20": recall}
        row["setting"] = subjects.as_text({"a": value})
        results.append(results.search_file("gowalla"), row)

    def settings():
        return [tables.setting_of("gowalla", "data", name) for name in table.subjects]

    for value, recall in ((1, 0.1), (2, 0.3)):
        add("data", "searched", value, recall)
    for other in (("other", "searched"), ("data", "fixed")):
        add(*other, 3, 0.9)
    add("data", "searched", 4, 0.9)  # Of a grid that was given up.
    assert settings() == [None, '{"b": 1}', None]
    add("data", "searched", 3, 0.2)
    assert settings() == ['{"a": 2}', '{"b": 1}', '{"a": 2, "b": 2}']
    done, number = tables.search("gowalla", "data", "alike")
    assert (len(done), number) == (3, 3)
    budgets = [tables.budget("gowalla", "data", name) for name in table.subjects]
    assert budgets == ["7 + 3", "0", "7 + 3"]


def test_every_config_loads():
    folder = results.HERE
    for name in tables.NAMES:
        table = tables.load(name)
        assert table.scripts or table.subjects
        searched = [s for s in table.subjects.values() if s.grid]
        budgets = {len(subject.trials(table.trials)) for subject in searched}
        assert len(budgets) <= 1, f"{name}: one budget for all, not {budgets}"
        for claim in table.claims:
            assert set(claim[1:]) <= set(table.subjects)
        for subject in table.subjects.values():
            trials = subject.trials(table.trials)
            assert len(set(trials)) == len(trials)
            if subject.like:
                assert tables.load(subject.like[0]).subjects[subject.like[1]].grid
            assert (folder / f"{subject.module.replace('.', '/')}.py").exists()
