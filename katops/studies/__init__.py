"""Studies on tables: what the models are given, how rows are held out, and which model is better under the same folds.

Needs the extra ``tables`` (pandas, scikit-learn).
"""
