from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import pytest

from zeroloss.config import Config, ConfigError, add_flags, load_config, settings


def parse(*flags: str) -> Config:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return load_config(parser.parse_args(flags))


def test_without_a_file_everything_is_on_loopback() -> None:
    config = parse()
    assert config == Config()
    for endpoint in (config.stream.source, config.outputs.maps, config.outputs.requests):
        assert endpoint.startswith("tcp://127.0.0.1:")


def test_every_option_is_a_flag() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    dests = {action.dest for action in parser._actions}
    for section in Config.model_fields:
        for option in getattr(Config(), section).model_dump():
            assert f"{section}.{option}" in dests


def test_flags_go_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "zeroloss.toml"
    file.write_text('[queue]\nqueue_mb = 64\nlatency_ms = 50\n[models]\nmodels = ["a"]\n')
    config = parse("--config", str(file), "--queue-mb", "8", "--no-record", "--models", "b")
    assert config.queue.queue_mb == 8
    assert config.queue.latency_ms == 50
    assert config.models.models == (Path("b"),)
    assert not config.recording.record


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[queue]\nqueue_mb = -3\n", ["queue.queue_mb", "-3", "greater than or equal to 1"]),
        ("[queue]\nqueue = 3\n", ["queue.queue", "unknown key", "queue_mb"]),
        ("[que]\n", ["que", "unknown key", "stream"]),
        ('[models]\nprovider = "gpu"\n', ["models.provider", "'gpu'", "cuda"]),
        ('[stream]\nsource = "5550"\n', ["stream.source", "'5550'", "tcp"]),
        ('[models]\nset = ["a.b"]\n', ["models.set", "'a.b'", "PACKAGE.NAME=VALUE"]),
        ('[models]\nset = ["a.b=nan"]\n', ["models.set", "a.b=nan", "the value a number"]),
        ('[outputs]\nhttp = "127.0.0.1:99999"\n', ["outputs.http", "99999", "65535"]),
        ("queue = 3\n", ["queue", "3"]),
        ("[queue\n", ["not TOML"]),
    ],
)
def test_errors_name_the_key_the_value_and_what_was_expected(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    file = tmp_path / "zeroloss.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse("--config", str(file))
    for word in words:
        assert word in str(caught.value)


def test_of_a_parameter_that_is_set_twice_the_later_counts() -> None:
    config = parse("--set", "a.b=1", "--set", "c.b_2=-2.5e1", "--set", "a.b=3")
    assert settings(config.models.set) == {"a": {"b": 3.0}, "c": {"b_2": -25.0}}


def test_labels_are_set_with_commas_between_them() -> None:
    config = parse("--set", "fit.elements=Mn, O", "--set", "fit.ratio=2", "--set", "b.c=In")
    assert settings(config.models.set) == {
        "fit": {"elements": ("Mn", "O"), "ratio": 2.0},
        "b": {"c": ("In",)},
    }


@pytest.mark.parametrize("text", ["a.b=", "a.b=nan", "a.b=inf", "a=1", "a.b=O,", "a.b=O,,N", "b"])
def test_what_sets_nothing_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="the value a number, or labels with commas"):
        parse("--set", text)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        parse("--config", str(tmp_path / "none.toml"))


def test_the_hash_follows_the_values() -> None:
    assert parse().sha256 == Config().sha256
    assert parse("--queue-mb", "8").sha256 != Config().sha256


def test_the_shipped_example_shows_exactly_the_defaults() -> None:
    example = Path(__file__).parents[1] / "deploy" / "zeroloss.toml"
    assert parse("--config", str(example)) == Config()
    assert set(tomllib.loads(example.read_text())) == set(Config.model_fields)
    for section, values in tomllib.loads(example.read_text()).items():
        assert set(values) == set(getattr(Config(), section).model_dump())
