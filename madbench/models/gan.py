"""A style-based GAN with truncation as the sampling bias λ.

Sources:
  StyleGAN     Karras et al. 2019, "A Style-Based Generator Architecture", arXiv 1812.04948: mapping, truncation
  StyleGAN2    Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", arXiv 1912.04958
  relativistic Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern GAN Baseline", arXiv 2501.05441
  R1           Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?", arXiv 1801.04406
  WGAN-GP      Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv 1704.00028
  MAD          Alemohammad et al. 2023, arXiv 2307.01850, section 2: λ = ψ, the truncation
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from madbench.errors import UserError
from madbench.models.family import Given, check_number, check_precision, check_whole
from madbench.models.minibatch import Minibatch, moved
from madbench.networks import Discriminator, ImageDiscriminator, ImageSynthesis, Mapping, Synthesis
from madbench.samples import Samples

OBJECTIVES = ("relativistic", "non_saturating", "wgan_gp")


class GanState(NamedTuple):
    """A frozen pytree; see `models.family.State`.

    Attributes:
      params: weights under training, {"mapping", "synthesis", "discriminator"}.
      ema: the generator's average, {"mapping", "synthesis"}, which samples are drawn with.
      w_mean: average of w by class, float32 `[max(num_classes, 1), width]`: what truncation draws towards.
      optimizer: Adam's moments, {"generator", "discriminator"}.
      step: int32 scalar, steps taken in this generation.
    """

    params: Any
    ema: Any
    w_mean: jax.Array
    optimizer: Any
    step: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gan(Minibatch):
    """Generator and discriminator, and their training against each other. Within the bounds of the data, by a tanh.

    Attributes:
      mapping, synthesis, discriminator: linen modules, as in `networks.style` and `networks.image_style`.
      latent: length of z.
      objective: "relativistic" (with R1 and R2), "non_saturating" (with R1) or "wgan_gp".
      r1, r2: γ of the penalties γ/2 E‖∇D‖² on real and on generated samples.
      gradient_penalty: weight of WGAN-GP's penalty.
      critic_steps: discriminator steps for each generator step, each on a batch of its own.
    """

    mapping: nn.Module
    synthesis: nn.Module
    discriminator: nn.Module
    latent: int = 64
    objective: str = "relativistic"
    r1: float = 1.0
    r2: float = 1.0
    gradient_penalty: float = 10.0
    critic_steps: int = 1

    sampled_with = ("ema", "w_mean")
    bias_refusal = ""
    bias_meaning = "λ is the truncation ψ towards the mean of w, per class where conditional"

    def __post_init__(self):
        super().__post_init__()
        check_whole(1, latent=self.latent, critic_steps=self.critic_steps)
        for name in ("r1", "r2", "gradient_penalty"):
            check_number(getattr(self, name), name, least=0)
        if self.objective not in OBJECTIVES:
            raise UserError(f"config.model.objective must be one of {', '.join(OBJECTIVES)}, not {self.objective!r}")

    @property
    def batches(self) -> int:
        return self.critic_steps

    def init(self, key: jax.Array) -> GanState:
        keys = jax.random.split(key, 3)
        label = jnp.zeros((1,), jnp.int32)
        mapping = self.mapping.init(keys[0], jnp.ones((1, self.latent)), label)["params"]
        w = self.mapping.apply({"params": mapping}, jnp.ones((1, self.latent)), label)
        synthesis = self.synthesis.init(keys[1], w, jnp.zeros((1, self.synthesis.noise_size)))["params"]
        generator = {"mapping": mapping, "synthesis": synthesis}
        discriminator = self.discriminator.init(keys[2], jnp.zeros((1, *self.given.shape)), label)["params"]
        optimizer = {"generator": self._adam.init(generator), "discriminator": self._adam.init(discriminator)}
        w_mean = jnp.zeros((max(self.given.num_classes, 1), w.shape[-1]))
        return GanState({**generator, "discriminator": discriminator}, generator, w_mean, optimizer, jnp.int32(0))

    def step(self, key, batch, state, rate):
        """`critic_steps` of the discriminator, then one of the generator; the loss is the discriminator's."""
        generator = {name: state.params[name] for name in ("mapping", "synthesis")}
        discriminator, d_moments = state.params["discriminator"], state.optimizer["discriminator"]
        batches = jax.tree.map(lambda a: a.reshape(self.critic_steps, self.batch_size, *a.shape[1:]), batch)
        for i in range(self.critic_steps):
            last = jax.tree.map(lambda a, i=i: a[i], batches)
            z, noise, mix = self._draw(jax.random.fold_in(key, i + 1), self.batch_size)
            x, label, z, noise, mix = self.given.group.part((last.x, last.y, z, noise, mix))
            fake = self._generate(generator, self._w(generator, z, label), noise)
            loss, gradient = self.given.group.mean(
                jax.value_and_grad(self._discriminator_loss)(discriminator, x, fake, label, mix)
            )
            update, d_moments = self._adam.update(gradient, d_moments)
            discriminator = moved(discriminator, update, rate)

        z, noise, _ = self._draw(jax.random.fold_in(key, 0), self.batch_size)
        x, label, z, noise = self.given.group.part((last.x, last.y, z, noise))

        def generator_loss(generator):
            w = self._w(generator, z, label)
            judge = lambda x: self.discriminator.apply({"params": discriminator}, x, label)
            return self._generator_loss(judge, x, self._generate(generator, w, noise)), w

        gradient, w = jax.grad(generator_loss, has_aux=True)(generator)
        update, g_moments = self._adam.update(self.given.group.mean(gradient), state.optimizer["generator"])
        generator = moved(generator, update, rate)
        new = GanState(
            {**generator, "discriminator": discriminator},
            self.average(state.ema, generator, state.step),
            self._track(state, w, label),
            {"generator": g_moments, "discriminator": d_moments},
            state.step,
        )
        return new, loss

    def sample(self, key: jax.Array, state: GanState, n: int, bias: jax.Array) -> Samples:
        """Truncated in W space: w̄ + ψ(w - w̄) with ψ = λ (StyleGAN, section B), w̄ that of the label."""
        label = self.given.labels(n)
        z, noise, _ = self._draw(key, n)

        def generate(rows):
            z, noise, label = rows
            w, mean = self._w(state.ema, z, label), state.w_mean[label]
            return self._generate(state.ema, mean + bias * (w - mean), noise)

        return Samples(self.map_rows(generate, (z, noise, label)), label)

    def _discriminator_loss(self, params, real, fake, label, mix):
        judge = lambda x: self.discriminator.apply({"params": params}, x, label)
        on_real, on_fake = judge(real), judge(fake)
        if self.objective == "relativistic":
            loss = jnp.mean(nn.softplus(on_fake - on_real))
            return loss + self.r1 / 2 * _slope(judge, real) + self.r2 / 2 * _slope(judge, fake)
        if self.objective == "non_saturating":
            return jnp.mean(nn.softplus(on_fake) + nn.softplus(-on_real)) + self.r1 / 2 * _slope(judge, real)
        mix = mix.reshape(-1, *(1,) * (real.ndim - 1))
        norm = jnp.sqrt(_squared_slopes(judge, mix * real + (1 - mix) * fake) + 1e-12)
        return jnp.mean(on_fake - on_real) + self.gradient_penalty * jnp.mean((norm - 1) ** 2)

    def _generator_loss(self, judge, real, fake):
        if self.objective == "relativistic":
            return jnp.mean(nn.softplus(judge(real) - judge(fake)))
        if self.objective == "non_saturating":
            return jnp.mean(nn.softplus(-judge(fake)))
        return -jnp.mean(judge(fake))

    def _track(self, state, w, label):
        """The average of w by class; a class that a batch lacks keeps its own."""
        member = jax.nn.one_hot(label, state.w_mean.shape[0])
        total, count = self.given.group.mean((member.T @ w, member.sum(axis=0)))
        seen = jnp.where(count[:, None] > 0, total / jnp.maximum(count, 1e-9)[:, None], state.w_mean)
        return self.average(state.w_mean, seen, state.step)

    def _w(self, generator, z, label):
        return self.mapping.apply({"params": generator["mapping"]}, z, label)

    def _generate(self, generator, w, noise):
        return self.given.squashed(self.synthesis.apply({"params": generator["synthesis"]}, w, noise))

    def _draw(self, key, n):
        z_key, noise_key, mix_key = jax.random.split(key, 3)
        noise = jax.random.normal(noise_key, (n, self.synthesis.noise_size))
        return jax.random.normal(z_key, (n, self.latent)), noise, jax.random.uniform(mix_key, (n,))

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(b1=0.0, b2=0.9 if self.objective == "wgan_gp" else 0.99)


def _squared_slopes(judge: Callable, x: jax.Array) -> jax.Array:
    """‖∇D‖² at each of `x [n, ...]`."""
    slopes = jax.grad(lambda x: judge(x).sum())(x)
    return jnp.sum(slopes.reshape(x.shape[0], -1) ** 2, axis=1)


def _slope(judge: Callable, x: jax.Array) -> jax.Array:
    return jnp.mean(_squared_slopes(judge, x))


def build(
    given: Given,
    *,
    network: str = "dense",
    width: int = 0,
    widest: int = 256,
    depth: int = 3,
    style: int = 64,
    style_depth: int = 2,
    discriminator_width: int = 0,
    discriminator_depth: int = 2,
    dtype: str = "float32",
    remat: bool = False,
    **settings,
) -> Gan:
    """Settings of `config.model`.

    Args:
      given: what the data and the plan say.
      network: `dense`, for vectors and tiny images, or `image`: convolutions, from coarse levels to fine ones.
      width, depth: of the synthesis network: units and layers; or channels of the finest level and layers of each. A
        width of 0 stands for 256 units, or 32 channels.
      widest: of `image`: most channels, in both networks; each coarser level has twice the channels of the next.
      style, style_depth: width of w, and layers of the mapping network.
      discriminator_width, discriminator_depth: as `width`, and residual blocks; or those of each level.
      dtype, remat: of `image`: convolutions are in `dtype`, weights and state in float32.
      **settings: fields of `Gan`.
    """
    check_whole(0, width=width, discriminator_width=discriminator_width)
    check_whole(1, depth=depth, discriminator_depth=discriminator_depth, widest=widest)
    check_whole(1, style=style, style_depth=style_depth)
    check_precision(dtype, remat)
    shape, classes = given.shape, given.num_classes
    usual = 32 if network == "image" else 256
    width, discriminator_width = width or usual, discriminator_width or usual
    if network == "dense":
        synthesis = Synthesis(shape, width, depth)
        discriminator = Discriminator(classes, discriminator_width, discriminator_depth)
    elif network == "image":
        if len(shape) != 3:
            raise UserError(f"config.model.network='image' needs images, not samples of shape {shape}")
        synthesis = ImageSynthesis(shape, width, widest, depth, dtype, remat)
        discriminator = ImageDiscriminator(classes, discriminator_width, widest, discriminator_depth, dtype, remat)
    else:
        raise UserError(f"unknown network {network!r}; config.model.network is dense or image")
    mapping = Mapping(classes, style, style_depth)
    return Gan(given=given, mapping=mapping, synthesis=synthesis, discriminator=discriminator, **settings)
