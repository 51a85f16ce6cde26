"""Bundles and overlays stand at the top of the project, and lie inside the package once it is installed."""

from setuptools import find_packages, setup

SHIPPED = {"monai_difom._shipped.bundles": "bundles", "monai_difom._shipped.configs": "configs"}

setup(
    packages=[*find_packages(include=["monai_difom*"]), *SHIPPED],
    package_dir=SHIPPED,
    # all of it stands here: what setup.cfg says of package data does not count beside this
    package_data={
        "": ["py.typed", "*.css", "*.js", "templates/*.html"],
        **{
            name: ["**/*.yaml", "**/*.json", "**/*.conf", "**/*.md", "**/*.txt", "**/LICENSE"]
            for name in SHIPPED
        },
    },
)
