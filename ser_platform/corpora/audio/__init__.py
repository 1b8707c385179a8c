"""Reads an audio file into a mono waveform, or refuses it with a reason.

In: decoding, limits of length and level, damaged files, the sound of videos.
Not in: features of the waveform (`features.families`).
"""
