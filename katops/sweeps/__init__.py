"""Many trainings for one question: which values of some keys of a configuration are best.

A sweep is a folder with a study of Optuna (a journal file, or a database). Whoever starts the same command on the same
folder joins in: processes take trials from the study, and a file lock per trial says whose it is. Needs the extra
``sweep``; ``--engine ray`` needs the extra ``ray``.
"""
