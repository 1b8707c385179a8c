"""The synthetic corpus `demo`: 384 clips by eSpeak NG with prosody rules for each emotion.

In: the voices and rules, eSpeak NG in a separate process, effects on the voice.
Not in: the adapter that reads the clips (`corpora.datasets.demo`).
"""
