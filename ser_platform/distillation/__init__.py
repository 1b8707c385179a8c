"""Distillation: teacher terms, the loss of a student, and stored outputs of teachers.

Contains losses, stored logits and hint targets.
Elsewhere: training of the fold teachers (`tuning.teacher_labels`).
"""
