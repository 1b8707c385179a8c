"""Which packages a wheel holds, and the folders of the checkout that it carries inside; the rest is in pyproject.toml.

The folders are no packages of their own: `mlflow` would shadow the library. `ser_platform.shipped_folders` finds them.
"""

from setuptools import find_packages, setup

FOLDERS = {"search_spaces": ["*.yaml", "README.md"], "jobs": ["*.py"], "mlflow": ["*.yaml", "README.md"]}
SHIPPED = {f"ser_platform.shipped.{folder}": folder for folder in FOLDERS}

setup(
    packages=[*find_packages(include=["ser_platform*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={"ser_platform": ["py.typed"]} | {package: FOLDERS[folder] for package, folder in SHIPPED.items()},
)
