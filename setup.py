"""Bundles and overlays stand at the top of the project, and lie inside the package once it is installed."""

from setuptools import find_packages, setup

SHIPPED = {"monai_difom._shipped.bundles": "bundles", "monai_difom._shipped.configs": "configs"}

setup(
    packages=[*find_packages(include=["monai_difom*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        name: ["**/*.yaml", "**/*.json", "**/*.conf", "**/*.md", "**/*.txt", "**/LICENSE"] for name in SHIPPED
    },
)
