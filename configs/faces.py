"""Faces as in the paper (arXiv 2307.01850): a style-based GAN without labels on FFHQ at 128x128, or on CelebA.

    madbench run --config=configs/faces.py:ffhq --config.data.source=folder:PATH --workdir=runs/ffhq
    madbench run --config=configs/faces.py:ffhq,accumulate --config.data.source=folder:PATH --workdir=runs/ffhq-grows
    madbench run --config=configs/faces.py:celeba,64,diffusion --workdir=runs/celeba
    madbench run --config=configs/faces.py:tiny --config.data.source=folder:PATH --workdir=runs/tiny

Words behind the colon, of each line at most one, in any order; the first is the default:
  ffhq | celeba                                           FFHQ: the folder that you name, of any resolution; CelebA:
                                                          tfds:celeb_a, or a folder too
  fully_synthetic | accumulate | augmentation | fresh     the loop; accumulate is the paper's augmentation: all real
                                                          images and everything synthesized so far
  gan | diffusion                                         the model
  128 | 64 | 32 | 16 | 256                                pixels a side: squares from the middle, by Lanczos's filter
  full | tiny                                             tiny: the same, at 16 pixels unless you say others, on 192
                                                          images or more, of any set

Of the paper: no labels, λ in {1, .7} and 9 generations; λ = 1 for accumulating and fresh data. Ours: it trains on all
70,000 images of FFHQ, and here 10,000 are held out for the metrics and 60,000 trained on, of CelebA as many; networks,
steps and batches; one seed. Features are Inception's, whose weights are a file that you get once: the first run says
where.

Expected time: nobody has run it in full yet; 18 fits of 100,000 steps for the fully synthetic loop, so plan for
accelerators and see --dry_run --on='1x8 H100', which needs no images. tiny: 1 minute on two CPU cores.
Expected result: not known yet in full, and tiny's (1 seed, 2 generations) means nothing.
"""

from madbench.config import TINY, base, choose, tiny_images


def get_config(words=""):
    chosen = choose(
        words,
        implied=TINY,
        dataset=("ffhq", "celeba"),
        loop=("fully_synthetic", "accumulate", "augmentation", "fresh"),
        family=("gan", "diffusion"),
        side=("128", "64", "32", "16", "256"),
        size=("full", "tiny"),
    )
    dataset, family, loop, side = chosen["dataset"], chosen["family"], chosen["loop"], int(chosen["side"])
    config = base(source={"ffhq": "folder", "celeba": "tfds:celeb_a"}[dataset], family=family)
    config.task = "-".join(word for word in (f"{dataset}{side}", loop, family, chosen["size"]) if word != "full")
    config.data.update(resolution=side, n_reference=10_000)
    if dataset == "ffhq":
        config.data.update(count=70_000, channels=3)
    else:
        config.data.update(count=202_599, split="train+validation+test", label_key="none")
    config.metrics.features = "inception"
    config.n_initial = 60_000
    config.seeds = 1
    config.biases = (1.0, 0.7) if family == "gan" and loop in ("fully_synthetic", "augmentation") else (1.0,)
    config.generations = 9
    config.loops = ({"augmentation": "synthetic_augmentation"}.get(loop, loop),)
    if loop == "fresh":
        config.loops = ("fresh_data(n_initial=12000,n_fresh=6000,n_synthetic=6000)",)  # 12,000 + 8 x 6,000 = 60,000
    if family == "gan":
        config.model.update(
            network="image",
            width=64,
            widest=512,
            depth=2,
            style=512,
            style_depth=4,
            latent=512,
            discriminator_width=64,
            discriminator_depth=1,
            dtype="bfloat16",
            batch_size=64,
            steps=100_000,
            learning_rate=1e-3,
        )
    else:
        config.model.update(
            network="transformer",
            width=512,
            depth=12,
            heads=8,
            patch=max(side // 16, 2),
            dtype="bfloat16",
            batch_size=128,
            steps=100_000,
            learning_rate=2e-4,
        )
    if chosen["size"] == "tiny":
        shrink(config, loop, side)
    return config


def shrink(config, loop, side):
    """To a job of a minute on a CPU."""
    tiny_images(config, side=side, fresh=loop == "fresh")
    config.model.update(width=32, batch_size=32, steps=50, dtype="float32")
    if config.model.family == "gan":  # matrix products: convolutions take minutes to compile on a CPU
        config.model.update(
            network="dense", width=64, widest=256, depth=2, style=16, style_depth=2, latent=16, discriminator_width=64
        )
    else:
        config.model.update(depth=2, heads=2, patch=side // 4)
