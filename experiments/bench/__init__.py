"""The speed suite: contenders in processes of their own, measured in turn, as ratios."""
