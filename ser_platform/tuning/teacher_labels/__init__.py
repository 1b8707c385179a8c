"""Outputs of a teacher for a student's training clips.

In: the registered teacher, fold teachers that are not trained on the speakers that they label, unlabelled speech.
Not in: the loss that uses them (`distillation`).
"""
