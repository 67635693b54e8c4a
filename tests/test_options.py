"""Options are refused where they are given, with what is wrong and what to give instead."""

from __future__ import annotations

import pytest
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import ray_durable
from ray_durable.errors import OptionError


@ray_durable.remote
def nothing():
    return None


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("num_cpu", 1, "no such option; there are .*num_cpus"),
        ("num_cpus", -1, "negative"),
        ("num_gpus", "1", "no number"),
        ("memory", float("nan"), "no number"),
        ("name", 5, "5 is no text: give a string"),
        ("name", "", "give a string that is not empty"),
        ("namespace", b"x", "give a string"),
        ("get_if_exists", "yes", "True or False"),
        ("keep_history", 1, "True or False"),
        ("max_retries", "x", "'x' does not count: give a whole number"),
        ("max_retries", -2, "-1 for no limit"),
        ("max_retries", 1.5, "whole number"),
        ("retry_exceptions", [3], "exception classes"),
        ("retry_exceptions", "all", "exception classes"),
        ("checkpoint_every", "5s", "'5s': give a number of seconds"),
        ("checkpoint_every", 0, "above 0"),
        ("resources", {"CPU": 1}, "give num_cpus=1"),
        ("resources", {"disk": -1}, "'disk': -1 is negative"),
        ("resources", ["disk"], "give a dict"),
        ("label_selector", {"zone": 1}, "give a dict of label names"),
        ("scheduling_strategy", "HERE", "give DEFAULT, SPREAD"),
        ("runtime_env", {"foo": 1}, "no field 'foo': give some of .*env_vars"),
        ("runtime_env", {"env_vars": {"A": 1}}, "Ray refuses it: .*env_vars"),
        ("runtime_env", "pip", "give a dict"),
        ("_generator_backpressure_num_objects", "2", "whole number"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_given(option, value, told):
    for give in (nothing.options, ray_durable.remote):
        with pytest.raises(OptionError, match=told) as refused:
            give(**{option: value})
        assert refused.value.option == option


@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": 0.5, "memory": 1e9, "resources": {"disk": 1}, "name": "é x", "get_if_exists": True},
        {"retry_exceptions": [ValueError, KeyError], "max_retries": -1, "checkpoint_every": 0.5, "keep_history": True},
        {
            "scheduling_strategy": NodeAffinitySchedulingStrategy("ab" * 28, soft=True),
            "label_selector": {"zone": "!in(a)"},
        },
        {"runtime_env": {"env_vars": {"A": "b"}, "working_dir": "/not/on/this/machine", "pip": "not-here.txt"}},
        {"runtime_env": {"pip": ["requests"], "config": {"setup_timeout_seconds": 9}}},
    ],
)
def test_what_ray_takes_is_taken(options):
    assert nothing.options(**options).given == options


def test_none_is_the_default_again():
    named = nothing.options(name="x", _generator_backpressure_num_objects=2)
    assert named.options(name=None, _generator_backpressure_num_objects=None).given == {}
