"""Names of the tasks, known from their files; what a task is stands in `mil.tasks`."""

from pathlib import Path

# Folders whose files are tasks.
FOLDERS = (Path(__file__).parents[1] / "tasks",)
NOT_TASKS = ("base",)


def task_names() -> tuple[str, ...]:
    """Names a dataset may use, known without importing the tasks."""
    names = {path.stem for folder in FOLDERS for path in folder.glob("[a-z]*.py")}
    return tuple(sorted(names - set(NOT_TASKS)))


def known_task(name: str) -> str:
    """The name, if a task has it.

    Raises:
        ValueError: There is no such task.
    """
    names = task_names()
    if name not in names:
        listed = ", ".join(map(repr, names[:-1]))
        raise ValueError(f"Input should be {listed} or {names[-1]!r}")
    return name


TASKS = task_names()
