"""Training over seeds, all in one compiled program, with a bar; a log that is no terminal gets lines."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metadqn_jax.sweep import sweep

CHUNKS = 20  # times that the bar moves


def trained(label, program, seeds, steps):
    """What `program` evaluates to after so many outer steps, {name: array [seeds, ...]}; `label` is what the bar is called."""
    console = Console()
    columns = TextColumn(label), BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}")
    with Progress(*columns, TimeRemainingColumn(compact=True), console=console, transient=True) as bar:
        task = bar.add_task("compiling", total=steps)

        def progress(done, metrics):
            text = f"loss {metrics['loss'][:, -1].mean():.4f}"
            bar.update(task, completed=done, description=text)
            if not console.is_terminal:
                console.print(f"{label}: {done}/{steps}, {text}", highlight=False)

        return sweep(lambda _: program, {}, range(seeds), steps=steps, chunk=max(1, steps // CHUNKS), progress=progress)
