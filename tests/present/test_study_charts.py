from whisperq_core.analyze.significance import Estimate
from whisperq_core.present.study_charts import increase_figure
from whisperq_core.study import published
from whisperq_core.study.robustness_gaps import RobustnessGap


def bar(recipe: str, value: float, model: str = "base") -> RobustnessGap:
    return RobustnessGap(
        model, recipe, Estimate(value, value - 2, value + 3, 9, "speaker"), ("a", "b"), ("o", "c")
    )


def trace(figure, name: str):
    return next(t for t in figure.data if t.name == name)


def test_published_gaps_are_drawn_without_intervals():
    small = trace(increase_figure([]), "small, published")
    drawn = dict(zip(small.text, small.x, strict=True))
    assert drawn["quanto-int8"] == published.published_result("small", "quanto-int8").robustness_gap
    assert small.error_x.array is None
    assert "open" in small.marker.symbol


def test_measured_gaps_have_their_intervals():
    figure = increase_figure([bar("fp32", 9.0), bar("bnb-nf4", 10.0)])
    measured = trace(figure, "base, measured")
    assert list(measured.x) == [9.0, 10.0]
    assert list(measured.error_x.array) == [3.0, 3.0]
    assert list(measured.error_x.arrayminus) == [2.0, 2.0]


def test_what_would_squash_the_others_becomes_an_arrow_with_its_value():
    measured = trace(
        increase_figure([bar("fp32", 9.0), bar("hqq-int2-g64", 150.0)]), "base, measured"
    )
    assert list(measured.marker.symbol) == ["circle", "arrow-right"]
    assert [text.strip() for text in measured.text] == ["", "150"]
    assert max(measured.x) < 150


def test_each_model_has_its_own_symbol_and_place_in_the_row():
    figure = increase_figure([bar("fp32", 9.0), bar("fp32", 14.0, "tiny.en")])
    measured = [t for t in figure.data if "measured" in t.name]
    assert len({t.marker.symbol[0] for t in measured}) == 2
    assert len({t.y[0] for t in measured}) == 2
