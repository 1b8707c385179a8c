"""Speech without labels: a folder of any recordings, or a corpus whose labels nobody reads."""

from ser_platform.corpora.audio.reader import audio_below
from ser_platform.corpora.corpus_lookup import FoundCorpus, find_corpus
from ser_platform.corpora.datasets.folder import corpus_name
from ser_platform.corpora.manifest import Manifest, Utterance, speaker_name
from ser_platform.errors import CorpusError
from ser_platform.files import expanded

UNREAD = "neutral"  # the emotion that a row of a manifest must have; nothing reads this one


def unlabelled_speech(name_or_path: str) -> Manifest:
    """Return the clips of a corpus or folder, without durations and audio digests.

    A folder that is a known corpus tells who speaks; of another nobody knows. What a corpus leaves out is left out.

    Raises:
        UserError: there is no such corpus or folder, or no audio in it.
    """
    path = expanded(name_or_path)
    if not path.is_dir():
        return _clips_of(find_corpus(name_or_path))
    try:
        return _clips_of(find_corpus(name_or_path))
    except CorpusError:
        files = audio_below(path.resolve())
    if not files:
        raise CorpusError(f"distill.unlabelled: {path} holds no audio")
    title = corpus_name(path.resolve())
    nobody = speaker_name(title, None)
    return Manifest.from_utterances(
        Utterance(file.relative_to(path.resolve()).as_posix(), file, title, nobody, UNREAD) for file in files
    )


def _clips_of(found: FoundCorpus) -> Manifest:
    clips = [entry for entry in found.entries() if isinstance(entry, Utterance)]
    if not clips:
        raise CorpusError(f"distill.unlabelled: {found.root} holds no audio of {found.name}")
    return Manifest.from_utterances(clips)
