import pytest
from published import PRIVATE, make_artifact, served

from gsvexport.artifact.keys import TrustedKey, trust
from gsvexport.artifact.signature import sign
from gsvexport.registry.places import FolderPlace


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GSVEXPORT_CONFIG", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def key():
    """The key that the artifacts here are signed with, trusted."""
    one = TrustedKey("maker", sign(PRIVATE, b"").key)
    trust(one)
    return one


@pytest.fixture
def alice(tmp_path):
    return make_artifact(tmp_path / "made")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "repository"


@pytest.fixture
def place(root):
    return FolderPlace(root)


@pytest.fixture
def web(root):
    with served(root) as running:
        yield running
