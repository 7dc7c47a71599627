"""``equiforce config``."""

import json

import yaml

from equiforce.config import RunConfig, configured, to_dict


def test_config_prints_what_it_reads(equiforce, place):
    status, out, _ = equiforce("config")
    assert yaml.safe_load(out) == to_dict(RunConfig())
    (place / "c.yaml").write_text("model:\n  l_max: 1\n")
    status, out, _ = equiforce("config", "c.yaml", "--set", "model.channels=8")
    assert status == 0
    assert yaml.safe_load(out) == to_dict(configured({}, {"model.l_max": 1, "model.channels": 8}))


def test_config_prints_a_schema(equiforce):
    status, out, _ = equiforce("config", "--schema")
    assert status == 0
    assert "description" in json.loads(out)["properties"]["training"]["properties"]["time"]
