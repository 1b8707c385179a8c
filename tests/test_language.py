"""Plain words: the text of the project uses the field's terms, and models, files and commands are no persons.

Each word here was once used in a private sense ("a model hears", "the book of a study"). The list keeps them from
coming back. `python tests/test_language.py FOLDER...` prints each place, with the word to write instead.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = {".py", ".md", ".yaml", ".yml", ".sh", ".sbatch", ".toml", ".html", ".css", ".js"}
INSTEAD = {
    r"hear|hears|heard|hearing": "is trained on, receives as input, families, inputs",
    r"tell|tells|told|telling": "returns, prints, reports, records, distinguishes",
    r"say|says|said|saying": "states, prints, reports, the message",
    r"speaks": "synthesises, is the speaker of",
    r"nobody|whoever|whom|who": "no model, no speaker, each speaker, which",
    r"teach|teaches|taught|teaching": "distils, is the teacher of",
    r"look|looks|looked|looking": "test evaluation, test read, reads, searches",
    r"asks|asked|asking": "requests, requested, with its original options",
    r"wants|wanted": "requests, requested, expected",
    r"judge|judges|judged|judging": "evaluates, checks, compares",
    r"mend|mends|mended|mending": "fixes, repairs, completes",
    r"lent|dealt|borrowed": "passed, assigned, granted",
    r"dies|died|lives": "ends, is killed, fails, is stored in",
    r"sees|saw": "receives, contains, reads",
    r"remembers|forgets": "keeps, stores, drops",
    r"lies|stands": "is",
    r"book": "recorder",
    r"at hand|by whose hand": "available",
    r"can be had|could be had": "is available",
}
# A word with its own meaning: Optuna's ask and tell, and what a tool or a corpus calls its parts.
LITERAL = (
    re.compile(r"\"heard\":"),  # a metadata key of stored teacher outputs
    re.compile(r"(?:ask[/ ](?:and )?tell\b|\bstudy\.tell\b|\.tell\(|_tell\b|\bfile\.tell\b)", re.IGNORECASE),
    re.compile(r"getpwnam\(\"nobody\"\)"),  # a user of Unix
    # Keys of `--json`, of tags and of stored files, which scripts and earlier versions read.
    re.compile(r"""["'](?:heard|looks|test_looks)["']"""),
)
WORDS = {word: re.compile(rf"(?<![A-Za-z])(?:{word})(?![A-Za-z])", re.IGNORECASE) for word in INSTEAD}


def private_words(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield each word that is not to be used: its line number, the word, and what to write instead."""
    for number, line in enumerate(text.splitlines(), start=1):
        for literal in LITERAL:
            line = literal.sub("", line)
        for word, pattern in WORDS.items():
            for match in pattern.finditer(line):
                yield number, match.group(), INSTEAD[word]


def text_files(*folders: str) -> list[Path]:
    """Return the tracked text files under `folders`, without this one and without data made by earlier versions."""
    listed = subprocess.run(["git", "ls-files", "--", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listed.stdout.splitlines()]
    kept = [file for file in files if file.suffix in TEXT or file.name == "Makefile"]
    return [file for file in kept if file != Path(__file__).resolve() and "fixtures" not in file.parts]


def places(*folders: str) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{number}: {word!r}; write: {instead}"
        for file in text_files(*folders)
        for number, word, instead in private_words(file.read_text(encoding="utf-8"))
    ]


def test_no_private_word_has_come_back() -> None:
    assert places() == []


def test_a_private_word_is_found_inside_a_name_and_a_word_that_contains_it_is_not() -> None:
    assert [word for _, word, _ in private_words("n_heard = espeak.told\nstudy.tell(trial)\nwhole = bookkeeping")] == [
        "heard",
        "told",
    ]


if __name__ == "__main__":
    print("\n".join(places(*sys.argv[1:])))
