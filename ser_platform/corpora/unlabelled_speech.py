"""Speech without labels: a folder of recordings, or a corpus whose labels are not used."""

from ser_platform.corpora.audio.reader import RECORDING_SUFFIXES, list_audio_files
from ser_platform.corpora.corpus_lookup import FoundCorpus, find_corpus
from ser_platform.corpora.datasets.folder import corpus_name
from ser_platform.corpora.manifest import Manifest, Utterance, speaker_name
from ser_platform.errors import CorpusError
from ser_platform.files import expand_path

PLACEHOLDER_EMOTION = "neutral"  # a manifest needs an emotion in each row; this one is never read


def read_unlabelled_speech(name_or_path: str) -> Manifest:
    """Return the clips of a corpus or folder, without durations and audio digests.

    The clips of a recognised corpus have speakers and no excluded files; in any other folder the speaker is unknown.

    Raises:
        UserError: there is no such corpus or folder, or it contains no audio.
    """
    try:
        return _read_clips(find_corpus(name_or_path))
    except CorpusError:
        root = expand_path(name_or_path).resolve()
        if not root.is_dir():
            raise
    files = list_audio_files(root, RECORDING_SUFFIXES)
    if not files:
        raise CorpusError(f"distill.unlabelled: {root} holds no audio")
    corpus = corpus_name(root)
    unknown_speaker = speaker_name(corpus, None)
    return Manifest.from_utterances(
        Utterance(file.relative_to(root).as_posix(), file, corpus, unknown_speaker, PLACEHOLDER_EMOTION)
        for file in files
    )


def _read_clips(found: FoundCorpus) -> Manifest:
    clips = [entry for entry in found.read_entries() if isinstance(entry, Utterance)]
    if not clips:
        raise CorpusError(f"distill.unlabelled: {found.root} holds no audio of {found.adapter_name}")
    return Manifest.from_utterances(clips)
