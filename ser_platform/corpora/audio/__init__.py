"""From an audio file to a mono waveform, or to the reason why it cannot be used.

In: decoding, limits of length and level, damaged containers, the sound of videos.
Not in: features of the waveform (`features.families`).
"""
