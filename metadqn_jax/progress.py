"""The live line of a run in a terminal."""

import signal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Dashboard:
    """The live line of a run; it also turns the first Ctrl-C into a stop at the next checkpoint."""

    def __init__(self, console: Console, steps: int, tasks: int, env_steps: int):
        columns = TextColumn("{task.completed}/{task.total}"), BarColumn(20), TextColumn("{task.description}")
        self.progress = Progress(*columns, TimeRemainingColumn(compact=True), console=console)
        self.bar = self.progress.add_task("compiling", total=steps)
        self.tasks, self.env_steps, self.stop, self.last = tasks, env_steps, False, (0, 0.0)

    def __enter__(self):
        self.before = signal.signal(signal.SIGINT, self._interrupt)
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()
        signal.signal(signal.SIGINT, self.before)

    def _interrupt(self, *_):
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True
        self.progress.update(self.bar, description="stopping after these steps; Ctrl-C again to stop at once")

    def show(self, done: int, row: dict) -> bool:
        """Draw the row; True asks the run to stop."""
        steps, seconds = done - self.last[0], row["seconds"] - self.last[1]
        self.last = done, row["seconds"]
        rate = steps / max(seconds, 1e-9)
        text = f"{rate * self.tasks:,.0f} tasks/s · {rate * self.env_steps:,.0f} env steps/s · loss {row['loss']:.3f}"
        text += f" · return {row['return_before']:.1f} → {row['return_after']:.1f}"
        self.progress.update(self.bar, completed=done, description=text)
        return self.stop
