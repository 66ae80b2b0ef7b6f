"""What pyproject.toml cannot say: targets/ (device profiles) and calibration/ go into the installed package, too."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Copies their *.toml to gsvexport/targets/ and gsvexport/calibration/; an editable install reads the originals."""

    def run(self):
        """Build the modules, then add the data."""
        super().run()
        if not self.editable_mode:
            for name in ("targets", "calibration"):
                folder = Path(self.build_lib, "gsvexport", name)
                folder.mkdir(parents=True, exist_ok=True)
                for file in sorted((Path(__file__).parent / name).glob("*.toml")):
                    shutil.copyfile(file, folder / file.name)


setup(cmdclass={"build_py": BuildPy})
