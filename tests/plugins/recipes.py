"""The plugins of docs/howto/plugins.md, as projects like the one of docs/writing-plugins.md."""

import re

from tests.harness.fresh_venv import ROOT

PAGE = (ROOT / "docs" / "howto" / "plugins.md").read_text()
SOURCES = {
    name.lower(): source
    for source in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for name in re.findall(r"^class (\w+):", source, re.MULTILINE)
}
TABLES = {
    name: f"[plugins.{name}]\n{keys}"
    for name, keys in re.findall(r"```toml\n\[plugins\]\nenable = .*?\[plugins\.(\w+)\]\n(.*?)```", PAGE, re.DOTALL)
}


def write_projects(folder):
    """Write the project of each plugin, and return their directories."""
    (project,) = re.findall(
        r"^`pyproject.toml`:\n\n```toml\n(.*?)```",
        (ROOT / "docs" / "writing-plugins.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    for name, source in SOURCES.items():
        package = folder / name / "src" / f"remaphore_{name}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(source)
        named = project.replace("disk", name).replace("Disk", name.capitalize())
        (folder / name / "pyproject.toml").write_text(named)
    return [folder / name for name in SOURCES]
