"""kopf is left nothing to compare, and nothing to write."""

import kopf

from kubedistill_operator.main import WATCHED, operator_settings
from kubedistill_operator.settings import Settings
from kubedistill_operator.signs import Signs


def test_an_object_is_the_same_to_kopf_whatever_is_in_it():
    chosen = operator_settings(Settings(), Signs(dict.fromkeys(WATCHED, 1))).persistence
    patch = kopf.Patch({})
    for number in range(2):
        body = kopf.Body({"metadata": {"name": "a", "labels": {"n": str(number)}}, "spec": {"n": number}})
        assert chosen.diffbase_storage.fetch(body=body) is None
        essence = chosen.diffbase_storage.build(body=body, extra_fields=[])
        assert chosen.progress_storage.clear(essence=essence) == {}
        chosen.diffbase_storage.store(body=body, patch=patch, essence=essence)
        chosen.progress_storage.touch(body=body, patch=patch, value="now")
    assert not patch
