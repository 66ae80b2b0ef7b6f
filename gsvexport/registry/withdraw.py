"""Taking back what was published: the entry goes, so nobody finds that version any more. `gc` removes its bytes."""

from __future__ import annotations

from gsvexport.errors import ArtifactError
from gsvexport.registry.index import Listed, choose, published, refresh
from gsvexport.registry.places import Place


def withdraw(place: Place, name: str, version: str | None = None, target: str | None = None) -> list[Listed]:
    """Take back a version of a voice, the latest if none is named, for one target or for all that have it.

    The version before it becomes the latest, also for those who pulled the later one, who have to allow that it is
    older.

    Raises:
        InputError: there is no such version.
        EnvironmentProblem: the repository cannot be written.
    """
    bad: dict[str, ArtifactError] = {}
    gone = choose(published(place, name, bad), name, version, target)
    for item in gone:
        place.remove(item.entry.path)
    refresh(place)
    return gone
