"""Distillation: teacher terms, the loss of a student, and stored outputs of teachers.

In: losses, logits and hint targets under `SER_HOME/teacher`.
Not in: training the fold teachers that produce them (`tuning.teacher_labels`).
"""
