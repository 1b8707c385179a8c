"""Groups clips that are one recording: with equal decoded samples, or nearly the same sound."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ser_platform.corpora.doctor.fingerprints import Fingerprint, NearPair, find_near_duplicates


@dataclass(frozen=True)
class Recording:
    """Clips of one recording, as ascending rows; `near_pairs` are the pairs of rows whose samples differ."""

    rows: tuple[int, ...]
    near_pairs: tuple[NearPair, ...]

    @property
    def is_exact(self) -> bool:
        return not self.near_pairs


def group_recordings(digests: Sequence[str], prints: Sequence[Fingerprint]) -> tuple[Recording, ...]:
    """Return the groups of clips that are one recording; a clip without copies is in no group.

    Args:
        digests: SHA-256 of each clip's decoded samples.
        prints: fingerprint of each clip.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        copies[digest].append(row)
    heads = [rows[0] for rows in copies.values()]  # one of several exact copies is compared with other clips
    near = [
        NearPair(heads[pair.first], heads[pair.second], pair.offset_s, pair.overlap_s, pair.bit_error_rate)
        for pair in find_near_duplicates([prints[row] for row in heads])
    ]
    root = {head: head for head in heads}

    def find_head(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    for pair in near:
        one, other = sorted((find_head(pair.first), find_head(pair.second)))
        root[other] = one
    members: dict[int, list[int]] = defaultdict(list)
    for rows in copies.values():
        members[find_head(rows[0])] += rows
    pairs: dict[int, list[NearPair]] = defaultdict(list)
    for pair in near:
        pairs[find_head(pair.first)].append(pair)
    return tuple(
        Recording(tuple(sorted(rows)), tuple(pairs[head])) for head, rows in sorted(members.items()) if len(rows) > 1
    )
