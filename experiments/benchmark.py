"""Speed as ratios within one run: python experiments/benchmark.py [--only TABLE] [--quick]. CPU-seconds count all threads."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from command_line import start
from kept import RESULTS, compile_fast

from metadqn_jax import networks, programs, replay, td, trees
from metadqn_jax.actions import discrete
from metadqn_jax.catalog import FAMILIES, LEARNERS, MEMORIES, learners_of
from metadqn_jax.checks import check_name
from metadqn_jax.explore import by_segment
from metadqn_jax.learners.base import first_slow
from metadqn_jax.learners.descent import maml, plain_target
from metadqn_jax.learners.imaml import imaml
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.classic import cartpole
from metadqn_jax.tasks.tabular import tabular
from metadqn_jax.training import chunked_gradient, collect, make_trainer, steps_together
from metadqn_jax.types import Lifetime, Span, Spec, Transition

HEAD = discrete(2)
NETWORK = networks.mlp(Spec(jax.ShapeDtypeStruct((4,), jnp.float32), HEAD))  # 4-64-64-2
LOSS = td.temporal_difference(HEAD, select=td.greedy, target=td.one_step(0.9), regression=td.huber(1.0))
RATE, CHUNK = 0.1, 8
GAMES = ("breakout", "freeway", "space_invaders", "asterix", "xland")
SIMULATED = ("cartpole", "highway", *GAMES, "reaching", "arm", "cheetah")  # families
STEPS = 32  # of each environment in a call


def learner(steps):
    return maml(NETWORK, inner=LOSS, outer=LOSS, rate=RATE, steps=steps, target=plain_target)


def data(tasks):
    """Lifetimes of 32 support and 32 query transitions."""
    keys, shape = jax.random.split(jax.random.key(0), 4), (tasks, 2, 32, 1)
    never = jnp.zeros(shape, bool)
    obs, next_obs = (jax.random.normal(key, (*shape, 4)) for key in keys[:2])
    action, reward = jax.random.randint(keys[2], shape, 0, 2), jax.random.normal(keys[3], shape)
    return Lifetime((), Transition(obs, action, reward, next_obs, never, never))


def plain(steps):
    """What one writes first: jax.grad in jax.grad under one vmap over all tasks."""

    def q(params, obs):
        return jax.vmap(lambda o: NETWORK.apply(params, o, None))(obs)

    def loss(params, bootstrap, batch):
        value = jnp.take_along_axis(q(params, batch.obs[:, 0]), batch.action, 1)[:, 0]
        goal = batch.reward[:, 0] + 0.9 * q(bootstrap, batch.next_obs[:, 0]).max(1)
        return optax.losses.huber_loss(value, goal).mean()

    def one(params, target, lifetime):
        support, query = (jax.tree.map(lambda leaf, k=k: leaf[k], lifetime.experience) for k in (0, 1))
        adapted = params
        for _ in range(steps):
            gradient = jax.grad(loss)(adapted, adapted, support)
            adapted = trees.subtract(adapted, trees.scale(RATE, trees.clip(gradient, 1.0)))
        return loss(adapted, jax.lax.stop_gradient(target), query)

    def mean(params, target, lifetimes):
        return jax.vmap(one, (None, None, 0))(params, target, lifetimes).mean()

    return lambda slow, lifetimes: jax.grad(mean)(slow.params.start.network, slow.target.start.network, lifetimes)


def measure(functions, arguments, seconds):
    """The median CPU-seconds of a call of each function, run in turn for about `seconds` each; and temporaries in MB."""
    compiled = [jax.jit(f).lower(*a).compile() for f, a in zip(functions, arguments, strict=True)]
    times = [[] for _ in compiled]
    for f, a in zip(compiled, arguments, strict=True):
        jax.block_until_ready(f(*a))
    end = time.process_time() + seconds * len(compiled)
    while time.process_time() < end or len(times[0]) < 3:
        for f, a, spent in zip(compiled, arguments, times, strict=True):
            began = time.process_time()
            jax.block_until_ready(f(*a))
            spent.append(time.process_time() - began)
    memory: list[Any] = [f.memory_analysis() for f in compiled]
    return [float(np.median(t)) for t in times], [one.temp_size_in_bytes / 1e6 for one in memory]


def gradients(sizes, seconds):
    print("second-order MAML, 4-64-64-2 net, 32 + 32 transitions")
    print("    T  K  ours tasks/CPU-s       MB  plain tasks/CPU-s       MB   ratio")
    for steps in (1, 5):
        one, simple = learner(steps), plain(steps)
        slow = first_slow(one, jax.random.key(1))
        for tasks in sizes:
            lifetimes = data(tasks)

            def ours(slow, lifetimes, one=one):
                return chunked_gradient(jax.random.key(0), one, slow, lifetimes, CHUNK)[1]

            np.testing.assert_allclose(*map(first_leaf, (ours(slow, lifetimes), simple(slow, lifetimes))), atol=1e-5)
            (a, b), (mb_a, mb_b) = measure((ours, simple), [(slow, lifetimes)] * 2, seconds)
            print(f"{tasks:5} {steps:2} {tasks / a:17,.0f} {mb_a:8.1f} {tasks / b:18,.0f} {mb_b:8.1f} {b / a:7.2f}", flush=True)


def first_leaf(tree):
    return jax.tree.leaves(tree)[0]


def loops(sizes, seconds):
    span = Span(segments=2, steps=32, streams=4)
    print("the whole loop on cartpole, 2 × 4 streams × 32 steps a task\n    T  tasks/CPU-s  env steps/CPU-s")
    for tasks in sizes:
        settings: dict[str, Any] = {
            "explore": by_segment(1.0, 0.2),
            "optimizer": optax.adam(1e-3),
            "meta_batch": tasks,
            "chunk": CHUNK,
        }
        trainer = make_trainer(learner(1), cartpole().split.train, span, **settings)
        state = jax.jit(trainer.init)(jax.random.key(0))
        run = steps_together(trainer, 4)
        (spent,), _ = measure([lambda state, run=run: run(jax.random.key(1), state)], [(state,)], seconds)
        print(f"{tasks:5} {4 * tasks / spent:12,.0f} {4 * tasks * span.transitions / spent:16,.0f}", flush=True)


def replays(capacities, seconds):
    item = jax.tree.map(lambda leaf: leaf[0, 0, 0, 0], data(1).experience)
    stores = [replay.make_store(item, c)._replace(added=jnp.int32(c)) for c in capacities]
    draw = [lambda store: replay.sample(jax.random.key(0), store, 256)] * len(stores)
    times, _ = measure(draw, [(store,) for store in stores], seconds)
    for capacity, spent in zip(capacities, times, strict=True):
        print(f"a replay sample of 256 out of {capacity:,} transitions: {spent * 1e6:.0f} µs")
    print(f"ratio {times[-1] / times[0]:.2f}")


def memories(names, trials, seconds):
    entry = LEARNERS["rl2"]
    family = entry.prepare(tabular())
    print(f"RL² on tabular trials of {family.recipe.span.segments} steps, {trials} at once")
    print("memory          acting CPU-s  training step CPU-s  ratio  env steps/CPU-s")
    for name in names:
        recipe = dataclasses.replace(family.recipe, meta_batch=trials, hidden=(64, 64))
        learner = learners_of(entry, family, recipe, memory=name)[0](recipe.inner_steps)
        explore = programs.make_explore(recipe)
        program = programs.make_program(family, lambda steps, learner=learner: learner, recipe, judge=entry.judge)
        state = jax.jit(program.trainer.init)(jax.random.key(0))

        def act(key, state, learner=learner, explore=explore, span=recipe.span):
            return collect(key, learner, state.slow, family.split.train, span, explore, trials)

        (acting, training), _ = measure((act, program.trainer.step), [(jax.random.key(1), state)] * 2, seconds)
        rate = trials * recipe.span.transitions / training
        print(f"{name:14} {acting:13.4f} {training:20.4f} {training / acting:6.2f} {rate:16,.0f}", flush=True)


def solves(sizes, _):
    print("temporaries in MB of one meta-gradient of 16 tasks by inner steps K")
    print("    K     MAML    iMAML")
    rule: dict[str, Any] = {"inner": LOSS, "outer": LOSS, "rate": RATE}
    for steps in sizes:
        bytes_ = []
        for one in (maml(NETWORK, steps=steps, **rule), imaml(NETWORK, steps=steps, **rule)):
            slow = jax.eval_shape(lambda key, one=one: first_slow(one, key), jax.random.key(0))

            def gradient(slow, lifetimes, one=one):
                return chunked_gradient(jax.random.key(0), one, slow, lifetimes, 16)[1]

            memory: Any = jax.jit(gradient).lower(slow, data(16)).compile().memory_analysis()
            bytes_.append(memory.temp_size_in_bytes / 1e6)
        print(f"{steps:5} {bytes_[0]:8.2f} {bytes_[1]:8.2f}", flush=True)


def environments(names, sizes, seconds):
    """Markdown, each line printed as it comes."""
    columns = " | ".join(f"{size:,}" for size in sizes)
    lines = [f"| environment steps/CPU-s, by environments at once | {columns} |", "|---|" + "---:|" * len(sizes)]
    print(*lines, sep="\n")
    for name in names:
        train, rates = FAMILIES[name]().split.train, []
        for size in sizes:

            def one(key, train=train):
                key_task, key_reset, key_steps = jax.random.split(key, 3)
                task = train.sample(key_task)

                def step(key, t, world):
                    key_act, key_step = jax.random.split(key)
                    return train.step(key_step, task, world, train.spec.head.decode(train.spec.head.sample(key_act)))

                world, seen = repeat(key_steps, STEPS, step, train.reset(key_reset, task)[0])
                return seen.reward.sum(), world  # the world too, so that all of it is computed

            (spent,), _ = measure([jax.vmap(one)], [(jax.random.split(jax.random.key(0), size),)], seconds)
            rates.append(size * STEPS / spent)
        lines.append(f"| {name} | " + " | ".join(f"{float(f'{rate:.2g}'):,.0f}" for rate in rates) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


PARTS = {  # name: (function, its sizes, those of a smoke test)
    "gradients": (gradients, [(16, 128, 1024, 4096)], [(16,)]),
    "loops": (loops, [(16, 128)], [(16,)]),
    "replays": (replays, [(10_000, 1_000_000)], [(1_000, 10_000)]),
    "memories": (memories, [MEMORIES, 64], [("gru",), 4]),
    "solves": (solves, [(1, 5, 10, 20, 50)], [(1,)]),
    "environments": (environments, [SIMULATED, (64, 256, 4096)], [("cartpole",), (64,)]),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Print the benchmark's tables; the README's is kept as results/benchmark_environments.md."""

    only: str | None = None
    """One table, of gradients, loops, replays, memories, solves and environments."""
    quick: bool = False
    """A smoke test with tiny sizes."""


def main(options: Options) -> None:
    """Print the tables that are asked for."""
    only, quick = options.only, options.quick
    if quick:
        compile_fast()
    for name in [only] if only else PARTS:
        function, sizes, tiny = check_name("table", name, PARTS)
        markdown = function(*(tiny if quick else sizes), 0.01 if quick else 2.0)
        if markdown and not quick:
            (RESULTS / f"benchmark_{name}.md").write_text(markdown)


if __name__ == "__main__":
    start(main, Options, Options.__doc__)
