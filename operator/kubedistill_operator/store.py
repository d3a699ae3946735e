"""What the watches have seen, slimmed, by resource. Newer versions win; nothing here is ever more than a hint.

It is kept as JSON, of which a job with its children takes 24 KiB instead of 62 as dicts, and read anew by whoever asks.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Set
from typing import Any, NamedTuple

from kubedistill_operator.kinds import RESOURCES
from kubedistill_operator.names import DIGEST_LABEL, JOB_NAME_LABEL, STAGE_LABEL, UID_LABEL
from kubedistill_operator.slim import slim

Object = dict[str, Any]

CHILDREN = ("Job", "Pod", "ConfigMap")
REMEMBERED = 20_000


class Key(NamedTuple):
    """A resource."""

    kind: str
    namespace: str
    name: str


class Kept(NamedTuple):
    """An object, its text without its version."""

    uid: str
    version: int
    text: bytes

    def item(self) -> Object:
        found: Object = json.loads(self.text)
        found["metadata"]["resourceVersion"] = str(self.version)
        return found


class Store:
    """Objects by (kind, namespace, name), children also by the uid of their resource."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str, str], Kept] = {}
        self._children: dict[str, set[tuple[str, str, str]]] = {}
        self._keys: dict[str, Key] = {}
        self._work: dict[tuple[str, str], set[tuple[str, str, str]]] = {}
        """Jobs by namespace and the label of their digest."""
        self._gone: OrderedDict[str, None] = OrderedDict()
        """Uids of what was deleted of late: a list that was made before must not bring it back."""

    def put(self, kind: str, item: Object) -> bool:
        """Takes an object; False when this version or a newer one is known, or it differs in nothing that is kept."""
        metadata = item["metadata"]
        place = (kind, metadata.get("namespace", ""), metadata["name"])
        known = self._objects.get(place)
        if metadata["uid"] in self._gone or (known and known.version >= version(item)):
            return False
        text = json.dumps(slim(kind, item), separators=(",", ":")).encode()
        kept = self._objects[place] = Kept(metadata["uid"], version(item), text)
        if known and (known.uid, known.text) == (kept.uid, kept.text):
            return False
        uid = owner_uid(kind, item)
        if uid:
            self._children.setdefault(uid, set()).add(place)
            if kind == "Job":
                self._work.setdefault(_work(item), set()).add(place)
        if kind in RESOURCES:
            self._keys[metadata["uid"]] = Key(*place)
        return True

    def drop(self, kind: str, item: Object) -> None:
        """The object was deleted, unless another one of its name is there by now."""
        metadata = item["metadata"]
        place = (kind, metadata.get("namespace", ""), metadata["name"])
        self._gone[metadata["uid"]] = None
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)
        known = self._objects.get(place)
        if known is None or known.uid != metadata["uid"]:
            return
        del self._objects[place]
        if kind == "Job" and (work := _work(known.item())) in self._work:
            self._work[work].discard(place)
            if not self._work[work]:
                del self._work[work]
        if uid := owner_uid(kind, item):
            own = self._children.get(uid, set())
            own.discard(place)
            if not own:
                self._children.pop(uid, None)
        if kind in RESOURCES:
            self._keys.pop(metadata["uid"], None)

    def retain(self, kind: str, namespace: str | None, listed: Set[tuple[str, str]], listed_at: int) -> int:
        """Drops what is older than a complete list and not in it, by namespace and name. Returns how many objects that
        were, which the watches should have told."""
        mine = [p for p in self._objects if p[0] == kind and (namespace is None or p[1] == namespace)]
        kept = (self._objects[place] for place in mine if place[1:] not in listed)
        gone = [one.item() for one in kept if one.version <= listed_at]
        for item in gone:
            self.drop(kind, item)
        return len(gone)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        kept = self._objects.get((kind, namespace, name))
        return kept.item() if kept else None

    def children(self, uid: str, kind: str) -> Iterator[Object]:
        """A resource's children of one kind. What bears its uid in another namespace is somebody else's: who may write
        there may write any label."""
        own = self._keys.get(uid)
        for place in self._children.get(uid, ()):
            if place[0] == kind and (own is None or place[1] == own.namespace):
                yield self._objects[place].item()

    def pods_by_job(self, uid: str) -> dict[str, list[Object]]:
        """A resource's pods by the name of their Job."""
        found: dict[str, list[Object]] = {}
        for pod in self.children(uid, "Pod"):
            found.setdefault(pod["metadata"]["labels"].get(JOB_NAME_LABEL, ""), []).append(pod)
        return found

    def living_stages(self, uid: str) -> set[str]:
        """A resource's stages that have a Job which has not ended."""
        return {job["metadata"]["labels"][STAGE_LABEL] for job in self.children(uid, "Job") if not _ended(job)}

    def key(self, uid: str) -> Key | None:
        """The resource of a uid."""
        return self._keys.get(uid)

    def resources(self) -> list[Key]:
        """Every resource."""
        return list(self._keys.values())

    def doing(self, namespace: str, digest: str, but: str) -> Iterator[tuple[Object, list[Object]]]:
        """Living Jobs of other resources of the namespace that do the same work, with their pods."""
        for place in self._work.get((namespace, digest[:63]), ()):
            item = self._objects[place].item()
            uid = item["metadata"]["labels"][UID_LABEL]
            if uid != but and not _ended(item):
                yield item, self.pods_by_job(uid).get(item["metadata"]["name"], [])


def version(item: Object) -> int:
    """Resource versions are numbers that only grow; Kubernetes promises so since 1.35, and always did it with etcd."""
    text = item["metadata"].get("resourceVersion", "0")
    return int(text) if text.isdecimal() else 0


def owner_uid(kind: str, item: Object) -> str | None:
    """The resource that a child belongs to, by its label."""
    if kind not in CHILDREN:
        return None
    labels = item["metadata"].get("labels", {})
    return labels.get(UID_LABEL) if kind == "ConfigMap" or STAGE_LABEL in labels else None


def _work(job: Object) -> tuple[str, str]:
    return job["metadata"]["namespace"], job["metadata"]["labels"].get(DIGEST_LABEL, "")


def _ended(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
