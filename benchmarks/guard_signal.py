"""What tells the canaries' training samples from unseen ones, at a checkpoint of a run: the statistics that a guard may go by.

python benchmarks/guard_signal.py RUN_DIR [--step 1500] [--cache DIR]

Losses of every canary and its near copies, of ordinary members and of all held-out samples, with ``--draws`` noises each, by the base model
and by the checkpoint's; standardised by timestep as the guard does. *Absolute*: the mean of a sample's, or of a patient's, losses.
*Relative*: the same less what the base model has. Prints the share that lies below the quantiles of unseen patients.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from callbacks.runtime import quiet_libraries
from cxrguard.audit.statistics import roc_auc
from cxrguard.diffusion.loading import load_pipeline
from cxrguard.mitigations.training.by_timestep import HeldoutByTimestep
from train import build_data

GROUPS = ("members", "canaries", "steering", "heldout")
FPRS = (0.01, 0.05, 0.1, 0.2)
FIRST_DRAW = 1000  # noises that neither training nor steering has had


def rows_of(data: Any, most_members: int) -> dict[str, tuple[Any, list[int]]]:
    """(set, showings) of each group; of a sample that is shown several times the first."""
    first: dict[int, int] = {}
    for showing, (sample, _) in enumerate(data.train_set.order.tolist()):
        first.setdefault(sample, showing)
    n, every = len(data.study.members), sorted(first)
    members = [first[s] for s in every if s < n]
    chosen = members[:: max(len(members) // most_members, 1)]
    rest = {name: (found, list(range(len(found)))) for name, found in (("steering", data.steering_set), ("heldout", data.heldout_set))}
    return {"members": (data.train_set, chosen), "canaries": (data.train_set, [first[s] for s in every if s >= n]), **rest}


@torch.no_grad()
def seen_by(module: Any, samples: Any, rows: Sequence[int], draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses and timesteps ``[N, draws]``, and patients ``[N]``."""
    losses, timesteps, patients = [], [], []
    for start in range(0, len(rows), 32):
        items = [samples[i] for i in rows[start : start + 32]]
        batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
        found = [module._losses({**batch, "draws": torch.full_like(batch["draws"], FIRST_DRAW + d)}, -2)[1] for d in range(draws)]
        losses.append(torch.stack([seen.losses for seen in found], 1))
        timesteps.append(torch.stack([seen.timesteps for seen in found], 1))
        patients.append(batch["patient_ids"])
    return torch.cat(losses).numpy(), torch.cat(timesteps).numpy(), torch.cat(patients).numpy()


def heights(module: Any, groups: dict[str, tuple[Any, list[int]]], draws: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Standardised losses ``[N, draws]`` and patients of each group."""
    found = {name: seen_by(module, *where, draws) for name, where in groups.items()}
    usual = HeldoutByTimestep(rounds=2)
    for name in ("steering", "heldout"):
        usual.observe(torch.from_numpy(found[name][0]).flatten(), torch.from_numpy(found[name][1]).flatten())
    return {
        name: (usual.standardised(torch.from_numpy(x).flatten(), torch.from_numpy(t).flatten()).reshape(x.shape).numpy(), patients)
        for name, (x, t, patients) in found.items()
    }


def by_patient(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    return np.array([values[patients == patient].mean() for patient in np.unique(patients)])


def main() -> None:
    """Evaluate base and checkpoint, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--step", type=int)
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"))
    args = parser.parse_args()
    quiet_libraries()
    config = OmegaConf.load(args.run / ".hydra" / "config.yaml")
    OmegaConf.update(config, "cache.dir", str(args.cache))
    data = build_data(config, args.cache, count_duplicates=False)  # type: ignore[arg-type]
    parts = load_pipeline(config.model.source, "cpu", config.model.schedule)
    data.encode(parts)
    module, groups = instantiate(config.model.module)(parts, seed=config.seed).eval(), rows_of(data, args.members)
    base = heights(module, groups, args.draws)
    name = f"step={args.step:06d}.ckpt" if args.step else "last.ckpt"
    module.load_state_dict(torch.load(args.run / "checkpoints" / name, weights_only=True)["state_dict"], strict=False)
    now = heights(module, groups, args.draws)
    print("| statistic | AUC | " + " | ".join(f"below {f:.0%} of unseen" for f in FPRS) + " | members below 5 % |")
    print("|---|---|" + "---|" * (len(FPRS) + 1))
    for relative in (False, True):
        values = {g: (now[g][0] - base[g][0] if relative else now[g][0]).mean(1) for g in GROUPS}
        of = {g: now[g][1] for g in GROUPS}
        alone = np.concatenate([values["steering"], values["heldout"]])
        pooled = {g: by_patient(values[g], of[g]) for g in GROUPS}
        unseen = np.concatenate([pooled["steering"], pooled["heldout"]])
        for what, found, null, members in (
            ("a sample's", values["canaries"], alone, values["members"]),
            ("a patient's", pooled["canaries"], unseen, pooled["members"]),
        ):
            shares = [(found < np.quantile(null, f)).mean() for f in FPRS] + [(members < np.quantile(null, 0.05)).mean()]
            cells = " | ".join(f"{share:.0%}" for share in shares)
            print(f"| {what} mean, {'relative' if relative else 'absolute'} | {roc_auc(found, null, 'lower'):.3f} | {cells} |")


if __name__ == "__main__":
    main()
