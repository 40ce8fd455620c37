import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hydra_plugins.optuna_study import StudyError
from hydra_plugins.optuna_study._search_space._grammar import Domain, domain_of, value_text


def parsed(written: str) -> Domain:
    return domain_of(OverridesParser.create().parse_override(f"x={written}"))


@pytest.mark.parametrize(
    ("written", "distribution"),
    [
        ("range(0,4)", IntDistribution(0, 3)),
        ("range(4)", IntDistribution(0, 3)),
        ("range(1,8,3)", IntDistribution(1, 7, step=3)),
        ("range(1,9,3)", IntDistribution(1, 7, step=3)),
        ("range(5,0,-1)", IntDistribution(1, 5)),
        ("shuffle(range(0,4))", IntDistribution(0, 3)),
        ("tag(log,range(1,9))", IntDistribution(1, 8, log=True)),
        ("range(0,1,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("range(-5.5,5.5,step=0.5)", FloatDistribution(-5.5, 5.0, step=0.5)),
        ("range(0,1,0.1)", FloatDistribution(0.0, 0.9, step=0.1)),
        ("interval(1,5)", FloatDistribution(1.0, 5.0)),
        ("int(interval(1,5))", IntDistribution(1, 5)),
        ("tag(log,interval(1e-5,1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
        ("tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("choice(a,b)", CategoricalDistribution(["a", "b"])),
        ("a,b", CategoricalDistribution(["a", "b"])),
        ("choice(1,2.5,true)", CategoricalDistribution([1, 2.5, True])),
        ("shuffle(a,b)", CategoricalDistribution(["a", "b"])),
        ("choice('a b','1')", CategoricalDistribution(["a b", "1"])),
        ("choice([1,2],{a:1})", CategoricalDistribution(["[1,2]", "{a:1}"])),
    ],
)
def test_range_becomes_distribution(written, distribution):
    assert parsed(written).distribution == distribution


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("range(0,4)", [0, 1, 2, 3]),
        ("range(0,0.3,0.1)", [0.0, 0.1, 0.2]),
        ("range(0,1,0.3)", [0.0, 0.3, 0.6, 0.9]),
        ("range(-5.5,5.5,step=0.5)", [-5.5 + 0.5 * k for k in range(22)]),
    ],
)
def test_a_range_is_the_set_that_hydra_itself_sweeps(written, values):
    override = OverridesParser.create().parse_override(f"x={written}")
    assert [option.value for option in domain_of(override).options] == values
    assert list(override.sweep_iterator()) == pytest.approx(values)


@pytest.mark.parametrize("sampler", ["RandomSampler", "TPESampler", "QMCSampler", "BruteForceSampler", "GridSampler"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_samples_from_the_same_set(sampler):
    import optuna

    domain = parsed("range(0,1,0.3)")
    arguments = {"search_space": {"x": [o.value for o in domain.options]}} if sampler == "GridSampler" else {}
    study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=1, **arguments))
    study.stop = lambda: None
    sampled = set()
    for _ in range(40):
        trial = study.ask()
        sampled.add(domain.text(trial._suggest("x", domain.distribution)))
        study.tell(trial, 1.0)
    assert sampled == {"0.0", "0.3", "0.6", "0.9"}


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("range(4,0)", "at least one value"),
        ("range(0,0)", "at least one value"),
        ("range(0,4,0)", "must not be 0"),
        ("interval(5,1)", "swap them"),
        ("tag(log,interval(0,1))", "must start above 0"),
        ("tag(logarithmic,interval(1,2))", "tag 'logarithmic' .* write log"),
        ("tag(lgo,range(1,9))", "tag 'lgo' .* write log"),
        ("tag(log,range(0.1,1,0.1))", "use interval"),
        ("choice(a,a)", "twice"),
        ("range(0,1,0.0000001)", "use interval"),
    ],
)
def test_a_bad_range_is_refused_with_its_repair(written, rule):
    with pytest.raises(StudyError, match=rule) as caught:
        parsed(written)
    assert "\n" not in str(caught.value)
    assert "x=" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (1e-05, "1e-05"),
        ("adam", "adam"),
        ("a/b.c", "a/b.c"),
        ("a b", "'a b'"),
        ("true", "'true'"),
        ("12", "'12'"),
        ("it's", r"'it\'s'"),
        ("${other}", "${other}"),
    ],
)
def test_a_value_survives_being_written_as_an_override(value, text):
    assert value_text(value) == text
    assert OverridesParser.create().parse_override(f"x={text}").value() == value
