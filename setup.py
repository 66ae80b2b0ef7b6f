"""What pyproject.toml cannot say: the device profiles of targets/ go into the installed package, too."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Copies targets/*.toml to gsvexport/targets/ in what is built; an editable install reads targets/ itself."""

    def run(self):
        """Build the modules, then add the profiles."""
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib, "gsvexport", "targets")
            folder.mkdir(parents=True, exist_ok=True)
            for profile in sorted((Path(__file__).parent / "targets").glob("*.toml")):
                shutil.copyfile(profile, folder / profile.name)


setup(cmdclass={"build_py": BuildPy})
