"""The suite's own strategies: what configs and leaderboards call them, and where they are. Imports none of them."""

# config.strategy -> "module:class"; "none" is the base class, which changes nothing.
STRATEGIES = {
    "none": "madbench.strategies.strategy:Strategy",
    "random_subsample": "madbench.strategies.random_subsample:RandomSubsample",
    "verifier": "madbench.strategies.verifier:Verifier",
    "k_choice": "madbench.strategies.k_choice:KChoice",
    "projection": "madbench.strategies.projection:Projection",
    "entropy_selection": "madbench.strategies.entropy_selection:EntropySelection",
    "golden_ratio": "madbench.strategies.golden_ratio:GoldenRatio",
    "sims": "madbench.strategies.sims:Sims",
    "neon": "madbench.strategies.neon:Neon",
}
