#!/usr/bin/env python3
"""Which language is a text written in? A small model is made once; after that each text takes well under a millisecond.

The model: how often each pair of letters comes in a few sentences of each language.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from tidemill_resident import serve

SENTENCES = {
    "en": "the river runs down to the sea and the people who live there know when the tide is going to turn again",
    "de": "der fluss fließt hinunter zum meer und die menschen die dort wohnen wissen wann sich die tide wieder wendet",
    "es": "el río baja hasta el mar y la gente que vive allí sabe cuándo la marea va a cambiar otra vez de nuevo",
    "fr": "la rivière descend vers la mer et les gens qui vivent là savent quand la marée va changer encore une fois",
}


def pairs(text: str) -> Counter[str]:
    """How often each two characters follow each other."""
    letters = " ".join(word for word in text.lower().split())
    return Counter(first + second for first, second in pairwise(letters))


print("making the model")
MODEL = {language: pairs(sentences) for language, sentences in SENTENCES.items()}


def likelihood(text: Counter[str], language: str) -> float:
    """How well a text fits a language; higher is better."""
    known = MODEL[language]
    total = sum(known.values()) + 500
    return sum(times * math.log((known[pair] + 0.5) / total) for pair, times in text.items())


def guess(request: Any) -> str:
    """One Invocation: the language of its input, as the answer and as an output."""
    path = Path(request.input_file)
    found = pairs(path.read_text(encoding="utf-8"))
    language = max(MODEL, key=lambda each: likelihood(found, each))
    print(f"{path.name}: {language}")
    if request.object_key:
        Path(request.output_dir, f"{path.stem}.language").write_text(language + "\n", encoding="utf-8")
    return language + "\n"


serve(guess)
