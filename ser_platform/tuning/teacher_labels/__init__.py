"""Outputs of a teacher for a student's training clips.

In: the registered teacher, fold teachers that were not trained on a clip's speaker, unlabelled speech.
Not in: the loss that uses them (`distillation`).
"""
