"""CIFAR-10, which the paper (arXiv 2307.01850) does not have: its loops on small colour images.

    madbench run --config=configs/cifar10.py --workdir=runs/cifar10                        fully synthetic, diffusion
    madbench run --config=configs/cifar10.py:fresh,gan --workdir=runs/cifar10-fresh-gan
    madbench run --config=configs/cifar10.py:tiny --config.data.source=folder:PATH --workdir=runs/tiny

Words behind the colon, of each line at most one, in any order; the first is the default:
  fully_synthetic | augmentation | accumulate | fresh     the loop
  diffusion | gan                                         the model
  32 | 16 | 64                                            pixels a side
  full | tiny                                             tiny: the same, at 16 pixels unless you say others, on 192
                                                          images or more, of any set

50,000 of the 60,000 images of both parts are the training pool, 10,000 drawn by the split's seed the reference; the set
must have been prepared by tensorflow-datasets. Settings follow the paper's for MNIST: λ in {1, .8, .66, .5} for the
diffusion, {1, .7} as for its GAN, fresh data with n_r = n_s = 2000 and n_initial in {2000, 3000} over 15 generations.
Features are Inception's, whose weights are a file that you get once: the first run says where.

Expected time: nobody has run it in full yet; 120 fits of a transformer for 50,000 steps, so plan for accelerators and
see --dry_run --on='1x8 H100'. tiny: 1 minute on two CPU cores.
Expected result: not known yet in full, and tiny's (1 seed, 2 generations) means nothing.
"""

from madbench.config import TINY, base, choose, tiny_images

IDLE = ("32", "full")  # words that a task's name leaves out: it is so unless they are others


def get_config(words=""):
    chosen = choose(
        words,
        implied=TINY,
        loop=("fully_synthetic", "augmentation", "accumulate", "fresh"),
        family=("diffusion", "gan"),
        side=("32", "16", "64"),
        size=("full", "tiny"),
    )
    family, loop, side = chosen["family"], chosen["loop"], int(chosen["side"])
    config = base(source="tfds:cifar10", family=family)
    named = ("cifar10", chosen["side"], loop, family, chosen["size"])
    config.task = "-".join(word for word in named if word not in IDLE)
    config.data.update(split="train+test", resolution=0 if side == 32 else side, count=60_000, n_reference=10_000)
    config.metrics.features = "inception"
    config.n_initial = 50_000
    config.seeds = 3
    config.biases = (1.0, 0.8, 0.66, 0.5) if family == "diffusion" else (1.0, 0.7)
    config.generations = 10
    config.loops = ({"augmentation": "synthetic_augmentation"}.get(loop, loop),)
    if loop == "fresh":
        config.loops = tuple(f"fresh_data(n_initial={n},n_fresh=2000,n_synthetic=2000)" for n in (2000, 3000))
        config.biases = (1.0,)
        config.generations = 15
    if family == "diffusion":
        config.model.update(
            network="transformer",
            width=384,
            depth=8,
            heads=6,
            patch=max(side // 16, 1),
            dtype="bfloat16",
            batch_size=256,
            steps=50_000,
            learning_rate=3e-4,
        )
    else:
        config.model.update(
            network="image",
            width=64,
            widest=512,
            depth=2,
            style=256,
            discriminator_width=64,
            discriminator_depth=1,
            dtype="bfloat16",
            batch_size=128,
            steps=50_000,
            learning_rate=1e-3,
        )
    if chosen["size"] == "tiny":
        shrink(config, loop, side)
    return config


def shrink(config, loop, side):
    """To a job of a minute on a CPU."""
    tiny_images(config, side=side, fresh=loop == "fresh")
    config.model.update(width=32, batch_size=32, steps=50, dtype="float32")
    if config.model.family == "gan":  # matrix products: convolutions take minutes to compile on a CPU
        config.model.update(network="dense", width=64, depth=2, style=16, discriminator_width=64)
    else:
        config.model.update(depth=2, heads=2, patch=side // 4)
