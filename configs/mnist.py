"""MNIST and Fashion-MNIST as in the paper (arXiv 2307.01850): diffusion and WGAN-GP, with loops in full size.

    madbench run --config=configs/mnist.py --workdir=runs/mnist                            fully synthetic, diffusion
    madbench run --config=configs/mnist.py:augmentation --workdir=runs/mnist-augmentation
    madbench run --config=configs/mnist.py:fresh --workdir=runs/mnist-fresh
    madbench run --config=configs/mnist.py:fully_synthetic,wgan --workdir=runs/mnist-wgan
    madbench run --config=configs/mnist.py:tiny --config.data.source=folder:PATH --workdir=runs/tiny

Words behind the colon, of each line at most one, in any order; the first is the default:
  fully_synthetic | augmentation | fresh     the loop
  diffusion | wgan | gan | vae               the model; gan is the style-based one
  mnist | fashion                            the set, from tensorflow-datasets; it must have been prepared
  28 | 16 | 32                               pixels a side
  full | tiny                                tiny: the same, at 16 pixels unless you say others, on 192 images or more,
                                             of any set

Of the paper: T = 500, 60,000 training images, λ in {1, .8, .66, .5}, n_r = n_s = 2000 and n_initial in {2000, 3000}
for fresh data over 15 generations, 100 generations of the WGAN-GP. Ours, where it is silent: networks, steps and
batches, 10 of its 5 to 20 generations, three seeds, and the reference: 10,000 of the 70,000 images of both parts, drawn
by the split's seed.

Expected time: nobody has run it in full yet; 120 fits of a transformer for 20,000 steps, so plan for accelerators and
see --dry_run --on='1x8 H100'. tiny: 1 minute on two CPU cores.
Expected result: not known yet in full, and tiny's (1 seed, 2 generations) means nothing.
"""

from madbench.config import TINY, base, choose, tiny_images

IDLE = ("28", "full")  # words that a task's name leaves out: it is so unless they are others


def get_config(words=""):
    chosen = choose(
        words,
        implied=TINY,
        loop=("fully_synthetic", "augmentation", "fresh"),
        family=("diffusion", "wgan", "gan", "vae"),
        dataset=("mnist", "fashion"),
        side=("28", "16", "32"),
        size=("full", "tiny"),
    )
    family, loop, side = chosen["family"], chosen["loop"], int(chosen["side"])
    dataset = {"mnist": "mnist", "fashion": "fashion_mnist"}[chosen["dataset"]]
    config = base(source=f"tfds:{dataset}", family="gan" if family == "wgan" else family)
    named = (chosen["dataset"], chosen["side"], loop, family, chosen["size"])
    config.task = "-".join(word for word in named if word not in IDLE)
    config.data.update(split="train+test", resolution=0 if side == 28 else side, count=70_000, n_reference=10_000)
    config.n_initial = 60_000
    config.seeds = 3
    config.biases = {"diffusion": (1.0, 0.8, 0.66, 0.5), "wgan": (1.0,), "gan": (1.0, 0.7), "vae": (1.0, 0.7)}[family]
    if loop == "fresh":
        config.loops = tuple(f"fresh_data(n_initial={n},n_fresh=2000,n_synthetic=2000)" for n in (2000, 3000))
        config.biases = (1.0,)
        config.generations = 15
    else:
        config.loops = ({"augmentation": "synthetic_augmentation"}.get(loop, loop),)
        config.generations = 100 if family == "wgan" and loop == "fully_synthetic" else 10
    if family == "diffusion":
        config.model.update(
            parameterization="ddpm",
            timesteps=500,
            network="transformer",
            width=256,
            depth=6,
            heads=4,
            patch=2,
            batch_size=256,
            steps=20_000,
            learning_rate=5e-4,
        )
    elif family == "vae":
        config.model.update(
            width=512, depth=2, latent=16, decoder_noise=False, batch_size=256, steps=20_000, learning_rate=1e-3
        )
    else:
        config.model.update(
            network="image",
            width=32,
            widest=256,
            depth=1,
            style=128,
            discriminator_width=32,
            discriminator_depth=1,
            batch_size=128,
            steps=20_000,
            learning_rate=1e-3,
        )
        if family == "wgan":
            config.model.update(objective="wgan_gp", critic_steps=5, learning_rate=2e-4)
    if chosen["size"] == "tiny":
        shrink(config, loop, side)
    return config


def shrink(config, loop, side):
    """To a job of a minute on a CPU."""
    tiny_images(config, side=side, fresh=loop == "fresh")
    config.model.update(width=32, batch_size=32, steps=50)
    if config.model.family == "gan":  # matrix products: convolutions take minutes to compile on a CPU
        config.model.update(network="dense", width=64, depth=2, style=16, discriminator_width=64)
    if config.model.family == "diffusion":
        config.model.update(depth=2, heads=2, patch=side // 4)
